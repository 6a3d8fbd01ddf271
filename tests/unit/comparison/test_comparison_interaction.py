"""Interactions: contrasts by hand, sentences, error rate, tables and figures."""

import csv
import io
import itertools
import json
import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text
from prepared_data import cells, hashes, run_on, sweep
from scipy import stats
from synthetic_runs import make_run

from mnistlab.comparison import (
    across_data,
    compare,
    compare_by_data,
    terminal_summary,
    terminal_summary_across,
    to_json,
)
from mnistlab.comparison.interaction_figure import interaction_figure
from mnistlab.comparison.report import write_report
from mnistlab.comparison.statistics import compare_contrasts
from mnistlab.comparison.style import drawing_settings, option_styles
from mnistlab.comparison.tables import interaction_csv, interaction_table, leaders_table

CROSSED = {"default": {"adam": 0.97, "momentum": 0.96}, "imbalanced": {"adam": 0.95, "momentum": 0.965}}
AXES = ("optimizer", "data")


def by_model(means, seeds=3, noise=0.001):
    """Runs on one data set, {model: {option: mean}}."""
    rng = np.random.default_rng(5)
    return [
        make_run(
            "adam",
            seed,
            run_id=f"{model}-{option}-{seed}",
            params={"optimizer": option, "model": model},
            tags={"hash.initial_weights": f"{model}{seed}"},
            metrics={"best_val_accuracy": float(mean + noise * rng.normal())},
        )
        for model, by_option in means.items()
        for option, mean in by_option.items()
        for seed in range(seeds)
    ]


def across(records, axes=AXES, **settings):
    return across_data(compare_by_data(records, axes, resamples=0, **settings))


def test_a_contrast_is_a_t_test_of_the_differences_of_differences():
    scores = np.random.default_rng(0).normal(size=(3, 2, 5))
    pairs = list(itertools.combinations(range(3), 2))
    found = compare_contrasts(scores, np.array([(i, j, 0, 1) for i, j in pairs]), 0.05, None)
    for index, (i, j) in enumerate(pairs):
        differences = (scores[i, 0] - scores[j, 0]) - (scores[i, 1] - scores[j, 1])
        expected = stats.ttest_1samp(differences, 0)
        assert found.p[index] == pytest.approx(expected.pvalue)
        assert found.difference[index] == pytest.approx(differences.mean())
    ordered = np.sort(found.p)
    assert np.sort(found.p_holm)[0] == pytest.approx(min(3 * ordered[0], 1))


def test_a_larger_family_widens_the_interval_and_raises_p():
    scores = np.random.default_rng(0).normal(size=(2, 2, 5))
    contrast = np.array([(0, 1, 0, 1)])
    one, many = compare_contrasts(scores, contrast, 0.05, None), compare_contrasts(scores, contrast, 0.05, 40)
    assert many.p_holm[0] == pytest.approx(min(40 * one.p[0], 1)) and many.p[0] == one.p[0]
    assert many.level[0] == pytest.approx(0.05 / 40)
    margin = stats.t.isf(0.05 / 80, 4) * one.sd[0] / math.sqrt(5)
    assert many.high[0] == pytest.approx(one.difference[0] + margin)


def test_the_order_depends_on_the_data():
    found = across(cells(CROSSED))
    assert found.verdict == (
        "The order depends on data: adam leads on default, momentum on imbalanced (difference of differences 2.6 "
        "points [2.0, 3.2]). On default adam beats momentum; on imbalanced momentum beats adam."
    )
    (contrast,) = found.interaction.contrasts
    assert (contrast.first, contrast.second, contrast.column, contrast.other_column) == (
        "adam",
        "momentum",
        "default",
        "imbalanced",
    )
    assert contrast.words.startswith("the advantage of adam over momentum is 2.6 points [2.0, 3.2] larger on default")
    assert contrast.significant and contrast.low > 0 and contrast.num_seeds == 3


def test_an_effect_of_the_seed_on_all_runs_cancels():
    plain, shifted = (across(cells(CROSSED, seed_effect=effect)).interaction.contrasts[0] for effect in (0.0, 0.05))
    # the noise differs, because the shared effect is drawn first; the spread of the contrast does not grow with it
    assert shifted.high - shifted.low < 3 * (plain.high - plain.low)


