"""Across data sets and axes: what was not compared, tables, files, terminal, small multiples."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text
from prepared_data import CROSSED, MODELS, across, by_model, cells, hashes, run_on, sweep

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
from mnistlab.comparison.style import drawing_settings, option_styles
from mnistlab.comparison.tables import interaction_csv, interaction_table, leaders_table

AXES = ("optimizer", "data")


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
    assert table.title == "best_epoch_val_accuracy by optimizer and data (mean of 3 seeds)"
    assert table.header == ["optimizer", "default", "imbalanced"]
    assert table.rows == [["adam", "97.00 % (best)", "95.00 %"], ["sgd", "96.00 %", "96.50 % (best)"]]
    assert leaders_table(found.interaction).rows == [
        ["default", "adam", "97.00 %", "sgd", "96.00 %", "0 of 1"],
        ["imbalanced", "sgd", "96.50 %", "adam", "95.00 %", "0 of 1"],
    ]


def test_equal_means_are_both_the_best():
    found = across(cells({"default": {"adam": 0.97, "sgd": 0.97}, "imbalanced": {"adam": 0.95, "sgd": 0.96}}, noise=0))
    rows = interaction_table(found.interaction).rows
    assert rows == [["adam", "97.00 % (best)", "95.00 %"], ["sgd", "97.00 % (best)", "96.00 % (best)"]]


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
    values = [run.metrics["best_epoch_val_accuracy"] for run in records if run.params["data"] == "default"][:3]
    assert float(rows[0]["mean"]) == pytest.approx(np.mean(values), abs=1e-15)
    assert [row["is_best"] for row in rows] == ["1", "0", "0", "1"] and rows[0]["num_beaten"] == "1"


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
        "The order depends on data: adam leads on default, momentum on imbalanced (difference of differences 2.4 "
        "points [2.0, 2.8]). On default adam beats momentum; on imbalanced momentum beats adam.",
        "",
        "best_epoch_val_accuracy by optimizer and data (mean of 3 seeds):",
        "optimizer         default      imbalanced",
        "adam       96.92 % (best)         94.98 %",
        "momentum          96.06 %  96.52 % (best)",
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


@pytest.mark.long
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
    assert "| adam | 96.92 % (best) | 94.98 % |" in markdown and "](figures/by_data.png)" in markdown
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


@pytest.mark.parametrize(
    ("num_options", "num_columns"), [(2, 2), (10, 9), pytest.param(24, 11, marks=pytest.mark.long), (3, 4)]
)
@pytest.mark.parametrize("length", [3, 40])
def test_labels_in_the_small_multiples_do_not_overlap(num_options, num_columns, length):
    options = [f"o{index:02}".ljust(length, "x") for index in range(num_options)]
    columns = [f"m{index:02}".ljust(length, "y") for index in range(num_columns)]
    rng = np.random.default_rng(3)
    means = {column: {option: 0.9 + 0.05 * rng.random() for option in options} for column in columns}
    found = compare(by_model(means, seeds=2), ("optimizer", "model"), resamples=0).interaction
    figure = figure_of(found)
    assert len(figure.axes) == min(num_columns, 9)
    hidden = f"not shown: {num_options - 20} options, {num_columns - 9} columns"
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
