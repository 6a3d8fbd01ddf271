"""The command: measure the chosen sections one after the other, show them, write results.md and results.json."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import commands, epochs, folders, machine, memory, report, where
from benchmarks.common import Bench, Section
from benchmarks.data import find_images
from benchmarks.scale import DEFAULT, FULL, QUICK

SECTIONS: dict[str, Callable[[Bench], Section]] = {
    "batch32": epochs.batch32,
    "batch1": epochs.batch1,
    "adam": epochs.adam,
    "cnn": epochs.cnn,
    "stages": where.stages,
    "run": commands.default_run,
    "sweep": commands.sweep,
    "help": commands.help_page,
    "folders": folders.folders,
    "memory": memory.memory,
}
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Exit status: 0 measured, 1 a section failed (the others are reported), 2 a mistake on the command line,
    143 terminated."""
    arguments = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the contenders and removes the folder on the way
    scale = FULL if arguments.full else QUICK if arguments.quick else DEFAULT
    begun = time.time()
    facts = machine.facts()
    with tempfile.TemporaryDirectory(prefix="mnistlab-bench-") as folder:
        bench = Bench(find_images(arguments.mnist, Path(folder), arguments.quick), scale, Path(folder))
        print(f"{bench.images.said}; {scale.name} mode\n", flush=True)
        if set(arguments.only) & {"stages", "run", "sweep", "help"}:
            commands.warm_up(bench)
        sections, failed = measure(bench, arguments.only)
    results = report.results(facts, bench, sections, failed, time.time() - begun)
    print(report.goals_table(results["goals"]))
    out = arguments.out or (HERE if set(arguments.only) == set(SECTIONS) and not arguments.quick else None)
    if out:
        report.write(results, sections, out)
    else:
        print("Nothing was written: these are not all the measurements. --out FOLDER writes them.")
    sys.exit(1 if failed else 0)


def parse(words: list[str]) -> argparse.Namespace:
    """The command line's settings; `only` holds the names of the chosen sections in their order."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--full", action="store_true", help="the slow ones whole, more rounds: about an hour")
    mode.add_argument("--quick", action="store_true", help="5,000 images, one round: does everything work? No figures")
    parser.add_argument("--mnist", type=Path, metavar="FILE.npz", help="else $MNISTLAB_TEST_MNIST or Keras's cache")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; can be repeated")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where results.md and results.json go")
    arguments = parser.parse_args(words)
    arguments.only = [name for name in SECTIONS if not arguments.only or name in arguments.only]
    return arguments


def measure(bench: Bench, names: list[str]) -> tuple[dict[str, Section], dict[str, str]]:
    """The measured sections, and why the others could not be measured."""
    sections, failed = {}, {}
    for name in names:
        begun = time.perf_counter()
        try:
            sections[name] = SECTIONS[name](bench)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
            print(f"{name} could not be measured: {failed[name]}\n", file=sys.stderr, flush=True)
            continue
        sections[name].took_seconds = time.perf_counter() - begun
        print(report.section_text(sections[name]))
        print(f"({name}: {sections[name].took_seconds:.0f} s)\n", flush=True)
    return sections, failed


if __name__ == "__main__":
    main()