def test_losses_mirror_accuracies():
    records = cells(CROSSED)
    for run in records:
        run.metrics["best_val_loss"] = 1 - run.metrics["best_val_accuracy"]
    loss = across_data(compare_by_data(records, AXES, "best_val_loss", resamples=0)).interaction
    accuracy = across(records).interaction
    assert [leader.leader for leader in loss.leaders] == [leader.leader for leader in accuracy.leaders]
    assert loss.contrasts[0].p == pytest.approx(accuracy.contrasts[0].p)
    assert loss.contrasts[0].difference == pytest.approx(accuracy.contrasts[0].difference)


def test_chance_is_called_chance():
    means = {"default": {"adam": 0.96, "momentum": 0.9597}, "imbalanced": {"adam": 0.95, "momentum": 0.9503}}
    found = across(cells(means, noise=0.002, seeds=4))
    leaders = {leader.column: leader.leader for leader in found.interaction.leaders}
    assert leaders == {"default": "momentum", "imbalanced": "adam"}
    assert found.interaction.sentence == (
        "momentum leads on default, adam on imbalanced; that the order depends on data is not distinguishable from "
        "chance with 4 seeds"
    )
    assert found.verdict.endswith("on imbalanced adam is not distinguishable from momentum.")


def test_a_difference_that_shrinks_is_not_called_another_order():
    """adam is far ahead on one data set; on the other they are equal and momentum leads by chance."""
    means = {"default": {"adam": 0.99, "momentum": 0.95}, "imbalanced": {"adam": 0.95, "momentum": 0.9508}}
    found = across(cells(means))
    assert found.interaction.sentence.startswith(
        "How far the options are apart depends on data: adam leads on default, momentum on imbalanced (difference of "
        "differences 4."
    )
    assert found.interaction.sentence.endswith("whether their order changes is not certain with 3 seeds")


def test_the_same_leader_everywhere():
    means = {"default": {"adam": 0.97, "momentum": 0.96}, "imbalanced": {"adam": 0.95, "momentum": 0.94}}
    found = across(cells(means))
    assert found.verdict == (
        "adam leads on both data sets (default, imbalanced). On each data set adam beats momentum."
    )


def test_one_seed_makes_no_claim():
    found = across(cells(CROSSED, seeds=1))
    assert found.verdict == "One seed: no claim; adam has the best value on default, momentum on imbalanced."
    assert found.interaction.sentence == "adam leads on default, momentum on imbalanced (one seed: no claim)"
    assert not any(contrast.significant for contrast in found.interaction.contrasts)
    assert found.interaction.contrasts[0].words.endswith("one seed: no claim")


def test_cells_without_a_trained_run_are_named():
    records = [run for run in cells(CROSSED) if (run.params["data"], run.params["optimizer"]) != ("imbalanced", "adam")]
    found = across(records)
    assert found.interaction.missing == ["adam on imbalanced"]
    assert found.interaction.sentence.endswith("; no trained run: adam on imbalanced")
    assert interaction_table(found.interaction).rows[0][-1] == "-"
    assert found.not_compared[-1] == "adam trained on default only, without a rank across the data sets"


def test_the_table_by_both_axes():
    found = across(cells({"default": {"adam": 0.97, "sgd": 0.96}, "imbalanced": {"adam": 0.95, "sgd": 0.965}}, noise=0))
    table = interaction_table(found.interaction)
    assert table.title == "best_val_accuracy by optimizer and data (mean of 3 seeds)"
    assert table.header == ["optimizer", "default", "imbalanced"]
    assert table.rows == [["adam", "97.00 % (best)", "95.00 %"], ["sgd", "96.00 %", "96.50 % (best)"]]
    assert leaders_table(found.interaction).rows == [
        ["default", "adam", "97.00 %", "sgd", "96.00 %", "0 of 1"],
        ["imbalanced", "sgd", "96.50 %", "adam", "95.00 %", "0 of 1"],
    ]


def test_fewer_seeds_are_shown_in_their_cell():
    records = [run for run in cells(CROSSED, noise=0) if not (run.params["data"] == "default" and run.seed == 2)]
    table = interaction_table(across(records).interaction)
    assert table.header == ["optimizer", "imbalanced", "default"]  # the data set with the most runs comes first
    assert table.rows[0] == ["adam", "95.00 %", "97.00 % (best, 2 seeds)"]


