"""Random words on the command line and random YAML files: each is a configuration, or a ConfigError that says why not.

Never a traceback or another library's inner words, never without end, never a folder or an entry in the store left
behind, and nothing that a file names is imported or run.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzz_words import NUMBERS, ODD_FILES, ODD_KEYS, OF_HYDRA, REFERENCES, SWEEPS, VARIABLE, WORDS
from fuzzing import LENGTHS, Damage, damaged, damages, fuzz, limited
from hypothesis import strategies as st
from stand_in import Trainer

from mnistlab.config import Config, ConfigError, secrets
from mnistlab.config.compose import compose_config
from mnistlab.config.explaining import known_keys

CONF = Path(__file__).resolve().parents[2] / "conf"
OPTIONS = sorted(f"{file.parent.relative_to(CONF)}={file.stem}" for file in CONF.glob("*/*.yaml"))
GROUPS = sorted({option.partition("=")[0] for option in OPTIONS})
INNER_WORDS = ("Traceback", "<class '", "omegaconf.", "hydra.errors", " object at 0x", "object_type=", "full_key")

VALUES = st.one_of(*map(st.sampled_from, (NUMBERS, WORDS, REFERENCES, SWEEPS)), st.text(max_size=6))
KEYS = st.one_of(
    st.sampled_from(sorted(known_keys([], None))),
    st.sampled_from(ODD_KEYS),
    st.sampled_from(OF_HYDRA),
    st.sampled_from(GROUPS),
    st.text(max_size=4),
)


@st.composite
def override(draw: st.DrawFn) -> str:
    """A word of the command line."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(OPTIONS))
    key, value = draw(KEYS), draw(VALUES)
    prefix = draw(st.sampled_from(["", "", "", "+", "++", "~", "+~", " "]))
    equals = draw(st.sampled_from(["=", "=", "=", "=", "=", "", "==", " = ", ":"]))
    return f"{prefix}{key}{equals}{value.replace('KEY', key)}" if equals else f"{prefix}{key}"


