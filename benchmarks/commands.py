"""Commands from start to exit, against the notebook as a program: one default run, the sweep of seven, --help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.common import (
    Bench,
    Section,
    environment,
    format_range,
    format_ratio,
    format_seconds,
    median,
    run_python,
    source_overrides,
)

TRAIN = ("-m", "mnistlab.train")
NOTEBOOK = ("-m", "benchmarks.notebook")
HEAVY_IMPORTS = "import tensorflow, keras, mlflow, seaborn, sklearn.metrics"
HEADER = ["", "seconds", "lowest-highest", "time / the notebook"]


def warm_up(bench: Bench) -> None:
    """Import all libraries once, so that the first measured command does not read them from the disk."""
    command = [sys.executable, "-c", HEAVY_IMPORTS]
    subprocess.run(command, cwd=bench.folder, env=environment(), capture_output=True, check=False)


def new_folder(bench: Bench, name: str) -> Path:
    """A new, empty folder."""
    folder = bench.folder / f"{name}-{len(list(bench.folder.iterdir()))}"
    folder.mkdir()
    return folder


def default_run(bench: Bench) -> Section:
    """The default experiment, tracked, drawn and saved, against the notebook's Parts 1 to 5."""
    seconds: dict[str, list[float]] = {"notebook": [], "first": [], "later": []}
    for _ in range(bench.scale.run_rounds):
        root = new_folder(bench, "run")
        command = [*TRAIN, *source_overrides(bench), f"paths.root={root}"]
        seconds["notebook"].append(run_python(bench, *NOTEBOOK, "default", str(bench.images.path), str(root)))
        seconds["first"].append(run_python(bench, *command))
        seconds["later"].append(run_python(bench, *command))
    labels = {
        "notebook": "the notebook: adam, 3 epochs, confusion matrix, report; untracked",
        "first": "**`python -m mnistlab.train data=notebook`**, the first run in a new folder",
        "later": "**the same**, a later run in that folder",
    }
    section = against_notebook("One default run, start to end", labels, seconds)
    section.notes = [
        f"Medians of {bench.scale.run_rounds} interleaved rounds, from the start of Python to its exit. "
        "data=notebook gives mnistlab the notebook's images: all for training, the test set for validation. "
        "The first run in a folder also creates MLflow's database."
    ]
    section.figures = {
        "run.first_over_notebook": median(seconds["first"]) / median(seconds["notebook"]),
        "run.later_over_notebook": median(seconds["later"]) / median(seconds["notebook"]),
    }
    return section


def sweep(bench: Bench) -> Section:
    """The seven strategies, tracked, evaluated, drawn, saved and compared, against the notebook's seven `fit`s."""
    num_images = bench.limit(bench.scale.sgd_images)
    mnistlab = [sweep_seconds(bench)]
    notebook, fits = notebook_seconds(bench, num_images)
    mnistlab += [sweep_seconds(bench) for _ in range(bench.scale.sweep_rounds - 1)]
    extrapolated = num_images < bench.images.num_train
    mark = f" (sgd on {num_images:,} images *)" if extrapolated else ""
    labels = {
        "notebook": f"the notebook's seven `fit`s of 3 epochs, untracked{mark}",
        "mnistlab": "**`python -m mnistlab.train sweep=optimizers data=notebook`**: tracked, evaluated, drawn, saved",
    }
    seconds = {"notebook": [notebook], "mnistlab": mnistlab}
    section = against_notebook("The sweep of the seven strategies", labels, seconds)
    by_fit = ", ".join(f"{name} {format_seconds(value)}" for name, value in fits.items())
    section.notes = [
        "From the start of Python to its exit, mnistlab each time in a new folder. "
        f"The notebook's `fit`s in seconds: {by_fit}."
    ]
    if extrapolated:
        section.notes.append(
            f"\\* sgd at batch 1 was measured on {num_images:,} images and EXTRAPOLATED to "
            f"{bench.images.num_train:,}; `--full` measures it on all."
        )
    section.samples["notebook_fits_seconds"] = fits
    section.figures = {"sweep.faster_than_notebook": notebook / median(mnistlab)}
    return section


def sweep_seconds(bench: Bench) -> float:
    """Seconds of mnistlab's sweep in a new folder."""
    root = new_folder(bench, "sweep")
    return run_python(bench, *TRAIN, "sweep=optimizers", *source_overrides(bench), f"paths.root={root}")


def notebook_seconds(bench: Bench, sgd_images: int) -> tuple[float, dict[str, float]]:
    """Seconds of the notebook's seven strategies and of each `fit`; sgd's are extrapolated to all images."""
    out = bench.folder / "seven.json"
    seconds = run_python(bench, *NOTEBOOK, "seven", str(bench.images.path), str(out), str(sgd_images))
    fits: dict[str, float] = json.loads(out.read_text(encoding="utf-8"))
    missing = fits["sgd"] * (bench.images.num_train / sgd_images - 1)
    return seconds + missing, fits | {"sgd": fits["sgd"] + missing}


def help_page(bench: Bench) -> Section:
    """--help and the composed configuration, which need no TensorFlow."""
    commands = {"--help": ["--help"], "--cfg job": ["--cfg", "job"]}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(bench.scale.help_rounds):
        for name, arguments in commands.items():
            seconds[name].append(run_python(bench, *TRAIN, *arguments))
    rows = [
        [f"`python -m mnistlab.train {name}`", format_seconds(median(values)), format_range(values)]
        for name, values in seconds.items()
    ]
    section = Section("Commands that do not train", HEADER[:3], rows, samples=dict(seconds))
    section.notes = [f"Medians of {bench.scale.help_rounds} interleaved rounds."]
    section.figures = {"help.seconds": median(seconds["--help"])}
    return section


def against_notebook(title: str, labels: dict[str, str], seconds: dict[str, list[float]]) -> Section:
    """A table with a row for each label, in ratios to the notebook."""
    notebook = median(seconds["notebook"])
    rows = [
        [
            label,
            format_seconds(median(seconds[name])),
            format_range(seconds[name]),
            format_ratio(median(seconds[name]) / notebook),
        ]
        for name, label in labels.items()
    ]
    return Section(title, HEADER, rows, samples=dict(seconds))