def test_the_csv_has_a_row_per_cell_with_unrounded_numbers():
    records = cells(CROSSED)
    rows = list(csv.DictReader(io.StringIO(interaction_csv(across(records).interaction))))
    assert [(row["optimizer"], row["data"]) for row in rows] == list(
        itertools.product(("adam", "momentum"), ("default", "imbalanced"))
    )
    values = [run.metrics["best_val_accuracy"] for run in records if run.params["data"] == "default"][:3]
    assert float(rows[0]["mean"]) == pytest.approx(np.mean(values), abs=1e-15)
    assert [row["is_best"] for row in rows] == ["1", "0", "0", "1"] and rows[0]["num_beaten"] == "1"


THREE_AXES = ("optimizer", "model", "fit.batch_size")
MODELS = {"cnn": {"adam": 0.99, "momentum": 0.98, "sgd": 0.94}, "mlp": {"adam": 0.95, "momentum": 0.965, "sgd": 0.93}}


def test_two_axes_of_options_on_one_data_set():
    found = compare(by_model(MODELS), ("optimizer", "model")).interaction
    assert (found.row_axis, found.rows) == (["optimizer"], ["adam", "momentum", "sgd"])
    assert (found.column_axis, found.columns) == (["model"], ["cnn", "mlp"])
    assert found.num_contrasts == 3 == len(found.contrasts)
    assert found.sentence.startswith("The order depends on model: adam leads with cnn, momentum with mlp (difference")


def test_the_columns_of_three_axes_are_combinations_in_the_order_of_their_values():
    records = [
        make_run("adam", seed, run_id=f"{values}{seed}", params=dict(zip(THREE_AXES, values, strict=True)))
        for values in itertools.product(("adam", "sgd"), ("cnn", "mlp"), (128, 16))
        for seed in range(2)
    ]
    found = compare(records, THREE_AXES).interaction
    assert found.columns == ["cnn batch=16", "cnn batch=128", "mlp batch=16", "mlp batch=128"]


def test_one_axis_and_a_learning_rate_grid_have_no_interaction():
    assert compare(by_model(MODELS), "optimizer").interaction is None
    records = [
        make_run("adam", seed, run_id=f"{o}{r}{seed}", params={"optimizer": o, "optimizer.learning_rate": r})
        for o, r, seed in itertools.product(("adam", "sgd"), (0.1, 0.01, 0.001), range(2))
    ]
    found = compare(records, ("optimizer", "optimizer.learning_rate"))
    assert found.grid is not None and found.interaction is None
    two_rates = [run for run in records if run.params["optimizer.learning_rate"] < 0.1]
    assert compare(two_rates, ("optimizer", "optimizer.learning_rate")).interaction.columns == ["lr=0.001", "lr=0.01"]


def test_a_third_axis_beside_a_learning_rate_grid_is_not_averaged_over():
    records = [
        make_run(
            "adam", seed, run_id=f"{o}{r}{m}{seed}", params={"optimizer": o, "optimizer.learning_rate": r, "model": m}
        )
        for o, r, m, seed in itertools.product(("adam", "sgd"), (0.1, 0.01, 0.001), ("cnn", "mlp"), range(2))
    ]
    found = compare(records, ("optimizer", "optimizer.learning_rate", "model"))
    assert found.grid is None and len(found.interaction.columns) == 6


def test_beyond_300_contrasts_only_those_of_the_leaders_are_tested():
    rng = np.random.default_rng(0)
    options = [f"o{index:02}" for index in range(12)]
    means = {model: {option: 0.9 + 0.01 * rng.random() for option in options} for model in "abcd"}
    found = compare(by_model(means), ("optimizer", "model"), resamples=0).interaction
    assert found.num_contrasts == 66 * 6
    leaders = {leader.column: leader.leader for leader in found.leaders}
    assert 0 < len(found.contrasts) <= 6
    for contrast in found.contrasts:
        assert {contrast.first, contrast.second} == {leaders[contrast.column], leaders[contrast.other_column]}
    smallest = found.contrasts[0]
    assert smallest.p_holm == pytest.approx(min(smallest.p * 396, 1))


