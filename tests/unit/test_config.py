"""Every mistake in the configuration gets one readable message, before anything heavy is loaded."""

from __future__ import annotations

import pytest

from mnistlab.config import Config, ConfigError, conf_folder, flatten, hide_secrets, parameters
from mnistlab.config.compose import compose_config, expand


def problems(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        compose_config(list(overrides))
    return str(error.value)


def test_the_defaults() -> None:
    config = compose_config([])
    assert config.choices["optimizer"] == "adam"
    assert config.choices["model"] == "mlp"
    assert config.choices["source"] == "mnist"
    assert config.fit.epochs == 3
    assert config.fit.batch_size == 32
    assert isinstance(config, Config)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer=sgdd", ["optimizer=sgdd is not an option", "Did you mean sgd?", "momentum"]),
        ("optimizr=sgd", ["optimizr is not a setting", "Did you mean optimizer?"]),
        ("fit.epoch=5", ["fit.epoch is not a setting", "Did you mean fit.epochs?", "batch_size"]),
        ("epoch=5", ["epoch is not a setting", "Did you mean fit.epochs?"]),
        ("+epoch=5", ["epoch is not a setting", "Did you mean fit.epochs?"]),
        ("+fit.epoch=5", ["fit.epoch is not a setting", "Did you mean fit.epochs?"]),
        ("optimizer.lr=1", ["Did you mean optimizer.learning_rate?", "write +optimizer.lr=VALUE"]),
        ("fit.epochs=three", ["fit.epochs=three", "three", "fit.epochs must be a whole number, in digits only"]),
        ("fit.epochs=null", ["fit.epochs=null", "must not be null"]),
        ("fit.epochs=0", ["fit.epochs must satisfy value >= 1", "Received: 0"]),
        ("fit.batch_size=0", ["fit.batch_size must be a whole number >= 1", "Received: 0"]),
        ("fit.batch_size=1.5", ["fit.batch_size", "Received: 1.5"]),
        ("fit.batch_size=true", ["fit.batch_size", "Received: True"]),
        ("optimizer.learning_rate=-0.1", ["optimizer.learning_rate must be a finite number >= 0", "Received: -0.1"]),
        ("optimizer.learning_rate=nan", ["optimizer.learning_rate", "Received: nan"]),
        ("optimizer.learning_rate=fast", ["optimizer.learning_rate", "'fast'"]),
        ("data.validation_fraction=0", ["0 < value < 1", "Received: 0.0"]),
        ("data.validation_fraction=1", ["0 < value < 1", "Received: 1.0"]),
        ("data.validation_fraction=nan", ["0 < value < 1", "nan"]),
        ("data.labels=onehot", ["data.labels", "Received: onehot", "Did you mean one_hot?"]),
        ("data.class_weight=evenly", ["data.class_weight is null, balanced or a mapping", "evenly"]),
        ("data.class_weight={0: -1}", ["class 0", "Received: -1"]),
        ("data.keep={3: 1.5}", ["data.keep of class 3", "value <= 1", "Received: 1.5"]),
        ("save.formats=[kears]", ["save.formats", "kears", "Did you mean keras?"]),
        ("seed=-1", ["seed must satisfy", "Received: -1"]),
        ("source=npz", ["source.path must be given"]),
        ("+source.paht=x", ["source.paht is not an argument", "Did you mean source.path?"]),
        ("+model.unit=3", ["model.unit is not an argument", "Did you mean model.units?"]),
        ("source._target_=mnistlab.data.sources.mnits", ["no such function", "Did you mean mnist?"]),
        ("callbacks=[early_stoping]", ["early_stoping is not an option", "Did you mean early_stopping?"]),
        ("callbacks=[none", ["cannot be read as key=value", "Quote"]),
        ("optimizer=null", ["A group needs an option"]),
        ("+init.form=x", ["init.form is not a setting", "init.from"]),
        ("save.which=first", ["save.which", "Received: first", "Choices: auto, best, last"]),
        ("sweep.direction=up", ["sweep.direction must be one of the choices", "Choices: auto, higher, lower"]),
        ("sweep.targets=[0.5,95]", ["accuracies as fractions, 0.95 and not 95", "0 < value <= 1", "Received: 95."]),
        ("sweep.targets=[0]", ["0 < value <= 1", "Received: 0."]),
        ("sweep.targets=[nan]", ["0 < value <= 1", "Received: nan."]),
        ("save.formats=[3]", ["save.formats must be a list of names, or one name. Received: [3]."]),
        ("sweep.targets=[a]", ["sweep.targets must be a list of numbers, or one number. Received: ['a']."]),
        ("fit.metrics={_target_: a.B}", ["fit.metrics is a list: write 'fit.metrics=[{_target_: a.B}]'. Received: "]),
        ("fit.metrics=true", ["fit.metrics must be a list of Keras's metrics", "Received: True."]),
        ("model.units=abc", ["model.units must be a list of whole numbers >= 1", "or one number. Received: abc."]),
        ("model.units=[128,0]", ["model.units must be a list of whole numbers >= 1", "Received: [128, 0]."]),
        ("model.dropout=1", ["model.dropout must be a number, 0 <= value < 1. Received: 1."]),
        ("model.activation=rellu", ["rellu is not an activation of Keras. Did you mean relu?"]),
        ("fit.metrics=[acuracy]", ["fit.metrics=[acuracy] is not known to Keras. Did you mean accuracy?"]),
        ("fit.metrics=Acuracy", ["fit.metrics=[Acuracy] is not known to Keras. Did you mean accuracy?"]),
        ("fit.metrics=[f1]", ["Did you mean f1_score? Usual choices: accuracy, auc, f1_score"]),
        ("fit.loss=crossentropy", ["Did you mean categorical_crossentropy? auto is the cross-entropy that fits"]),
        ("fit.loss=sparse_categorical_cross_entropy", ["Did you mean sparse_categorical_crossentropy?"]),
        ("optimizer=SGD", ["optimizer=SGD is not an option. Did you mean sgd?"]),
        ("optimizer=Adam", ["Did you mean adam?"]),
        ("model=CNN", ["Did you mean cnn?"]),
        ("data=mnist", ["data=mnist is not an option. It is an option of source: source=mnist."]),
        ("early_stopping=true", ["It is an option of callbacks: callbacks=early_stopping."]),
        ("fit.validation_split=0.2", ["Did you mean data.validation_split?"]),
        ("validation_split=0.2", ["Did you mean data.validation_split?"]),
        ("epochs=5", ["Did you mean fit.epochs?"]),
        ("batch_size=64", ["Did you mean fit.batch_size?"]),
        ("lr=0.1", ["Did you mean optimizer.learning_rate?"]),
        ("+lr=0.1", ["Did you mean optimizer.learning_rate?"]),
        ("fit.lr=0.1", ["Did you mean optimizer.learning_rate?"]),
        ("fit.learning_rate=0.1", ["Did you mean optimizer.learning_rate?"]),
        ("optimizer.epochs=3", ["Did you mean fit.epochs? Choices in optimizer: learning_rate."]),
        ("dropout=0.2", ["Did you mean model.dropout?"]),
        ("class_weight=balanced", ["Did you mean data.class_weight?"]),
        ("data.augmentation={zoom_range: 0.1}", ["to add them, write '+data.augmentation={zoom_range: 0.1}'."]),
        ("data.path=x", ["Did you mean source.path?"]),
        ("paths.root=${oc.env:NO_SUCH_VARIABLE}", ["paths.root cannot be resolved", "NO_SUCH_VARIABLE"]),
    ],
)
def test_a_message_has_the_received_value_and_the_choices(override: str, expected: list[str]) -> None:
    message = problems(override)
    assert [text for text in expected if text not in message] == []


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        (
            ["callbacks.early_stopping.patience=5"],
            "callbacks.early_stopping.patience is a setting of callbacks=early_stopping, which is not chosen. "
            "Write: callbacks=early_stopping callbacks.early_stopping.patience=5.",
        ),
        (["patience=5"], "Write: callbacks=early_stopping callbacks.early_stopping.patience=5."),
        (
            ["callbacks.early_stopping.patiense=5"],
            "Write: callbacks=early_stopping callbacks.early_stopping.patience=5.",
        ),
        (
            ["callbacks.early_stopping.min_delta=0.1"],
            "Write: callbacks=early_stopping +callbacks.early_stopping.min_delta=0.1.",
        ),
        (
            ["callbacks=reduce_lr", "callbacks.early_stopping.patience=5"],
            "Write: 'callbacks=[reduce_lr,early_stopping]' callbacks.early_stopping.patience=5.",
        ),
        (["optimizer.momentum=0.8"], "Write: optimizer=momentum optimizer.momentum=0.8."),
        (["momentum=0.8"], "optimizer.momentum is a setting of optimizer=momentum, nesterov, which is not chosen."),
        (["model.filters=[3]"], "Write: model=cnn model.filters=[3]."),
        (["source=mnist_5k", "source.path=/mnist.npz"], "Write: source=mnist source.path=/mnist.npz."),
    ],
)
def test_a_setting_of_an_option_that_is_not_chosen_shows_both(overrides: list[str], advice: str) -> None:
    message = problems(*overrides)
    assert advice in message
    if "Write: " in message:
        written = message.partition("Write: ")[2].removesuffix(".")
        assert compose_config([word.strip("'") for word in written.split()])


