"""What the learning curves of a training show: good fit, overfitting, underfitting or divergence (Part 8).

The only reading of curves: it becomes the tag `fit_reading` of a run, which a sweep's report shows too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FEW_STEPS = 100
LOW_ACCURACY = 0.85
RISE = 1.05  # of the validation loss above its minimum: overfitting, if the training loss fell
UNSTABLE_RISE = 1.1  # the same, if the training loss rose too
STILL_FALLING = 0.95  # the last validation loss relative to the one before
SMALL_GAP, LARGE_GAP = 0.05, 0.1  # between two accuracies; the small one counts if the errors are twice as many
ACCURACIES = ("accuracy", "acc", "categorical_accuracy", "sparse_categorical_accuracy", "binary_accuracy")
TOO_FEW = "too few epochs to tell"
TEST_DIFFERS = "test set differs"


@dataclass(frozen=True)
class CurveReading:
    """What the learning curves show (Part 8). verdict: the name of a rule; sentence: with the rule that applied."""

    verdict: str
    sentence: str


@dataclass(frozen=True)
class Curves:
    """What `read_curves` reads, see there. epoch: the row of the saved epoch."""

    epochs: Sequence[Mapping[str, float]]
    epoch: Mapping[str, float]
    training: Mapping[str, float]
    test: Mapping[str, float]
    sizes: Mapping[str, int]
    num_classes: int
    steps: int

    @property
    def accuracy_name(self) -> str:
        return next((name for name in ACCURACIES if name in self.epochs[0]), "accuracy")

    def accuracy(self, split: str) -> float:
        """Of the saved model on 'training', 'validation' or 'test'; NaN if it was not measured."""
        if split == "validation":
            return self.epoch.get(f"val_{self.accuracy_name}", math.nan)
        return (self.training if split == "training" else self.test).get(self.accuracy_name, math.nan)

    def highest_accuracy(self, row: Mapping[str, float]) -> float:
        """Of training and validation: dropout, augmentation and the running mean make the training's too low."""
        measured = [row.get(f"{prefix}{self.accuracy_name}", math.nan) for prefix in ("", "val_")]
        return max((value for value in measured if math.isfinite(value)), default=math.nan)

    def validation_losses(self) -> list[float]:
        return [row["val_loss"] for row in self.epochs if "val_loss" in row]

    def is_far_below(self, lower: str, higher: str) -> bool:
        """Whether an accuracy is 0.1 below another, or 0.05 with twice the errors, and more than chance explains."""
        low, high = self.accuracy(lower), self.accuracy(higher)
        gap = high - low
        far = gap >= LARGE_GAP or (gap >= SMALL_GAP and 1 - low >= 2 * (1 - high))
        return far and gap > 2 * self._standard_error(lower, higher)

    def _standard_error(self, first: str, second: str) -> float:
        """Of the difference of two accuracies; 0 if the numbers of images are not known."""
        sizes = [self.sizes.get(first, 0), self.sizes.get(second, 0)]
        if not all(sizes):
            return 0.0
        mean = (self.accuracy(first) + self.accuracy(second)) / 2
        return math.sqrt(max(0.0, mean * (1 - mean)) * (1 / sizes[0] + 1 / sizes[1]))


