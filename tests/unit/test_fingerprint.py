"""Equal fingerprints mean equal results; what has no effect is left out; the reason to run again names what changed."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import functools
import hashlib
import importlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistlab.config import FILLED_IN, Config, ConfigError, SweepJobInfo, conf_folder, flatten
from mnistlab.config.checks import setting_names
from mnistlab.config.compose import compose_config
from mnistlab.tracking import fingerprint

DATA = {"train": "a", "validation": "b", "test": "c", "classes": "d", "loader": "resident"}
RESOLVED = {
    "engine": "fused",
    "precision": "float32",
    "device": "cpu",
    "deterministic": "false",
    "batch_size": "32",
    "scaling": "unit, (value - 0) / 255",
    "saved_epoch": "best",
}

# The settings that a result depends on, and those that the fingerprint leaves out or has by content, by patterns.
# A new setting must be added to one of the lists.
WITH_EFFECT = (
    *(f"data.{name}" for name in ("labels", "class_mode", "class_weight", "augmentation*")),
    *("model.*", "optimizer.*", "schedule*", "callbacks*"),
    *("fit.epochs", "fit.loss", "fit.metrics", "save.monitor", "save.formats", "seed"),
)
HOW_INTERRUPTED = ("fit.resume", "fit.checkpoint_percent", "fit.checkpoint_seconds", "fit.max_seconds")
LEFT_OUT = (
    *HOW_INTERRUPTED,
    *("run.*", "paths.*", "tracking.*", "sweep.*", "launch.*"),
    *("source.*", "data.split", "data.split_seed", "data.keep*", "data.limit", "data.*_size"),
    *("data.scaling", "data.rescale"),
    *("data.validation", "data.validation_*", "data.test_fraction"),
    *(f"fit.{name}" for name in ("engine", "resident_gigabytes", "batch_size", "precision", "strategy", "cpu_devices")),
    *("deterministic", "save.which", "save.register", "init.from", "explain"),
)


pytestmark = pytest.mark.usefixtures("each_call_in_a_new_process")


def of(config: Config, start_from: Path | None = None) -> dict[str, str]:
    return fingerprint.fingerprint(config, DATA, RESOLVED, {"init.from": start_from} if start_from else {})


@functools.cache
def composed(*overrides: str) -> Config:
    return compose_config(list(overrides))


def of_settings(*overrides: str) -> str:
    return of(compose_config(list(overrides)))["fingerprint"]


def options() -> list[tuple[str, ...]]:
    """The overrides that choose each YAML option of each group."""
    with_path = ("npz", "csv", "idx", "directory")
    needed = {f"source={option}": "source.path=mine" for option in with_path}
    needed["callbacks=learning_rate_scheduler"] = "callbacks.learning_rate_scheduler.schedule.path=mine.rate"
    files = [file for file in sorted(conf_folder().rglob("*.yaml")) if file.parent.parent == conf_folder()]
    chosen = [f"{file.parent.name}={file.stem}" for file in files]
    return [(choice, *([needed[choice]] if choice in needed else [])) for choice in chosen]


def every_setting() -> dict[str, tuple[str, ...]]:
    """Each setting of the schema and of all YAML options -> the overrides that choose the option that has it."""
    settings: dict[str, tuple[str, ...]] = {}
    for overrides in [(), *options()]:
        for name in flatten(dataclasses.asdict(composed(*overrides))):
            settings.setdefault(name, overrides)
    return {name: settings[name] for name in sorted(settings) if name.split(".")[0] not in FILLED_IN}


SETTINGS = every_setting()


def changed(value: Any) -> Any:
    """Another value of about the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, 7]
    if isinstance(value, dict):
        return {**value, "another": 7}
    return "another" if value is None else f"{value}_another"


def with_changed(config: Config, setting: str) -> Config:
    """A copy of a configuration in which one setting has another value."""
    config = copy.deepcopy(config)
    change(config, setting)
    return config