def test_options_with_the_same_runs_count_once():
    records = cells(CROSSED)
    twins = [
        type(run)(**{**vars(run), "params": {**run.params, "optimizer": "nesterov"}})
        for run in records
        if run.params["optimizer"] == "momentum"
    ]
    alone, found = across(records), across(records + twins)
    assert found.interaction.contrasts == alone.interaction.contrasts and found.interaction.num_contrasts == 1
    assert found.interaction.same_runs == [["momentum", "nesterov"]]
    assert found.interaction.sentence.startswith(
        "The order depends on data: adam leads on default, momentum (the same runs as nesterov) on imbalanced"
    )
    assert found.mean_ranks == {"adam": 1.5, "momentum": 1.5, "nesterov": 1.5}
    rows = {row[0]: row[2] for row in interaction_table(found.interaction).rows}
    assert rows["momentum"] == rows["nesterov"] and rows["nesterov"].endswith("(best)")
    only = across([run for run in records + twins if run.params["optimizer"] != "adam"])
    assert only.verdict == "momentum and nesterov are the same runs: nothing to compare."


def test_data_sets_that_are_the_same_runs_count_once():
    """limit=null and limit=5000 of 5000 images."""
    records = [
        run_on("default", option, seed, params={"data.limit": limit}, tags={"hash.data": f"d{limit}"})
        for limit, option, seed in itertools.product((400, 5000), ("adam", "sgd"), range(3))
    ]
    same = [
        type(run)(**{**vars(run), "params": {**run.params, "data.limit": None}})
        for run in records
        if run.params["data.limit"] == 5000
    ]
    found = across(records + same, ("optimizer", "data.limit"))
    assert found.not_compared[0] == "limit=5000 and limit=null are the same runs"
    alone = across(records, ("optimizer", "data.limit"))
    assert found.p == alone.p and found.mean_ranks == alone.mean_ranks


def test_what_was_not_compared_and_why():
    assert across(sweep()).not_compared == [
        "default and imbalanced were not compared with each other: their training images differ (their validation "
        "images are the same)"
    ]
    assert across(sweep(("default", "other_split"))).not_compared == [
        "default and other_split were not compared with each other: their validation images differ"
    ]
    found = across(sweep(("default", "imbalanced", "other_split")))
    assert found.not_compared == [
        "default and imbalanced were not compared with each other: their training images differ (their validation "
        "images are the same)",
        "default and other_split; imbalanced and other_split were not compared with each other: their validation "
        "images differ",
    ]
    sources = [run for name in ("default", "fashion") for run in sweep([name], params={"source": name})]
    assert across(sources, ("optimizer", "source")).not_compared == [
        "default and fashion were not compared with each other: they are different data sets"
    ]


def test_many_data_sets_need_one_sentence():
    records = [
        run_on(
            "default",
            option,
            seed,
            params={"data.limit": limit},
            tags=hashes("default") | {"hash.data": f"{limit}", "hash.train": f"{limit}"},
        )
        for limit, option, seed in itertools.product(range(100, 1000, 100), ("adam", "sgd"), range(2))
    ]
    assert across(records, ("optimizer", "data.limit")).not_compared == [
        "limit=100, limit=200 and 7 more were not compared with each other: their training images differ (their "
        "validation images are the same)"
    ]


def test_ranks_of_data_sets_that_share_images_are_not_tested():
    found = across(sweep(("default", "imbalanced", "other_split")))
    assert found.ranking == (
        "Across 3 data sets momentum ranks best (mean rank 1 of 2); the data sets share images, and a test of the "
        "ranks would need independent ones."
    )
    assert "beats" not in found.ranking and found.p is not None


def test_the_terminal_summary_across_data_sets():
    text = terminal_summary_across(across(cells(CROSSED)))
    assert text.splitlines() == [
        "The order depends on data: adam leads on default, momentum on imbalanced (difference of differences 2.6 "
        "points [2.0, 3.2]). On default adam beats momentum; on imbalanced momentum beats adam.",
        "",
        "best_val_accuracy by optimizer and data (mean of 3 seeds):",
        "optimizer         default      imbalanced",
        "adam       97.06 % (best)         95.02 %",
        "momentum          95.98 %  96.53 % (best)",
        "",
        "default and imbalanced were not compared with each other: their training images differ (their validation "
        "images are the same)",
    ]


def test_the_terminal_summary_of_many_data_sets_has_a_row_for_each():
    records = [
        run_on("default", option, seed, params={"data.limit": limit}, tags={"hash.data": f"{limit}"})
        for limit, option, seed in itertools.product(range(100, 1000, 100), ("adam", "sgd"), range(2))
    ]
    found = across(records, ("optimizer", "data.limit"))
    lines = terminal_summary_across(found).splitlines()
    assert "The best of every column:" in lines and sum(line.startswith("limit=") for line in lines[3:13]) == 9
    narrow = terminal_summary_across(across(cells(CROSSED)), terminal_width=40)
    assert "The best of every column:" in narrow


