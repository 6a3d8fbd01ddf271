"""How long a job will take, estimated from finished runs of the same model at the same batch size."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnistlab.tracking.history import StoredRun

SECONDS_PER_JOB = 0.7  # besides the training: data, evaluation, saving
COMPILE_SECONDS = 1.0  # in the only epoch of a run of one epoch
MAX_EXTRAPOLATION = 5  # from how much smaller a run an estimate is made


def expected_seconds(
    settings: Mapping[str, Any], num_images: int, batch_size: int, runs: Sequence[StoredRun]
) -> float | None:
    """The seconds of a job, or None without a run to judge from.

    The time of a training is a fixed part, mostly compilation, and a part in proportion to the images that it sees.

    Args:
        settings: the job's, by their dotted names; num_images: that it trains on; batch_size: images per step.
        runs: finished ones, the newest first.
    """
    model = _model(settings)
    best: tuple[float, StoredRun] | None = None
    images = num_images * int(settings["fit.epochs"])
    for run in runs:
        seen = _images_seen(run)
        if not seen or images > MAX_EXTRAPOLATION * seen:
            continue
        if _model(run.params) != model or run.tags.get("batch_size") != str(batch_size):
            continue
        distance = max(images / seen, seen / images)
        distance *= 1 if run.params.get("optimizer") == str(settings.get("optimizer")) else 1.5
        if best is None or distance < best[0]:
            best = (distance, run)
    return None if best is None else _scaled(best[1], images) + SECONDS_PER_JOB


def _model(settings: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in settings.items() if key == "model" or key.startswith("model.")}


def _images_seen(run: StoredRun) -> int:
    """How many images the run trained on, over all epochs; 0 if it did not record that, or not how long it took."""
    known = "train_seconds" in run.metrics
    return int(run.tags.get("num_training_images", 0)) * int(run.params.get("fit.epochs", 0)) if known else 0


def _scaled(run: StoredRun, images: int) -> float:
    """The training seconds for so many images, from those of one run."""
    total, epochs = run.metrics["train_seconds"], int(run.params["fit.epochs"])
    if epochs > 1:  # the last epoch, unlike the first, has no compilation in it
        training = min(total, epochs * run.metrics.get("epoch_seconds", total / epochs))
    else:
        training = max(total - COMPILE_SECONDS, 0.1 * total)
    return total - training + training * images / (int(run.tags["num_training_images"]) * epochs)
