"""What is wrong with a root's runs and their store, and how to mend it: for `python -m mnistlab.doctor`.

`examination` reads the store once (`store_view`) and asks each check for its findings: `runs` and `models` in the
store, `folders` of runs, `space` for leftovers and caches. Nothing here changes anything but `Finding.mend`.
"""

from mnistlab.tracking.doctor.examination import Examination, examine, live_runs
from mnistlab.tracking.doctor.findings import Finding

__all__ = ["Examination", "Finding", "examine", "live_runs"]
