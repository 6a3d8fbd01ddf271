"""What the learning curves of a training show: good fit, overfitting, underfitting or divergence (Part 8)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FEW_STEPS = 100


@dataclass(frozen=True)
class CurveReading:
    """What the learning curves show (Part 8). verdict: the name of a rule; sentence: with the rule that applied."""

    verdict: str
    sentence: str


def read_curves(epochs: Sequence[Mapping[str, float]], num_classes: int, steps_per_epoch: int) -> CurveReading:
    """Classify the learning curves of a training by the first rule that holds.

    diverged: a loss is not finite; or after 100 steps or more the accuracy is below 1.5 times that of guessing.
    underfitting: training accuracy below 0.85 (without accuracy: loss above half of the loss of guessing).
    overfitting: the validation loss ends 10 % or more above its best epoch while the training loss kept falling.
    good fit: everything else.

    Args:
        epochs: per epoch a row with loss, val_loss and, if measured, accuracy and val_accuracy.
    """
    first, last = epochs[0], epochs[-1]
    guessing_loss = math.log(num_classes)
    steps = steps_per_epoch * len(epochs)
    accuracy = last.get("accuracy", math.nan)
    if not all(math.isfinite(row[name]) for row in epochs for name in ("loss", "val_loss") if name in row):
        epoch = 1 + next(i for i, row in enumerate(epochs) if not math.isfinite(row["loss"] + row.get("val_loss", 0.0)))
        return CurveReading("diverged", f"diverged: the loss of epoch {epoch} is not a finite number.")
    if accuracy < 1.5 / num_classes and steps >= FEW_STEPS:
        return CurveReading(
            "diverged",
            f"diverged: after {steps:,} steps the training accuracy is {accuracy:.3f}, no better than guessing "
            f"(rule: below 1.5 / {num_classes} classes); a smaller learning rate may help.",
        )
    if accuracy < 0.85 or (math.isnan(accuracy) and last["loss"] > guessing_loss / 2):
        few = f" {steps} steps are few;" if steps < FEW_STEPS else ""
        shown = f"accuracy {accuracy:.3f}" if math.isfinite(accuracy) else f"loss {last['loss']:.3f}"
        return CurveReading(
            "underfitting",
            f"underfitting: the training {shown} is low (rule: accuracy below 0.85);{few} "
            "more epochs or a larger network may help.",
        )
    return _overfitting(epochs, first, last) or CurveReading(
        "good fit",
        "good fit: training and validation loss fell together "
        f"(rule: validation loss {last.get('val_loss', math.nan):.3f} within 10 % of its best).",
    )


def _overfitting(
    epochs: Sequence[Mapping[str, float]], first: Mapping[str, float], last: Mapping[str, float]
) -> CurveReading | None:
    validation = [row["val_loss"] for row in epochs if "val_loss" in row]
    if not validation:
        return None
    best = min(range(len(validation)), key=validation.__getitem__)
    if validation[-1] < 1.1 * validation[best] or last["loss"] >= epochs[best]["loss"]:
        return None
    return CurveReading(
        "overfitting",
        f"overfitting: the validation loss was best in epoch {best + 1} ({validation[best]:.3f}) and ended at "
        f"{validation[-1]:.3f} while the training loss kept falling (rule: 10 % or more above its best).",
    )
