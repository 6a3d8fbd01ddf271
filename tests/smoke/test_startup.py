"""A command loads Keras without the libraries that a training does not need; on use they are there."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import gc, sys
from mnistlab.runtime import startup
with startup.loading():
    from mnistlab import experiment
assert gc.isenabled() and gc.get_freeze_count() > 100_000
assert not any(type(finder) is startup.DeferringFinder for finder in sys.meta_path)
HEAVY = {"pandas", "matplotlib", "sklearn", "mlflow", "scipy.stats", "jax", "torch"}
assert not HEAVY & set(sys.modules), HEAVY & set(sys.modules)

import keras
import numpy as np
from mnistlab import training
from mnistlab.data import Images, Split, prepare
from mnistlab.training import models

def new_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

# A training, as commands do it by default.
split = Split(np.zeros((40, 4, 4, 1), np.uint8), np.repeat([0, 1], 20))
dataset = prepare(Images("zeros", split, split, ("a", "b"), "here"))
model = models.with_preprocessing(models.mlp((4, 4, 1), 2), (4, 4, 1), "unit")
training.compile_model(model, keras.optimizers.SGD(0.1), loss="auto", metrics=["accuracy"], labels="one_hot")
plan = training.plan_fit(model, dataset, epochs=1, batch_size=8, seed=0)
assert plan.engine == "fused"
training.fit(model, dataset, plan)
training.predict(model, dataset, "test", plan.engine)
new_model().fit(np.zeros((4, 2)), np.zeros(4), verbose=0)
assert not HEAVY & set(sys.modules), HEAVY & set(sys.modules)

# Everything that was deferred works when it is used.
import pandas
new_model().fit(pandas.DataFrame(np.zeros((4, 2))), pandas.Series(np.zeros(4)), verbose=0)
import matplotlib
matplotlib.use("agg")
keras.visualization.plot_image_gallery(np.zeros((4, 8, 8, 3)), value_range=(0, 255), path="gallery.png", show=False)
import sklearn.metrics
import tensorflow as tf
assert isinstance(keras.wrappers.SKLearnClassifier, type)
assert isinstance(tf.lite.TFLiteConverter, type)
"""


@pytest.mark.long
def test_deferred_libraries_are_loaded_on_first_use(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gallery.png").stat().st_size > 100


def test_an_import_that_fails_shows_what_it_printed(tmp_path) -> None:
    (tmp_path / "broken.py").write_text("import os\nos.write(2, b'the reason')\nraise ImportError('no')\n")
    code = "from mnistlab.runtime import startup\nwith startup.loading():\n    import broken\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "the reason" in done.stderr
    assert "ImportError: no" in done.stderr