def test_settings_of_a_callback_alone_are_refused() -> None:
    assert problems("+callbacks.early_stopping.patience=5") == (
        "callbacks.early_stopping has settings but is not chosen. Write callbacks=early_stopping before them."
    )
    assert problems("+callbacks.mine.patience=5").startswith("callbacks.mine._target_ must name the callback's class")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["callbacks.slow_stop.patience=5"],
            "callbacks.slow_stop.patience is a setting of callbacks=slow_stop, which is not chosen. "
            "Write: callbacks=slow_stop callbacks.slow_stop.patience=5.",
        ),
        (
            ["+callbacks.slow_stop.patience=5"],
            "callbacks.slow_stop has settings but is not chosen. Write callbacks=slow_stop before them.",
        ),
        (["optimizer.epsilom=1"], "optimizer.epsilom is not a setting."),
        (["optimizer=gentel"], "optimizer=gentel is not an option. Did you mean gentle?"),
        (["optimizer=slow_stop"], "optimizer=slow_stop is not an option. It is an option of callbacks:"),
        (["optimizer=gentle", "optimizer.momentun=1"], "optimizer.momentun is not a setting. Did you mean"),
        (
            ["model.width=3"],
            "model.width is a setting of model=own, which is not chosen. Write: model=own model.width=3.",
        ),
    ],
)
def test_advice_knows_the_options_of_the_users_folder(overrides: list[str], message: str, tmp_path) -> None:
    files = {
        "callbacks/slow_stop": "slow_stop: {_target_: keras.callbacks.EarlyStopping, patience: 20}",
        "optimizer/gentle": "{_target_: keras.optimizers.SGD, learning_rate: 0.003, momentum: 0.95}",
        "model/own": "{_target_: my.network, width: 2}",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(content)
    with pytest.raises(ConfigError) as error:
        compose_config(overrides, config_dir=str(tmp_path))
    assert str(error.value).startswith(message)


def test_a_path_with_fields_shows_how_it_is_quoted() -> None:
    message = problems("callbacks=model_checkpoint", "callbacks.model_checkpoint.filepath=a/{epoch}.keras")
    written = 'callbacks.model_checkpoint.filepath="a/{epoch}.keras"'
    assert message.endswith(f"Quote a value with braces twice: '{written}'.")
    checkpoint = compose_config(["callbacks=model_checkpoint", written]).callbacks["model_checkpoint"]
    assert checkpoint["filepath"] == "a/{epoch}.keras"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer=sgd,adam", "To compare them: --multirun optimizer=sgd,adam."),
        ("fit.metrics=accuracy,AUC", "To use them together: 'fit.metrics=[accuracy,AUC]'. To compare them: --multirun"),
        ("callbacks=early_stopping,reduce_lr", "To use them together: 'callbacks=[early_stopping,reduce_lr]'."),
    ],
)
def test_several_values_need_multirun_or_brackets(override: str, message: str) -> None:
    assert problems(override).startswith(f"{override} has several values without --multirun. ")
    assert message in problems(override)


