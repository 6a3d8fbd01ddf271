"""Make the figures of the guide's pages: run the commands that the pages show, and collect what these drew.

    python docs/_scripts/make_figures.py                 # on the 5,000 embedded digits
    python docs/_scripts/make_figures.py mnist.npz       # on the genuine MNIST; or MNISTLAB_TEST_MNIST=mnist.npz
    python docs/_scripts/make_figures.py mnist.npz --work FOLDER    # keeps the runs, and continues with them
    python docs/_scripts/make_figures.py --work FOLDER --only verdict    # one of them

Each command runs in a process of its own, in one folder, in this order. Commands that name a source keep it. The
figures, with at most 64 colours, and figures.json, which says of each figure the command, the data and the
results, are written to docs/guide/figures/. What the commands printed is in FOLDER/output/.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from mnistlab.touring.photographs import write_photographs

PROJECT = Path(__file__).resolve().parents[2]
FIGURES = PROJECT / "docs" / "guide" / "figures"
MAX_WIDTH = 1000  # pixels
TRAIN = "python -m mnistlab.train"


@dataclass(frozen=True)
class Step:
    """A command as a page shows it, and what becomes of what it drew.

    figures: the figure's name -> the name of the file that the command draws. drawn: the figure's name -> a function
    that draws it from the folder in which the command ran.
    """

    command: str
    figures: dict[str, str] = field(default_factory=dict)
    drawn: dict[str, Callable[[Path], Image.Image]] = field(default_factory=dict)


def grid_of_digits(folder: Path) -> Image.Image:
    """The first twelve training images of each class, a row for each class, dark on light."""
    rows = [sorted((folder / "digits" / "train" / str(digit)).glob("*.png"))[:12] for digit in range(10)]
    digits = [[255 - np.asarray(Image.open(file)) for file in row] for row in rows]
    pixels = np.block([[np.pad(digit, 3, constant_values=255) for digit in row] for row in digits])
    return Image.fromarray(pixels).resize((pixels.shape[1] * 2, pixels.shape[0] * 2), Image.Resampling.NEAREST)


def recall_of_classes(folder: Path) -> Image.Image:
    """The recall of each class with and without class weights, means over the seeds of the newest sweep."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    recalls: dict[str, list[list[float]]] = {}
    for run in newest(folder.glob("runs/*/*-sweep")).glob("*/metrics.jsonl"):
        settings = json.loads((run.parent / "parameters.json").read_text())
        metrics = final_metrics(run)
        recalls.setdefault(str(settings["data.class_weight"]), []).append(
            [metrics[f"test_recall.{digit}"] for digit in range(10)]
        )
    figure, axes = plt.subplots(figsize=(8, 4.2), dpi=104, layout="constrained")
    for name, mark, colour in (("None", "o", "#d55e00"), ("balanced", "s", "#0072b2")):
        label = {"None": "data.class_weight=null", "balanced": "data.class_weight=balanced"}[name]
        axes.plot(range(10), 100 * np.mean(recalls[name], axis=0), mark, color=colour, label=label, markersize=8)
    axes.set(xticks=range(10), xlabel="Class", ylabel="Recall on the test images, %")
    axes.set_title("Recall of each class; 3 and 8 are rare in the training images", loc="left", fontweight="bold")
    axes.grid(alpha=0.4)
    axes.legend(loc="center left")
    file = folder / "recall.png"
    figure.savefig(file)
    return Image.open(file)


STEPS = [
    Step("python -m mnistlab.export source=mnist_5k to=digits", drawn={"digits": grid_of_digits}),
    Step(f"{TRAIN} --multirun data.scaling=unit,none optimizer=momentum", {"scaling": "val_loss"}),
    Step(
        f"{TRAIN} --multirun source=mnist_5k model=logistic,mlp,cnn fit.epochs=10", {"networks": "accuracy_by_option"}
    ),
    Step(
        f"{TRAIN} sweep=optimizers fit.epochs=10",
        {"strategies": "val_loss", "strategies-seconds": "val_accuracy_seconds"},
    ),
    Step(f"{TRAIN} sweep=learning_rate optimizer=adam", {"learning-rates": "learning_rates"}),
    Step(
        f"{TRAIN} source=mnist_5k data.limit=1000 model.units=[512,512] optimizer.learning_rate=0.003 fit.epochs=40",
        {"overfitting": "learning_curves"},
    ),
    Step(TRAIN, {"confusion": "confusion_matrix", "wrong": "wrong_images"}),
    Step(
        f"{TRAIN} optimizer=rmsprop callbacks=default callbacks.early_stopping.patience=6 "
        "callbacks.reduce_lr.patience=2 fit.epochs=30",
        {"callbacks": "learning_curves"},
    ),
    Step(
        f"{TRAIN} --multirun data=imbalanced data.class_weight=null,balanced optimizer=momentum sweep.seeds=3",
        drawn={"class-weights": recall_of_classes},
    ),
    Step(
        f"{TRAIN} source=directory source.path=digits data=augmented optimizer=momentum fit.epochs=5",
        {"augmented": "augmented_images"},
    ),
    Step(f"{TRAIN} experiment=cnn_99 fit.epochs=3 run.name=convolutional"),
    Step(
        "python -m mnistlab.predict run=convolutional images='handwriting/*.png' prepare=mnist sheet=sheet.png",
        {"handwriting": "sheet"},
    ),
    Step(f"{TRAIN} --multirun optimizer=momentum,adam,rmsprop sweep.seeds=5", {"verdict": "final_values"}),
]


