"""Programs that train one epoch whenever they are told to: a line on stdin starts it, a line of JSON ends it.

Usage: python -m benchmarks.contenders NAME JOB     (JOB as JSON, see `Job`; started by benchmarks/epochs.py)
Each epoch answers [seconds of training, seconds with validation or null]. The first one also compiles.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np

    from mnistlab.data import Dataset

FOREVER = 10**6
LEARNING_RATE = 0.01
STEPS_PER_EXECUTION = 100  # a whole epoch in one execution was no faster
KERAS_NAMES = {"sgd": "SGD", "adam": "Adam"}
MNISTLAB_OPTIONS = {"sgd": "minibatch_gd", "adam": "adam"}


@dataclass(frozen=True)
class Job:
    """npz: the images; num_train, num_test: how many of them, from the front; model: mlp or cnn."""

    npz: str
    num_train: int
    num_test: int
    batch_size: int
    optimizer: str = "sgd"
    model: str = "mlp"


def wait() -> None:
    """Until it is this contender's turn; the end of stdin is the end of the program."""
    if not sys.stdin.readline():
        sys.exit()


def answer(training: float, whole: float | None = None) -> None:
    """One epoch's seconds."""
    print(json.dumps([training, whole]), flush=True)


def clock() -> keras.callbacks.Callback:
    """A Keras callback that waits for its turn before each epoch and answers after it."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
            wait()
            self.start = time.perf_counter()

        def on_test_begin(self, logs: dict | None = None) -> None:
            self.trained = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            answer(self.trained - self.start, time.perf_counter() - self.start)

    return Clock()


def arrays(job: Job) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_train, y_train, x_test, y_test as the notebook has them: float64 in 0..1, one-hot rows."""
    import numpy as np

    with np.load(job.npz) as file:
        x_train, x_test = file["x_train"][: job.num_train] / 255.0, file["x_test"][: job.num_test] / 255.0
        y_train, y_test = (np.eye(10)[file[key]] for key in ("y_train", "y_test"))
    return x_train, y_train[: job.num_train], x_test, y_test[: job.num_test]


def guides_network(job: Job, **settings: Any) -> keras.Model:
    """The guide's network, compiled as the guide compiles it, with further settings of `compile`."""
    from benchmarks.notebook import build_model

    network = build_model()
    optimizer = {"class_name": KERAS_NAMES[job.optimizer], "config": {"learning_rate": LEARNING_RATE}}
    network.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"], **settings)
    return network


def serve_notebook(job: Job) -> None:
    """Plain `fit` on NumPy arrays; the test images validate, in batches of the same size."""
    x_train, y_train, x_test, y_test = arrays(job)
    guides_network(job).fit(
        x_train,
        y_train,
        batch_size=job.batch_size,
        epochs=FOREVER,
        validation_data=(x_test, y_test),
        verbose=0,
        callbacks=[clock()],
    )


def serve_keras_best(job: Job) -> None:
    """Keras at its best: tf.data, steps_per_execution, jit_compile; validation in batches of 1,000."""
    import tensorflow as tf

    x_train, y_train, x_test, y_test = (array.astype("float32") for array in arrays(job))
    training = tf.data.Dataset.from_tensor_slices((x_train, y_train)).shuffle(job.num_train)
    network = guides_network(job, jit_compile=True, steps_per_execution=STEPS_PER_EXECUTION)
    network.fit(
        training.batch(job.batch_size).prefetch(tf.data.AUTOTUNE),
        epochs=FOREVER,
        validation_data=tf.data.Dataset.from_tensor_slices((x_test, y_test)).batch(1000),
        shuffle=False,
        verbose=0,
        callbacks=[clock()],
    )


def serve_fused(job: Job) -> None:
    """mnistlab, its own engine."""
    serve_mnistlab(job, "fused")


def serve_keras_engine(job: Job) -> None:
    """mnistlab, plain Keras as its engine."""
    serve_mnistlab(job, "keras")


