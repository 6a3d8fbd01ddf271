"""Measure the chosen sections one after the other, print them, and write results.md and results.json."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    checkouts,
    commands,
    epochs,
    folders,
    large_report,
    launchers,
    machine,
    many_runs,
    memory,
    models_in_use,
    protection,
    report,
    seeds_together,
    stages,
)
from benchmarks.common import Bench, Section
from benchmarks.data import find_images
from benchmarks.scale import DEFAULT, FULL, QUICK

SECTIONS: dict[str, Callable[[Bench], Section]] = {
    "batch32": epochs.batch32,
    "batch1": epochs.batch1,
    "adam": epochs.adam,
    "cnn": epochs.cnn,
    "stages": stages.stages,
    "run": commands.default_run,
    "sweep": commands.sweep,
    "sweep_stages": stages.sweep_stages,
    "seeds": seeds_together.seeds,
    "launchers": launchers.launchers,
    "help": commands.help_page,
    "folders": folders.folders,
    "memory": memory.memory,
    "protection": protection.protection,
    "predict": models_in_use.predict,
    "serving": models_in_use.serving,
    "large_report": large_report.large_report,
    "many_runs": many_runs.many_runs,
    "commands": checkouts.commands,
}
ON_REQUEST = ("many_runs", "commands")  # it fills databases for many minutes; it needs another checkout
ALL = [name for name in SECTIONS if name not in ON_REQUEST]
NEED_WARM_UP = {"stages", "run", "sweep", "sweep_stages", "launchers", "help", "many_runs", "commands"}
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Exit status: 0 success, 1 a section failed (the others are reported), 2 a user's mistake, 143 terminated."""
    arguments = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the contenders and removes the folder
    scale = FULL if arguments.full else QUICK if arguments.quick else DEFAULT
    started = time.time()
    facts = machine.facts()
    with tempfile.TemporaryDirectory(prefix="mnistlab-bench-") as folder:
        images = find_images(arguments.mnist, Path(folder), arguments.quick)
        bench = Bench(images, scale, Path(folder), arguments.against)
        print(f"{images.description}; {scale.name} mode\n", flush=True)
        if NEED_WARM_UP & set(arguments.only):
            commands.warm_up(bench)
        sections, failed = measure(bench, arguments.only)
    results = report.results(facts, bench, sections, failed, time.time() - started)
    goals = [goal for goal in results["goals"] if arguments.only == ALL or goal["measured"] != "-"]
    if goals:
        print(report.goals_table(goals))
    out = arguments.out or (HERE if arguments.only == ALL and not arguments.quick else None)
    if out:
        report.write(results, sections, out)
    else:
        print("Not written, because these are not all measurements. --out FOLDER writes them.")
    sys.exit(1 if failed else 0)


def parse(command_line: list[str]) -> argparse.Namespace:
    """The options; `only`: the names of the chosen sections, in the order of SECTIONS."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--full", action="store_true", help="slow contenders on all images, more rounds: about an hour")
    mode.add_argument("--quick", action="store_true", help="5,000 images, one round, to check that everything works")
    parser.add_argument("--mnist", type=Path, metavar="FILE.npz", help="default: $MNISTLAB_TEST_MNIST or Keras's cache")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="measure this section; can be repeated")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout, for `--only commands`")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write results.md and results.json here")
    arguments = parser.parse_args(command_line)
    arguments.only = [name for name in SECTIONS if name in (arguments.only or ALL)]
    if ("commands" in arguments.only) != (arguments.against is not None):
        parser.error("--only commands and --against CHECKOUT need each other")
    return arguments


def measure(bench: Bench, names: list[str]) -> tuple[dict[str, Section], dict[str, str]]:
    """The measured sections, and the errors of those that failed."""
    sections, failed = {}, {}
    for name in names:
        started = time.perf_counter()
        try:
            sections[name] = SECTIONS[name](bench)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
            print(f"{name} could not be measured: {failed[name]}\n", file=sys.stderr, flush=True)
            continue
        sections[name].seconds = time.perf_counter() - started
        print(report.section_text(sections[name]))
        print(f"({name}: {sections[name].seconds:.0f} s)\n", flush=True)
    return sections, failed


if __name__ == "__main__":
    main()