def change(node: Any, setting: str) -> None:
    """Change a setting below a node; keys of mappings may be numbers and have dots."""
    is_dataclass = dataclasses.is_dataclass(node)
    keys = range(len(node)) if isinstance(node, list) else vars(node) if is_dataclass else node
    key = next(key for key in keys if setting == str(key) or setting.startswith(f"{key}."))
    value, rest = getattr(node, key) if is_dataclass else node[key], setting.removeprefix(str(key)).removeprefix(".")
    if rest:
        change(value, rest)
    elif is_dataclass:
        setattr(node, key, changed(value))
    else:
        node[key] = changed(value)


def listed(setting: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(setting, pattern) for pattern in patterns)


def test_the_lists_have_every_setting_once_and_nothing_else() -> None:
    assert [name for name in SETTINGS if listed(name, WITH_EFFECT) == listed(name, LEFT_OUT)] == []
    assert [pattern for pattern in (*WITH_EFFECT, *LEFT_OUT) if not fnmatch.filter(SETTINGS, pattern)] == []


def test_the_options_have_every_setting_of_the_schema() -> None:
    names = [name for name in setting_names() if name.split(".")[0] not in FILLED_IN]
    assert [name for name in names if not any(f"{other}.".startswith(f"{name}.") for other in SETTINGS)] == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_with_effect_change_the_fingerprint_and_others_do_not(setting: str) -> None:
    config = composed(*SETTINGS[setting])
    before, after = of(config), of(with_changed(config, setting))
    has_effect = listed(setting, WITH_EFFECT)
    assert (before["fingerprint"] != after["fingerprint"]) == has_effect
    assert (before["fingerprint.settings"] != after["fingerprint.settings"]) == has_effect
    no_requests = ("run", "paths", "tracking", "sweep", "launch", "explain")
    is_request = setting.split(".")[0] not in no_requests and setting not in (*HOW_INTERRUPTED, "save.register")
    assert (before["fingerprint.request"] != after["fingerprint.request"]) == is_request


def test_what_a_run_is_called_and_how_it_was_chosen_has_no_effect() -> None:
    called = {
        "choices": {"optimizer": "mine"},
        "overrides": ["optimizer=mine"],
        "from_environment": {"seed": "${oc.env:SEED}"},
        "config_dir": "/conf",
        "sweep_job": SweepJobInfo("adam-seed0", {"sweep.id": "1"}, "2"),
    }
    assert set(called) == set(FILLED_IN)
    assert of(dataclasses.replace(composed(), **called)) == of(composed())


def test_settings_that_are_not_given_leave_earlier_requests_as_they_were() -> None:
    """Runs that were recorded before there were several devices are found again."""
    config = composed()
    before = dataclasses.asdict(config)
    for name in ("strategy", "cpu_devices"):
        assert before["fit"].pop(name) is None
    plain = functools.partial(fingerprint._plain, "")
    earlier = fingerprint.hash_of(fingerprint._walk(before, "", plain, fingerprint.WITHOUT_EFFECT))
    assert fingerprint.request_hash(config) == earlier
    assert fingerprint.request_hash(composed("fit.strategy=mirrored")) != earlier


def test_a_setting_that_nobody_listed_has_an_effect() -> None:
    config = composed()
    extended = dataclasses.replace(config, init={**config.init, "trainable": False})
    assert of(config)["fingerprint"] != of(extended)["fingerprint"]


def test_equal_settings_are_equal_however_they_are_written() -> None:
    usual = of_settings()
    assert usual == of_settings("optimizer=adam", "fit.epochs=3", "fit.batch_size=32")
    assert usual == of_settings("tracking=none", "sweep.seeds=5", "sweep.dry_run=true")
    assert of_settings("optimizer=sgd", "fit.batch_size=32") == of_settings("optimizer=minibatch_gd")
    assert of_settings("model.dropout=0") == of_settings("model.dropout=0.0")
    assert of_settings("+optimizer.momentum=1") == of_settings("+optimizer.momentum=1.0")
    assert of_settings("data.class_weight={0: 1, 1: 5}") == of_settings("data.class_weight={1: 5.0, 0: 1}")
    assert of_settings("data.class_weight={0: 1, 1: 5}") != of_settings("data.class_weight={0: 5, 1: 1}")
    assert of_settings("model.units=[64,32]") != of_settings("model.units=[32,64]")
    assert of_settings("+optimizer.nesterov=true") != of_settings("+optimizer.nesterov=1")
    assert of_settings("+optimizer.momentum=1") != of_settings("+optimizer.momentum='1'")


