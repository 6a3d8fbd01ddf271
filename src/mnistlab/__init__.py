"""mnistlab: config-driven image-classification experiments, recorded and compared.

For notebooks: `from mnistlab import train, sweep, load_run`; see `mnistlab.notebook`.
"""

import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `train` and `sweep` are modules that can be called: runtime/callable_module.py
    from mnistlab.notebook import load_run as load_run
    from mnistlab.notebook import sweep as sweep
    from mnistlab.notebook import train as train

# Until a command handles Ctrl-C (runtime/exits.py), Ctrl-C ends it without a traceback. Other programs are unaffected.
_is_command = sys.argv[:1] == ["-m"] and any(word.startswith("mnistlab.") for word in sys.orig_argv)
_is_command |= any(word.rpartition("/")[2].startswith("mnistlab-") for word in sys.argv[:1])
if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def __getattr__(name: str) -> Any:
    if name == "load_run":  # loads pandas
        from mnistlab.notebook import load_run

        return load_run
    raise AttributeError(f"module 'mnistlab' has no attribute {name!r}")
