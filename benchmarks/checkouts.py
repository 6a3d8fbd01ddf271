"""The commands of two checkouts in alternating pairs: how a change of the code changed their time."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.commands import TRAIN, new_folder
from benchmarks.common import (
    PROJECT,
    Bench,
    Section,
    environment,
    format_range,
    format_seconds,
    median,
    run_python,
    source_overrides,
)

# label -> (arguments, exit status, the field of Scale with the number of pairs)
COMMANDS = {
    "`--help`": (["--help"], 0, "help_rounds"),
    "a typo, `optimiser=adam`": (["optimiser=adam"], 2, "help_rounds"),
    "the default run, `data=notebook`": ([], 0, "run_rounds"),
    "`sweep=optimizers data=notebook`": (["sweep=optimizers"], 0, "sweep_rounds"),
}


def commands(bench: Bench) -> Section:
    """Seconds of each command in both checkouts, and the median of the ratios new / old within a pair."""
    if bench.against is None:
        raise RuntimeError("the section `commands` needs --against CHECKOUT")
    interpreters = {"old": find_interpreter(bench.against), "new": find_interpreter(PROJECT)}
    section = Section("Commands of this checkout and of another", ["", "pairs", "old, s", "new, s", "new / old"], [])
    for label, (arguments, status, rounds) in COMMANDS.items():
        num_pairs, trains = getattr(bench.scale, rounds), rounds != "help_rounds"
        seconds: dict[str, list[float]] = {"old": [], "new": []}
        for pair in range(num_pairs + 1):
            for name in ("old", "new") if pair % 2 else ("new", "old"):
                extra = [*source_overrides(bench), f"paths.root={new_folder(bench, name)}"] if trains else []
                command = [*TRAIN, *arguments, *extra]
                seconds[name].append(run_python(bench, *command, interpreter=interpreters[name], status=status))
        old, new = seconds["old"][1:], seconds["new"][1:]  # the first pair warms up
        ratios = [after / before for before, after in zip(old, new, strict=True)]
        ratio = f"{median(ratios):.3f} ({min(ratios):.2f}-{max(ratios):.2f})"
        cells = [f"{format_seconds(median(values))} ({format_range(values)})" for values in (old, new)]
        section.rows.append([label, str(num_pairs), *cells, ratio])
        section.samples[label] = {"old": old, "new": new}
    section.notes = [
        "Medians, in brackets lowest and highest. The checkouts take turns; every run and sweep has a new folder."
    ]
    return section


def find_interpreter(checkout: Path) -> str:
    """The Python of a checkout's .venv.

    Raises:
        RuntimeError: it does not exist, or it imports mnistlab from another folder.
    """
    python = checkout.resolve() / ".venv" / "bin" / "python"  # unresolved: the link marks the environment
    if not python.is_file():
        raise RuntimeError(f"{checkout} has no .venv with mnistlab installed. Create it: make train")
    command = [str(python), "-c", "import mnistlab; print(mnistlab.__file__)"]
    found = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout.strip()
    if not Path(found).resolve().is_relative_to(checkout.resolve()):
        raise RuntimeError(f"{python} imports mnistlab from {found}, not from its checkout")
    return str(python)