def test_the_order_of_keys_has_no_effect() -> None:
    config = composed("model=cnn")
    turned = dataclasses.replace(
        config, model=dict(reversed(config.model.items())), optimizer=dict(reversed(config.optimizer.items()))
    )
    assert list(turned.model) != list(config.model)
    assert of(config) == of(turned)
    shuffled = fingerprint.fingerprint(config, dict(reversed(DATA.items())), dict(reversed(RESOLVED.items())), {})
    assert shuffled == of(config)


def test_keys_may_be_numbers_and_words() -> None:
    config = composed()
    weights = [{3: 0.5, "x": 1}, {"x": 1, "3": 0.5}, {3: 1, "x": 0.5}]
    hashes = [of(dataclasses.replace(config, optimizer={"weights": pairs}))["fingerprint"] for pairs in weights]
    assert hashes[0] == hashes[1] != hashes[2]


def test_folders_have_no_effect(tmp_path: Path) -> None:
    usual = of_settings("callbacks=default")
    assert usual == of_settings("callbacks=default", f"paths.root={tmp_path}")
    assert usual == of_settings("callbacks=default", f"paths.run={tmp_path}/here")
    runs = [compose_config(["callbacks=default", f"paths.run={tmp_path}/{name}"]) for name in "ab"]
    assert fingerprint.request_hash(runs[0]) == fingerprint.request_hash(runs[1])


def test_equal_data_from_another_source_are_equal() -> None:
    """Only the request tells them apart."""
    own, downloaded = of(composed("source=npz", "source.path=mine.npz")), of(composed("source=mnist"))
    assert own["fingerprint"] == downloaded["fingerprint"]
    assert own["fingerprint.request"] != downloaded["fingerprint.request"]


@pytest.mark.parametrize("part", ["data", "resolved"])
def test_every_entry_of_data_and_resolved_changes_the_fingerprint(part: str) -> None:
    given = {"data": DATA, "resolved": RESOLVED}
    usual = of(composed())
    assert json.loads(usual[f"fingerprint.{part}"]) == given[part]
    for name in given[part]:
        other = given | {part: {**given[part], name: "other"}}
        assert usual["fingerprint"] != fingerprint.fingerprint(composed(), **other, files={})["fingerprint"]


def test_the_parts_are_json_of_names() -> None:
    parts = of(composed())
    assert set(parts) == {"fingerprint"} | {
        f"fingerprint.{name}"
        for name in ("request", "settings", "data", "resolved", "files", "modules", "code", "libraries")
    }
    assert parts["fingerprint.files"] == parts["fingerprint.modules"] == "{}"
    assert json.loads(parts["fingerprint.code"]) == fingerprint.code_hashes()
    libraries = {name: metadata.version(name) for name in ("tensorflow", "keras", "numpy", "pillow", "scipy")}
    assert json.loads(parts["fingerprint.libraries"]) == {"python": platform.python_version(), **libraries}
    assert all(len(parts[name]) == 16 for name in ("fingerprint", "fingerprint.request", "fingerprint.settings"))


