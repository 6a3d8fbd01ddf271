"""A finding of the doctor: what is wrong, the concrete cases, and what mends them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

MAX_SHOWN = 20

Case = TypeVar("Case")


@dataclass(frozen=True)
class Finding:
    """One kind of thing that the doctor found.

    Args:
        title: what it is, in words after a count: 'runs are recorded as RUNNING, but ...'.
        cases: one line each.
        remedy: what `mend` does; without `mend`, what the user can do.
        mend: mends the cases and returns a line on each one that it could not mend.
        is_wrong: False for what is only told.
    """

    title: str
    cases: Sequence[str]
    remedy: str = ""
    mend: Callable[[], Sequence[str]] | None = field(default=None, compare=False)
    is_wrong: bool = True

    def text(self, fixing: bool = False) -> str:
        """The finding as lines for the terminal. fixing: `mend` is about to be called."""
        lines = [f"{len(self.cases):,} {self.title}", *(f"  {case}" for case in self.cases[:MAX_SHOWN])]
        if len(self.cases) > MAX_SHOWN:
            lines.append(f"  ... and {len(self.cases) - MAX_SHOWN:,} more")
        if self.remedy:
            label = "what helps" if self.mend is None else "done now" if fixing else "--fix"
            lines.append(f"  {label}: {self.remedy}")
        return "\n".join(lines)


def mending(
    cases: Sequence[Case], action: Callable[[Case], object], name: Callable[[Case], str]
) -> Callable[[], list[str]]:
    """A `Finding.mend` that does the same for each case. One that fails keeps no other from it."""

    def mend() -> list[str]:
        failed = []
        for case in cases:
            try:
                action(case)
            except Exception as error:
                failed.append(f"{name(case)}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return failed

    return mend
