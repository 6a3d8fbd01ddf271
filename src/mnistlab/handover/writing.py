"""Writes the folder of a run that is handed over: script, notebook, data, and the run's numbers."""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from mnistlab.config import ConfigError
from mnistlab.config.build import build
from mnistlab.data import Dataset, loading
from mnistlab.data.dataset import with_value_range
from mnistlab.handover import data_code, document, network, reading_code, results_code, training_code, verification
from mnistlab.handover.document import Section
from mnistlab.handover.network import NetworkCode
from mnistlab.handover.python_code import CannotBeWrittenError
from mnistlab.handover.reading_code import Reading
from mnistlab.handover.recorded import RecordedRun
from mnistlab.runtime import files
from mnistlab.tracking import fingerprint
from mnistlab.tracking.initial_weights import initial_weights_file
from mnistlab.training import building, start_job

log = logging.getLogger("mnistlab")

SCRIPT, NOTEBOOK, REQUIREMENTS = "train.py", "train.ipynb", "requirements.txt"
MNIST_5K = "mnistlab.data.sources.mnist_5k"


@dataclass(frozen=True)
class HandedOver:
    """folder: with the script; files: their names; notes: what the user must know; equal: what was compared."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]
    equal: str


@dataclass
class _Parts:
    """What becomes of a run: the sections of the script, the files beside it, and notes."""

    sections: list[Section]
    files: dict[str, bytes]
    notes: list[str]


def hand_over(run: RecordedRun, folder: Path) -> HandedOver:
    """Write the run to a folder, which appears when it is complete. Files of the same names there are replaced.

    Raises:
        ConfigError: the data have changed since the run, the folder cannot be written, or the run has a part that
            plain Keras cannot do in the same way (CannotBeWrittenError).
    """
    training_code.check_devices(run)
    dataset = _dataset(run)
    start_job(run.config.seed, deterministic=False)
    weights = initial_weights_file(run.config) if run.config.init.get("from") else None
    model = building.build_model(run.config, dataset, weights)
    training_code.check(run, dataset, model)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".half", dir=folder.parent) as half:
            parts = _parts(run, dataset, model, Path(half))
            _write_documents(run, parts, Path(half))
            folder.mkdir(exist_ok=True)
            names = sorted(file.name for file in Path(half).iterdir())
            for name in names:
                shutil.move(Path(half) / name, folder / name)
    except OSError as error:
        raise ConfigError(f"to={folder} cannot be written: {error}.") from error
    return HandedOver(folder, tuple(names), tuple(parts.notes), _equal(run, dataset))


def _equal(run: RecordedRun, dataset: Dataset) -> str:
    weights = " class weights," if dataset.class_weight else ""
    return f"the images, their split,{weights} the initial weights, optimizer and loss"


def _dataset(run: RecordedRun) -> Dataset:
    """The run's data set, loaded again."""
    if run.tags.get("source.used") == "mnist_5k":
        run.config.source = {"_target_": MNIST_5K}  # also if it replaced MNIST, which could not be downloaded
    dataset = loading.load(run.config)
    changed = [name for name, digest in dataset.digests.items() if run.tags.get(f"hash.{name}", digest) != digest]
    if changed:
        raise ConfigError(
            f"The {' and '.join(changed)} images are not those that {run.chosen.name} was trained with: the data at "
            f"{dataset.origin} have changed since. Put the old data back, or train again."
        )
    return dataset


def _parts(run: RecordedRun, dataset: Dataset, model: keras.Model, half: Path) -> _Parts:
    """The first way to write the run whose images and model are equal to the run's."""
    reading = _reading(run, dataset, half)
    facts = data_code.facts_of(run, dataset, in_model=not dataset.train.resident)
    names = _prepared(run, dataset, reading, facts, half)
    compiled = training_code.compiling(run, dataset, model)
    code = _network(run, dataset, model, facts, compiled, names, half)
    if code is None:
        facts = data_code.facts_of(run, dataset, in_model=True)
        names = _prepared(run, dataset, reading, facts, half)
        code = network.whole_model(model)
        model.save(half / network.INITIAL_MODEL)
        _check_model(code, compiled, names, model, dataset, half)
    sections = [
        _imports(run, dataset, facts),
        *data_code.sections(run, dataset, reading, facts),
        code.section(),
        compiled,
        *training_code.fitting(run, dataset, facts),
        *results_code.sections(run, dataset),
    ]
    return _Parts(sections, dict(reading.files), list(_notes(run, model, code)))


def _reading(run: RecordedRun, dataset: Dataset, half: Path) -> Reading:
    """The first way to read the images that gives those of the run."""
    facts = data_code.facts_of(run, dataset, in_model=True)
    problems: list[str] = []
    for reading in _readings(run, dataset):
        for name, content in reading.files.items():
            (half / name).write_bytes(content)
        names: dict[str, Any] = {}
        sections = list(data_code.sections(run, dataset, reading, facts))
        try:
            verification.run_sections([_imports(run, dataset, facts), *sections], half, names)
            problems = list(verification.data_differences(names, dataset))
        except (KeyError, ValueError, OSError, TypeError, IndexError) as error:
            problems = [f"{type(error).__name__}: {error}"]
        if not problems:
            return reading
        for name in reading.files:
            (half / name).unlink()
    raise CannotBeWrittenError(f"The script would read other images than the run: {'; '.join(problems)}.")


def _readings(run: RecordedRun, dataset: Dataset) -> Iterator[Reading]:
    if run.manifest:
        yield reading_code.of_folder(run, dataset)
        if not dataset.train.resident:
            return
    yield from reading_code.of_arrays(run, with_value_range(build(run.config.source, "source")))


