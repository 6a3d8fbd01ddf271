"""Model files to start from: each kind of bad file gets its own reason, no code of a file runs, and a run's own files
are compared with the digest that it recorded."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import mlflow
import numpy as np
import pytest
from conftest import Store

from mnistlab.config import ConfigError, trust
from mnistlab.config.compose import compose_config
from mnistlab.runtime import keras_internals
from mnistlab.tracking import initial_weights, model_digests
from mnistlab.tracking.mlflow_models import fluent_store
from mnistlab.training import model_files, saving

LAYERS = keras.layers
PACKAGE = """
import keras

@keras.saving.register_keras_serializable("{name}")
class Registered(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2

class Plain(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2

def own_activation(inputs):
    return inputs
"""


def network(*layers: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), *layers, LAYERS.Dense(2)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in the three formats."""
    folder = tmp_path_factory.mktemp("whole")
    saving.save_model(network(), folder, ["keras", "h5", "weights"])
    return folder


def message(file: Path, model: keras.Model | None = None) -> str:
    """Why a model cannot start from this file."""
    with pytest.raises(ConfigError) as error:
        saving.load_weights(model or network(), file)
    (problem,) = error.value.problems
    assert problem.startswith(f"init.from={file} "), problem
    assert "\n" not in problem
    return problem.removeprefix(f"init.from={file} ")


# ---- what is no model -----------------------------------------------------------------------------------------------


class Canary:
    """Unpickled, it makes the folder that its pickle names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def pickled(folder: Path) -> bytes:
    return pickle.dumps(Canary(folder / "canary"))


def zipped(folder: Path, **contents: bytes) -> bytes:
    with zipfile.ZipFile(folder / "zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name.replace("_", "."), content)
    return (folder / "zip").read_bytes()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
NO_MODELS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda _: b"", "is empty (0 bytes). An interrupted copy or a full disk leaves such a file"),
    "text": (lambda _: b"hello, world\n", "is a text file, not a model. It starts with 'hello, world'."),
    "page": (lambda _: b"<!DOCTYPE html>\n<html>", "is an HTML page, not a model: the download probably gave an error"),
    "lfs": (lambda _: LFS, "is a pointer of Git LFS instead of the file itself. Fetch it: git lfs pull."),
    "pickle": (pickled, "is a pickle, which can run any code while it is read, so it is not loaded."),
    "bytes": (lambda _: bytes(range(255, 100, -1)), "is no model of Keras: it starts neither like a .keras file"),
    "npz": (
        lambda f: zipped(f, x_npy=b"1", y_npy=pickled(f)),
        "is a zip archive, but no model of Keras: it holds x.npy, ",
    ),
    "no JSON": (
        lambda f: zipped(f, config_json=b"{", **{"model_weights_h5": b""}),
        "is damaged: the model's configuration is no JSON",
    ),
    "no weights": (lambda f: zipped(f, config_json=b"{}"), "has no weights: it holds config.json."),
    "one letter": (lambda _: b"P", "is cut off after 1 bytes."),
}


@pytest.mark.parametrize("ending", [".keras", ".h5", ".weights.h5"])
@pytest.mark.parametrize("name", NO_MODELS)
def test_what_is_no_model_is_named(name: str, ending: str, tmp_path: Path) -> None:
    make, reason = NO_MODELS[name]
    file = tmp_path / f"model{ending}"
    file.write_bytes(make(tmp_path))
    assert message(file).startswith(reason)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_a_model_that_is_cut_off_is_called_so(name: str, whole: Path, tmp_path: Path) -> None:
    content = (whole / name).read_bytes()
    for length in (7, 100, len(content) // 2, len(content) - 1):
        (tmp_path / name).write_bytes(content[:length])
        assert message(tmp_path / name).startswith("is cut off"), length


def test_a_changed_byte_in_an_archive_is_found(whole: Path, tmp_path: Path) -> None:
    content = bytearray((whole / "model.keras").read_bytes())
    content[content.index(b"HDF") + 3000] ^= 1
    (tmp_path / "model.keras").write_bytes(content)
    assert message(tmp_path / "model.keras").startswith("is damaged: model.weights.h5 in it was changed.")


@pytest.mark.parametrize(
    ("original", "name", "reason"),
    [
        ("model.h5", "a.keras", "is a whole model in the format of .h5 files, under another ending. Name it .h5"),
        ("model.weights.h5", "a.keras", "has the weights of a model only, under another ending. Name it .weights.h5"),
        ("model.weights.h5", "a.h5", "has the weights of a model only, under another ending. Name it .weights.h5"),
        ("model.h5", "a.weights.h5", "is a whole model in the format of .h5 files, under another ending. Name it .h5"),
        ("model.keras", "a.h5", "is a whole model in the format of .keras files, under another ending. Name it .keras"),
    ],
)
def test_another_format_than_the_name_says(original: str, name: str, reason: str, whole: Path, tmp_path: Path) -> None:
    shutil.copyfile(whole / original, tmp_path / name)
    assert message(tmp_path / name).startswith(reason)


def test_hdf5_files_that_are_no_models(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["pixels"] = np.zeros(3)
    assert message(tmp_path / "data.h5") == "is an HDF5 file, but no model of Keras: it holds pixels."
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
    assert message(tmp_path / "old.h5").startswith("has the weights of a model only, in the older format of Keras.")


def test_hdf5_that_does_not_come_to_an_end_or_crashes(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "READ_ALL", "import time; time.sleep(600)")
    monkeypatch.setattr(model_files, "READ_SECONDS", 0.1)
    assert message(whole / "model.h5").startswith("is damaged: HDF5 does not come to an end with it.")
    monkeypatch.setattr(model_files, "READ_ALL", "import os; os.abort()")
    monkeypatch.setattr(model_files, "READ_SECONDS", 300)
    assert message(whole / "model.weights.h5").startswith("is damaged: HDF5 crashes when it reads it.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(whole: Path, tmp_path: Path) -> None:
    shutil.copyfile(whole / "model.keras", tmp_path / "model.keras")
    (tmp_path / "model.keras").chmod(0)
    assert message(tmp_path / "model.keras") == "cannot be read: Permission denied."


def test_an_archive_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "MAX_UNPACKED", 1_000_000)
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(3_000_000))
    assert message(tmp_path / "a.keras").startswith("is not unpacked: model.weights.h5 in it has ")


# ---- code and classes in a model ------------------------------------------------------------------------------------


def hostile(folder: Path, kind: str) -> Path:
    """A model whose file holds code, which makes the folder that the environment variable CANARY names."""

    def code(inputs: Any) -> Any:
        import os
        from pathlib import Path

        Path(os.environ["CANARY"]).mkdir(exist_ok=True)
        return inputs

    code.__name__ = "<lambda>"  # Keras writes the code of such functions, and the names of others
    model = network(LAYERS.Lambda(code, output_shape=(4,), name="code"))
    model.save(folder / f"hostile{kind}")
    return folder / f"hostile{kind}"


@pytest.fixture
def unsafe() -> Any:
    """As if a package of the user had switched Keras's safe mode off."""
    from keras.src.backend.common import global_state

    before = global_state.get_global_attribute("safe_mode_saving")
    keras.config.enable_unsafe_deserialization()
    yield
    global_state.set_global_attribute("safe_mode_saving", before)


@pytest.mark.parametrize("kind", [".keras", ".h5"])
def test_code_in_a_model_is_not_run(kind: str, unsafe: None, tmp_path: Path, monkeypatch: Any) -> None:
    canary = tmp_path / "canary"
    monkeypatch.setenv("CANARY", str(canary))
    file = hostile(tmp_path, kind)
    if kind == ".keras":
        keras.models.load_model(file, safe_mode=True)(np.zeros((1, 4)))
        assert canary.is_dir()  # the file is dangerous
        canary.rmdir()
    with keras_internals.safe_loading(), pytest.raises(ValueError, match="deserialization of a `Lambda` layer"):
        keras.models.load_model(file, safe_mode=True)
    reason = message(file)
    assert reason.startswith("has a Lambda layer (code) and with it code, which is not loaded from a file")
    assert "model.save_weights('NAME.weights.h5')" in reason
    assert "trust=[mypackage]" in reason
    assert not canary.exists()


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_lambda_as_an_argument_is_code_too(tmp_path: Path) -> None:
    network(LAYERS.Dense(4, activation=lambda inputs: inputs)).save(tmp_path / "a.keras")
    assert message(tmp_path / "a.keras").startswith("has a lambda and with it code")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A package of the user; the function unloads it, as if another process had saved the model."""
    from keras.src.saving import object_registration

    name = f"own_layers_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(PACKAGE.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)

    def unload() -> None:
        sys.modules.pop(name, None)
        for known in (object_registration.GLOBAL_CUSTOM_OBJECTS, object_registration.GLOBAL_CUSTOM_NAMES):
            for key in [key for key, value in known.items() if name in f"{key} {value}"]:
                del known[key]

    yield name, unload
    unload()


@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize("own", ["Registered", "Plain", "own_activation"])
def test_own_classes_load_from_a_trusted_package_only(own: str, kind: str, package: Any, tmp_path: Path) -> None:
    name, unload = package
    found = getattr(__import__(name), own)
    layer = LAYERS.Activation(found) if own.islower() else found()
    model = network(layer)
    model.save(tmp_path / f"own{kind}")
    unload()
    reason = message(tmp_path / f"own{kind}")
    assert reason.startswith(f"needs {own}"), reason
    assert (
        "which is none of Keras. If you trust the package that has it, name it on the command line: trust=[" in reason
    )
    assert name not in sys.modules
    with trust.trusting([name]):
        start = network()
        saving.load_weights(start, tmp_path / f"own{kind}")
    for ours, theirs in zip(start.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_class_that_the_trusted_package_does_not_have(package: Any, tmp_path: Path) -> None:
    name, unload = package
    network(__import__(name).Plain()).save(tmp_path / "own.keras")
    unload()
    (tmp_path / f"{name}.py").write_text("import os\nPlain = os.mkdir\n")
    with trust.trusting([name]):
        assert message(tmp_path / "own.keras").startswith(f"needs Plain of {name}, which is not there. Packages that")


def test_a_model_of_a_newer_keras(whole: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(whole / "model.keras") as old, zipfile.ZipFile(tmp_path / "a.keras", "w") as new:
        config = json.loads(old.read("config.json"))
        config["config"]["layers"][1]["config"]["an_argument_of_later"] = True
        new.writestr("config.json", json.dumps(config))
        new.writestr("metadata.json", json.dumps({"keras_version": "99.1.0"}))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    expected = f"was saved by Keras 99.1.0, and this is Keras {keras.__version__}, which cannot load it."
    assert message(tmp_path / "a.keras").startswith(expected)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_a_model_of_another_architecture_shows_both(name: str, whole: Path) -> None:
    other = keras.Sequential([keras.Input((4,)), LAYERS.Dense(3)])
    reason = message(whole / name, other)
    assert "(4, 2)" in reason
    assert "(4, 3)" in reason


# ---- the digests of a run's files -----------------------------------------------------------------------------------

RUN = ("source=mnist_5k", "data.limit=256", "fit.epochs=1", "model.units=[4]")
CHANGED = "is not the file that the run saved; it was changed or damaged afterwards. Recorded SHA-256: "


def started_from(root: Path, start: str) -> Path:
    """The file that a new process would start from."""
    initial_weights._fetched.cache_clear()
    shutil.rmtree(root / "runs" / "downloads", ignore_errors=True)
    return initial_weights.initial_weights_file(compose_config([f"paths.root={root}", f"init.from='{start}'"]))


@pytest.mark.long
def test_a_run_s_model_is_compared_with_what_it_recorded(train_here, tmp_path: Path) -> None:
    assert train_here(*RUN, "run.name=first", "save.formats=[keras,h5,weights]").code == 0
    (run,) = train_here.trained().values()
    files, artifacts = (Path(place) / "model_files" for place in (run.tags["run.folder"], run.artifacts[7:]))
    recorded = json.loads((files.parent / "model.json").read_text())["sha256"]
    assert set(recorded) == {"model.keras", "model.h5", "model.weights.h5"}
    assert {model_digests.digest_tag(name): digest for name, digest in recorded.items()}.items() <= run.tags.items()
    model = keras.models.load_model(files / "model.keras", compile=False)
    expected = model.get_weights()
    for name in recorded:
        for start in (str(files / name), f"runs:/{run.run_id}/model_files/{name}", str(artifacts / name)):
            model.set_weights([weights * 0 for weights in expected])
            saving.load_weights(model, started_from(tmp_path, start))
            for ours, theirs in zip(model.get_weights(), expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    for name, digest in recorded.items():
        for folder in (files, artifacts):
            content = bytearray((folder / name).read_bytes())
            content[-1] ^= 1
            (folder / name).write_bytes(content)
        for start in (str(files / name), f"runs:/{run.run_id}/model_files/{name}", str(artifacts / name)):
            with pytest.raises(ConfigError, match=CHANGED) as error:
                started_from(tmp_path, start)
            assert f"{name} {CHANGED}{digest[:12]}, found: " in str(error.value)
    done = train_here(*RUN, f"init.from={files}")
    assert (done.code, f"model.keras {CHANGED}" in done.err, "Traceback" in done.err + done.out) == (2, True, False)
    (tmp_path / "copy.h5").write_bytes((files / "model.h5").read_bytes())
    assert started_from(tmp_path, str(tmp_path / "copy.h5")) == tmp_path / "copy.h5"
    (files.parent / "model.json").write_text("{}")  # as earlier versions wrote it: without digests
    assert started_from(tmp_path, str(files)) == files / "model.keras"


@pytest.mark.faults
def test_a_changed_logged_model_is_refused(train_here, tmp_path: Path) -> None:
    assert train_here(*RUN, "save.formats=[]").code == 0
    (run,) = train_here.trained().values()
    address = run.tags["model.address"]
    with fluent_store(train_here.store.uri):
        mlflow.register_model(address, "digits")
    Store(tmp_path).client.set_registered_model_alias("digits", "champion", "1")
    starts = [run.run_id, address, "models:/digits/1", "models:/digits@champion", "models:/digits/latest"]
    for start in starts:
        assert started_from(tmp_path, start).name == "model.keras"
    (file,) = (tmp_path / "mlruns" / "artifacts").rglob("data/model.keras")
    with file.open("ab") as opened:
        opened.write(b"more")
    for start in starts:
        with pytest.raises(ConfigError, match=f"model.keras {CHANGED}"):
            pytest.fail(f"{start}: {started_from(tmp_path, start)}")