def test_one_item_is_a_list_of_one() -> None:
    single = ["model.units=64", "save.formats=h5", "fit.metrics=AUC", "sweep.axes=optimizer", "sweep.targets=1"]
    lists = ["model.units=[64]", "save.formats=[h5]", "fit.metrics=[AUC]", "sweep.axes=[optimizer]"]
    one, several = compose_config(single), compose_config([*lists, "sweep.targets=[1.0]"])
    assert parameters(one) | {"paths.run": ""} == parameters(several) | {"paths.run": ""}
    assert (one.model["units"], one.save.formats, one.sweep.targets) == ([64], ["h5"], [1.0])
    assert compose_config(["model=cnn", "model.filters=8"]).model["filters"] == [8]
    assert compose_config(["save.formats=null", "fit.metrics=null"]).save.formats == []


@pytest.mark.parametrize("override", ["model.units=[]", "fit.metrics=[mine]", "fit.loss=my_loss", "fit.loss=mse"])
def test_what_may_be_meant_is_left_to_keras(override: str) -> None:
    assert compose_config([override])


@pytest.mark.parametrize(
    ("labels", "loss"), [("data.labels=integer", "sparse_categorical"), ("data.class_mode=binary", "binary")]
)
def test_the_cross_entropy_that_is_suggested_fits_the_labels(labels: str, loss: str) -> None:
    assert f"Did you mean {loss}_crossentropy?" in problems("fit.loss=crossentropy", labels)


