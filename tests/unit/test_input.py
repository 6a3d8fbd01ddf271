"""All mistakes at once, in the user's own YAML files as on the command line; values that no run can use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mnistlab.config import ConfigError
from mnistlab.config.compose import check_command, compose_config, parse_command_line
from mnistlab.data import Images, Split
from mnistlab.data.dataset import prepare

ALIASES = b"".join(b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 10)) for n in range(8))


def problems(*overrides: str, config_dir: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as error:
        compose_config(list(overrides), config_dir=str(config_dir) if config_dir else None)
    return error.value.problems


def test_names_types_and_ranges_are_reported_together() -> None:
    found = problems("fit.epoch=5", "optimizer=sgdd", "seed=-1", "fit.resident_gigabytes=many", "data.labels=x")
    starts = (
        "optimizer=sgdd is not",
        "fit.epoch is not",
        "fit.resident_gigabytes=many does",
        "seed must",
        "data.labels",
    )
    assert [start for start in starts if not any(problem.startswith(start) for problem in found)] == []
    assert len(found) == len(starts)


@pytest.mark.hydra_itself  # it writes one file several times
def test_all_mistakes_of_a_file_are_reported_together_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(
        "# @package _global_\ndefaults:\n  - override /optimizer: sgd\n"
        "fit: {epoch: 5, batch_size: -1}\noptimizer: {learning_rate: true}\nseed: -3\n"
    )
    found = problems("experiment=mine", "fit.epochs=0", "data.labels=x", config_dir=tmp_path)
    in_file = {problem.split(" ")[0] for problem in found if problem.endswith(f" In {file}.")}
    assert in_file == {"fit.epoch", "fit.batch_size", "optimizer.learning_rate", "seed"}
    assert {problem.split(" ")[0] for problem in found} == {*in_file, "fit.epochs", "data.labels"}
    found = problems("experiment=mine", "seed=-1", config_dir=tmp_path)  # the command line counts
    assert "seed must satisfy 0 <= value < 2**32. Received: -1." in found
    file.write_text("# @package _global_\nfit: {epochs: 0}\n")
    assert problems("experiment=mine", config_dir=tmp_path) == [
        f"fit.epochs must satisfy value >= 1. Received: 0. In {file}."
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["callbacks=reduce_lr", "callbacks.reduce_lr.min_delta=0.2"],
            "callbacks.reduce_lr.min_delta is not among the settings of reduce_lr. To pass it on to the callback: "
            "+callbacks.reduce_lr.min_delta=0.2.",
        ),
        (["fit.epochs=1e3"], "fit.epochs must be a whole number, in digits only. Received: fit.epochs=1e3."),
        (["data.split_seed=4294967296"], "data.split_seed must satisfy 0 <= value < 2**32. Received: 4294967296."),
    ],
)
def test_what_to_write_instead(words: list[str], expected: str) -> None:
    assert problems(*words) == [expected]


def test_a_command_lists_all_mistakes_at_once_and_knows_where_its_files_are(tmp_path: Path) -> None:
    arguments, _ = parse_command_line(["fit.epoch=3", "fit.batch_size=-1", "optimizer.learning_rate=true"])
    with pytest.raises(ConfigError) as error:
        check_command(arguments)
    assert len(error.value.problems) == 3
    (tmp_path / "file").touch()
    for folder, what in ((tmp_path / "none", "there is none"), (tmp_path / "file", "a file")):
        with pytest.raises(ConfigError) as error:
            check_command(parse_command_line(["--config-dir", str(folder)])[0])
        assert error.value.problems == [f"--config-dir must be a folder of YAML files. Received: {folder}, {what}."]


def test_a_wrong_option_does_not_make_its_settings_wrong() -> None:
    found = problems("optimizer=momentun", "optimizer.momentum=0.8", "fit.epochs=0")
    assert len(found) == 2
    assert found[0].startswith("optimizer=momentun is not an option. Did you mean momentum?")
    assert found[1] == "fit.epochs must satisfy value >= 1. Received: 0."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"# @package _global_\nfit: {epoch: 5}", ["fit.epoch is not a setting. Did you mean fit.epochs?"]),
        (b"# @package _global_\nfit: {epochs: five}", ["fit.epochs does not fit: Value 'five'"]),
        (b"# @package _global_\nfit: 3", ["fit must be a mapping of settings: names and values. Received: a number."]),
        (b"# @package _global_\nfit: [3]", ["fit must be a mapping of settings: names and values. Received: a list."]),
        (b"# @package _global_\nfit: '${fit}'", ["fit must be a mapping of settings", "Received: a text."]),
        (
            b"# @package _global_\ndata: {augmentation: 5}",
            ["data.augmentation must be a mapping", "Received: a number."],
        ),
        (b"", ["must be a mapping of settings: names and values. Received: nothing."]),
        (b"settings", ["Received: the text 'settings'."]),
        (
            b"# @package _global_\nhydra: {searchpath: [pkg://antigravity]}",
            ["hydra.searchpath must not stand in a file"],
        ),
        (b"# @package _global_\ndefaults: [optimizer: sgd]", ["`- override /optimizer: sgd`", "`- optimizer: sgd`."]),
        (b"fit: {epochs: 5}", ["Its first line must be `# @package _global_`"]),
        (b"# @package global\nfit: {epochs: 5}", ["global is not a package"]),
        (b"a: 1\na: 2", ["line 2, column 1: found duplicate key a"]),
        (b"a: [1\nb: 2", ["line 2", "expected ',' or ']'"]),
        (b"fit:\n\tepochs: 2", ["line 2, column 1", "YAML takes no tabs"]),
        (b"\xff\xfea: 1", ["must be text in UTF-8", "at byte 0"]),
        (b"- 1\n- 2", ["must be a mapping of settings: names and values. Received: a list."]),
        (b"1: 2\nnull: 3", ["must be settings: names with text, numbers,"]),
        (b"a: !!timestamp 1", ["must be settings"]),
        (b"a: !!set {b, c}", ["must be settings", "Received: Value 'set' is not a supported"]),
        (b"# @package _global_\nrun: {name: '${'}", ["must be settings"]),
        (b"a: &a [*a]", ["has an anchor (&name) that contains its own alias"]),
        (b"- " * 1000, ["Received: too many lists or mappings in one another."]),
        (b"[" * 2000, ["must have at most 200 lists or mappings in one another"]),
        (b"a: " + b"x" * 1_000_000, []),
        (b"defaults: [5]", ["defaults must be a list of `_self_`", "Received: 5."]),
        (b"defaults: [{a: 1, b: 2}]", ["defaults must be a list of `_self_`"]),
        (b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + ALIASES, ["must have at most 100,000 values", "Received: 1,234,567,"]),
    ],
)
def test_a_mistake_in_a_file_names_the_file(content: bytes, expected: list[str], tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    (message, *others) = problems("experiment=mine", config_dir=tmp_path)
    assert others == []
    assert [text for text in [str(file), *expected] if text not in message] == []


@pytest.mark.hydra_itself  # it writes one file several times
def test_an_optimizer_without_a_target_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "optimizer" / "mine.yaml"
    file.parent.mkdir()
    for content, expected in (
        ("", "optimizer._target_ must name a callable, as in package.module.function. In {file}."),
        ("- sgd", "{file} must be a mapping of settings: names and values. Received: a list."),
    ):
        file.write_text(content)
        assert problems("optimizer=mine", config_dir=tmp_path) == [expected.format(file=file)]


def test_all_mistakes_of_several_files_are_reported_with_their_files(tmp_path: Path) -> None:
    experiments, models = tmp_path / "experiment", tmp_path / "model"
    experiments.mkdir()
    models.mkdir()
    (experiments / "a.yaml").write_text("# @package _global_\nfit: {epoch: 5, batch_sise: 1}\n")
    (experiments / "b.yaml").write_text("# @package _global_\nseed: -1\n")
    (models / "mine.yaml").write_text("_target_: mnistlab.training.models.mlp\nunits: x\ndropuot: 0.2\n")
    found = problems("experiment=[a,b]", "model=mine", "data.labels=x", config_dir=tmp_path)
    places = {problem.split(" ")[0]: problem.rpartition(" In ")[2].rstrip(".") for problem in found}
    assert {key: place for key, place in places.items() if key != "data.labels"} == {
        "fit.epoch": str(experiments / "a.yaml"),
        "fit.batch_sise": str(experiments / "a.yaml"),
        "seed": str(experiments / "b.yaml"),
        "model.dropuot": str(models / "mine.yaml"),
        "model.units": str(models / "mine.yaml"),
    }
    assert "data.labels" in places


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("~fit", "fit cannot be removed: every run needs it. Received: ~fit."),
        ("~fit.epochs", "fit.epochs cannot be removed: every run needs it. ~ removes a callback"),
        ("~callbacks.nosuch", "~callbacks.nosuch removes nothing: there is no such setting."),
        (
            "~optimizer.momentum",
            "~optimizer.momentum removes nothing: there is no such setting. Choices: _target_, lea",
        ),
        ("~optimizer=sgd", "~optimizer=sgd removes nothing: another option is chosen."),
        ("+fit.epochs=3", "fit.epochs is a setting already: + only adds new ones. Write fit.epochs=3. Received: +fit."),
        ("+experiment=cnn_99", "experiment has an option already: + only adds new groups. Write experiment=cnn_99."),
        ("optimizer=", "optimizer needs an option: optimizer=OPTION. Choices: adadelta, adafactor,"),
        ("=3", "An override is NAME=VALUE. Received: =3, which has no name."),
        ("callbacks=5", "A group needs an option: group=option, not null."),
        ("hydra.sweeper.params.seed=3", "hydra.sweeper.params takes names of settings in quotes. Received: hydra.swe"),
        ("fit=null", "fit must not be null. Received: fit=null."),
        ("fit=5", "fit must be a mapping of settings: names and values. Received: a number."),
        ("fit=${seed}", "fit must be a mapping of settings: names and values. Received: ${seed}."),
        ("data.augmentation=5", "data.augmentation must be a mapping of settings: names and values. Received: 5."),
        ("seed=${nosuch}", "seed cannot be resolved: Interpolation key 'nosuch' not found."),
        ("schedule.path=5", "schedule.path is not a setting. Did you mean source.path?"),
        (
            "model.layers=5",
            "model.layers is a setting of model=layers, which is not chosen. Write: model=layers model.",
        ),
        ("save.formats=[keras,keras]", "save.formats lists keras more than once. Write it once."),
        ("source.path=true", "source.path must be the path of a file or folder. Received: True."),
    ],
)
def test_an_override_of_a_form_that_nothing_takes(override: str, expected: str) -> None:
    (found,) = problems(override)
    assert found.startswith(expected)
    assert "Hydra" not in found
    assert "config_loader" not in found


@pytest.mark.parametrize("key", ["fit.epochs", "run.name", "seed", "optimizer"])
def test_a_number_of_thousands_of_digits_is_refused(key: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_command(parse_command_line([f"{key}={'9' * 5000}"])[0])
    assert str(error.value) == "A number may have at most 4,300 digits. Put a longer text in quotes."


def test_the_mistakes_in_a_mapping_are_reported_together() -> None:
    found = problems("fit={epochs: yes, batch_sise: 3, engine: fast}")
    assert [problem.partition(" ")[0] for problem in found] == ["fit.epochs", "fit.batch_sise", "fit.engine"]


def test_layers_and_names_of_configurations() -> None:
    assert problems("model=layers", "model.layers=5")[0].startswith("model.layers must be a list of layers, each a map")
    with pytest.raises(ConfigError) as error:
        check_command(parse_command_line(["--config-name", "nosuch"])[0])
    assert "--config-name must name a configuration, and mnistlab's is train. Received: nosuch." in str(error.value)


def test_a_folder_may_have_a_number_as_its_name() -> None:
    assert compose_config(["source=npz", "source.path=5"]).source["path"] == "5"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["optimizer.learning_rate=true"],
            "optimizer.learning_rate must be a number >= 0, or a schedule. Received: true",
        ),
        (["fit.epochs=1000000"], "fit.epochs counts passes through all training images"),
        (["fit.resident_gigabytes=inf"], "fit.resident_gigabytes must be a finite number. Received: inf."),
        (
            ["optimizer=momentum", "optimizer.momentum=nan"],
            "optimizer.momentum must be a finite number. Received: nan.",
        ),
        (["data.class_weight={0: .inf}"], "data.class_weight"),
        (["fit.metrics=[accuracy,accuracy]"], "fit.metrics lists accuracy more than once. Write it once."),
        (["sweep.seeds=100000"], "sweep.seeds must satisfy value <= 10,000. Received: 100000."),
        (["run.name=''"], "run.name must not be empty. Leave it out for its default. Received: ''."),
        (['run.name="a\nb"'], "run.name must be one line of printable characters. Received: 'a\\nb'."),
        (["source=npz", 'source.path="a\0b"'], "source.path must not contain a NUL character. Received: 'a\\x00b'."),
        (
            ["source=directory", "source.path=x", "data.image_size=[100000,8]"],
            "data.image_size must satisfy height and width <= 16,384. Received: [100000, 8].",
        ),
    ],
)
def test_a_value_that_no_run_can_use_is_refused(overrides: list[str], message: str) -> None:
    (found,) = problems(*overrides)
    assert found.startswith(message)


def images(per_class: int) -> Images:
    labels = np.repeat(np.arange(10), per_class)
    split = Split(np.zeros((len(labels), 4, 4, 1), np.uint8), labels)
    return Images("own", split, split, tuple("0123456789"), "here")


def test_a_limit_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.limit must be at least the number of classes, 10.* Received: 9\."):
        prepare(images(20), limit=9)
    assert len(prepare(images(20), limit=10).train) == 10


def test_a_validation_fraction_that_leaves_too_few_training_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must leave images of every class to train on. Received: 0.999 of 1,000"):
        prepare(images(100), validation_fraction=0.999)
    assert len(prepare(images(100), validation_fraction=0.99).train) == 10


def test_a_file_without_settings_for_a_typed_group_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "empty.yaml").touch()
    assert problems("data=empty", config_dir=tmp_path) == ["data.labels must be given: data.labels=VALUE."]


def test_a_variable_that_is_not_set() -> None:
    assert problems("run.name=${oc.env:MNISTLAB_NOT_SET}") == [
        "run.name cannot be resolved: Environment variable 'MNISTLAB_NOT_SET' not found."
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["seed=range(0,1000000000)"], "at most 10,000 jobs. Received: 1,000,000,000, of seed=range(0,1000000000)."),
        (["seed=range(0,3,1e-9)"], "Received: 3,000,000,000, of"),
        (["seed=range(0,1e400)"], "Received: inf, of seed"),
        (["seed=range(0,200)", "fit.epochs=range(1,201)"], "Received: 40,000, of seed=range(0,200) fit.epochs="),
        (["sweep.seeds=10000", "fit.epochs=1,2"], "Received: 20,000, of"),
        (["seed=range(0,3,0)"], "seed=range(0,3,0) must be range(START,STOP,STEP) with"),
        (["seed=range(3,0)"], "seed needs at least one value: range(START,STOP,STEP) counts up from START"),
        (["callbacks=range(3,0)"], "Received: callbacks=range(3,0)."),
        (["seed=range(0,nan)"], "with finite numbers"),
    ],
)
def test_a_sweep_without_end_is_refused_before_its_jobs_are_listed(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_command(parse_command_line(["--multirun", *words])[0])
    assert expected in str(error.value)
