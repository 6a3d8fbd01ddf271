"""The names of losses, metrics and activations that are checked without Keras are Keras's."""

from __future__ import annotations

import keras
import pytest

from mnistlab.config import keras_names


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (keras.losses, [*keras_names.LOSSES, *keras_names.LOSS_CLASSES]),
        (keras.metrics, [*keras_names.METRICS, *keras_names.METRIC_CLASSES, *keras_names.USUAL_METRICS]),
        (keras.activations, keras_names.ACTIVATIONS),
    ],
    ids=["losses", "metrics", "activations"],
)
def test_keras_knows_every_name_and_there_are_no_others(module, names) -> None:
    ours = set(names) - {"auto", "acc", "accuracy", "crossentropy"}  # settings of ours, names that `compile` resolves
    assert [name for name in sorted(ours) if not known(module, name)] == []
    public = {name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name))}
    theirs = public - {"get", "serialize", "deserialize"}
    assert [name for name in sorted(theirs - set(names)) if known(module, name)] == []


def known(module, name: str) -> bool:
    try:
        module.get(name)
    except ValueError:
        return False
    except TypeError:  # a class that needs arguments
        return True
    return True
