"""A configuration may name callables of Keras, of mnistlab and of packages that the user named: nothing else is called
or even imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnistlab import train
from mnistlab.config import ConfigError, trust
from mnistlab.config.build import build
from mnistlab.config.compose import compose_config, parse_command_line
from mnistlab.runtime import errors

# target -> arguments that would leave the file `canary`, where it could.
HOSTILE = {
    "builtins.open": "file: canary, mode: w",
    "builtins.exec": '_args_: [\'open("canary", "w")\']',
    "builtins.eval": '_args_: [\'open("canary", "w")\']',
    "builtins.__import__": "name: side_effects",
    "pathlib.Path.touch": "_args_: [canary]",
    "pathlib.Path": "_args_: [canary]",
    "shutil.copy": "src: side_effects.py, dst: canary",
    "shutil.rmtree": "path: .",
    "os.system": "command: touch canary",
    "os.mkdir": "path: canary",
    "posix.mkdir": "path: canary",
    "subprocess.Popen": "args: [touch, canary]",
    "subprocess.run": "args: [touch, canary]",
    "runpy.run_path": "path_name: side_effects.py",
    "importlib.import_module": "name: side_effects",
    "functools.partial": "_args_: [print]",
    "pickle.load": "file: canary",
    "webbrowser.open": "url: http://127.0.0.1:9",
    "joblib.load": "filename: canary",
    "joblib.dump": "value: 1, filename: canary",
    "pandas.read_pickle": "filepath_or_buffer: canary",
    "numpy.load": "file: canary, allow_pickle: true",
    "numpy.save": "file: canary, arr: [1]",
    "pip._internal.main": "args: [install, side_effects]",
    "hydra.utils.call": "config: {}",
    "hydra.utils.instantiate": "config: {}",
    "omegaconf.OmegaConf.save": "config: {}, f: canary",
    "mlflow.log_artifact": "local_path: canary",
    "tensorflow.io.write_file": "filename: canary, contents: x",
    "tensorflow.keras.utils.get_file": "origin: http://127.0.0.1:9/x",
    "keras.src.utils.io_utils.os.system": "command: touch canary",
    "keras.src.optimizers.sgd.SGD": "",
    "keras.utils.get_file": "origin: http://127.0.0.1:9/x",
    "keras.utils.set_random_seed": "seed: 1",
    "keras.saving.load_model": "filepath: canary",
    "keras.models.load_model": "filepath: canary",
    "keras.models.model_from_json": "json_string: x",
    "keras.config.enable_unsafe_deserialization": "",
    "keras.layers.Lambda": "function: {class_name: __lambda__, config: {code: x}}",
    "keras.layers.TFSMLayer": "filepath: canary",
    "keras.layers.deserialize": "config: {}",
    "keras.layers.os": "",
    "keras.layers.Dense.from_config": "config: {}",
    "keras.optimizers.get": "identifier: sgd",
    "mnistlab.runtime.exits.leave": "status: 0",
    "mnistlab.config.build.os.system": "command: touch canary",
    "mnistlab.data.sources.np.save": "file: canary, arr: [1]",
    "mnistlab.training.models._private": "",
    "side_effects.build": "",
    "side_effects.os.system": "command: touch canary",
    ".side_effects.build": "",
    "..build": "",
    "build": "",
    "side_effects:build": "",
    "side effects.build": "",
    "side_effects.__class__.mro": "",
    "os\u200b.system": "command: touch canary",
    f"side_effects{'.a' * 500}": "",
}
PLACES = {
    "source": "source: {{_target_: {target}{arguments}}}",
    "model": "model: {{_target_: {target}{arguments}}}",
    "optimizer": "optimizer: {{_target_: {target}{arguments}}}",
    "schedule": "schedule: {{_target_: {target}{arguments}}}",
    "callbacks.x": "callbacks: {{x: {{_target_: {target}{arguments}}}}}",
    "fit.loss": "fit: {{loss: {{_target_: {target}{arguments}}}}}",
    "fit.metrics.0": "fit: {{metrics: [{{_target_: {target}{arguments}}}]}}",
    "model.layers.0": (
        "model: {{_target_: mnistlab.training.models.stack, layers: [{{_target_: {target}{arguments}}}]}}"
    ),
    "optimizer.learning_rate": "optimizer: {{learning_rate: {{_target_: {target}{arguments}}}}}",
    "fit.loss.path": "fit: {{loss: {{_target_: hydra.utils.get_method, path: {target}}}}}",
    "callbacks.x.schedule.path": (
        "callbacks: {{x: {{_target_: keras.callbacks.LearningRateScheduler, "
        "schedule: {{_target_: hydra.utils.get_method, path: {target}}}}}}}"
    ),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("MNISTLAB_TRUST", raising=False)
    monkeypatch.setenv("MNISTLAB_ROOT", str(tmp_path / "root"))
    (tmp_path / "side_effects.py").write_text("import os\nopen('canary', 'w').close()\ndef build(): ...\n")
    return tmp_path


def option(folder: Path, text: str) -> None:
    (folder / "mine" / "experiment").mkdir(parents=True, exist_ok=True)
    (folder / "mine" / "experiment" / "hostile.yaml").write_text(f"# @package _global_\n{text}\n", encoding="utf-8")


def files_in(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*")}


def nested(place: str, target: str, arguments: str) -> dict[str, Any]:
    given = f", {arguments}" if arguments else ""
    return yaml.safe_load(PLACES[place].format(target=f'"{target}"', arguments=given))


def groups(tree: dict[str, Any]) -> dict[str, Any]:
    return {f"fit.{name}": node for name, node in tree.pop("fit", {}).items()} | tree


@pytest.mark.parametrize("place", PLACES)
def test_a_hostile_callable_is_refused_at_every_place(place: str) -> None:
    for target, arguments in HOSTILE.items():
        (message,) = trust.target_problems(groups(nested(place, target, arguments)), named=())
        assert any(message.startswith(f"{place}{end}") for end in ("", "._target_", ".path")), (target, message)
        assert "must" in message or "trust=[" in message or "may run any code" in message, (target, message)
        assert len(message) < 1000


def test_hostile_callables_in_a_file_are_refused_before_anything_is_imported(here: Path) -> None:
    callbacks = {f"x{index}": {"_target_": target} for index, target in enumerate(HOSTILE)}
    option(here, yaml.safe_dump({"callbacks": callbacks}))
    before, loaded = files_in(here), set(sys.modules)
    with pytest.raises(ConfigError) as error:
        compose_config(["experiment=hostile"], config_dir="mine")
    assert len([problem for problem in error.value.problems if problem.startswith("callbacks.x")]) >= len(HOSTILE)
    assert files_in(here) == before
    new = {name.split(".")[0] for name in set(sys.modules) - loaded}
    assert not new & {"side_effects", "joblib", "pandas", "pip", "mlflow", "tensorflow", "keras", "runpy"}


def test_typing_it_does_not_make_a_callable_of_others_acceptable() -> None:
    for target in HOSTILE:
        if not target.isascii() or "side_effects" in target or len(target.split(".")) < 2:
            continue
        for word in (f"optimizer._target_={target}", f"+callbacks.x={{_target_: {target}}}"):
            _, names = trust.split_trust([word])
            assert list(trust.target_problems({"optimizer": {"_target_": target}}, names)), target
    with pytest.raises(ConfigError, match=r"optimizer._target_ must name an optimizer, and the standard library has"):
        compose_config(["optimizer._target_=os.system"])


def test_the_last_check_is_where_it_is_built(here: Path) -> None:
    for target in ("os.system", "keras.utils.get_file", "mnistlab.runtime.exits.leave"):
        with pytest.raises(ConfigError, match="must name"):
            build({"_target_": "side_effects.build", "argument": [{"_target_": target}]}, "model")
    for escaped in ("${oc.create:{_target_: os.system}}", ["${oc.env:HOME}"]):
        with pytest.raises(ConfigError, match="must not have an escaped interpolation"):
            build({"_target_": "keras.optimizers.SGD", "learning_rate": escaped}, "optimizer")
    assert "side_effects" not in sys.modules


def test_a_trusted_module_gives_only_its_own_code(here: Path) -> None:
    (here / "of_mine.py").write_text("import os\nfrom functools import partial\nthree = 3\n")
    for target in ("of_mine.os.system", "of_mine.partial", "of_mine.three", "of_mine.os"):
        with pytest.raises(ConfigError, match="must name a function or class of its package. Received: "):
            build({"_target_": target}, "model")


def test_ones_own_code_in_a_file_needs_one_word(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option(here, PLACES["model"].format(target="of_mine.nets.build", arguments=""))
    with pytest.raises(ConfigError) as error:
        compose_config(["experiment=hostile"], config_dir="mine")
    assert str(error.value) == (
        "model._target_ stands in a file and names code that is neither Keras's nor mnistlab's, of_mine.nets.build. "
        "If you trust the package of_mine, say so on the command line: trust=[of_mine], or set MNISTLAB_TRUST=of_mine. "
        "In mine/experiment/hostile.yaml."
    )
    for word in ("trust=of_mine", "+trust=[other,of_mine.nets]"):
        config = compose_config(["experiment=hostile", word], config_dir="mine")
        assert config.model["_target_"] == "of_mine.nets.build"
        assert config.overrides == ["experiment=hostile"]
    with pytest.raises(ConfigError):
        compose_config(["experiment=hostile", "trust=[of_min]"], config_dir="mine")
    monkeypatch.setenv("MNISTLAB_TRUST", "other, of_mine")
    assert compose_config(["experiment=hostile"], config_dir="mine")


@pytest.mark.parametrize(
    "word",
    [
        "model._target_=of_mine.build",
        "+callbacks.x={_target_: of_mine.Every, factor: 2}",
        "fit.loss={_target_: hydra.utils.get_method, path: of_mine.focal}",
        "fit.metrics=[accuracy,{_target_: of_mine.Margin}]",
    ],
)
def test_a_callable_that_is_typed_names_its_package(word: str, here: Path) -> None:
    assert parse_command_line([word])[0].trust == {"of_mine"}
    assert compose_config([word])


@pytest.mark.parametrize("text", ["trust: [side_effects]", "model: {trust: x}\ntrust: a"])
def test_trust_in_a_file_does_not_count(text: str, here: Path) -> None:
    option(here, text)
    with pytest.raises(ConfigError, match="trust stands in a file, which could have come with a run"):
        compose_config(["experiment=hostile"], config_dir="mine")


@pytest.mark.parametrize("word", ["trust=[os]", "trust=numpy", "trust=[../x]", "trust=[keras-x]", "trust=[a;b]"])
def test_trust_names_packages_of_ones_own(word: str) -> None:
    with pytest.raises(ConfigError, match="trust names packages or modules of your own"):
        trust.split_trust([word])


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mnistlab.train", *words])
    return errors.run_command(train._run)


HYDRAS = {
    "hydra: {callbacks: {x: {_target_: side_effects.Callback}}}": "hydra.callbacks.x._target_",
    "hydra: {launcher: {_target_: os.system}}": "hydra.launcher._target_",
    "hydra: {sweeper: {_target_: hydra.utils.get_method}}": "hydra.sweeper._target_",
    "hydra: {job_logging: {handlers: {console: {class: side_effects.Handler}}}}": "handlers.console.class",
    "hydra: {job_logging: {formatters: {timed: {(): subprocess.Popen}}}}": "formatters.timed.()",
    "hydra: {job_logging: {handlers: {console: {stream: 'ext://side_effects.build'}}}}": "handlers.console.stream",
    "hydra: {sweeper: {params: {trust: '[side_effects]'}}}": "trust stands in a file",
    "hydra: {sweeper: {params: {model._target_: 'side_effects.a,side_effects.b'}}}": "model._target_ stands in a file",
}


@pytest.mark.parametrize("text", HYDRAS)
def test_hydra_calls_nothing_that_a_file_names(text: str, here: Path, monkeypatch, capsys) -> None:
    option(here, text)
    before = files_in(here)
    assert command(monkeypatch, "--config-dir", "mine", "--multirun", "experiment=hostile", "seed=0,1") == 2
    assert HYDRAS[text] in capsys.readouterr().err
    assert files_in(here) == before
    assert "side_effects" not in sys.modules


def test_a_pickled_configuration_is_not_read(here: Path, monkeypatch, capsys) -> None:
    (here / "config.pickle").write_bytes(b"cbuiltins\nopen\n(S'canary'\nS'w'\ntR.")
    assert command(monkeypatch, "--experimental-rerun", "config.pickle") == 2
    assert "--experimental-rerun reads a pickled configuration" in capsys.readouterr().err
    assert not (here / "canary").exists()


def test_trust_ends_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNISTLAB_TRUST", "one")
    with trust.trusting({"two"}):
        assert trust.trusted() == {"one", "two"}
    assert trust.trusted() == {"one"}
