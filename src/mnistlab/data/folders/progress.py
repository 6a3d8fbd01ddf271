"""Shows how far the reading of many images is: a bar on a terminal, else a line in the log every few seconds."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from mnistlab.runtime import terminal

log = logging.getLogger("mnistlab")

MIN_IMAGES_FOR_BAR = 256  # fewer are read in a moment
SECONDS_BETWEEN_LOGS = 5


@contextlib.contextmanager
def show_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of images read so far, out of `total`."""
    started = last_logged = time.monotonic()
    bar = terminal.start_bar() if total >= MIN_IMAGES_FOR_BAR else None

    def progress(done: int) -> None:
        nonlocal last_logged
        now = time.monotonic()
        if bar:
            bar.update("Reading images", done / total, now - started, f"{done:,} of {total:,}")
        elif now - last_logged > SECONDS_BETWEEN_LOGS:
            last_logged = now
            remaining_seconds = (now - started) / done * (total - done)
            log.info("Read %s of %s images (%.0f s left)", f"{done:,}", f"{total:,}", remaining_seconds)

    try:
        yield progress
    finally:
        if bar:
            bar.stop()
