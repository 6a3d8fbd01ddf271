"""A command loads Keras without the libraries that a training does not need; on use they are there."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc, sys
from mnistlab.runtime import startup
with startup.loading():
    from mnistlab import experiment
assert gc.isenabled() and gc.get_freeze_count() > 100_000
heavy = {"pandas", "matplotlib", "sklearn", "mlflow", "scipy.stats", "jax", "torch"} & set(sys.modules)
assert not heavy, heavy

import keras
import numpy as np
def new_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model
new_model().fit(np.zeros((4, 2)), np.zeros(4), verbose=0)
assert "pandas" not in sys.modules

import pandas
new_model().fit(pandas.DataFrame(np.zeros((4, 2))), pandas.Series(np.zeros(4)), verbose=0)
import matplotlib
matplotlib.use("agg")
keras.visualization.plot_image_gallery(np.zeros((4, 8, 8, 3)), value_range=(0, 255), path="gallery.png", show=False)
import sklearn.metrics
"""


def test_deferred_libraries_are_loaded_on_first_use(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE], cwd=tmp_path, capture_output=True, text=True, timeout=6000
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
