"""Programs that train one epoch per request: a line on stdin starts the epoch, a line of JSON reports it.

Usage: python -m benchmarks.contenders NAME JOB     (JOB as JSON, see `Job`; epochs.py starts it)
The answer is [seconds of training, seconds with validation or null]. The first epoch also compiles.
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

MANY_EPOCHS = 10**6  # the parent ends the process
LEARNING_RATE = 0.01
STEPS_PER_EXECUTION = 100  # one execution per epoch was no faster
KERAS_NAMES = {"sgd": "SGD", "adam": "Adam"}
MNISTLAB_OPTIONS = {"sgd": "minibatch_gd", "adam": "adam"}


@dataclass(frozen=True)
class Job:
    """npz: the images; num_train, num_test: how many of its first ones to use; model: mlp or cnn."""

    npz: str
    num_train: int
    num_test: int
    batch_size: int
    optimizer: str = "sgd"
    model: str = "mlp"


def wait() -> None:
    """Wait for a request; exit at the end of stdin."""
    if not sys.stdin.readline():
        sys.exit()


def answer(training: float, with_validation: float | None = None) -> None:
    """Report the seconds of one epoch."""
    print(json.dumps([training, with_validation]), flush=True)


def clock() -> keras.callbacks.Callback:
    """A Keras callback that waits for a request before each epoch and answers after it."""
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
    """x_train, y_train, x_test, y_test as in the notebook: float64 from 0 to 1, one-hot rows."""
    import numpy as np

    with np.load(job.npz) as file:
        x_train, x_test = file["x_train"][: job.num_train] / 255.0, file["x_test"][: job.num_test] / 255.0
        y_train, y_test = (np.eye(10)[file[key]] for key in ("y_train", "y_test"))
    return x_train, y_train[: job.num_train], x_test, y_test[: job.num_test]


def guide_network(job: Job, **settings: Any) -> keras.Model:
    """The guide's network, compiled as in the guide; settings: additional arguments of `compile`."""
    from benchmarks.notebook import build_model

    network = build_model()
    optimizer = {"class_name": KERAS_NAMES[job.optimizer], "config": {"learning_rate": LEARNING_RATE}}
    network.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"], **settings)
    return network


def serve_notebook(job: Job) -> None:
    """Plain `fit` on NumPy arrays; the test images validate, in batches of the same size."""
    x_train, y_train, x_test, y_test = arrays(job)
    guide_network(job).fit(
        x_train,
        y_train,
        batch_size=job.batch_size,
        epochs=MANY_EPOCHS,
        validation_data=(x_test, y_test),
        verbose=0,
        callbacks=[clock()],
    )


def serve_keras_best(job: Job) -> None:
    """Keras with its fastest settings: tf.data, steps_per_execution, jit_compile; validation in batches of 1,000."""
    import tensorflow as tf

    x_train, y_train, x_test, y_test = (array.astype("float32") for array in arrays(job))
    training = tf.data.Dataset.from_tensor_slices((x_train, y_train)).shuffle(job.num_train)
    network = guide_network(job, jit_compile=True, steps_per_execution=STEPS_PER_EXECUTION)
    network.fit(
        training.batch(job.batch_size).prefetch(tf.data.AUTOTUNE),
        epochs=MANY_EPOCHS,
        validation_data=tf.data.Dataset.from_tensor_slices((x_test, y_test)).batch(1000),
        shuffle=False,
        verbose=0,
        callbacks=[clock()],
    )


def serve_fused(job: Job) -> None:
    """mnistlab with the fused engine."""
    serve_mnistlab(job, "fused")


def serve_fused_floats(job: Job) -> None:
    """mnistlab with the fused engine on float32 images, stored with 16 bits: four bytes a pixel instead of one."""
    serve_mnistlab(job, "fused", floats=True)


def serve_keras_engine(job: Job) -> None:
    """mnistlab with plain Keras."""
    serve_mnistlab(job, "keras")


def serve_mnistlab(job: Job, engine: str, floats: bool = False) -> None:
    """`training.fit` as a run of the command calls it."""
    from mnistlab import experiment, training
    from mnistlab.config.compose import compose_config
    from mnistlab.data import loading

    overrides = [f"source.path='{job.npz}'", "data=notebook", f"model={job.model}"]
    config = compose_config([*overrides, f"optimizer={MNISTLAB_OPTIONS[job.optimizer]}"])
    training.start_job(0, deterministic=False)
    dataset = first_images(loading.load(config), job)
    dataset = with_float_images(dataset) if floats else dataset
    model = experiment.build_model(config, dataset)
    plan = training.plan_fit(
        model,
        dataset,
        epochs=MANY_EPOCHS,
        batch_size=job.batch_size,
        seed=0,
        engine=engine,
        resident_gigabytes=config.fit.resident_gigabytes,
    )
    training.fit(model, dataset, plan, callbacks=[clock()])