def reason(planned: dict[str, str], earlier: dict[str, str]) -> str:
    return fingerprint.reason_to_run_again(planned, earlier, "mine.npz")


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "start.keras", tmp_path / "elsewhere" / "copy.keras"
    second.parent.mkdir()
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    before, copied = of(composed(), first), of(composed(), second)
    assert before["fingerprint"] == copied["fingerprint"]
    assert json.loads(before["fingerprint.files"])["init.from"].endswith(" start.keras")
    assert before["fingerprint"] != of(composed())["fingerprint"]
    first.write_bytes(b"WEIGHTS")  # of the same size, immediately afterwards
    after = of(composed(), first)
    assert before["fingerprint"] != after["fingerprint"]
    assert reason(after, before) == "start.keras changed"
    assert reason(copied, before) == "new"
    assert reason(of(composed()), before) == "start.keras is no longer read"
    assert reason(before, of(composed())) == "start.keras is new"


def test_an_old_file_is_hashed_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "RACY_NANOSECONDS", 0)  # as if the file had been written long before
    file = tmp_path / "start.keras"
    hashes = []
    for content, changed_at in ((b"weights", 1), (b"weights", 1), (b"WEIGHTS", 2), (b"more weights", 2)):
        file.write_bytes(content)
        os.utime(file, (changed_at, changed_at))
        hashes += [json.loads(of(composed(), file)["fingerprint.files"])["init.from"].split()[0] for _ in range(2)]
    expected = [hashlib.sha256(content).hexdigest()[:16] for content in (b"weights", b"WEIGHTS", b"more weights")]
    assert hashes == [*4 * expected[:1], *2 * expected[1:2], *2 * expected[2:]]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        of(composed(), tmp_path / "start.keras")
    assert str(error.value) == (
        f"init.from must be a file that can be read. Received: {tmp_path}/start.keras: No such file or directory."
    )


def model(**arguments: Any) -> Config:
    """A configuration with the user's function `build` in model.py."""
    return dataclasses.replace(composed(), model={"_target_": "model.build", **arguments})


def test_a_file_that_the_model_names_counts_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("weights.bin", "other.bin"):
        (tmp_path / name).write_bytes(b"weights")
    before = of(model(layers=[{"weights": str(tmp_path / "weights.bin")}]))
    entry = json.loads(before["fingerprint.files"])["model.layers.0.weights"]
    assert entry.split(" ")[1] == "weights.bin"
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("weights.bin", "./weights.bin", "~/weights.bin", f"../{tmp_path.name}/other.bin"):
        assert of(model(layers=[{"weights": path}]))["fingerprint"] == before["fingerprint"]
    assert of(model(layers=[{"weights": "missing.bin"}]))["fingerprint"] != before["fingerprint"]
    (tmp_path / "weights.bin").write_bytes(b"WEIGHTS")
    after = of(model(layers=[{"weights": "weights.bin"}]))
    assert reason(after, before) == "weights.bin changed"


def test_a_file_with_the_name_of_an_activation_does_not_make_activations_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("relu", "tanh", "keras.layers.Dense"):
        (tmp_path / name).write_bytes(b"")
    before = of(model(activation="relu"))
    assert of(model(activation="tanh"))["fingerprint"] != before["fingerprint"]
    (tmp_path / "relu").write_bytes(b"weights")
    assert reason(of(model(activation="relu")), before) == "relu changed"
    layers = [dataclasses.replace(composed(), model={"_target_": name}) for name in ("keras.layers.Dense", "relu")]
    assert [of(config)["fingerprint.files"] for config in layers] == ["{}", "{}"]


def test_strings_that_are_no_paths_are_settings(tmp_path: Path) -> None:
    texts = ["a" * 5000, "null \0 character", "~no_such_user/weights.bin", str(tmp_path), ""]
    hashes = {of(model(text=text))["fingerprint"] for text in texts}
    assert len(hashes) == len(texts)
    assert {of(model(text=text))["fingerprint.files"] for text in texts} == {"{}"}


