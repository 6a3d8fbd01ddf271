"""One experiment, top to bottom. Read `run` to see every step; each package behind it holds one subject."""

import functools
import io
import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from mnistlab import data, evaluation, training
from mnistlab.config import Config
from mnistlab.data import Dataset, loading
from mnistlab.data.folders import batches
from mnistlab.evaluation import CurveReading, Evaluation, drawing, explanation
from mnistlab.evaluation.summary import markdown, one_line, summary
from mnistlab.runtime import files, space
from mnistlab.tracking import background, fingerprint, resuming, stores
from mnistlab.tracking.description import open_record, write_description, write_note, write_reports
from mnistlab.tracking.initial_weights import initial_weights_file
from mnistlab.tracking.model_digests import digest_tag
from mnistlab.tracking.recorder import Recorder, recording
from mnistlab.tracking.sync import sync_command
from mnistlab.training import FitPlan, TrainingResult, attribution, building, saving, training_sample
from mnistlab.training.building import check_without_data
from mnistlab.training.pruning import pruning_callbacks, tags_if_pruned

log = logging.getLogger("mnistlab")

NUM_AUGMENTED_VERSIONS = 14  # of one image, in its figure
REPORT_BYTES = 2_000_000  # of a run's figures, reports, log and rows in the store, at most


@dataclass(frozen=True)
class Result:
    """The result of an experiment.

    epochs: one row of metrics per epoch; best_epoch: from 1, None if no epoch had a finite value; metrics: the final
    ones (best_epoch_*, max_val_*, test_*, train_seconds); objective: the metric that sweepers optimize; reported:
    'best' or 'last', the epoch that `best_epoch` is.
    """

    name: str
    folder: Path
    run_id: str | None
    epochs: list[dict[str, float]]
    best_epoch: int | None
    metrics: dict[str, float]
    reading: CurveReading
    objective: float
    reported: str = "best"


def run(config: Config, on_open: Callable[[Path], object] = lambda folder: None) -> Result:
    """Load, build, train, evaluate and save; record all of it.

    Args:
        on_open: called with the run's folder when its record is open; of an earlier run, if that is continued.

    Raises:
        ConfigError: the configuration cannot work; nothing was recorded.
    """
    started = time.perf_counter()
    check_without_data(config)
    training.start_job(config.seed, config.deterministic)

    dataset = load_dataset(config)
    identified = identity(config, dataset)
    earlier, start = resuming.find_checkpoint(config, identified)
    model = build_model(config, dataset)
    callbacks = building.build_callbacks(config, model)
    pruning = pruning_callbacks(config.sweep_job.trial)
    plan = building.plan_fit(config, model, dataset, callbacks)
    space.check_space(needed_space(config, model, dataset), "This run")

    opened = open_record(config, dataset.name, earlier, start.epoch if start else 0)
    with recording(opened, config.sweep_job.wait) as record:
        on_open(record.folder)
        describe_run(record, config, dataset, model, plan, identified)
        resuming.record_earlier_epochs(record, earlier, start)
        trained = training.fit(
            model,
            dataset,
            plan,
            monitor=config.save.monitor,
            keep=training.saved_epoch(config.save.which, dataset),
            callbacks=[*callbacks.values(), *pruning],
            on_epoch=record.log_metrics,
            checkpoints=building.plan_checkpoints(config, record.folder, identified, start),
        )
        record.set_tags(tags_if_pruned(pruning, identified))
        metrics, model_address = trained.metrics() | {"num_validation_images": len(dataset.validation)}, None
        reading = read_curves(trained, dataset, plan)
        if trained.best_epoch is not None:
            on_training, num_measured = training_sample.evaluate_training_sample(model, dataset, plan.engine)
            evaluated = evaluate_on_test(model, dataset, plan.engine)
            reading = read_curves(trained, dataset, plan, on_training, num_measured, evaluated.metrics())
            metrics |= {f"train_{name}": value for name, value in on_training.items()} | evaluated.metrics()
            on_validation = training_sample.validation_report(model, dataset, plan.engine)
            write_reports(record, evaluated.reports() | on_validation, evaluated.table())
            model_address = save(record, config, model, dataset)
            draw_figures(record, dataset, trained, evaluated)
            metrics |= explain(record, model, dataset, evaluated) if config.explain else {}
        record_outcome(record, trained, reading, num_steps=int(model.optimizer.iterations.numpy()))
        record.log_metrics(metrics, max(1, len(trained.history)))
        result = Result(
            name=record.name,
            folder=record.folder,
            run_id=record.run_id,
            epochs=trained.history,
            best_epoch=trained.best_epoch,
            metrics=metrics,
            reading=reading,
            objective=metrics.get(config.sweep.objective, math.nan),
            reported=trained.reported,
        )
        saved = (result.reported, config.save.monitor)
        write_note(record, config, markdown(metrics, len(result.epochs), reading, *saved))
        report(result, record, config, model_address, time.perf_counter() - started)
    return result


