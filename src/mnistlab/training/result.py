"""The result of a training."""

import math
from dataclasses import dataclass
from typing import Any

from mnistlab.config import objectives
from mnistlab.training.engine.fused import NonFiniteLoss

NOT_METRICS = ("learning_rate", "epoch_seconds")


@dataclass(frozen=True)
class TrainingResult:
    """history: per epoch a row of Keras's metrics, `learning_rate` and `epoch_seconds`; best_epoch: the epoch that is
    reported, from 1, None if it had no finite value of the monitored metric; seconds: of the training; diverged: the
    first loss that was not finite, if there was one; reported: 'best' or 'last', the epoch that `best_epoch` is:
    the one whose weights the model has."""

    history: list[dict[str, float]]
    best_epoch: int | None
    seconds: float
    steps_per_epoch: int
    diverged: NonFiniteLoss | None = None
    reported: str = "best"

    def metrics(self) -> dict[str, float]:
        """best_epoch, the metrics of that epoch as best_epoch_loss, best_epoch_val_accuracy and so on, the best values
        of any epoch as max_val_accuracy, min_val_loss and so on, and the times; only these without a best epoch."""
        best: dict[str, float] = {}
        if self.best_epoch is not None:
            row = self.history[self.best_epoch - 1]
            best = {"best_epoch": self.best_epoch}
            best |= {f"{objectives.BEST_EPOCH}{name}": value for name, value in row.items() if name not in NOT_METRICS}
            columns = {metric: [epoch[metric] for epoch in self.history if metric in epoch] for metric in row}
            best |= objectives.extremes(columns)
        return {**best, "train_seconds": self.seconds, "steps_per_epoch": self.steps_per_epoch}

    def outcome(self, learned: bool) -> dict[str, Any]:
        """Tags: outcome=trained, or outcome=diverged with epoch, step, learning rate and the last finite loss.

        Args:
            learned: whether the learning curves show that the network learned.
        """
        found = self.diverged
        if found is None and learned:
            return {"outcome": "trained"}
        finite = [row["loss"] for row in self.history if math.isfinite(row["loss"])]
        return {
            "outcome": "diverged",
            "outcome.epoch": found.epoch if found else len(self.history),
            "outcome.step": found.step if found else "",
            "outcome.learning_rate": self.history[-1]["learning_rate"],
            "outcome.last_finite_loss": found.last_finite_loss if found else finite[-1] if finite else "",
        }
