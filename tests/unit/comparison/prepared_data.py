"""Sweeps over options and prepared data, made up: each data set has its hashes, each cell its accuracy."""

import itertools

import numpy as np
from synthetic_runs import make_run

from mnistlab.comparison import across_data, compare_by_data

# hashes of the splits; "*" stands for the seed
DATA_SETS = {
    "default": {"train": "t1", "validation": "v1", "test": "x1"},
    "imbalanced": {"train": "t2", "validation": "v1", "test": "x1"},
    "balanced": {"train": "t1", "validation": "v1", "test": "x1"},  # class weights: the same images
    "other_split": {"train": "t3", "validation": "v3", "test": "x1"},
    "by_seed": {"train": "t*", "validation": "v*", "test": "x1"},
    "fashion": {"train": "t5", "validation": "v5", "test": "x5"},
}
# mean accuracies with an interaction: by data set, and by model on one data set
CROSSED = {"default": {"adam": 0.97, "momentum": 0.96}, "imbalanced": {"adam": 0.95, "momentum": 0.965}}
MODELS = {"cnn": {"adam": 0.99, "momentum": 0.98, "sgd": 0.94}, "mlp": {"adam": 0.95, "momentum": 0.965, "sgd": 0.93}}


def hashes(data, seed=0):
    """The tags of a run on this data set."""
    splits = {split: digest.replace("*", str(seed)) for split, digest in DATA_SETS[data].items()}
    return {f"hash.{split}": digest for split, digest in splits.items()} | {"hash.data": "-".join(splits.values())}


def run_on(data, option, seed, accuracy=None, params=None, tags=None):
    """One run of an option on a data set, with this best_epoch_val_accuracy."""
    params = {"optimizer": option, "data": data, **(params or {})}
    known = option if option in ("adam", "sgd", "momentum") else "adam"
    run_id = "-".join(str(value) for value in (*params.values(), seed))
    metrics = {} if accuracy is None else {"best_epoch_val_accuracy": accuracy}
    return make_run(known, seed, run_id=run_id, params=params, metrics=metrics, tags=tags or hashes(data, seed))


def cells(means, seeds=3, noise=0.001, **settings):
    """Runs with these means, {data: {option: mean}}; noise per run, deterministic."""
    rng = np.random.default_rng(5)
    return [
        run_on(data, option, seed, float(mean + noise * rng.normal()), **settings)
        for data, by_option in means.items()
        for option, mean in by_option.items()
        for seed in range(seeds)
    ]


def sweep(data=("default", "imbalanced"), options=("adam", "momentum"), seeds=2, **settings):
    """All runs of a sweep over data sets and options."""
    return [run_on(*cell, **settings) for cell in itertools.product(data, options, range(seeds))]


def by_model(means, seeds=3, noise=0.001):
    """Runs on one data set, {model: {option: mean}}."""
    rng = np.random.default_rng(5)
    return [
        make_run(
            "adam",
            seed,
            run_id=f"{model}-{option}-{seed}",
            params={"optimizer": option, "model": model},
            tags={"hash.initial_weights": f"{model}{seed}"},
            metrics={"best_epoch_val_accuracy": float(mean + noise * rng.normal())},
        )
        for model, by_option in means.items()
        for option, mean in by_option.items()
        for seed in range(seeds)
    ]


def across(records, axes=("optimizer", "data"), **settings):
    """The comparison of these runs across their data sets, without intervals."""
    return across_data(compare_by_data(records, axes, resamples=0, **settings))