def read_curves(
    epochs: Sequence[Mapping[str, float]],
    num_classes: int,
    steps_per_epoch: int,
    *,
    best_epoch: int | None = None,
    training: Mapping[str, float] | None = None,
    test: Mapping[str, float] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> CurveReading:
    """Classify the learning curves of a training by the first rule that holds.

    diverged: a loss is not finite; or after 100 steps or more neither accuracy is above that of guessing.
    too few epochs to tell: one epoch; or the accuracy is low, and the steps are fewer than 100 or the validation loss
        still fell by more than 5 % in the last epoch.
    overfitting: the validation loss ends 5 % or more above its minimum, and the training loss fell since; or the
        validation accuracy is far below the training accuracy.
    unstable: the validation loss ends 10 % or more above its minimum, and the training loss rose too.
    underfitting: training and validation accuracy below 0.85 (without accuracy: loss above half that of guessing).
    test set differs: the test accuracy is far below the validation accuracy.
    good fit: everything else.

    Far below: by 0.1, or by 0.05 with twice the errors, and by more than two standard errors.

    Args:
        epochs: per epoch a row with loss, val_loss and, if measured, accuracy and val_accuracy. Training values are
            compared with those of other epochs only: class weights, dropout and augmentation change them.
        best_epoch: the saved epoch, from 1; None: the last.
        training: the saved model's metrics on training images, measured as on validation images; None: those of the
            epoch, which are lower with dropout or augmentation, never higher.
        test: the saved model's metrics on the test images.
        sizes: 'training', 'validation', 'test' -> number of images that were measured.
    """
    saved = epochs[(best_epoch or len(epochs)) - 1]
    measured = saved if training is None else training
    steps = steps_per_epoch * len(epochs)
    curves = Curves(epochs, saved, measured, test or {}, sizes or {}, num_classes, steps)
    reading = (
        _divergence(curves)
        or _too_few(curves)
        or _rising_validation_loss(curves)
        or _accuracy_gap(curves)
        or _underfitting(curves)
        or _good_fit(curves)
    )
    return _with_test_result(reading, curves)


def _divergence(curves: Curves) -> CurveReading | None:
    for number, row in enumerate(curves.epochs, start=1):
        if not all(math.isfinite(row[name]) for name in ("loss", "val_loss") if name in row):
            return CurveReading("diverged", f"diverged: the loss of epoch {number} is not a finite number.")
    guessing = 1 / curves.num_classes
    accuracy = curves.highest_accuracy(curves.epochs[-1])
    if curves.steps < FEW_STEPS or not accuracy < min(1.5 * guessing, guessing + 0.05):
        return None
    return CurveReading(
        "diverged",
        f"diverged: after {curves.steps:,} steps the accuracy is {accuracy:.3f}, no better than guessing among "
        f"{curves.num_classes} classes; a smaller learning rate may help.",
    )


def _too_few(curves: Curves) -> CurveReading | None:
    losses = curves.validation_losses() or [row["loss"] for row in curves.epochs]
    steps = f"{curves.steps:,} step{'s' if curves.steps > 1 else ''}"
    reason = ""
    if len(curves.epochs) == 1:
        reason = f"one epoch, {steps}; curves need at least two"
    elif _is_low(curves) and curves.steps < FEW_STEPS:
        reason = f"{steps} are few"
    elif _is_low(curves) and losses[-1] < STILL_FALLING * losses[-2]:
        reason = f"the {_name(curves)}loss still fell, from {losses[-2]:.3f} to {losses[-1]:.3f} in the last epoch"
    return CurveReading(TOO_FEW, f"{TOO_FEW}: {reason}; more epochs (fit.epochs) will show.") if reason else None


def _name(curves: Curves) -> str:
    return "validation " if curves.validation_losses() else "training "


def _rising_validation_loss(curves: Curves) -> CurveReading | None:
    losses = curves.validation_losses()
    if len(losses) < 2:
        return None
    best = min(range(len(losses)), key=losses.__getitem__)
    course = f"the validation loss was best in epoch {best + 1} ({losses[best]:.3f}) and ended at {losses[-1]:.3f}"
    training_fell = curves.epochs[-1]["loss"] < curves.epochs[best]["loss"]
    if losses[-1] >= RISE * losses[best] and training_fell:
        return CurveReading(
            "overfitting",
            f"overfitting: {course} while the training loss kept falling (rule: 5 % or more above its best).",
        )
    if losses[-1] >= UNSTABLE_RISE * losses[best]:
        return CurveReading(
            "unstable",
            f"unstable: {course}, and the training loss did not fall either (rule: 10 % or more above its best); "
            "a smaller learning rate may help.",
        )
    return None


def _accuracy_gap(curves: Curves) -> CurveReading | None:
    if not curves.is_far_below("validation", "training"):
        return None
    return CurveReading(
        "overfitting",
        f"overfitting: the training accuracy is {curves.accuracy('training'):.3f}, the validation accuracy "
        f"{curves.accuracy('validation'):.3f} (rule: 0.1 or more below, or 0.05 with twice the errors); "
        "more images, augmentation or dropout may help.",
    )


def _is_low(curves: Curves) -> bool:
    accuracy = _shown_accuracy(curves)
    if math.isnan(accuracy):
        return curves.training.get("loss", curves.epoch["loss"]) > math.log(curves.num_classes) / 2
    return accuracy < LOW_ACCURACY


def _shown_accuracy(curves: Curves) -> float:
    """The higher one of the saved model's training and validation accuracy."""
    measured = (curves.accuracy("training"), curves.accuracy("validation"))
    return max((value for value in measured if math.isfinite(value)), default=math.nan)


def _underfitting(curves: Curves) -> CurveReading | None:
    if not _is_low(curves):
        return None
    accuracy = _shown_accuracy(curves)
    if math.isnan(accuracy):
        loss = curves.training.get("loss", curves.epoch["loss"])
        shown = f"the training loss {loss:.3f} is high (rule: above half the loss of guessing)"
    else:
        shown = f"the accuracy {accuracy:.3f} is low (rule: training and validation accuracy below {LOW_ACCURACY})"
    return CurveReading("underfitting", f"underfitting: {shown}; more epochs or a larger network may help.")


def _good_fit(curves: Curves) -> CurveReading:
    losses = curves.validation_losses()
    training, validation = curves.accuracy("training"), curves.accuracy("validation")
    close = ""
    if math.isfinite(training + validation):
        close = f"training accuracy {training:.3f} and validation accuracy {validation:.3f} are close"
    course = f"the validation loss ended at {losses[-1]:.3f}, within 5 % of its best" if losses else ""
    if losses and losses[-1] >= RISE * min(losses):
        course = f"the validation loss ended at {losses[-1]:.3f}, within 10 % of its best"
    improving = len(losses) > 1 and losses[-1] < STILL_FALLING * losses[-2]
    more = "it still falls, more epochs may help" if improving else ""
    return CurveReading("good fit", f"good fit: {'; '.join(filter(None, [close, course, more])) or 'nothing rose'}.")


def _with_test_result(reading: CurveReading, curves: Curves) -> CurveReading:
    """The reading, with a word on a test accuracy far from the validation accuracy; a good fit is none then."""
    test, validation = curves.accuracy("test"), curves.accuracy("validation")
    if curves.is_far_below("test", "validation"):
        seen = f"the test accuracy {test:.3f} is far below the validation accuracy {validation:.3f}"
        if reading.verdict != "good fit":
            return CurveReading(reading.verdict, f"{reading.sentence} Besides, {seen}.")
        return CurveReading(
            TEST_DIFFERS,
            f"{TEST_DIFFERS}: {seen}: the test images differ from the training images, or the validation images "
            "resemble them too much (copies, other pictures of the same object).",
        )
    if curves.is_far_below("validation", "test"):
        seen = f"the test accuracy {test:.3f} is far above the validation accuracy {validation:.3f}"
        return CurveReading(reading.verdict, f"{reading.sentence} But {seen}: the two sets differ.")
    return reading
