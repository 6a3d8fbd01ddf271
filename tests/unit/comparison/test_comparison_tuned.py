"""The comparison of a tuned sweep: only fresh seeds are compared, each option at its best rate."""

import csv
import io

import pytest
from synthetic_runs import diverged, make_run

from mnistlab.comparison import compare
from mnistlab.comparison.report import write_report
from mnistlab.comparison.tuned import Rates, rates_table, tuning_csv, tuning_table, with_tuning

TUNED = {"adam": {0.001: 0.95, 0.01: 0.91, 0.1: 0.5}, "momentum": {0.01: 0.92, 0.1: 0.94}}
OBJECTIVE = "best_epoch_val_accuracy"
RATES = Rates(
    3, [1000, 1001], {"adam": 0.01, "momentum": 0.01, "sgd": 0.01}, {"adam": 0.001, "momentum": 0.1, "sgd": None},
    {"sgd": "at each of its 3 learning rates a run failed or diverged"},
)  # fmt: skip


def at_rate(option, rate, seed, final):
    run = make_run(option, seed, strategies={option: (final, 0.001, 32, rate, 0.4)})
    return type(run)(**{**vars(run), "run_id": f"{option}-{rate:g}-{seed}"})


@pytest.fixture(scope="module")
def records():
    runs = [
        at_rate(option, rate, seed, final)
        for option, rates in TUNED.items()
        for rate, final in rates.items()
        for seed in (0, 1, 2, 1000, 1001)
    ]
    return [*runs, *(at_rate("sgd", 0.01, seed, 0.9) for seed in (0, 1, 2)), diverged("sgd", 1000)]


@pytest.fixture(scope="module")
def comparison(records):
    chosen = [record for record in records if RATES.at_best(record)]
    return with_tuning(compare(chosen, "optimizer"), records, RATES)


def test_only_fresh_seeds_at_the_best_rates_are_compared(records, comparison) -> None:
    compared = {
        (one.params["optimizer"], one.params["optimizer.learning_rate"]) for one in filter(RATES.at_best, records)
    }
    assert compared == {("adam", 0.001), ("momentum", 0.1), ("sgd", 0.01)}
    assert comparison.seeds == [0, 1, 2]
    assert [option.name for option in comparison.options] == ["adam", "momentum", "sgd"]
    assert comparison.verdict.startswith("Each at its best learning rate, sgd at the default: adam is best")


def test_best_and_default_rates_stand_side_by_side(comparison) -> None:
    table = rates_table(comparison)
    assert table is not None
    cells = {row[0]: row[1:] for row in table.rows}
    assert [cells["adam"][index] for index in (0, 2, 3, 5)] == ["0.001", "1", "0.01", "2"]
    assert [cells["momentum"][index] for index in (0, 2, 3, 5)] == ["0.1", "2", "0.01", "1"]
    assert cells["sgd"][0] == "-"
    assert cells["adam"][6].startswith("+4.")
    assert comparison.tuned.words == (
        "At the default rates the ranking is momentum, adam, sgd; each at its best rate, it is adam, momentum, sgd."
    )


def test_a_best_rate_at_the_edge_and_an_option_without_one_are_warned_of(comparison) -> None:
    warnings = [note.text for note in comparison.notes if note.level == "warning"]
    assert any(
        text.startswith("adam: the best learning rate, 0.001, is the lowest that was tried") for text in warnings
    )
    assert any(text.startswith("momentum: the best learning rate, 0.1, is the highest") for text in warnings)
    assert any(text.startswith("sgd is compared at its default learning rate, 0.01: at each") for text in warnings)


def test_the_tunings_scores_and_the_method_are_in_the_report(comparison, records, tmp_path) -> None:
    rows = list(csv.DictReader(io.StringIO(tuning_csv(comparison.tuned))))
    of_adam = [row for row in rows if row["option"] == "adam"]
    assert [(row["learning_rate"], row["num_runs"], row["is_chosen"]) for row in of_adam] == [
        ("0.001", "2", "True"), ("0.01", "2", "False"), ("0.1", "2", "False"),
    ]  # fmt: skip
    tuning = [float(one.metrics[OBJECTIVE]) for one in records if one.run_id in ("adam-0.001-1000", "adam-0.001-1001")]
    assert float(of_adam[0]["mean"]) == pytest.approx(sum(tuning) / 2)
    table = tuning_table(comparison)
    assert table is not None and table.rows[0][-1] == "chosen" and table.rows[1][-1] == "default"
    write_report(comparison, [record for record in records if RATES.at_best(record)], tmp_path)
    page = (tmp_path / "report.html").read_text()
    for text in (
        "Schneider et al. 2019",
        "Dahl et al. 2023",
        "Choi et al. (2019)",
        "arXiv 1910.05446",
        comparison.tuned.words,
    ):
        assert text in page
    assert (tmp_path / "figures" / "learning_rates.png").is_file()
    assert (tmp_path / "tuning.csv").is_file()


def test_a_tuning_that_has_not_ended_is_a_comparison_at_the_default_rates(records) -> None:
    why = dict.fromkeys(RATES.defaults, "its tuning has not ended")
    begun = Rates(3, RATES.seeds, RATES.defaults, dict.fromkeys(RATES.defaults), why)
    found = with_tuning(compare([one for one in records if begun.at_best(one)], "optimizer"), records, begun)
    assert found.verdict.startswith("At the default learning rates: ")
    assert found.tuned is not None and found.tuned.words == ""
    assert sum("its tuning has not ended" in note.text for note in found.notes) == 3


def test_an_ordinary_comparison_has_no_tuning(records) -> None:
    plain = compare([record for record in records if RATES.at_default(record)], "optimizer")
    assert plain.tuned is None
    assert rates_table(plain) is None and tuning_table(plain) is None
