"""Images and labels: where they come from, and how an experiment's `Dataset` is made of them.

`sources` gives whole data sets as `Images`; `dataset` splits, thins and weights them and takes their digests; `loading`
does both once per process; `folders` is the source that reads folders of image files. Nothing here knows of tracking.
"""

from mnistlab.data.dataset import Dataset, epoch_order, manifest_csv, prepare
from mnistlab.data.sources import Images, ImagesInFiles, Split

__all__ = ["Dataset", "Images", "ImagesInFiles", "Split", "epoch_order", "manifest_csv", "prepare"]