def test_the_terminal_summary_of_two_axes_has_the_sentence():
    found = compare(by_model(MODELS), ("optimizer", "model"))
    assert found.interaction.sentence in terminal_summary(found).splitlines()
    assert len(terminal_summary(found).splitlines()) <= 24


def test_the_report_across_data_sets(tmp_path):
    records = cells(CROSSED)
    compared = compare_by_data(records, AXES)
    paths = {str(path.relative_to(tmp_path)) for path in write_report(compared, records, tmp_path)}
    assert {"by_data.csv", "across.json", "figures/by_data.png", "data2-comparison.json"} <= paths
    assert "interaction.csv" not in paths
    html, markdown = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    order = [
        html.index(text)
        for text in (
            "<h1>The order depends on data",
            "by optimizer and data (mean of 3 seeds)",
            "were not compared",
            "<h1>Data:",
        )
    ]
    assert order == sorted(order)
    assert "| adam | 97.06 % (best) | 95.02 % |" in markdown and "](figures/by_data.png)" in markdown
    assert "- default and imbalanced were not compared with each other" in markdown
    saved = json.loads((tmp_path / "across.json").read_text())
    assert saved == json.loads(to_json(across_data(compared)))
    assert saved["interaction"]["contrasts"][0]["significant"] is True


def test_the_report_of_two_axes(tmp_path):
    records = by_model(MODELS)
    found = compare(records, ("optimizer", "model"))
    paths = {str(path.relative_to(tmp_path)) for path in write_report(found, records, tmp_path)}
    assert {"interaction.csv", "figures/interaction.png"} <= paths and "by_data.csv" not in paths
    assert f"<p>{found.interaction.sentence}.</p>" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "comparison.json").read_text())["interaction"]["rows"] == ["adam", "momentum", "sgd"]


def figure_of(found):
    with drawing_settings():
        return interaction_figure(found)


def test_a_panel_per_column_with_the_means_of_its_options():
    found = across(cells(CROSSED)).interaction
    figure = figure_of(found)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["default", "imbalanced"]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    styles = option_styles(["adam", "momentum"])
    for column, axes in enumerate(figure.axes):
        points = {to_hex(line.get_color()): line for line in axes.lines if line.get_marker() in "os"}
        for row, name in enumerate(("adam", "momentum")):
            line = points[styles[name].colour]
            assert line.get_marker() == styles[name].marker
            assert line.get_xdata()[0] == found.cells[row][column].mean and line.get_ydata()[0] == row


@pytest.mark.parametrize(("num_options", "num_columns"), [(2, 2), (10, 9), (14, 11), (3, 4)])
@pytest.mark.parametrize("length", [3, 40])
def test_labels_in_the_small_multiples_do_not_overlap(num_options, num_columns, length):
    options = [f"o{index:02}".ljust(length, "x") for index in range(num_options)]
    columns = [f"m{index:02}".ljust(length, "y") for index in range(num_columns)]
    rng = np.random.default_rng(3)
    means = {column: {option: 0.9 + 0.05 * rng.random() for option in options} for column in columns}
    found = compare(by_model(means, seeds=2), ("optimizer", "model"), resamples=0).interaction
    figure = figure_of(found)
    assert len(figure.axes) == min(num_columns, 9)
    hidden = f"not shown: {num_options - 10} options, {num_columns - 9} columns"
    assert (hidden in figure.texts[1].get_text()) == (num_columns == 11)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = []
    for axes in figure.axes:
        labels = [child for child in axes.get_children() if isinstance(child, Text)]
        labels += [*axes.get_xticklabels(), *axes.get_yticklabels()]
        boxes += [label.get_window_extent(renderer) for label in labels if label.get_text()]
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    width, height = figure.bbox.width, figure.bbox.height
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)


def test_an_interaction_is_claimed_without_one_at_most_once_in_twenty():
    rng = np.random.default_rng(8)
    draws = 1000
    chosen = np.array(
        [(i, j, c, d) for i, j in itertools.combinations(range(3), 2) for c, d in itertools.combinations(range(3), 2)]
    )
    found = sum(
        compare_contrasts(rng.normal(size=(3, 3, 4)), chosen, 0.05, None).significant.any() for _ in range(draws)
    )
    assert found / draws <= 0.05 + 2.33 * (0.05 * 0.95 / draws) ** 0.5
