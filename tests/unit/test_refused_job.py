"""A job that the process of a launcher refuses, and the sweep did not, leaves its reason for the sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from mnistlab.config import conf_folder, hydra_internals, register
from mnistlab.sweep import job, outcomes
from mnistlab.sweep.results import job_key

WORDS = ["+model._target_=package_of_another_machine.build", "seed=3"]


def test_the_reason_of_a_refused_job_is_left_for_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNISTLAB_TRUST", raising=False)
    register()
    plan = tmp_path / "plan-1.json"
    plan.write_text(json.dumps({"jobs": {}}))
    with hydra_internals.composing(str(conf_folder())):
        composed = compose("train", overrides=["seed=3", f"sweep.plan={plan}"], return_hydra_config=True)
    with open_dict(composed):
        composed.hydra.runtime.output_dir = str(tmp_path / "run")
        composed.hydra.runtime.config_sources = []
        composed.hydra.job.update(override_dirname="seed=3", name="train")
        composed.hydra.overrides.task = WORDS
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    HydraConfig.instance().set_config(composed)
    with open_dict(composed):
        del composed["hydra"]
        composed.model._target_ = "package_of_another_machine.build"
    assert job.run_job(composed) is None
    left = outcomes.read(tmp_path, "failures", job_key(WORDS))
    assert left is not None
    assert "package_of_another_machine" in left.error
    assert "MNISTLAB_TRUST" in left.error or "trust=" in left.error
