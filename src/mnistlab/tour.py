"""The tour, `python -m mnistlab.tour`: the whole guide in ten minutes, step by step, on the embedded digits."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mnistlab.config import ConfigError, parse_settings, project_root
from mnistlab.runtime import errors, exits, files
from mnistlab.touring.steps import DATA, EXPERIMENT, STEPS, Step

if TYPE_CHECKING:
    from rich.console import Console

USAGE = f"""The whole guide in ten minutes: each step says what it does, runs its command and names its figure.

Usage: python -m mnistlab.tour [steps=all] [pause=auto] [paths.root=FOLDER]

  steps=LIST    all, or some of them: steps=1-3,8
  pause=auto    wait for Enter before each step, in a terminal; true or false

It needs no network: the data are {DATA}. Figures and a page with all
of it go to runs/tour/, the runs to the MLflow experiment "{EXPERIMENT}".

Steps
""" + "\n".join(f"  {number:2}  {step.part:13}  {step.title}" for number, step in enumerate(STEPS, start=1))


def main() -> None:
    """The command. Exit status: 0 success, 1 a step failed, 2 a user's mistake, 130 stopped by Ctrl-C."""
    exits.leave(errors.run_command(_tour, USAGE))


def _tour() -> int:
    settings = parse_settings(sys.argv[1:], ("steps", "pause", "paths.root", "root"))
    chosen = chosen_steps(settings.get("steps", "all"))
    pauses = _pauses(settings.get("pause", "auto"))
    root = Path(settings.get("paths.root") or settings.get("root") or project_root()).resolve()
    folder = root / "runs" / "tour"
    folder.mkdir(parents=True, exist_ok=True)

    from rich.console import Console

    from mnistlab.touring.page import keep_figure, page

    console = Console(highlight=False, soft_wrap=False)
    _begin(console, folder, root)
    for position, number in enumerate(chosen):
        step = STEPS[number - 1]
        _announce(console, number, step)
        if pauses and not _goes_on(console):
            break
        if step.figure == "sheet":
            _write_photographs(folder)
        started, status = time.time(), run_step(step, folder, root)
        if status:
            again = f"python -m mnistlab.tour steps={','.join(map(str, chosen[position:]))}"
            failed = f"\nStep {number} failed with status {status}; the lines above say why. From here on: {again}"
            console.print(failed, soft_wrap=True, markup=False)
            return exits.FAILED
        figure = keep_figure(number, folder, root, started)
        if figure is not None:
            console.print(f"\n[bold]{_escaped(step.look)}[/bold]")
            console.print(f"figure  {figure}", soft_wrap=True, markup=False)
        files.write_text(folder / "index.html", page(folder))
    _end(console, folder, root)
    return 0


def chosen_steps(text: str) -> list[int]:
    """The numbers of the steps, from 1, that 'all', '3' or '1-3,8' names.

    Raises:
        ConfigError: it names no steps.
    """
    if text == "all":
        return list(range(1, len(STEPS) + 1))
    found: list[int] = []
    for part in text.strip("[]").split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        numbers = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not numbers or not 1 <= numbers[0] <= numbers[-1] <= len(STEPS):
            raise ConfigError(
                f"steps must be all or numbers from 1 to {len(STEPS)}, as in steps=1-3,8. Received: {text}."
            )
        found += numbers
    return list(dict.fromkeys(found))


def _pauses(text: str) -> bool:
    if text not in ("auto", "true", "false"):
        raise ConfigError(f"pause must be auto, true or false. Received: {text}.")
    return sys.stdin.isatty() and sys.stdout.isatty() if text == "auto" else text == "true"


def _goes_on(console: "Console") -> bool:
    """Wait for Enter; whether the tour goes on."""
    console.print("\n[dim]Enter runs it, q ends the tour[/dim] ", end="")
    answer = sys.stdin.readline()
    return bool(answer) and answer.strip().lower() not in ("q", "quit", "exit")


def _escaped(text: str) -> str:
    """The text without markup of rich."""
    from rich.markup import escape

    return escape(text)


def _begin(console: "Console", folder: Path, root: Path) -> None:
    from rich.panel import Panel

    console.print(Panel(f"The guide in {len(STEPS)} steps, on {DATA}.", title="mnistlab", expand=False))
    console.print("To run a command by yourself, first:", markup=False)
    given = "" if root == Path(project_root()).resolve() else f"export MNISTLAB_ROOT={shlex.quote(str(root))}; "
    line = f"  {given}export MLFLOW_EXPERIMENT_NAME={EXPERIMENT}; cd {shlex.quote(str(folder))}"
    console.print(line, soft_wrap=True, markup=False)


def _announce(console: "Console", number: int, step: Step) -> None:
    console.print()
    console.rule(f"[bold]{number} of {len(STEPS)}  {_escaped(step.title)}[/bold]  ({step.part})", align="left")
    console.print(step.text, markup=False)
    console.print(f"\n[bold cyan]$ {_escaped(step.command)}[/bold cyan]", soft_wrap=True)
    sys.stdout.flush()


def _environment(root: Path) -> dict[str, str]:
    return {**os.environ, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT, "MNISTLAB_ROOT": str(root)}


def run_step(step: Step, folder: Path, root: Path) -> int:
    """Run a step's command in the tour's folder, as the user would; returns its exit status.

    Raises:
        KeyboardInterrupt: Ctrl-C; the command has ended by itself.
    """
    words = [sys.executable, *shlex.split(step.command)[1:]]
    process = subprocess.Popen(words, cwd=folder, env=_environment(root))
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C has reached it, too
        raise
    if status in exits.STOPPED:
        raise KeyboardInterrupt
    return status


def _write_photographs(folder: Path) -> None:
    if not (folder / "digits" / "test").is_dir():
        again = "python -m mnistlab.tour steps=7,10,11"
        raise ConfigError(f"Photographs need the digits of step 7 and the network of step 10: {again}.")
    from mnistlab.touring.photographs import write_photographs

    write_photographs(folder / "digits" / "test", folder / "photographs")


def _end(console: "Console", folder: Path, root: Path) -> None:
    where = "" if root == Path(project_root()).resolve() else f" paths.root={shlex.quote(str(root))}"
    console.print()
    console.rule("[bold]All of it is recorded[/bold]", align="left")
    if (folder / "index.html").is_file():
        console.print(f"page    {folder / 'index.html'}", soft_wrap=True, markup=False)
    console.print("The runs, their curves and figures in the MLflow UI:", markup=False)
    command = f"python -m mnistlab.ui tracking.experiment={EXPERIMENT}{where}"
    console.print(f"\n[bold cyan]$ {_escaped(command)}[/bold cyan]", soft_wrap=True)


if __name__ == "__main__":
    main()
