"""The metrics of an epoch's steps so far, whatever the length of the blocks in which the fused engine makes them.

How many steps a block has depends on the machine's speed. Numbers of right answers add up exactly, but a sum of weights
or of squares depends on what is added at once. Such metrics are updated with chunks of a fixed number of images; the
images of the last, incomplete chunk are added anew with each block.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnistlab.training.engine.program import Resident

CHUNK_IMAGES = 8192
# They count: their sums are whole numbers, which float32 adds exactly up to 2**24.
COUNTING: tuple[str, ...] = ("Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy")
COUNTING += ("TopKCategoricalAccuracy", "SparseTopKCategoricalAccuracy", "Precision", "Recall", "AUC")
COUNTING += ("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives")


class EpochMetrics:
    """Updates a network's compiled metrics, not its loss, with one block after the other."""

    def __init__(self, network: keras.Model, data: Resident) -> None:
        self.network, self.data = network, data
        self.counts: bool | None = None  # whether all sums are exact; None until the metrics are built
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self.rows = np.empty(0, np.int32)  # of the incomplete chunk
        self.predictions: tf.Tensor | None = None
        self.complete: list[np.ndarray] = []  # the metrics' variables after the last complete chunk

    def update(self, rows: np.ndarray, predictions: tf.Tensor) -> dict[str, tf.Tensor]:
        """Add a block's images; returns the metrics so far, the loss among them."""
        if self.counts:
            return self._compute(rows, predictions)
        if self.counts is None:
            logs = self._compute(rows, predictions)
            inner = [type(metric).__name__ for compiled in self._compiled() for metric in compiled.metrics]
            self.counts = self.data.sample_weights is None and set(inner) <= set(COUNTING)
            if self.counts:
                return logs
        return self._update_in_chunks(rows, predictions)

    def _update_in_chunks(self, rows: np.ndarray, predictions: tf.Tensor) -> dict[str, tf.Tensor]:
        if self.predictions is not None:
            rows, predictions = np.concatenate([self.rows, rows]), tf.concat([self.predictions, predictions], 0)
        self._reset_variables(self.complete)
        while len(rows) > CHUNK_IMAGES:
            self._compute(rows[:CHUNK_IMAGES], predictions[:CHUNK_IMAGES])
            self.complete = [variable.numpy() for variable in self._variables()]
            rows, predictions = rows[CHUNK_IMAGES:], predictions[CHUNK_IMAGES:]
        self.rows, self.predictions = rows, predictions
        return self._compute(rows, predictions)

    def _compute(self, rows: np.ndarray, predictions: tf.Tensor) -> dict[str, tf.Tensor]:
        weights = None if self.data.sample_weights is None else tf.gather(self.data.sample_weights, rows)
        return self.network.compute_metrics(None, tf.gather(self.data.labels, rows), predictions, weights)

    def _compiled(self) -> list[Any]:
        """Keras's container of the compiled metrics; layers may have metrics of their own."""
        return [metric for metric in self.network.metrics[1:] if hasattr(metric, "metrics")]

    def _variables(self) -> list[Any]:
        return [variable for compiled in self._compiled() for variable in compiled.variables]

    def _reset_variables(self, values: list[np.ndarray]) -> None:
        """Set the variables; without values, to those of an epoch's start."""
        if not values:
            for compiled in self._compiled():
                compiled.reset_state()
        for variable, value in zip(self._variables(), values, strict=False):
            variable.assign(value)

    def get_state(self) -> dict[str, Any]:
        """The incomplete chunk and what it is added to."""
        predictions = None if self.predictions is None else self.predictions.numpy()
        return {"rows": self.rows, "predictions": predictions, "complete": self.complete}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` returned."""
        self.rows, self.complete = state["rows"], state["complete"]
        self.predictions = None if state["predictions"] is None else tf.constant(state["predictions"])