def serve_mnistlab(job: Job, engine: str) -> None:
    """`training.fit` on what the command line would build."""
    from mnistlab import experiment, training
    from mnistlab.config.compose import compose_config
    from mnistlab.data import loading

    words = [f"source.path='{job.npz}'", "data=notebook", f"model={job.model}"]
    config = compose_config([*words, f"optimizer={MNISTLAB_OPTIONS[job.optimizer]}"])
    training.seed_everything(0, deterministic=False)
    dataset = first_images(loading.load(config), job)
    model = experiment.build_model(config, dataset)
    training.fit(
        model,
        dataset,
        engine=training.choose_engine(engine, model, dataset, config.fit.resident_gigabytes),
        epochs=FOREVER,
        batch_size=job.batch_size,
        seed=0,
        callbacks=[clock()],
    )


def first_images(dataset: Dataset, job: Job) -> Dataset:
    """The same data set with the job's number of images."""
    from mnistlab.data.sources import Split

    def front(split: Split, number: int) -> Split:
        return Split(split.images[:number], split.labels[:number])

    testing = front(dataset.test, job.num_test)
    return dataclasses.replace(dataset, train=front(dataset.train, job.num_train), validation=testing, test=testing)


def serve_jax(job: Job) -> None:
    """A whole epoch as one `jax.lax.scan` over images on the device; trains only, loss and accuracy included."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    x_train, y_train, _, _ = arrays(job)
    images = jnp.array(x_train.astype("float32").reshape(job.num_train, -1))
    labels = jnp.array(y_train.argmax(1).astype("int32"))
    rule = {"sgd": optax.sgd, "adam": optax.adam}[job.optimizer](LEARNING_RATE)

    def loss_of(weights: dict, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = jax.nn.relu(images @ weights["w1"] + weights["b1"])
        logits = hidden @ weights["w2"] + weights["b2"]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, (logits.argmax(1) == labels).sum()

    def step(carry: tuple, batch: jax.Array) -> tuple:
        weights, state = carry
        (loss, correct), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, images[batch], labels[batch])
        updates, state = rule.update(gradients, state, weights)
        return (optax.apply_updates(weights, updates), state), (loss, correct)

    @jax.jit
    def epoch(weights: dict, state: Any, order: jax.Array) -> tuple:
        (weights, state), (losses, correct) = jax.lax.scan(step, (weights, state), order)
        return weights, state, losses.mean(), correct.sum() / order.size

    glorot, (first, second) = jax.nn.initializers.glorot_uniform(), jax.random.split(jax.random.key(0))
    weights = {"w1": glorot(first, (images.shape[1], 128)), "b1": jnp.zeros(128)}
    weights |= {"w2": glorot(second, (128, 10)), "b2": jnp.zeros(10)}
    state = rule.init(weights)
    whole_batches = job.num_train // job.batch_size
    while True:
        wait()
        rows = np.random.permutation(job.num_train)[: whole_batches * job.batch_size]
        order = jnp.array(rows.reshape(whole_batches, job.batch_size))
        start = time.perf_counter()
        weights, state, loss, _ = epoch(weights, state, order)
        loss.block_until_ready()
        answer(time.perf_counter() - start)


def serve_torch(job: Job) -> None:
    """A PyTorch loop in one thread, which suits a network of this size."""
    import torch

    torch.set_num_threads(1)
    serve_torch_threads(job)


def serve_torch_threads(job: Job) -> None:
    """The loop of every PyTorch tutorial on tensors in memory; trains only, without metrics."""
    import torch
    from torch import nn

    x_train, y_train, _, _ = arrays(job)
    images = torch.tensor(x_train, dtype=torch.float32).flatten(1)
    labels = torch.tensor(y_train.argmax(1))
    network = nn.Sequential(nn.Linear(images.shape[1], 128), nn.ReLU(), nn.Linear(128, 10))
    rule = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[job.optimizer](network.parameters(), lr=LEARNING_RATE)
    judge = nn.CrossEntropyLoss()
    while True:
        wait()
        start = time.perf_counter()
        for batch in torch.randperm(job.num_train).split(job.batch_size):
            rule.zero_grad()
            loss = judge(network(images[batch]), labels[batch])
            loss.backward()
            rule.step()
        loss.item()
        answer(time.perf_counter() - start)


SERVERS = {
    "notebook": serve_notebook,
    "keras_best": serve_keras_best,
    "fused": serve_fused,
    "keras_engine": serve_keras_engine,
    "jax": serve_jax,
    "torch": serve_torch,
    "torch_threads": serve_torch_threads,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](Job(**json.loads(sys.argv[2])))