OVERRIDES = st.lists(override(), min_size=1, max_size=4)


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The secrets of these configurations are not those of the tests that follow."""
    monkeypatch.setattr(secrets, "_known", set(secrets._known))
    monkeypatch.setenv(VARIABLE, "value of a variable")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def check_messages(text: str, received: Any) -> None:
    """It says something, and not in the words of other libraries, unless the user wrote them."""
    assert text.strip()
    assert [word for word in INNER_WORDS if word in text and word not in str(received)] == [], text


def check_configuration(overrides: list[str], config_dir: Path | None = None, received: Any = None) -> str:
    """Compose it. Returns 'accepted' or 'refused'."""
    modules = set(sys.modules)
    with limited(received or overrides):
        try:
            config = compose_config(overrides, config_dir=str(config_dir) if config_dir else None)
        except ConfigError as error:
            for problem in error.problems:
                check_messages(problem, received or overrides)
            return "refused"
        finally:
            loaded = {name.partition(".")[0] for name in set(sys.modules) - modules}
            assert not loaded & {"antigravity", "this", "harmful", "tensorflow", "keras", "mlflow", "matplotlib"}
    assert isinstance(config, Config)
    return "accepted"


@LENGTHS
def test_overrides(length: str, tmp_path: Path) -> None:
    """Names, types, ranges, `+`, `~`, interpolations, sweeps, several at once."""
    ends: Counter[str] = Counter()

    @fuzz(length, 6, 200, overrides=OVERRIDES)
    def check(overrides: list[str]) -> None:
        ends[check_configuration(overrides)] += 1
        assert list(tmp_path.iterdir()) == []

    print(dict(ends))


@LENGTHS
def test_a_value_of_every_kind_for_known_settings(length: str, tmp_path: Path) -> None:
    """One override that is right but for its value, beside one that is right."""
    ends: Counter[str] = Counter()
    key = st.sampled_from(sorted(known_keys([], None)))

    @fuzz(length, 4, 200, key=key, value=VALUES, option=st.sampled_from(OPTIONS))
    def check(key: str, value: str, option: str) -> None:
        ends[check_configuration([option, f"{key}={value.replace('KEY', key)}"])] += 1

    print(dict(ends))


@pytest.mark.faults
def test_commands(tmp_path: Path, monkeypatch, capfd, make_npz) -> None:
    """The whole command, with a stand-in for the training: a refused one leaves no folder and no entry in the store."""
    make_npz("a.npz", shape=(12, 10))
    trainer, ends = Trainer(tmp_path, monkeypatch, capfd), Counter[str]()
    database = tmp_path / "mlruns" / "mlflow.db"

    def left() -> tuple[list[Path], bytes]:
        return sorted((tmp_path / "runs").glob("*/*")), database.read_bytes()

    @fuzz("long", 0, 100, overrides=OVERRIDES.filter(is_local), multirun=st.booleans())
    def check(overrides: list[str], multirun: bool) -> None:
        before = left()
        sweep = ["--multirun", "sweep.dry_run=true"] if multirun else []
        with limited(overrides, memory_bytes=64 << 30):
            ended = trainer("source=npz", "source.path=a.npz", "fit.epochs=1", *sweep, *overrides)
        ends[f"exit status {ended.code}"] += 1
        assert ended.code in (0, 2), ended.err
        if ended.code == 2:
            check_messages(ended.err, overrides)
            assert left() == before

    print(dict(ends))


def is_local(overrides: list[str]) -> bool:
    """Whether a run with these overrides asks no server, stays below the working folder and needs no other process."""
    return not any("://" in one or "launcher" in one or one.lstrip("+~ ").startswith("-") for one in overrides)


GLOBAL = "# @package _global_\n"
PRESET = (CONF / "experiment" / "cnn_99.yaml").read_bytes()
WHOLE = {
    "experiment": [GLOBAL.encode() + b"fit: {epochs: 2}\noptimizer:\n  learning_rate: 0.1\nseed: 5\n", PRESET],
    "optimizer": [(CONF / "optimizer" / "momentum.yaml").read_bytes()],
    "callbacks": [(CONF / "callbacks" / "early_stopping.yaml").read_bytes()],
    "model": [(CONF / "model" / "layers.yaml").read_bytes()],
    "data": [(CONF / "data" / "augmented.yaml").read_bytes()],
    "tracking": [(CONF / "tracking" / "none.yaml").read_bytes()],
}
NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "_target_", "epochs", "learning_rate", 1, None, 1.5, b"x"]), inner)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from([*GROUPS, "fit", "seed", "run", "paths", "hydra", "defaults", "x", 5])
DOCUMENTS = st.dictionaries(NAMES, NODES)
YAML_TEXTS = st.one_of(
    st.sampled_from(ODD_FILES).map(lambda text: text.encode()),
    st.sampled_from(ODD_FILES).map(lambda text: (GLOBAL + text).encode()),
    st.builds(lambda document: (GLOBAL + yaml.safe_dump(document)).encode(), DOCUMENTS),
    st.builds(lambda text, encoding: text.encode(encoding), st.text(max_size=30), st.sampled_from(["utf-8", "utf-16"])),
)


def check_file(folder: Path, group: str, content: bytes) -> str:
    """Compose a configuration with this file as an option of the group."""
    file = folder / "conf" / group / "mine.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    try:
        return check_configuration([f"{group}=mine"], folder / "conf", received=(group, content))
    finally:
        assert not (folder / "harm_was_done").exists()
        assert sorted(folder.rglob("*")) == [folder / "conf", file.parent, file]
        file.unlink()
        file.parent.rmdir()


@LENGTHS
def test_files_of_a_user_s_own(length: str, tmp_path: Path) -> None:
    """Random YAML documents and hostile ones: tags, aliases without end, deep nesting, odd lists of defaults."""
    ends: Counter[str] = Counter()

    @fuzz(length, 6, 120, group=st.sampled_from(["experiment", "experiment", *WHOLE]), content=YAML_TEXTS)
    def check(group: str, content: bytes) -> None:
        ends[check_file(tmp_path, group, content)] += 1

    print(dict(ends))


@LENGTHS
def test_damaged_files_of_a_user_s_own(length: str, tmp_path: Path) -> None:
    ends: Counter[str] = Counter()
    files = [(group, content) for group, contents in WHOLE.items() for content in contents]

    @fuzz(length, 4, 100, file=st.sampled_from(files), steps=damages(3))
    def check(file: tuple[str, bytes], steps: list[Damage]) -> None:
        ends[check_file(tmp_path, file[0], damaged(file[1], steps))] += 1

    print(dict(ends))


@pytest.mark.faults
@pytest.mark.parametrize("number", range(len(ODD_FILES)))
def test_each_odd_file(number: int, tmp_path: Path) -> None:
    check_file(tmp_path, "experiment", (GLOBAL + ODD_FILES[number]).encode())
    check_file(tmp_path, "optimizer", ODD_FILES[number].encode())
