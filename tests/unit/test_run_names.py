"""A run's name is its difference from the defaults."""

from __future__ import annotations

import pytest

from mnistlab.config.compose import compose_config
from mnistlab.config.run_names import run_name


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "adam"),
        (["optimizer=rmsprop"], "rmsprop"),
        (["optimizer=adam", "optimizer.learning_rate=0.001", "model=cnn"], "adam-lr0.001-cnn"),
        (["model=cnn", "optimizer.learning_rate=0.001"], "adam-lr0.001-cnn"),
        (["optimizer.learning_rate=0.01", "fit.epochs=3", "model=mlp"], "adam"),
        (["fit.epochs=10", "callbacks=default"], "adam-epochs10-callbacks_default"),
        (["optimizer=sgd", "fit.batch_size=64", "seed=3"], "sgd-batch64-seed3"),
        (["callbacks=[early_stopping,reduce_lr]"], "adam-early_stopping+reduce_lr"),
        (["source=npz", "source.path=/a/b.npz"], "adam-npz"),
        (["experiment=cnn_99"], "adam-cnn_99"),
        (["paths.root=/tmp/x", "tracking=none", "run.name=mine"], "adam"),
        (["data.validation_split=0.2"], "adam-validation_split0.2"),
        (["data.validation_fraction=0.2"], "adam-validation_fraction0.2"),
        (["init.from=0123456789abcdef0123456789abcdef"], "adam-from_01234567"),
        (["init.from=runs:/0123456789abcdef0123456789abcdef/model_files"], "adam-from_01234567"),
        (["init.from=models:/m-0123"], "adam-from_m-0123"),
        (["init.from=/runs/10-00/model_files/model.keras"], "adam-from_10-00_model"),
        (["init.from=adam-lr0.1"], "adam-from_adam-lr0.1"),
        (["model.units=64", "save.formats=null"], "adam-units64-formats_none"),
    ],
)
def test_a_name_lists_the_differences_from_the_defaults(overrides: list[str], name: str) -> None:
    assert run_name(compose_config(overrides)) == name


def test_the_name_of_a_substitute_data_set_is_added() -> None:
    assert run_name(compose_config([]), "mnist_5k") == "adam-mnist_5k"
    assert run_name(compose_config([]), "mnist") == "adam"
