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
        (["data.keep={3: 0.1, 7: 0.5}"], "adam-keep_3=0.1+7=0.5"),
        (["data=imbalanced", "data.class_weight={0: 1, 1: 2.5}"], "adam-imbalanced-weight_0=1+1=2.5"),
        (
            ["fit.loss={_target_: keras.losses.CategoricalCrossentropy, label_smoothing: 0.1}"],
            "adam-loss_CategoricalCrossentropy(label_smoothing=0.1)",
        ),
        (
            ["fit.metrics=[accuracy,{_target_: keras.metrics.F1Score, average: macro}]"],
            "adam-metrics_accuracy,F1Score(average=macro)",
        ),
        (["fit.loss={_target_: hydra.utils.get_method, path: my.margin}"], "adam-loss_margin"),
        (["+callbacks.mine={_target_: my.Every, factor: 2}"], "adam-mine_Every(factor=2)"),
        (
            ["model=layers", "model.layers=[{_target_: keras.layers.Dense, units: 5},{_target_: keras.layers.ReLU}]"],
            "adam-layers-layers_Dense(units=5),ReLU",
        ),
        (["callbacks=default", "~callbacks.reduce_lr"], "adam-callbacks_default-without_reduce_lr"),
        (["source=npz", "source.path=/a/b.npz", "+source.keys={x_train: images}"], "adam-npz-keys_x_train=images"),
        (["optimizer._target_=keras.optimizers.Lion", "deterministic=true"], "adam-Lion-deterministic_True"),
    ],
)
def test_a_name_lists_the_differences_from_the_defaults(overrides: list[str], name: str) -> None:
    assert run_name(compose_config(overrides)) == name


def test_the_name_of_a_substitute_data_set_is_added() -> None:
    assert run_name(compose_config([]), "mnist_5k") == "adam-mnist_5k"
    assert run_name(compose_config([]), "mnist") == "adam"


def test_long_names_are_cut_and_stay_different() -> None:
    names = [run_name(compose_config([f"save.monitor={'a' * 300}{end}"])) for end in "bc"]
    assert [len(name) for name in names] == [200, 200]
    assert names[0][:191] == names[1][:191] == f"adam-monitor_{'a' * 178}"
    assert names[0] != names[1]


def test_a_name_has_no_secret_and_no_character_that_a_file_cannot_have(monkeypatch) -> None:
    monkeypatch.setenv("TOKEN", "geheim")
    headers = "+callbacks.mine={_target_: keras.callbacks.RemoteMonitor, headers: {token: '${oc.env:TOKEN}'}}"
    name = run_name(compose_config([headers, "save.monitor='a<b>:c*?d'"]))
    assert "geheim" not in name
    assert name == "adam-mine_RemoteMonitor(headers=token=__oc.env_TOKEN_)-monitor_a_b__c__d"
