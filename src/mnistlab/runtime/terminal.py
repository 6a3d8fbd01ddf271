"""The terminal: log lines, tables, and a live progress bar where the output is a terminal. rich is loaded on use."""

import io
import logging
import os
import shutil
import sys
from collections.abc import Sequence

from mnistlab.config.secrets import hide_secrets

_silent = False  # whether another process shows what this one does
PLAIN_WIDTH = 200  # columns of a table that is written to a file or a pipe


def silence() -> None:
    """Print no log lines and no progress of this process from now on: the sweep's process shows its jobs."""
    global _silent
    _silent = True


def is_live() -> bool:
    """Whether standard output can show a progress bar. Jupyter's says that it is a terminal, and is none."""
    if _silent:
        return False
    is_terminal = sys.stdout.isatty() and "ipykernel" not in sys.modules
    return is_terminal and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """Columns of the terminal that styled text may be printed to; None if standard output must get plain text."""
    return None if not is_live() or "NO_COLOR" in os.environ else shutil.get_terminal_size().columns


class Formatter(logging.Formatter):
    """Formats a record, with its traceback, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return hide_secrets(super().format(record))


class ConsoleHandler(logging.Handler):
    """Prints the message alone to standard output; tracebacks stay in the run's log file."""

    def emit(self, record: logging.LogRecord) -> None:
        if _silent:
            return
        try:
            print(hide_secrets(record.getMessage()), file=sys.stdout, flush=True)
        except BrokenPipeError:
            raise
        except Exception:
            self.handleError(record)


class Bar:
    """A live progress bar on one line, refreshed by its owner and removed by `stop`."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(force_jupyter=False, file=sys.stdout, highlight=False)
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def update(self, label: str, done: float, seconds: float, text: str = "") -> None:
        """Show the bar. done: the finished share, 0 to 1; seconds: since the start, to tell the time left."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        left = seconds / done * (1 - done) if done else 0.0
        line = Table.grid(padding=(0, 2))
        for _ in range(4):
            line.add_column(no_wrap=True)
        bar = ProgressBar(total=1.0, completed=done, width=20)
        line.add_row(Text(label), bar, Text(f"{done:4.0%}  {left:.0f} s left"), Text(text, overflow="ellipsis"))
        if not self._live.is_started:
            self._live.start()
        self._live.update(line, refresh=True)

    def stop(self) -> None:
        """Remove the bar; `update` shows it again."""
        self._live.stop()


class Rows:
    """Rows of text below all that is printed, refreshed by their owner and removed by `stop`."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(force_jupyter=False, file=sys.stdout, highlight=False)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def update(self, rows: Sequence[Sequence[str]]) -> None:
        """Show these rows instead."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        for row in rows:
            grid.add_row(*map(Text, row))
        self._live.update(grid, refresh=True)

    def stop(self) -> None:
        """Remove the rows."""
        self._live.stop()


def start_rows() -> Rows | None:
    """Live rows; None if standard output is not a terminal."""
    return Rows() if is_live() else None


def start_bar() -> Bar | None:
    """A progress bar; None if standard output is not a terminal."""
    return Bar() if is_live() else None


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as plain text: the first column to the left, numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=True, padding=(0, 2))
    for index, name in enumerate(header):
        made.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    text = io.StringIO()
    Console(force_jupyter=False, file=text, width=PLAIN_WIDTH, color_system=None, highlight=False, markup=False).print(
        made
    )
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
