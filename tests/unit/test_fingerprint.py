"""Equal fingerprints mean equal results; a change is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mnistlab.config.compose import compose_config
from mnistlab.tracking import fingerprint, provenance

DIGESTS = {"train": "a", "validation": "b", "test": "c"}


def of(*overrides: str) -> str:
    return fingerprint.fingerprint(compose_config(list(overrides)), DIGESTS)["fingerprint"]


def test_the_same_configuration_said_differently_is_the_same() -> None:
    assert of() == of("optimizer=adam", "fit.epochs=3", "fit.batch_size=32")


def test_where_things_lie_and_how_they_are_recorded_has_no_effect(tmp_path) -> None:
    usual = of("callbacks=default")
    assert usual == of("callbacks=default", f"paths.root={tmp_path}")
    assert usual == of("callbacks=default", f"paths.run={tmp_path}/here")
    assert usual == of("callbacks=default", "tracking=none", "sweep.seeds=5", "sweep.dry_run=true")


@pytest.mark.parametrize(
    "override",
    ["seed=1", "optimizer=sgd", "optimizer.learning_rate=0.02", "fit.epochs=4", "data.split_seed=1", "model=cnn"],
)
def test_what_changes_the_result_changes_the_fingerprint(override: str) -> None:
    assert of() != of(override)


def test_other_data_change_it() -> None:
    config = compose_config([])
    parts = [fingerprint.fingerprint(config, digests) for digests in (DIGESTS, {**DIGESTS, "train": "x"})]
    assert parts[0]["fingerprint"] != parts[1]["fingerprint"]
    assert fingerprint.why_again(parts[0], parts[1]) == "data changed"


def test_changed_code_is_named() -> None:
    own = fingerprint.fingerprint(compose_config([]), DIGESTS)
    before = json.loads(own["fingerprint.code"]) | {"fused.py": "0"}
    assert fingerprint.why_again(own, {**own, "fingerprint.code": json.dumps(before)}) == "code changed: fused.py"
    assert "plots.py" not in before  # a new figure is no reason to train again
    assert fingerprint.why_again(own, own) == "new"


def test_a_process_that_ended_is_known_to_be_gone() -> None:
    assert not provenance.is_gone(provenance.process_name())
    ended = subprocess.run(
        [sys.executable, "-c", "from mnistlab import provenance; print(provenance.process_name())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert provenance.is_gone(ended)
    host, pid, _ = provenance.process_name().rsplit(":", 2)
    assert provenance.is_gone(f"{host}:{pid}:1")  # the number was given to another process since
    assert not provenance.is_gone(f"elsewhere:{os.getpid()}:1")
    assert not provenance.is_gone("?:0:")