def test_all_mistakes_are_reported_at_once() -> None:
    message = problems("fit.epochs=0", "seed=-1", "data.labels=x")
    assert all(name in message for name in ("fit.epochs", "seed", "data.labels"))


def test_the_optimizer_sets_the_batch_size_unless_the_command_line_does() -> None:
    assert compose_config(["optimizer=sgd"]).fit.batch_size == 1
    assert compose_config(["optimizer=batch_gd"]).fit.batch_size == "all"
    assert compose_config(["optimizer=sgd", "fit.batch_size=64"]).fit.batch_size == 64
    assert compose_config(["fit.batch_size=64", "optimizer=sgd"]).fit.batch_size == 64
    assert compose_config(["experiment=cnn_99", "optimizer=sgd"]).fit.batch_size == 64


def test_callbacks_combine() -> None:
    assert set(compose_config(["callbacks=[early_stopping,reduce_lr]"]).callbacks) == {"early_stopping", "reduce_lr"}
    assert set(compose_config(["callbacks=default"]).callbacks) == {"early_stopping", "model_checkpoint", "reduce_lr"}
    assert compose_config([]).callbacks == {}


def test_several_options_of_a_group_that_takes_several_are_recorded(tmp_path) -> None:
    for name, epochs in (("short", 1), ("long", 9)):
        (tmp_path / "experiment").mkdir(exist_ok=True)
        (tmp_path / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\nfit:\n  epochs: {epochs}\n")
        (tmp_path / "extra").mkdir(exist_ok=True)
        (tmp_path / "extra" / f"{name}.yaml").write_text("# @package _global_\nseed: 7\n")
    choices = [
        compose_config([override], config_dir=str(tmp_path)).choices
        for override in ("callbacks=[early_stopping,reduce_lr]", "experiment=[short,long]", "+extra=[long,short]")
    ]
    assert choices[0]["callbacks"] == "early_stopping+reduce_lr"
    assert choices[1]["experiment"] == "short+long"
    assert choices[2]["extra"] == "long+short"
    composed = compose_config(["experiment=[short,long]", "debug=[quick]"], config_dir=str(tmp_path))
    assert composed.choices["debug"] == "quick"
    assert parameters(composed)["experiment"] == "short+long"


GROUPS = {"source", "data", "model", "optimizer", "callbacks", "tracking"}


@pytest.mark.parametrize(
    "overrides",
    [[], ["callbacks=[early_stopping,reduce_lr]"], ["experiment=cnn_99"], ["experiment=[guide,cnn_99]", "debug=quick"]],
)
def test_every_composed_group_has_a_choice(overrides: list[str]) -> None:
    choices = compose_config(overrides).choices
    assert set(choices) >= GROUPS
    assert {override.split("=")[0] for override in overrides} <= set(choices)
    assert all(choices.values())


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        (
            "source=[mnist,fashion_mnist]",
            "Write source=mnist, or to compare them: --multirun source=mnist,fashion_mnist.",
        ),
        ("data=[default,notebook]", "Write data=default, or to compare them: --multirun data=default,notebook."),
        ("model=[mlp,cnn]", "Write model=mlp, or to compare them: --multirun model=mlp,cnn."),
        ("optimizer=[sgd,adam]", "Write optimizer=sgd, or to compare them: --multirun optimizer=sgd,adam."),
        ("optimizer=[sgd]", "Write optimizer=sgd."),
        ("optimizer=[]", "Write optimizer=OPTION."),
        ("tracking=[mlflow,none]", "Write tracking=mlflow."),
    ],
)
def test_a_group_of_one_option_takes_no_list(override: str, advice: str) -> None:
    message = problems(override)
    assert message.startswith(f"{override.split('=')[0]} takes one option, not a list: the settings of several options")
    assert message.endswith(f"Received: {override}. {advice}")


