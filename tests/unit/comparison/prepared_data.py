"""Sweeps over options and prepared data, made up: each data set has its hashes, each cell its accuracy."""

import itertools

import numpy as np
from synthetic_runs import make_run

# hashes of the splits; "*" stands for the seed
DATA_SETS = {
    "default": {"train": "t1", "validation": "v1", "test": "x1"},
    "imbalanced": {"train": "t2", "validation": "v1", "test": "x1"},
    "balanced": {"train": "t1", "validation": "v1", "test": "x1"},  # class weights: the same images
    "other_split": {"train": "t3", "validation": "v3", "test": "x1"},
    "by_seed": {"train": "t*", "validation": "v*", "test": "x1"},
    "fashion": {"train": "t5", "validation": "v5", "test": "x5"},
}


def hashes(data, seed=0):
    """The tags of a run on this data set."""
    splits = {split: digest.replace("*", str(seed)) for split, digest in DATA_SETS[data].items()}
    return {f"hash.{split}": digest for split, digest in splits.items()} | {"hash.data": "-".join(splits.values())}


def run_on(data, option, seed, accuracy=None, params=None, tags=None):
    """One run of an option on a data set, with this best_val_accuracy."""
    params = {"optimizer": option, "data": data, **(params or {})}
    known = option if option in ("adam", "sgd", "momentum") else "adam"
    run_id = "-".join(str(value) for value in (*params.values(), seed))
    metrics = {} if accuracy is None else {"best_val_accuracy": accuracy}
    return make_run(known, seed, run_id=run_id, params=params, metrics=metrics, tags=tags or hashes(data, seed))


def cells(means, seeds=3, noise=0.001, seed_effect=0.0, **settings):
    """Runs with these means, {data: {option: mean}}; noise per run, deterministic."""
    rng = np.random.default_rng(5)
    shared = seed_effect * rng.normal(size=seeds)
    return [
        run_on(data, option, seed, float(mean + noise * rng.normal() + shared[seed]), **settings)
        for data, by_option in means.items()
        for option, mean in by_option.items()
        for seed in range(seeds)
    ]


def sweep(data=("default", "imbalanced"), options=("adam", "momentum"), seeds=2, **settings):
    """All runs of a sweep over data sets and options."""
    return [run_on(*cell, **settings) for cell in itertools.product(data, options, range(seeds))]