def load_dataset(config: Config) -> Dataset:
    """The data set of this configuration, loaded once per process; its warnings and notes are logged once."""
    dataset = loading.load(config)
    if dataset.warning:
        rule = "=" * 100
        _warn_once(f"{rule}\nWARNING: {dataset.warning}\n{rule}")
    for note in building.notes(config, dataset):
        _warn_once(note)
    if training.validates_on_test(dataset):
        _warn_once(building.note_on_test_images(training.saved_epoch(config.save.which, dataset)))
    batches.check_batch_size(config.fit.batch_size, dataset)
    return dataset


@functools.cache
def _warn_once(warning: str) -> None:
    log.warning("%s", warning)


def needed_space(config: Config, model: keras.Model, dataset: Dataset) -> dict[Path, int]:
    """About how many bytes a run will write: folder -> bytes. The store's files are copies of those of the run."""
    sizes = saving.saved_bytes(model)
    kept = sum(sizes[name] for name in set(config.save.formats)) + len(dataset.test) * 12 + REPORT_BYTES
    passing = 0 if config.fit.resume == "never" else sizes["checkpoint"]
    needed = {Path(config.paths.root) / "runs": kept + passing}
    store = stores.address(config.tracking, config.paths.root)
    if config.tracking.backend == "mlflow" and store.artifacts:
        needed[store.artifacts] = kept + sizes["keras"]
    return needed


def identity(config: Config, dataset: Dataset) -> dict[str, str]:
    """The run's fingerprint, and its parts: of two runs with the same, one is enough."""
    resolved = building.resolved_settings(config, dataset)
    read = {"init.from": initial_weights_file(config)} if config.init.get("from") else {}
    return fingerprint.fingerprint(config, dataset.content, resolved, read)


def build_model(config: Config, dataset: Dataset) -> keras.Model:
    """The compiled model; with the weights of a saved model if `init.from` names one."""
    weights = initial_weights_file(config) if config.init.get("from") else None
    return building.build_model(config, dataset, weights)


def describe_run(
    record: Recorder, config: Config, dataset: Dataset, model: keras.Model, plan: FitPlan, identified: Mapping[str, str]
) -> None:
    """Record everything that is known before the training; log one line of it."""
    order = data.epoch_order(len(dataset.train), plan.seed, 0)
    planned = plan.tags()
    tags = {
        "steps_planned": planned.pop("steps"),
        **planned,
        "num_parameters": str(model.count_params()),
        "hash.initial_weights": fingerprint.hash_of_arrays(model.get_weights()),
        "hash.batch_order": fingerprint.hash_of_arrays([order]),
        "num_training_images": str(len(dataset.train)),
        "scaling": building.describe_scaling(config, dataset),
        **identified,
    }
    model_summary = io.StringIO()
    model.summary(print_fn=lambda line: model_summary.write(f"{line}\n"), line_length=100)
    described = data.describe(dataset) | {"notes": list(building.notes(config, dataset)), "scaling": tags["scaling"]}
    write_description(record, config, described, tags, model_summary.getvalue())
    log.info(
        "%s: %s training, %s validation, %s test images of %s; %s parameters; batches of %s",
        record.name,
        *(f"{len(split):,}" for split in dataset.splits.values()),
        dataset.name,
        f"{model.count_params():,}",
        f"{plan.batch_size:,}",
    )


def read_curves(
    trained: TrainingResult,
    dataset: Dataset,
    plan: FitPlan,
    on_training: Mapping[str, float] | None = None,
    num_measured: int = 0,
    metrics: Mapping[str, float] | None = None,
) -> CurveReading:
    """What the learning curves show.

    on_training: the saved model's metrics on `num_measured` training images; metrics: the run's, with test_*.
    """
    measured = (metrics or {}).items()
    return evaluation.read_curves(
        trained.history,
        dataset.num_classes,
        plan.steps_per_epoch,
        best_epoch=trained.best_epoch,
        training=on_training,
        test={name.removeprefix("test_"): value for name, value in measured if name.startswith("test_")},
        sizes={"training": num_measured, "validation": len(dataset.validation), "test": len(dataset.test)},
    )


