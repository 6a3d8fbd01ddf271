"""sweep.until=verdict through the real command: rounds of seeds, options that leave, an end with its reason."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Finished, Started, Store, run_command

from mnistlab.comparison.race import race_for_best
from mnistlab.comparison.sequential import Looks

pytestmark = pytest.mark.long

MAX_SEEDS = 4
WORDS = ("--multirun", "source=mnist_5k", "data.limit=600", "fit.epochs=2", "save.formats=[]")
OPTIONS = ("batch_gd", "momentum", "adam")
UNTIL = (*WORDS, f"optimizer={','.join(OPTIONS)}", "sweep.until=verdict", f"sweep.max_seeds={MAX_SEEDS}")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    """A finished sweep; returns how it ended and its root folder."""
    root = tmp_path_factory.mktemp("until")
    done = run_command(root, *UNTIL)
    assert done.code == 0, done.err
    return done, root


def folder_of(root: Path) -> Path:
    (folder,) = (root / "runs" / "sweeps").iterdir()
    return folder


def rows_of(root: Path) -> list[dict[str, str]]:
    with (folder_of(root) / "jobs.csv").open() as file:
        return list(csv.DictReader(file))


def scores_of(root: Path) -> dict[tuple[str, int], float]:
    return {(row["optimizer"], int(row["seed"])): float(row["best_epoch_val_accuracy"]) for row in rows_of(root)}


def trained(done: Finished) -> list[str]:
    return re.findall(r"^\[\d+/\d+\] (\S+)", done.out, re.MULTILINE)


def test_the_rounds_follow_from_the_scores(sweep) -> None:
    """Who leaves when, and when it ends, calculated again from jobs.csv."""
    done, root = sweep
    scores = scores_of(root)
    matrix = np.full((len(OPTIONS), MAX_SEEDS), np.nan)
    for (option, seed), score in scores.items():
        matrix[OPTIONS.index(option), seed] = score
    num_seeds = max(seed for _, seed in scores) + 1
    open_rows = list(range(len(OPTIONS)))
    for count in range(3, num_seeds + 1):
        race = race_for_best(OPTIONS, matrix[:, :count], Looks(3, MAX_SEEDS), 0.05, 1 / 60)
        assert bool(race.why) == (count == num_seeds)
        assert f"After {count} seeds ({race.rounds[-1].num_runs} runs)" in done.out
        open_rows = race.open
        for row, option in enumerate(OPTIONS):
            gets_more = row in open_rows and not race.why
            assert ((option, count) in scores) == gets_more, (option, count)
    assert f"The sweep ends: {race.why}." in done.out
    assert len(scores) == race.rounds[-1].num_runs


def test_the_first_round_has_three_seeds_of_every_option(sweep) -> None:
    done, root = sweep
    assert {(option, seed) for option in OPTIONS for seed in range(3)} <= {*scores_of(root)}
    assert len(set(trained(done))) == len(trained(done)) == len(rows_of(root))


def test_the_parent_run_and_the_report_tell_how_it_came_about(sweep) -> None:
    _, root = sweep
    store, comparison = Store(root), json.loads((folder_of(root) / "comparison.json").read_text())
    (parent,) = store.runs("parent")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["sweep.verdict"] == comparison["verdict"]
    assert parent.data.tags["sweep.num_jobs"] == str(len(rows_of(root)))
    assert len(store.runs("job")) == len(rows_of(root))
    answer = comparison["answer"]
    assert answer["question"] == "best" and answer["why"] and answer["rounds"][0]["num_runs"] == 9
    report = (folder_of(root) / "report.md").read_text()
    assert "How the verdict came about" in report and "For a paper" in report
    assert (folder_of(root) / "figures" / "rounds.png").is_file()
    sweep_file = json.loads((folder_of(root) / "sweep.json").read_text())
    assert (sweep_file["looks"], sweep_file["question"]) == ([3, MAX_SEEDS], "best")


@pytest.mark.long
def test_the_same_command_trains_nothing_and_comes_to_the_same_end(sweep) -> None:
    before, root = sweep
    again = run_command(root, *UNTIL)
    assert again.code == 0, again.err
    assert trained(again) == []
    rounds = r"^After .*|^The sweep ends.*| leads$|out: .*"
    assert re.findall(rounds, again.out, re.MULTILINE) == re.findall(rounds, before.out, re.MULTILINE)
    compared = run_command(root, module="mnistlab.compare")
    verdict = json.loads((folder_of(root) / "comparison.json").read_text())["verdict"]
    assert compared.code == 0 and verdict in compared.out


@pytest.mark.faults
def test_a_killed_sweep_goes_on_where_it_was(sweep, tmp_path: Path) -> None:
    _, root = sweep
    names = [row["job"] for row in rows_of(root)]
    running = Started(tmp_path, *UNTIL)
    running.wait_for_line(f"[{len(names) - 1}/")
    running.kill_with_background()
    done = run_command(tmp_path, *UNTIL)
    assert done.code == 0, done.err
    assert 1 <= len(trained(done)) <= 4
    assert scores_of(tmp_path) == scores_of(root)
    (parent,) = Store(tmp_path).runs("parent")
    assert parent.info.status == "FINISHED"


@pytest.mark.long
def test_the_time_limit_ends_it_between_rounds_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """No three seeds can show that two options differ by less than a thousandth of a point, or that they differ."""
    words = (*WORDS, "optimizer=momentum,nesterov", "fit.epochs=1", "sweep.until=verdict", "sweep.max_seeds=4")
    words += ("sweep.question=equivalent:0.001", "tracking=none", "sweep.preflight=false")
    done = run_command(tmp_path, *words, "sweep.max_seconds=0.1")
    assert done.code == 0, done.err
    assert "The sweep ends: the time limit of 0.1 s (sweep.max_seconds); the same command goes on." in done.out
    assert len(rows_of(tmp_path)) == 6
    assert "the time limit of 0.1 s" in (folder_of(tmp_path) / "report.md").read_text()
    done = run_command(tmp_path, *words)
    assert done.code == 0, done.err
    assert len(rows_of(tmp_path)) == 8
    assert "The sweep ends: 4 seeds are the limit (sweep.max_seeds)." in done.out
    assert "No two options are shown equivalent within 0.001 points. Undecided: " in done.out


def test_seeds_are_not_listed_by_hand(tmp_path: Path) -> None:
    done = run_command(tmp_path, *WORDS, "optimizer=momentum,adam", "sweep.until=verdict", "seed=1,2,3")
    assert done.code == 2
    assert "adds seeds by itself, counted from one seed: seed=3. Received: seed=1,2,3." in done.err
