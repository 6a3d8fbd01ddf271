"""mnistlab: config-driven image-classification experiments, recorded and compared."""

import signal
import sys

# Until a command handles Ctrl-C (runtime/exits.py), Ctrl-C ends it without a traceback. Other programs are unaffected.
_is_command = sys.argv[:1] == ["-m"] and any(word.startswith("mnistlab.") for word in sys.orig_argv)
_is_command |= any(word.rpartition("/")[2].startswith("mnistlab-") for word in sys.argv[:1])
if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
