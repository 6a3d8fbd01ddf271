"""Whole commands, start to exit, against the notebook as a program: one default run, the sweep of seven, --help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.common import Bench, Section, environment, median, python, shown, source_words, spread, times

TRAIN = ("-m", "mnistlab.train")
NOTEBOOK = ("-m", "benchmarks.notebook")
HEAVY = "import tensorflow, keras, mlflow, seaborn, sklearn.metrics"
HEADER = ["", "seconds", "lowest-highest", "time / the notebook"]


def warm_up(bench: Bench) -> None:
    """Import all libraries once, so that the first command measured is not the one that reads them from the disk."""
    subprocess.run([sys.executable, "-c", HEAVY], cwd=bench.folder, env=environment(), capture_output=True, check=False)


def new_folder(bench: Bench, name: str) -> Path:
    """A folder that nothing has used yet."""
    folder = bench.folder / f"{name}-{len(list(bench.folder.iterdir()))}"
    folder.mkdir()
    return folder


def default_run(bench: Bench) -> Section:
    """The default experiment, tracked, drawn and saved, against the notebook doing Parts 1 to 5 of the guide."""
    seconds: dict[str, list[float]] = {"notebook": [], "first": [], "later": []}
    for _ in range(bench.scale.run_rounds):
        root = new_folder(bench, "run")
        words = [*TRAIN, *source_words(bench), f"paths.root={root}"]
        seconds["notebook"].append(python(bench, *NOTEBOOK, "default", str(bench.images.path), str(root)))
        seconds["first"].append(python(bench, *words))
        seconds["later"].append(python(bench, *words))
    labels = {
        "notebook": "the notebook: adam, 3 epochs, confusion matrix, report; untracked",
        "first": "**`python -m mnistlab.train data=notebook`**, the first run in a new folder",
        "later": "**the same**, a later run in that folder",
    }
    section = against_notebook("One default run, start to end", labels, seconds)
    section.notes = [
        f"Medians of {bench.scale.run_rounds} interleaved rounds, from the start of Python to its exit. "
        "data=notebook gives mnistlab the notebook's own images: all for training, the test set for validation. "
        "The first run in a folder also creates MLflow's database."
    ]
    section.figures = {
        "run.first_over_notebook": median(seconds["first"]) / median(seconds["notebook"]),
        "run.later_over_notebook": median(seconds["later"]) / median(seconds["notebook"]),
    }
    return section


def sweep(bench: Bench) -> Section:
    """The seven strategies, tracked, evaluated, drawn, saved and compared, against the notebook's seven `fit`s."""
    images = bench.limit(bench.scale.sgd_images)
    mnistlab = [sweep_seconds(bench)]
    notebook, parts = notebook_seven(bench, images)
    mnistlab += [sweep_seconds(bench) for _ in range(bench.scale.sweep_rounds - 1)]
    extrapolated = images < bench.images.num_train
    mark = f" (sgd on {images:,} images *)" if extrapolated else ""
    labels = {
        "notebook": f"the notebook's seven `fit`s of 3 epochs, untracked{mark}",
        "mnistlab": "**`python -m mnistlab.train sweep=optimizers data=notebook`**: tracked, evaluated, drawn, saved",
    }
    seconds = {"notebook": [notebook], "mnistlab": mnistlab}
    section = against_notebook("The sweep of the seven strategies", labels, seconds)
    fits = ", ".join(f"{name} {shown(value)}" for name, value in parts.items())
    section.notes = [
        f"From the start of Python to its exit, mnistlab each time in a new folder. The notebook's `fit`s in s: {fits}."
    ]
    if extrapolated:
        section.notes.append(
            f"\\* sgd at batch 1 was measured on {images:,} images and EXTRAPOLATED to {bench.images.num_train:,}; "
            "`--full` measures it whole."
        )
    section.samples["notebook_fits_seconds"] = parts
    section.figures = {"sweep.faster_than_notebook": notebook / median(mnistlab)}
    return section


def sweep_seconds(bench: Bench) -> float:
    """mnistlab's sweep in a folder of its own."""
    root = new_folder(bench, "sweep")
    return python(bench, *TRAIN, "sweep=optimizers", *source_words(bench), f"paths.root={root}")


def notebook_seven(bench: Bench, sgd_images: int) -> tuple[float, dict[str, float]]:
    """Seconds of the whole program and of each `fit`, sgd's extrapolated to all images."""
    out = bench.folder / "seven.json"
    seconds = python(bench, *NOTEBOOK, "seven", str(bench.images.path), str(out), str(sgd_images))
    parts: dict[str, float] = json.loads(out.read_text(encoding="utf-8"))
    missing = parts["sgd"] * (bench.images.num_train / sgd_images - 1)
    return seconds + missing, parts | {"sgd": parts["sgd"] + missing}


def help_page(bench: Bench) -> Section:
    """--help, a typo, the composed configuration: answered without TensorFlow."""
    commands = {"--help": ["--help"], "--cfg job": ["--cfg", "job"]}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(bench.scale.help_rounds):
        for name, words in commands.items():
            seconds[name].append(python(bench, *TRAIN, *words))
    rows = [[f"`python -m mnistlab.train {name}`", shown(median(all_)), spread(all_)] for name, all_ in seconds.items()]
    section = Section("Commands that do not train", HEADER[:3], rows, samples=dict(seconds))
    section.notes = [f"Medians of {bench.scale.help_rounds} interleaved rounds."]
    section.figures = {"help.seconds": median(seconds["--help"])}
    return section


def against_notebook(title: str, labels: dict[str, str], seconds: dict[str, list[float]]) -> Section:
    """A table with a row for each, in ratios to the notebook."""
    whole = median(seconds["notebook"])
    rows = [
        [label, shown(median(seconds[name])), spread(seconds[name]), times(median(seconds[name]) / whole)]
        for name, label in labels.items()
    ]
    return Section(title, HEADER, rows, samples=dict(seconds))