def test_files_of_callbacks_are_outputs(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    config = dataclasses.replace(
        composed(), callbacks={"csv": {"_target_": "keras.callbacks.CSVLogger", "filename": str(log)}}
    )
    before = of(config)
    log.write_text("epoch\n")
    assert of(config) == before


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the user's code, which Python imports from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nets").mkdir()
    for name in ("source", "optimizer", "callback", "activation", "layer", "nets/__init__", "nets/blocks"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "model.py").write_text("activation = 'relu'\n")
    return tmp_path


def test_the_users_code_counts(project: Path) -> None:
    before = of(model())
    assert list(json.loads(before["fingerprint.modules"])) == ["model.py"]
    (project / "model.py").write_text("activation = 'tanh'\n")
    edited = of(model())
    assert edited["fingerprint"] != before["fingerprint"]
    assert reason(edited, before) == "your model.py changed"
    (project / "model.py").write_text("from nets import blocks\n")
    importing = of(model())
    assert (
        reason(importing, before) == "your model.py changed; your nets/__init__.py is new; your nets/blocks.py is new"
    )
    assert reason(before, importing) == (
        "your model.py changed; your nets/__init__.py is no longer used; your nets/blocks.py is no longer used"
    )
    (project / "nets" / "blocks.py").write_text("units = 3\n")
    assert reason(of(model()), importing) == "your nets/blocks.py changed"
    (project / "model.py").write_text("activation = 'relu'\n")
    assert of(model()) == before


def test_callables_of_all_nodes_count_also_nested_ones(project: Path) -> None:
    importlib.invalidate_caches()
    activation = {"_target_": "hydra.utils.get_method", "path": "activation.mine"}
    config = dataclasses.replace(
        composed(),
        source={"_target_": "source.load"},
        model={"_target_": "model.build", "layers": [[{"_target_": "layer.Layer", "activation": activation}]]},
        optimizer={"_target_": "keras.optimizers.SGD", "learning_rate": {"_target_": "optimizer.Schedule"}},
        callbacks={"mine": {"_target_": "callback.Mine"}},
    )
    modules = json.loads(of(config)["fingerprint.modules"])
    expected = {"source.py", "model.py", "layer.py", "activation.py", "optimizer.py", "callback.py", "hydra-core"}
    assert set(modules) == expected
    assert modules["hydra-core"] == f"hydra-core {metadata.version('hydra-core')}"


def test_the_code_that_produces_results_is_hashed_and_no_other() -> None:
    hashes = fingerprint.code_hashes()
    assert list(hashes) == sorted(hashes)
    assert all(len(value) == 8 and int(value, 16) >= 0 for value in hashes.values())
    included = """config/build.py config/checks.py config/schema.py data/dataset.py data/splitting.py data/sources.py
        data/folders/decoding.py data/folders/generator.py evaluation/metrics.py evaluation/curves.py experiment.py
        runtime/keras_internals.py training/fitting.py training/models.py training/engine/fused.py
        training/engine/program.py"""
    assert set(included.split()) <= set(hashes)
    # A new figure, report, command or way to record is no reason to train again.
    assert not {*fingerprint.WITHOUT_RESULTS} & set(hashes)
    assert not [name for name in hashes if name.startswith(("comparison/", "sweep/", "tracking/"))]
    assert {name for name in hashes if "/" not in name} == {"experiment.py"}
    assert {name for name in hashes if name.startswith("runtime/")} == {"runtime/keras_internals.py"}
    files = [fingerprint.PACKAGE / name for name in (*hashes, *fingerprint.WITHOUT_RESULTS)]
    assert [file for file in files if not file.is_file()] == []
    unused = [name for name in fingerprint.PRODUCES_RESULTS if not any(file.startswith(name) for file in hashes)]
    assert unused == []


def test_the_hash_of_arrays_depends_on_values_shape_and_type() -> None:
    array = np.arange(6, dtype=np.int32)
    variants = [array, array[::-1], array.reshape(2, 3), array.astype(np.int64), array.astype(np.float32)]
    hashes = {fingerprint.hash_of_arrays([variant]) for variant in variants}
    hashes.add(fingerprint.hash_of_arrays([array, array]))
    assert len(hashes) == 6
    assert fingerprint.hash_of_arrays([array.reshape(2, 3).T]) == fingerprint.hash_of_arrays(
        [np.ascontiguousarray(array.reshape(2, 3).T)]
    )