def record_outcome(record: Recorder, trained: TrainingResult, reading: CurveReading, num_steps: int) -> None:
    """Record whether the training succeeded or diverged, the steps that it took, and what its curves show."""
    outcome = {"steps": num_steps, **trained.outcome(learned=reading.verdict != "diverged")}
    record.set_tags({"fit_reading": reading.verdict, "fit_reading.sentence": reading.sentence, **outcome})
    if trained.diverged:
        log.warning("Diverged: %s", trained.diverged)


def evaluate_on_test(model: keras.Model, dataset: Dataset, engine: str) -> Evaluation:
    """Evaluate on the test set, once."""
    metrics, probabilities = training.predict(model, dataset, "test", engine)
    evaluated: Evaluation = background.call_or_run_here(
        evaluation.evaluate, probabilities, dataset.test.labels, dataset.class_names, metrics
    )
    return evaluated


def save(record: Recorder, config: Config, model: keras.Model, dataset: Dataset) -> Future | None:
    """Save the model in the run's folder and log it to the store; returns its models:/ address, when it is there."""
    folder = record.folder / "model_files"
    digests = {file.name: files.sha256(file) for file in saving.save_model(model, folder, config.save.formats)}
    facts = {"input_shape": dataset.image_shape, "num_outputs": dataset.num_outputs, "dtype": dataset.dtype}
    facts["register"] = config.save.register
    record.write_json("model.json", {**facts, "sha256": digests})
    request = folder.parent / "serving_input_example.json"
    record.write_json(request.name, {"inputs": np.asarray(dataset.train.images[np.arange(1)]).tolist()})
    record.set_tags({digest_tag(name): digest for name, digest in digests.items()})
    if record.store is None:
        return None
    file, temporary = saving.mlflow_file(model, folder, record.folder)
    address: Future | None = record.submit("log_model", file.resolve(), facts, temporary, request.resolve())
    return address


def draw_figures(record: Recorder, dataset: Dataset, trained: TrainingResult, evaluated: Evaluation) -> None:
    """Draw confusion matrix, learning curves, confident errors and an augmented image, in the background process."""
    errors, names = evaluation.most_confident_errors(evaluated), dataset.class_names
    shown: dict[str, tuple] = {
        "confusion_matrix": (evaluated.confusion, names, "Test images"),
        "learning_curves": (trained.history, trained.best_epoch, "", trained.reported),
        "wrong_images": (
            dataset.value_range.as_pixels(np.asarray(dataset.test.images[errors])),
            [names[label] for label in evaluated.labels[errors]],
            [names[label] for label in evaluated.predicted[errors]],
            evaluated.confidence[errors],
        ),
    }
    if dataset.augmentation:
        image = dataset.train.images[np.arange(1)]
        versions = training.augmented_versions(dataset, image[0], NUM_AUGMENTED_VERSIONS, seed=0)
        image, versions = map(dataset.value_range.as_pixels, (image, versions))
        shown["augmented_images"] = (image, versions, names[dataset.train.labels[0]], dataset.augmentation)
    folder = record.folder.resolve() / "figures"
    record.add_pending(background.submit_or_run_here(drawing.draw, folder, shown))


def explain(record: Recorder, model: keras.Model, dataset: Dataset, evaluated: Evaluation) -> dict[str, float]:
    """Draw what the model has learned and where it errs, in the background process; returns its calibration error."""
    name, test = f"{dataset.name}, test images", dataset.test.images
    images = explanation.SeenImages(name, lambda rows: np.asarray(test[rows]), dataset.value_range.as_pixels)
    found = explanation.explain(evaluated, images, attribution.View(model, dataset.image_shape))
    record.write_json(explanation.REPORT, found.report())
    log.info("Explained: %s", "; ".join(found.lines()))
    record.add_pending(background.submit_or_run_here(drawing.draw, record.folder.resolve() / "figures", found.shown))
    return found.metrics("test")


def report(result: Result, record: Recorder, config: Config, address: Future | None, seconds: float) -> None:
    """Log the end of the run: a summary, or one line for a job of a sweep."""
    run = result.run_id or str(result.folder)
    if config.sweep_job.name:
        log.info("%s", one_line(result.name, result.metrics, result.reading, seconds, run))
        return
    model = record.in_store(lambda _: address.result()) if address else None
    if model is None and result.best_epoch is not None:
        model = str(result.folder / "model_files")
    places = {**({"model": model} if model else {}), "folder": str(result.folder)}
    if record.store_run is not None and not record.store_error:
        places["open"] = record.store_run.how_to_view
    if record.store_error:
        places["not synced:"] = f"{record.store_error}; deliver it with: {sync_command(config.paths.root)}"
    counted = (len(result.epochs), result.reading, seconds, places, result.reported, config.save.monitor)
    log.info("%s", summary(result.name, result.metrics, *counted))