def with_float_images(dataset: Dataset) -> Dataset:
    """The data set as if its files had 16 bits a pixel: 257 times the values, as float32."""
    from mnistlab.data import Split
    from mnistlab.data.value_range import ValueRange

    def as_floats(split: Split) -> Split:
        return Split(split.images.astype("float32") * 257, split.labels)

    test = as_floats(dataset.test)
    values = ValueRange(0, 65535, "bits")
    return dataclasses.replace(dataset, train=as_floats(dataset.train), validation=test, test=test, value_range=values)


def first_images(dataset: Dataset, job: Job) -> Dataset:
    """The data set with the job's number of images."""
    from mnistlab.data import Split

    def first(split: Split, number: int) -> Split:
        return Split(split.images[:number], split.labels[:number])

    test = first(dataset.test, job.num_test)
    return dataclasses.replace(dataset, train=first(dataset.train, job.num_train), validation=test, test=test)


def serve_jax(job: Job) -> None:
    """An epoch as one `jax.lax.scan` over images on the device; trains only, with loss and accuracy."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    x_train, y_train, _, _ = arrays(job)
    images = jnp.array(x_train.astype("float32").reshape(job.num_train, -1))
    labels = jnp.array(y_train.argmax(1).astype("int32"))
    optimizer = {"sgd": optax.sgd, "adam": optax.adam}[job.optimizer](LEARNING_RATE)

    def loss_of(weights: dict, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = jax.nn.relu(images @ weights["w1"] + weights["b1"])
        logits = hidden @ weights["w2"] + weights["b2"]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, (logits.argmax(1) == labels).sum()

    def step(carry: tuple, batch: jax.Array) -> tuple:
        weights, state = carry
        (loss, correct), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, images[batch], labels[batch])
        updates, state = optimizer.update(gradients, state, weights)
        return (optax.apply_updates(weights, updates), state), (loss, correct)

    @jax.jit
    def epoch(weights: dict, state: Any, order: jax.Array) -> tuple:
        (weights, state), (losses, correct) = jax.lax.scan(step, (weights, state), order)
        return weights, state, losses.mean(), correct.sum() / order.size

    glorot, (first, second) = jax.nn.initializers.glorot_uniform(), jax.random.split(jax.random.key(0))
    weights = {"w1": glorot(first, (images.shape[1], 128)), "b1": jnp.zeros(128)}
    weights |= {"w2": glorot(second, (128, 10)), "b2": jnp.zeros(10)}
    state = optimizer.init(weights)
    num_batches = job.num_train // job.batch_size
    while True:
        wait()
        rows = np.random.permutation(job.num_train)[: num_batches * job.batch_size]
        order = jnp.array(rows.reshape(num_batches, job.batch_size))
        start = time.perf_counter()
        weights, state, loss, _ = epoch(weights, state, order)
        loss.block_until_ready()
        answer(time.perf_counter() - start)


def serve_torch(job: Job) -> None:
    """A PyTorch loop in one thread, which is fast for a network of this size."""
    import torch

    torch.set_num_threads(1)
    serve_torch_threads(job)


def serve_torch_threads(job: Job) -> None:
    """The usual PyTorch loop, on tensors in memory; trains only, without metrics."""
    import torch
    from torch import nn

    x_train, y_train, _, _ = arrays(job)
    images = torch.tensor(x_train, dtype=torch.float32).flatten(1)
    labels = torch.tensor(y_train.argmax(1))
    network = nn.Sequential(nn.Linear(images.shape[1], 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer_class = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[job.optimizer]
    optimizer = optimizer_class(network.parameters(), lr=LEARNING_RATE)
    loss_function = nn.CrossEntropyLoss()
    while True:
        wait()
        start = time.perf_counter()
        for batch in torch.randperm(job.num_train).split(job.batch_size):
            optimizer.zero_grad()
            loss = loss_function(network(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        loss.item()
        answer(time.perf_counter() - start)


SERVERS = {
    "notebook": serve_notebook,
    "keras_best": serve_keras_best,
    "fused": serve_fused,
    "fused_floats": serve_fused_floats,
    "keras_engine": serve_keras_engine,
    "jax": serve_jax,
    "torch": serve_torch,
    "torch_threads": serve_torch_threads,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](Job(**json.loads(sys.argv[2])))
