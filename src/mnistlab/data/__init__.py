"""Images and labels: sources give whole data sets, and `prepare` makes an experiment's `Dataset` of one.

`sources` (with `arrays`: files of arrays, tables) and `folders` (image files by class) give `Images`; `dataset`, with
`splitting` and `manifest`, splits, thins, weights and hashes them, and `reading_report` describes what was read;
`loading` does all this once per process, and `shared` hands it to other processes. Nothing here knows of tracking, and
importing this package loads NumPy and the standard library only: the processes of `folders.processes` start with it.
"""

from mnistlab.data.dataset import Dataset, describe, epoch_order, prepare
from mnistlab.data.manifest import manifest_csv
from mnistlab.data.sources import Images, Split

__all__ = ["Dataset", "Images", "Split", "describe", "epoch_order", "manifest_csv", "prepare"]
