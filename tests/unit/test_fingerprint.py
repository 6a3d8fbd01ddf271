"""Equal fingerprints mean equal results; the reason to run again is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mnistlab.config.compose import compose_config
from mnistlab.tracking import fingerprint

DIGESTS = {"train": "a", "validation": "b", "test": "c"}


def of(*overrides: str) -> str:
    return fingerprint.fingerprint(compose_config(list(overrides)), DIGESTS)["fingerprint"]


def test_equal_settings_are_equal_however_they_are_written() -> None:
    assert of() == of("optimizer=adam", "fit.epochs=3", "fit.batch_size=32")


def test_folders_tracking_and_sweep_settings_have_no_effect(tmp_path) -> None:
    usual = of("callbacks=default")
    assert usual == of("callbacks=default", f"paths.root={tmp_path}")
    assert usual == of("callbacks=default", f"paths.run={tmp_path}/here")
    assert usual == of("callbacks=default", "tracking=none", "sweep.seeds=5", "sweep.dry_run=true")


@pytest.mark.parametrize(
    "override",
    ["seed=1", "optimizer=sgd", "optimizer.learning_rate=0.02", "fit.epochs=4", "data.split_seed=1", "model=cnn"],
)
def test_settings_that_change_the_result_change_the_fingerprint(override: str) -> None:
    assert of() != of(override)


def test_other_data_change_the_fingerprint() -> None:
    config = compose_config([])
    parts = [fingerprint.fingerprint(config, digests) for digests in (DIGESTS, {**DIGESTS, "train": "x"})]
    assert parts[0]["fingerprint"] != parts[1]["fingerprint"]
    assert fingerprint.reason_to_run_again(parts[0], parts[1]) == "data changed"


def test_changed_files_are_named() -> None:
    planned = fingerprint.fingerprint(compose_config([]), DIGESTS)
    hashes = json.loads(planned["fingerprint.code"])

    def reason(**earlier: str) -> str:
        return fingerprint.reason_to_run_again(planned, {**planned, "fingerprint.code": json.dumps(hashes | earlier)})

    assert reason() == "new"
    assert reason(**{"training/engine/fused.py": "0"}) == "code changed: training/engine/fused.py"
    assert reason(**{"removed.py": "0"}) == "code changed: removed.py"
    many = sorted(hashes)[:7]
    assert reason(**dict.fromkeys(many, "0")) == f"code changed: {', '.join(many[:5])} and 2 more files"
    assert fingerprint.reason_to_run_again(planned, {}).startswith("data changed; code changed: ")
    assert fingerprint.reason_to_run_again(planned, {}).endswith("; libraries changed")


def test_the_code_that_produces_results_is_hashed_and_no_other() -> None:
    hashes = fingerprint.code_hashes()
    assert list(hashes) == sorted(hashes)
    assert all(len(value) == 8 and int(value, 16) >= 0 for value in hashes.values())
    included = """config/build.py config/checks.py config/schema.py data/dataset.py data/splitting.py data/sources.py
        data/folders/decoding.py data/folders/generator.py evaluation/metrics.py evaluation/curves.py experiment.py
        training/fitting.py training/models.py training/engine/fused.py training/engine/program.py"""
    assert set(included.split()) <= set(hashes)
    # A new figure, report, command or way to record is no reason to train again.
    assert not {*fingerprint.WITHOUT_RESULTS} & set(hashes)
    assert not [name for name in hashes if name.startswith(("comparison/", "runtime/", "sweep/", "tracking/"))]
    assert {name for name in hashes if "/" not in name} == {"experiment.py"}
    files = [fingerprint.PACKAGE / name for name in (*hashes, *fingerprint.WITHOUT_RESULTS)]
    assert all(file.is_file() for file in files)
    packages = {file.relative_to(fingerprint.PACKAGE).parts[0] for file in files}
    assert packages == set(fingerprint.PRODUCES_RESULTS)


def test_the_hash_of_arrays_depends_on_values_shape_and_type() -> None:
    array = np.arange(6, dtype=np.int32)
    variants = [array, array[::-1], array.reshape(2, 3), array.astype(np.int64), array.astype(np.float32)]
    hashes = {fingerprint.hash_of_arrays([variant]) for variant in variants}
    hashes.add(fingerprint.hash_of_arrays([array, array]))
    assert len(hashes) == 6
    assert fingerprint.hash_of_arrays([array.reshape(2, 3).T]) == fingerprint.hash_of_arrays(
        [np.ascontiguousarray(array.reshape(2, 3).T)]
    )