def newest(files: object) -> Path:
    """The file or folder that was changed last."""
    return max(files, key=lambda file: file.stat().st_mtime_ns)  # type: ignore[call-overload, no-any-return]


def final_metrics(file: Path) -> dict[str, float]:
    """The metrics after the last epoch, of a run's metrics.jsonl."""
    rows = [json.loads(line)["metrics"] for line in file.read_text().splitlines()]
    return {name: value for row in rows if "epoch_seconds" not in row for name, value in row.items()}


def results(folder: Path, command: str) -> dict[str, object]:
    """What the newest run or sweep found: the validation and test accuracies of each option."""
    if "--multirun" in command or "sweep=" in command:
        rows = csv.DictReader(newest(folder.glob("runs/sweeps/*/table.csv")).open(encoding="utf-8"))
        kept = ("rank", "mean", "sd", "num_seeds", "num_failed", "num_diverged", "test_accuracy", "curve_reading")
        return {row["option"]: {name: row[name] for name in kept} for row in rows}
    if ".train" not in command:
        return {}
    wanted = ("best_epoch", "best_epoch_val_loss", "best_epoch_val_accuracy", "train_accuracy", "test_accuracy")
    metrics = final_metrics(newest(folder.glob("runs/*/*/metrics.jsonl")))
    return {name: metrics[name] for name in wanted}


def run(step: Step, folder: Path, mnist: str | None) -> str:
    """Run a command in the folder; returns the name of its data. Its output is kept in output/."""
    words = shlex.split(step.command)[1:]
    data = next((word.partition("=")[2] for word in words if word.startswith("source=")), "")
    if ".train" in step.command and not data:
        words += [f"source.path={mnist}"] if mnist else ["source=mnist_5k"]
        data = "mnist" if mnist else "mnist_5k"
    if words[1] == "mnistlab.predict":
        write_photographs(folder / "digits" / "test", folder / "handwriting")
    environment = {**os.environ, "MNISTLAB_ROOT": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    output = folder / "output" / f"{STEPS.index(step):02}.txt"
    output.parent.mkdir(exist_ok=True)
    output.write_text(f"$ {step.command}\n{done.stdout}\n{done.stderr}", encoding="utf-8")
    if done.returncode:
        sys.exit(f"{step.command} ended with {done.returncode}: {output}\n{done.stderr}")
    return data


def save(image: Image.Image, name: str) -> None:
    """Save a figure with few colours."""
    image = image.convert("RGB")
    if image.width > MAX_WIDTH:
        image = image.resize((MAX_WIDTH, image.height * MAX_WIDTH // image.width), Image.Resampling.LANCZOS)
    image.quantize(64).save(FIGURES / f"{name}.png", optimize=True)


def main() -> None:
    """Run the steps, all or the one whose figure is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("mnist", nargs="?", default=os.environ.get("MNISTLAB_TEST_MNIST"), help="an mnist.npz")
    parser.add_argument("--work", type=Path, help="the folder of the runs; a temporary one without it")
    parser.add_argument("--only", help="the name of a figure: no other step is run")
    arguments = parser.parse_args()
    mnist = str(Path(arguments.mnist).resolve()) if arguments.mnist else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        file = FIGURES / "figures.json"
        made = json.loads(file.read_text(encoding="utf-8")) if arguments.only else {}
        for step in STEPS:
            if arguments.only and arguments.only not in (*step.figures, *step.drawn):
                continue
            print(step.command, flush=True)
            if "mnistlab.export" in step.command and (folder / "digits").is_dir():
                data = "mnist_5k"
            else:
                data = run(step, folder, mnist)
            for name, drawn in step.figures.items():
                save(Image.open(newest(folder.rglob(f"{drawn}.png"))), name)
            for name, draw in step.drawn.items():
                save(draw(folder), name)
            found = {"command": step.command, "data": data, "results": results(folder, step.command)}
            made |= dict.fromkeys((*step.figures, *step.drawn), found)
            file.write_text(f"{json.dumps(made, indent=1, sort_keys=True)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