def _prepared(
    run: RecordedRun, dataset: Dataset, reading: Reading, facts: data_code.DataFacts, half: Path
) -> dict[str, Any]:
    """The names that the script has after Part 2."""
    names: dict[str, Any] = {}
    sections = [_imports(run, dataset, facts), *data_code.sections(run, dataset, reading, facts)]
    verification.run_sections(sections, half, names)
    if problems := list(verification.preparation_differences(names, dataset)):
        raise CannotBeWrittenError(f"The script would prepare the images in another way: {'; '.join(problems)}.")
    return names


def _network(
    run: RecordedRun,
    dataset: Dataset,
    model: keras.Model,
    facts: data_code.DataFacts,
    compiled: Section,
    names: dict[str, Any],
    half: Path,
) -> NetworkCode | None:
    """The model as code: from the seed alone, else with its initial weights in a file; None if neither is equal."""
    attempts = ("", network.INITIAL_WEIGHTS) if not run.config.init.get("from") else (network.INITIAL_WEIGHTS,)
    for file in attempts:
        try:
            code = network.network_code(run, model, facts, file=file)
            if file:
                _save_weights(code, names, model, half)
            _check_model(code, compiled, names, model, dataset, half)
        except CannotBeWrittenError as error:
            log.debug("%s", error)
            (half / network.INITIAL_WEIGHTS).unlink(missing_ok=True)
            continue
        return code
    return None


def _save_weights(code: NetworkCode, names: dict[str, Any], model: keras.Model, half: Path) -> None:
    """The run's initial weights, in the form that the script's model loads."""
    verification.run_sections([NetworkCode(code.body, "").section()], half, names)
    made = names["model"]
    if [one.shape for one in made.get_weights()] != [one.shape for one in model.get_weights()]:
        raise CannotBeWrittenError("The layers have other shapes.")
    made.set_weights(model.get_weights())
    made.save_weights(half / network.INITIAL_WEIGHTS)


def _check_model(
    code: NetworkCode, compiled: Section, names: dict[str, Any], model: keras.Model, dataset: Dataset, half: Path
) -> None:
    verification.run_sections([code.section(), compiled], half, names)
    if problem := verification.model_differences(names["model"], model, names, dataset):
        raise CannotBeWrittenError(f"The script's model is not the run's: {problem}.")


def _imports(run: RecordedRun, dataset: Dataset, facts: data_code.DataFacts) -> Section:
    standard = ["import csv"] if run.manifest else []
    standard += ["import json", "import math", "from pathlib import Path"]
    others = ["import keras", "import matplotlib.pyplot as plt", "import numpy as np", "from keras import layers"]
    others.append("from sklearn.metrics import ConfusionMatrixDisplay, classification_report, confusion_matrix")
    if "compute_class_weight" in facts.class_weight:
        others.append("from sklearn.utils.class_weight import compute_class_weight")
    code = "\n".join(standard) + "\n\n" + "\n".join(others) + f"\n\nSEED = {run.config.seed}"
    text = (
        "Keras builds and trains the network, NumPy holds the images, scikit-learn measures, matplotlib draws. "
        "The seed makes every random number repeatable."
    )
    return Section("Part 1: The toolbox", text, code)


def _notes(run: RecordedRun, model: keras.Model, code: NetworkCode) -> Iterator[str]:
    recorded = run.tags.get("hash.initial_weights")
    if recorded and fingerprint.hash_of_arrays(model.get_weights()) != recorded:
        yield (
            "WARNING: the run started from other weights than this installation gives (another version of Keras, "
            "another file in init.from), so the script's numbers will differ from those of the run."
        )
    if code.file == network.INITIAL_WEIGHTS:
        yield f"{code.file} is beside the script: the seed alone does not give the weights that the run started from."
    if code.file == network.INITIAL_MODEL:
        yield f"{code.file} is beside the script: the network cannot be written out as a short function."
    if run.config.deterministic:
        yield "The run used TensorFlow's deterministic operations (deterministic=true); the script does not."
    if run.tags.get("outcome.step"):
        yield "The run diverged: numbers that are not finite are not comparable."


def _introduction(run: RecordedRun, notes: Sequence[str]) -> str:
    name = f"{run.chosen.name} ({run.chosen.run_id})" if run.chosen.run_id else run.chosen.name
    versions = ", ".join(f"{package} {version}" for package, version in run.versions.items())
    lines = [
        f"The run {name} as plain Keras.",
        "",
        "It needs Keras, NumPy, scikit-learn and matplotlib, and nothing else: pip install -r requirements.txt",
        f"Run it in its folder: python {SCRIPT}",
        "",
        f"The run was trained with {versions}.",
        *notes,
    ]
    return "\n".join(lines)


def _write_documents(run: RecordedRun, parts: _Parts, half: Path) -> None:
    introduction = _introduction(run, parts.notes)
    script = document.script(introduction, parts.sections)
    compile(script, SCRIPT, "exec")
    files.write_text(half / SCRIPT, script)
    files.write_text(half / NOTEBOOK, document.notebook(introduction, parts.sections))
    files.write_json(half / results_code.RECORDED, results_code.recorded(run))
    packages = [f"{name}=={version}" for name, version in run.versions.items() if name != "python"]
    packages += ["matplotlib", *(["pillow"] if run.manifest else [])]
    files.write_text(half / REQUIREMENTS, "\n".join(packages) + "\n")
