"""Columns without a leader: the best options are the same runs there, or have the same mean."""

import dataclasses
import json

from prepared_data import across, by_model, cells, run_on

from mnistlab.comparison import compare
from mnistlab.comparison.results import to_json
from mnistlab.comparison.tables import interaction_csv, interaction_table, leaders_table

KEYS = ("fit.batch_size", "data.limit")


def batches(scores, shared_limits=(), seeds=3):
    """Runs over batch sizes and limits, {limit: {batch: mean}}; with a shared limit all batch sizes have one run."""
    runs = []
    for limit, by_batch in scores.items():
        for batch, mean in by_batch.items():
            for seed in range(seeds):
                settings = {"params": {"fit.batch_size": batch, "data.limit": limit}, "tags": {"hash.data": f"{limit}"}}
                accuracy = mean + 0.001 * seed + 0.0001 * ((seed * batch) % 7)
                run = run_on("default", "adam", seed, mean if limit in shared_limits else accuracy, **settings)
                same = dataclasses.replace(run, run_id=f"{limit}-{seed}") if limit in shared_limits else run
                runs.append(same)
    return runs


SAME_ON_80 = {80: {100: 0.5, 200: 0.5}, 400: {100: 0.8, 200: 0.7}}


def test_options_that_are_one_run_on_a_data_set_have_no_leader_there():
    found = across(batches(SAME_ON_80, [80]), KEYS)
    assert found.verdict == (
        "batch=100 leads on limit=400; batch=100 and batch=200 are the same runs on limit=80. On limit=400 batch=100 "
        "beats batch=200."
    )
    led = {leader.column: (leader.leader, leader.num_others) for leader in found.interaction.leaders}
    assert led == {"limit=80": (None, 0), "limit=400": ("batch=100", 1)}
    saved = {leader["column"]: leader for leader in json.loads(to_json(found.interaction))["leaders"]}
    assert saved["limit=80"]["tied"] == [["batch=100", "batch=200"]]


def test_one_seed_of_options_that_are_one_run_on_a_data_set():
    found = across(batches(SAME_ON_80, [80], seeds=1), KEYS)
    assert found.verdict == (
        "One seed: no claim; batch=100 has the best value on limit=400; batch=100 and batch=200 are the same runs on "
        "limit=80."
    )


def test_the_tables_name_all_of_them():
    found = across(batches(SAME_ON_80, [80]), KEYS).interaction
    cells_of = {row[0]: row[1:] for row in interaction_table(found).rows}
    assert cells_of["batch=200"] == ["50.00 % (best)", "70.12 %"]
    assert cells_of["batch=100"][0] == "50.00 % (best)" and cells_of["batch=100"][1].endswith(" (best)")
    assert leaders_table(found).rows[0] == ["limit=80", "batch=100 and batch=200", "50.00 %", "-", "-", "0 of 0"]
    lines = [line.split(",") for line in interaction_csv(found).splitlines()]
    is_best = lines[0].index("is_best")
    assert [line[is_best] for line in lines[1:] if line[1] == "limit=80"] == ["1", "1"]


def test_the_same_runs_ahead_of_a_third_option():
    scores = {80: {100: 0.5, 200: 0.5}, 400: {100: 0.8, 200: 0.7, 50: 0.6}}
    records = batches(scores, [80]) + batches({80: {50: 0.3}})
    verdict = across(records, KEYS).verdict
    assert verdict.startswith(
        "batch=100 leads on limit=400; batch=100 and batch=200 are the same runs and have the best value on limit=80; "
    )
    assert verdict.endswith(
        " On limit=80 batch=100 (the same runs as batch=200) beats every other option; on limit=400 batch=100 beats "
        "every other option."
    )


def test_equal_means_of_other_runs_are_a_tie():
    means = {"default": {"adam": 0.97, "momentum": 0.97}, "imbalanced": {"adam": 0.95, "momentum": 0.94}}
    found = across(cells(means, noise=0.0))
    assert found.interaction.sentence == "adam leads on imbalanced; adam and momentum tie on default"
    means["imbalanced"]["momentum"] = 0.95
    everywhere = across(cells(means, noise=0.0))
    assert everywhere.verdict == "adam and momentum tie on both data sets (default, imbalanced)."
    assert "One seed: no claim; adam and momentum tie on both" in across(cells(means, noise=0.0, seeds=1)).verdict


def test_means_that_differ_by_rounding_are_a_tie():
    means = {"default": {"adam": 0.3, "momentum": 0.1 + 0.1 + 0.1}, "imbalanced": {"adam": 0.9, "momentum": 0.8}}
    assert means["default"]["adam"] != means["default"]["momentum"]
    found = across(cells(means, noise=0.0)).interaction
    assert found.sentence == "adam leads on imbalanced; adam and momentum tie on default"


def test_a_tie_of_options_of_two_axes():
    means = {"cnn": {"adam": 0.99, "sgd": 0.99, "momentum": 0.9}, "mlp": {"adam": 0.95, "sgd": 0.93, "momentum": 0.9}}
    found = compare(by_model(means, noise=0.0), ("optimizer", "model")).interaction
    assert found.sentence.startswith("adam leads with mlp; adam and sgd tie with cnn")