def test_a_list_in_a_preset_is_refused_too_and_the_command_line_can_correct_it(tmp_path) -> None:
    (tmp_path / "experiment").mkdir()
    preset = "# @package _global_\ndefaults:\n  - override /optimizer: [sgd, adam]\n"
    (tmp_path / "experiment" / "both.yaml").write_text(preset)
    with pytest.raises(
        ConfigError,
        match=r"optimizer takes one option, not a list.*Received: optimizer=\[sgd,adam\].* In .*both\.yaml\.$",
    ):
        compose_config(["experiment=both"], config_dir=str(tmp_path))
    corrected = compose_config(["experiment=both", "optimizer=adam"], config_dir=str(tmp_path))
    assert corrected.choices["optimizer"] == "adam"


def test_parameters_are_flat_and_keep_the_choices() -> None:
    flat = parameters(compose_config(["optimizer=rmsprop", "optimizer.learning_rate=0.5", "callbacks=default"]))
    assert flat["optimizer"] == "rmsprop"
    assert flat["optimizer.learning_rate"] == 0.5
    assert flat["callbacks.early_stopping.patience"] == 3
    assert flat["fit.batch_size"] == 32
    assert parameters(compose_config(["data.validation_split=0.2"]))["data.validation_split"] == 0.2
    assert not any(key.startswith(("choices", "overrides", "from_environment")) for key in flat)


def test_settings_from_the_environment_are_recorded_as_expressions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    config = compose_config(["tracking.experiment=${oc.env:SECRET_TOKEN}"])
    assert config.tracking.experiment == "hunter2"
    assert parameters(config)["tracking.experiment"] == "${oc.env:SECRET_TOKEN}"
    assert "hunter2" not in str(parameters(config))


