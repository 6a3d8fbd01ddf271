"""Run records as a sweep would leave them, made up: the seven strategies of the guide and variations."""

import math

import numpy as np

from mnistlab.comparison.records import RunRecord

# final validation accuracy, its spread over seeds, batch size, learning rate, seconds per epoch
STRATEGIES = {
    "batch_gd": (0.120, 0.024, 54000, 0.01, 0.31),
    "minibatch_gd": (0.927, 0.0008, 32, 0.01, 0.40),
    "momentum": (0.968, 0.0014, 32, 0.01, 0.42),
    "adagrad": (0.946, 0.0007, 32, 0.01, 0.43),
    "rmsprop": (0.958, 0.0025, 32, 0.01, 0.44),
    "adam": (0.9585, 0.0022, 32, 0.01, 0.46),
    "sgd": (0.971, 0.0012, 1, 0.01, 1.9),
}
MORE = {
    "nadam": (0.960, 0.002, 32, 0.001, 0.48),
    "adamw": (0.965, 0.0018, 32, 0.001, 0.47),
    "lion": (0.951, 0.003, 32, 0.0001, 0.45),
}
CLASS_NAMES = [str(digit) for digit in range(10)]


def make_run(option, seed, *, epochs=3, labels=None, strategies=None, **changes):
    """One finished run; accuracy rises towards the strategy's, deterministic in (option, seed)."""
    final, spread, batch, rate, seconds = (strategies or STRATEGIES | MORE)[option]
    rng = np.random.default_rng([sum(map(ord, option)), seed])
    end = float(np.clip(final + spread * rng.normal(), 0.05, 0.999))
    steps = -(-54000 // batch)
    val_accuracy = [
        end - (0.9 - 0.5 * end if final < 0.5 else (1 - end) * 1.2) * 0.35**e * (final > 0.5) for e in range(1, epochs)
    ] + [end]
    val_accuracy = [
        float(np.clip(a + 0.0005 * rng.normal() * (i < epochs - 1), 0.05, 0.999)) for i, a in enumerate(val_accuracy)
    ]
    accuracy = [a + 0.6 * (1 - a) * (i - 0.7) / epochs for i, a in enumerate(val_accuracy)]
    val_loss = [-math.log(max(a, 0.1)) * 2.9 + 0.02 if a > 0.5 else 2.31 - a * 0.3 for a in val_accuracy]
    loss = [value * (1.15 - 0.9 * i / epochs) for i, value in enumerate(val_loss)]
    epoch_seconds = [seconds * (1 + 0.03 * rng.random()) for _ in range(epochs)]
    best = int(np.argmax(val_accuracy))
    test_accuracy = end - 0.001 + 0.001 * rng.normal()
    record = {
        "run_id": f"{option}-{seed}",
        "name": f"optimizer={option},seed={seed}",
        "status": "FINISHED",
        "params": {
            "optimizer": option,
            "optimizer._target_": f"keras.optimizers.{option}",
            "optimizer.learning_rate": rate,
            "model": "mlp",
            "model.units": "[128, 64]",
            "source": "mnist",
            "data.validation_fraction": 0.1,
            "data.seed": seed,
            "fit.epochs": epochs,
            "fit.batch_size": batch,
            "seed": seed,
            "tracking": "mlflow",
        },
        "history": {
            "loss": loss,
            "accuracy": accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "learning_rate": [rate] * epochs,
            "epoch_seconds": epoch_seconds,
        },
        "metrics": {
            "best_epoch": best + 1,
            "best_epoch_val_loss": min(val_loss),
            "best_epoch_val_accuracy": max(val_accuracy),
            "test_loss": val_loss[-1],
            "test_accuracy": test_accuracy,
            "train_seconds": sum(epoch_seconds),
            "steps_per_epoch": steps,
        },
        "tags": {
            "outcome": "trained",
            "fit_reading": "good fit" if final > 0.5 else "underfitting",
            "hash.initial_weights": f"w{seed}",
            "hash.batch_order": f"b{seed}-{batch}",
            "hash.data": "d0d0d0d0",
        },
        "class_names": CLASS_NAMES,
    }
    if labels is not None:
        record |= predicted(labels, test_accuracy, final, rng)
    for name, value in changes.items():
        record[name] = record[name] | value if name in ("params", "history", "metrics", "tags") else value
    return RunRecord(**record)


def predicted(labels, test_accuracy, final, rng):
    """Test predictions and their confusion matrix; images have a difficulty that all options share."""
    difficulty = np.random.default_rng(7).random(len(labels))
    wrong = difficulty + 0.03 * rng.normal(size=len(labels)) > test_accuracy
    confused = np.array([6, 7, 3, 5, 9, 3, 0, 2, 3, 4])[labels]
    guess = np.where(rng.random(len(labels)) < 0.7, confused, rng.integers(0, 10, len(labels)))
    prediction = np.where(wrong, guess, labels) if final > 0.5 else np.where(rng.random(len(labels)) < 0.8, 1, guess)
    confidence = np.where(wrong, 0.4 + 0.3 * rng.random(len(labels)), 0.9 + 0.1 * rng.random(len(labels)))
    confusion = np.zeros((10, 10), dtype=int)
    np.add.at(confusion, (labels, prediction), 1)
    return {"confusion": confusion.tolist(), "predictions": {"predicted": prediction, "confidence": confidence}}


def make_sweep(options=tuple(STRATEGIES), num_seeds=5, **settings):
    """All runs of a sweep, options times seeds."""
    return [make_run(option, seed, **settings) for option in options for seed in range(num_seeds)]


def diverged(option, seed, **settings):
    """A run whose loss became NaN in epoch 2."""
    record = make_run(option, seed, **settings)
    history = {
        "loss": [*record.history["loss"][:1], math.nan],
        "accuracy": [0.31, 0.1],
        "val_loss": [*record.history["val_loss"][:1], math.nan],
        "val_accuracy": [0.3, 0.098],
        "epoch_seconds": record.history["epoch_seconds"][:2],
    }
    tags = {
        "outcome": "diverged",
        "outcome.epoch": "2",
        "outcome.step": "1713",
        "outcome.learning_rate": "0.01",
        "outcome.last_finite_loss": "8.1",
    }
    return make_run(option, seed, **settings, history=history, tags=tags, metrics={"best_epoch_val_accuracy": 0.3})


def failed(option, seed):
    """A run that ended in an exception before it had data."""
    record = make_run(option, seed)
    return RunRecord(
        run_id=record.run_id,
        name=record.name,
        status="FAILED",
        params=record.params,
        tags={"error": "ResourceExhaustedError: out of memory"},
    )


def flagship(labels=None):
    """The guide's seven strategies on five seeds, one run diverged and one failed."""
    records = {(run.params["optimizer"], run.params["seed"]): run for run in make_sweep(labels=labels)}
    records["rmsprop", 3] = diverged("rmsprop", 3)
    records["adam", 4] = failed("adam", 4)
    return list(records.values())


def scores_as_runs(scores, objective="best_epoch_val_accuracy"):
    """Runs of options "a", "b", … holding just these scores, shape (options, seeds); NaN: no run."""
    return [
        RunRecord(f"{row}-{seed}", params={"optimizer": chr(97 + row), "seed": seed}, metrics={objective: float(value)})
        for row, values in enumerate(scores)
        for seed, value in enumerate(values)
        if not math.isnan(value)
    ]
