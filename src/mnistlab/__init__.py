"""mnistlab: config-driven image-classification experiments, recorded and compared."""

import signal
import sys

# `python -m mnistlab.NAME` imports this package first, then the command. Until the command handles Ctrl-C itself
# (runtime/exits.py), Ctrl-C ends it without a traceback. A program that imports mnistlab keeps its own handler.
_is_command = sys.argv[:1] == ["-m"] and any(word.startswith("mnistlab.") for word in sys.orig_argv)
if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