def test_passwords_in_addresses_are_hidden() -> None:
    assert hide_secrets("https://me:hunter2@host/x") == "https://me:<hidden>@host/x"
    assert hide_secrets("https://host:5000/x") == "https://host:5000/x"


def test_flatten_keeps_plain_lists_and_opens_lists_of_mappings() -> None:
    assert flatten({"a": {"b": [1, 2]}, "c": [{"d": 1}, {"d": 2}]}) == {"a.b": [1, 2], "c.0.d": 1, "c.1.d": 2}


def test_options_in_the_users_folder_are_found(tmp_path) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "tiny.yaml").write_text("_target_: keras.optimizers.SGD\nlearning_rate: 0.125\n")
    config = compose_config(["optimizer=tiny"], config_dir=str(tmp_path))
    assert config.optimizer["learning_rate"] == 0.125


def test_a_multirun_is_expanded() -> None:
    jobs, swept = expand(["optimizer=sgd,adam", "seed=range(0,2)", "fit.epochs=1"])
    assert swept == ["optimizer", "seed"]
    assert [sorted(job) for job in jobs] == [
        sorted(["fit.epochs=1", f"optimizer={name}", f"seed={seed}"]) for name in ("sgd", "adam") for seed in (0, 1)
    ]
    every, _ = expand(["optimizer=glob(*)"])
    assert len(every) == len(list((conf_folder() / "optimizer").glob("*.yaml")))


def test_keras_names_and_ours_are_one_setting() -> None:
    directory = ["source=directory", "source.path=x"]
    keras_names = ["data.rescale=1./255", "data.validation_split=0.2", "data.target_size=[20,30]"]
    our_names = ["data.scaling=unit", "data.validation_fraction=0.2", "data.image_size=[20,30]"]
    keras, ours = (compose_config([*directory, *overrides]) for overrides in (keras_names, our_names))
    assert keras.data == ours.data
    assert keras.source == ours.source
    assert keras.source["image_size"] == [20, 30]
    assert compose_config(["data.rescale=1/127.5"]).data.rescale == pytest.approx(1 / 127.5)
    assert compose_config(["data.rescale=1/127.5"]).data.scaling == "none"
    assert compose_config(["data.rescale=2"]).data.rescale == 2.0


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.validation_split=0.3", "data.validation_fraction=0.2"], "two names of one setting"),
        (["data.rescale=1/255", "data.scaling=centered"], "two names of one setting"),
        (["data.validation_split=2"], "data.validation_split must satisfy 0 < value < 1. Received: 2.0"),
        (["data.rescale=many"], "a factor above 0, such as 1/255. Received: many"),
        (["data.rescale=-1"], "a factor above 0"),
        ([f"data.rescale=1{'0' * 400}"], "a factor above 0"),
        (["data.rescale=1/0"], "a factor above 0"),
        (["data.target_size=[20,30]"], "It is for source=directory"),
        (["source=directory", "source.path=x", "data.target_size=20"], "two whole numbers"),
    ],
)
def test_keras_names_are_checked(overrides: list[str], expected: str) -> None:
    assert expected in problems(*overrides)


def test_more_epochs_than_any_training_takes_are_a_slip() -> None:
    assert problems("fit.epochs=1000000") == (
        "fit.epochs counts passes through all training images, not steps: at most 100,000. Received: 1000000. "
        "To end when it no longer improves: callbacks=early_stopping fit.epochs=1000."
    )
    assert compose_config(["fit.epochs=100000"]).fit.epochs == 100_000


@pytest.mark.parametrize("group", ["optimizer", "schedule", "source"])
def test_a_group_takes_an_option_not_a_mapping(group: str) -> None:
    message = problems(f"{group}={{_target_: keras.optimizers.SGD}}")
    assert message.startswith(f"{group} takes the name of an option, {group}=OPTION, ")
    assert f"{group}.NAME=VALUE" in message
