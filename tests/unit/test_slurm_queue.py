"""What a sweep reads from Slurm's programs: programs of the same names stand in for them, with Slurm's own answers."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from mnistlab.config import ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.sweep import slurm
from mnistlab.sweep.slurm import Queue


class Programs:
    """A folder with programs that answer with a text, before all others on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answer(self, name: str, out: str = "", err: str = "", code: int = 0) -> None:
        for stream, text in (("out", out), ("err", err)):
            (self.folder / f"{name}.{stream}").write_text(text)
        place = self.folder / name
        place.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {place}.words\ncat {place}.out\ncat {place}.err >&2\nexit {code}\n'
        )
        place.chmod(0o755)

    def words(self, name: str) -> list[str]:
        return (self.folder / f"{name}.words").read_text().splitlines()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return Programs(tmp_path)


def queue_of(*job_ids: str) -> Queue:
    queue = Queue()
    queue.seconds = -1.0  # each question is asked
    for job_id in job_ids:
        queue.add(job_id)
    return queue


def test_a_job_has_ended_when_slurm_says_so(programs: Programs) -> None:
    queue = queue_of("7", "8", "9", "10")
    programs.answer("squeue", "7|RUNNING|None\n8|CANCELLED|None\n9|OUT_OF_MEMORY|None\n10|COMPLETING|None\n")
    assert [queue.is_done(job) for job in ("7", "8", "9", "10")] == [False, True, True, False]
    assert "--jobs=10,7,8,9" not in programs.words("squeue")  # it asks only for those that are open
    assert "--jobs=10,7" in programs.words("squeue")
    assert queue.get_state("9") == "OUT_OF_MEMORY"


def test_a_job_that_slurm_has_forgotten_has_ended(programs: Programs) -> None:
    queue = queue_of("7", "8")
    programs.answer("squeue", "8|RUNNING|None\n")
    assert (queue.is_done("7"), queue.is_done("8")) == (True, False)
    programs.answer("squeue", err="slurm_load_jobs error: Invalid job id specified\n", code=1)  # of one that it forgot
    assert queue.is_done("8")
    assert queue.get_state("8") == "no longer known to Slurm"


def test_a_controller_that_fails_ends_no_job(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    queue = queue_of("7")
    programs.answer("squeue", "7|RUNNING|None\n")
    assert not queue.is_done("7")
    problem = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    programs.answer("squeue", err=f"{problem}\n", code=1)
    assert [queue.is_done("7") for _ in range(3)] == [False, False, False]
    assert capsys.readouterr().out == (
        "WARNING: Slurm's squeue fails (Unable to contact slurm controller (connect failure)). "
        "The sweep waits for its jobs.\n"
    )


def test_jobs_that_wait_say_why_if_none_runs(programs: Programs) -> None:
    queue = queue_of("7", "8")
    assert queue.waiting(["7", "8"]) == ""  # not asked yet
    programs.answer("squeue", "7|PENDING|Resources\n8|PENDING|Priority\n")
    assert not queue.is_done("7")
    assert queue.waiting(["7", "8"]) == "2 jobs wait in Slurm's queue: Priority, Resources."
    assert queue.waiting(["7"]) == "1 job waits in Slurm's queue: Resources."
    programs.answer("squeue", "7|RUNNING|None\n8|PENDING|Priority\n")
    assert not queue.is_done("7")
    assert queue.waiting(["7", "8"]) == ""


def launch(*words: str):
    return compose_config(["launch=slurm", *words]).launch


def test_what_a_job_asks_for_is_asked_of_slurm_first(programs: Programs) -> None:
    pytest.importorskip("submitit", reason="make test-launchers installs submitit")
    programs.answer("srun")
    programs.answer("sbatch", err="sbatch: Job 7 to start at 2026-11-28T04:54:12 using 1 processors on nodes n1\n")
    needs = ("launch.job_gigabytes=1.5", "launch.cpus=2", "launch.gpus=0.5", "launch.options.slurm_partition=gpu")
    slurm.check(launch(*needs, "+launch.options.slurm_exclusive=true", "+launch.options.slurm_setup=[module load x]"))
    assert programs.words("sbatch")[0] == "--test-only"
    assert {*programs.words("sbatch")[1:]} == {
        *("--job-name=mnistlab", "--cpus-per-task=2", "--gpus-per-node=1", "--mem=1536MB", "--time=240"),
        *("--partition=gpu", "--exclusive", "--wrap=true"),
    }


def test_what_slurm_refuses_is_named(programs: Programs) -> None:
    pytest.importorskip("submitit", reason="make test-launchers installs submitit")
    programs.answer("srun")
    refusal = "sbatch: error: invalid partition specified: gpu\nallocation failure: Invalid partition name specified\n"
    programs.answer("sbatch", err=refusal, code=1)
    with pytest.raises(ConfigError) as refused:
        slurm.check(launch("launch.options.slurm_partition=gpu"))
    assert str(refused.value).startswith(
        "Slurm does not accept such jobs (invalid partition specified: gpu; Invalid partition name specified). "
        "Asked for: --time=240 --partition=gpu. `sinfo` lists the partitions;"
    )
    options = {**launch().options, "partitoin": "gpu"}
    with pytest.raises(ConfigError, match=r"launch.options: Unavailable parameter\(s\): \['partitoin'\]"):
        slurm.check(dataclasses.replace(launch(), options=options))
