"""Several seeds as one program, their weights stacked, against one seed after the other: steps of the guide's network.

Usage: python -m benchmarks.seeds_together     (started by the section `seeds`; prints the measurements as JSON)
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.common import PROJECT, Bench, Section, environment

SHAPES = ((1, 4000), (8, 1500), (32, 600), (256, 100))  # images in a step, steps
SEEDS = (2, 5, 10)
UNITS, PIXELS, CLASSES, IMAGES = 128, 784, 10, 6000
ROUNDS = 3


def seeds(bench: Bench) -> Section:
    """A table of microseconds per step of all seeds."""
    command = [sys.executable, "-m", "benchmarks.seeds_together"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT, env=environment())
    measured = json.loads(done.stdout.splitlines()[-1])
    rows = []
    for one in measured:
        numbers = f"{one['one_by_one']:.0f}", f"{one['together']:.0f}", f"{one['together'] / one['one_by_one']:.2f}"
        rows.append([str(one["batch"]), str(one["seeds"]), *numbers])
    return Section(
        "Seeds together in one program, against one after the other (microseconds per step of all seeds)",
        ["images in a step", "seeds", "one after the other", "together", "together / one after the other"],
        rows,
        [
            "The guide's network with plain gradient descent on random images, compiled by XLA as the engine does; "
            f"the quickest of {ROUNDS} rounds. Below 1, a sweep's seeds would gain by sharing a program."
        ],
        samples={"seeds": measured},
    )


def measure() -> list[dict[str, float]]:
    """Microseconds per step of all seeds, for each number of images and seeds."""
    found = []
    for batch, steps in SHAPES:
        alone = seconds_per_step(None, batch, steps)
        for number in SEEDS:
            together = seconds_per_step(number, batch, steps)
            found.append(
                {"batch": batch, "seeds": number, "one_by_one": 1e6 * number * alone, "together": 1e6 * together}
            )
    return found


def seconds_per_step(number: int | None, batch: int, steps: int) -> float:
    """Seconds of one step of a network, or of this number of networks with stacked weights."""
    import numpy as np
    import tensorflow as tf

    from mnistlab.training.engine import processors

    stacked = () if number is None else (number,)
    rng = np.random.default_rng(0)
    shapes = ((PIXELS, UNITS), (1, UNITS), (UNITS, CLASSES), (1, CLASSES))
    variables = [tf.Variable(rng.normal(0, 0.05, (*stacked, *shape)).astype(np.float32)) for shape in shapes]
    images = tf.constant(rng.random((IMAGES, PIXELS)).astype(np.float32))
    labels = tf.constant(np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, IMAGES)])
    order = tf.constant(rng.integers(0, IMAGES, (steps, *stacked, batch)).astype(np.int32))

    def train_step(index: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        shown, wanted = tf.gather(images, order[index]), tf.gather(labels, order[index])
        with tf.GradientTape() as tape:
            tape.watch(weights)
            hidden = tf.nn.relu(tf.matmul(shown, weights[0]) + weights[1])
            outputs = tf.matmul(hidden, weights[2]) + weights[3]
            loss = tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(wanted, outputs)) / batch
        gradients = tape.gradient(loss, weights)
        return (index + 1, *(weight - 0.01 * gradient for weight, gradient in zip(weights, gradients, strict=True)))

    @tf.function(jit_compile=True, autograph=False)
    def train(num_steps: tf.Tensor) -> tf.Tensor:
        start = (0, *(variable.read_value() for variable in variables))
        trained = tf.while_loop(lambda index, *_: index < num_steps, train_step, start)[1:]
        for variable, value in zip(variables, trained, strict=True):
            variable.assign(value)
        return trained[-1]

    with processors.chosen_for(variables, batch, "xla"):
        train(tf.constant(0)).numpy()
    elapsed = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        train(tf.constant(steps)).numpy()
        elapsed.append(time.perf_counter() - start)
    return min(elapsed) / steps


if __name__ == "__main__":
    print(json.dumps(measure()))
