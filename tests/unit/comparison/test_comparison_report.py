"""The report: files, numbers, no external references, option names with special characters."""

import csv
import io
import json
import re

import numpy as np
import pytest
from synthetic_runs import MORE, STRATEGIES, diverged, flagship, make_run, make_sweep
from test_comparison_fairness import on_data

from mnistlab.comparison import RunRecord, compare, compare_by_data, terminal_summary
from mnistlab.comparison.curve_figures import option_band
from mnistlab.comparison.images import confusion_shares, disagreement_figure, most_disputed_images, prediction_shares
from mnistlab.comparison.report import write_report
from mnistlab.comparison.style import COLOURS, MARKERS, option_styles
from mnistlab.comparison.tables import options_csv, pairs_csv

LABELS = np.arange(400) % 10
IMAGES = np.random.default_rng(0).integers(0, 256, (400, 28, 28, 1), dtype=np.uint8)
EXTERNAL = re.compile(
    r"""https?:|//[a-z]|\b(src|srcset|action|poster)\s*=|@import|<script|<link|<iframe|<object""", re.I
)

EMBEDDED = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=\s]+")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    records = flagship(labels=LABELS)
    comparison = compare(records)
    return comparison, folder, write_report(comparison, records, folder, IMAGES, LABELS)


@pytest.mark.long
def test_the_caller_can_write_the_files(written, tmp_path):
    comparison, folder, files = written
    held = {}
    write_report(comparison, flagship(labels=LABELS), tmp_path, IMAGES, LABELS, held.__setitem__)
    assert [path.relative_to(tmp_path) for path in held] == [path.relative_to(folder) for path in files]
    assert held[tmp_path / "table.csv"] == (folder / "table.csv").read_bytes()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_all_files_are_written_and_listed(written):
    _, folder, paths = written
    names = {str(path.relative_to(folder)) for path in paths}
    figures = ["final_values", "val_loss", "val_accuracy", "val_loss_seconds", "val_accuracy_seconds"]
    figures += ["loss_by_option", "accuracy_by_option", "time_to_target", "confusions", "disagreement"]
    assert names == {"report.html", "report.md", "table.csv", "scores.csv", "pairs.csv", "comparison.json"} | {
        f"figures/{name}.png" for name in figures
    }
    assert all(path.stat().st_size > 200 for path in paths)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths if path.suffix == ".png")


def test_the_page_has_no_external_references(written):
    html = (written[1] / "report.html").read_text()
    assert not EXTERNAL.search(EMBEDDED.sub("", html)), EXTERNAL.search(EMBEDDED.sub("", html))
    for reference in re.findall(r'href="([^"]*)"', html) + re.findall(r"url\(([^)]*)\)", html):
        assert reference.startswith(("#", "data:image/png;base64,"))


def test_references_within_the_page_have_one_target(written):
    html = (written[1] / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r'href="#([^"]*)"', html) + re.findall(r"url\(#([^)]*)\)", html))
    assert targets and targets <= set(ids)


def test_the_verdict_comes_first(written):
    comparison, folder, _ = written
    html, markdown = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    body = re.sub(r"\s+", " ", html[html.index("<body>") + 6 :]).strip()
    assert body.startswith(f"<h1>{comparison.verdict}</h1>")
    assert markdown.replace("\\", "").startswith(f"**{comparison.verdict}**")
    assert re.sub(r"\s+", " ", terminal_summary(comparison)).startswith(comparison.verdict)


def test_figures_use_the_text_colour_of_the_page(written):
    html = (written[1] / "report.html").read_text()
    assert html.count("<svg") == 10 and "#010203" not in html and "currentColor" in html
    assert "prefers-color-scheme: dark" in html and "@media print" in html


def test_failures_are_listed_with_their_cause(written):
    html = (written[1] / "report.html").read_text()
    assert "ResourceExhaustedError: out of memory" in html
    assert "epoch 2, step 1713, learning rate 0.01, last finite loss 8.1" in html
    assert "1 of 5" in html


def test_the_csv_holds_the_unrounded_numbers(written):
    comparison, folder, _ = written
    rows = rows_of((folder / "table.csv").read_text())
    assert [row["option"] for row in rows] == [option.name for option in comparison.options]
    momentum = next(row for row in rows if row["option"] == "momentum")
    runs = [make_run("momentum", seed, labels=LABELS) for seed in range(5)]
    values = np.array([run.metrics["best_epoch_val_accuracy"] for run in runs])
    assert float(momentum["mean"]) == pytest.approx(values.mean(), abs=1e-15)
    assert float(momentum["sd"]) == pytest.approx(values.std(ddof=1), abs=1e-15)
    assert float(momentum["test_accuracy"]) == pytest.approx(np.mean([r.metrics["test_accuracy"] for r in runs]))
    assert (momentum["rank"], momentum["num_seeds"], momentum["reached_to_95"]) == ("2", "5", "5")
    batch_gd = next(row for row in rows if row["option"] == "batch_gd")
    assert (batch_gd["epochs_to_95"], batch_gd["reached_to_95"]) == ("", "0")


def test_the_pairs_csv_holds_every_pair(written):
    comparison, folder, _ = written
    rows = rows_of((folder / "pairs.csv").read_text())
    assert len(rows) == 21
    assert float(rows[0]["low"]) == comparison.pairs[0].low and rows[0]["words"] == comparison.pairs[0].words


def test_markdown_keeps_underscores_and_pipes(written):
    markdown = (written[1] / "report.md").read_text()
    assert "batch\\_gd" in markdown and "](figures/val_loss.png)" in markdown
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a$b$ & $\\frac$", "a--> x", "n" * 90, "多 | _x_"])
def test_option_names_are_escaped(name, tmp_path):
    records = [
        RunRecord(
            **{**vars(run), "params": {**run.params, "optimizer": name if run.params["optimizer"] == "adam" else "sgd"}}
        )
        for run in make_sweep(["adam", "sgd"], 2)
    ]
    write_report(compare(records), records, tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert "<script" not in html and html.count("<svg") == html.count("</svg>") == 8
    assert len(rows_of((tmp_path / "table.csv").read_text())) == 2


def test_every_data_set_has_a_section(tmp_path):
    records = make_sweep(["adam", "sgd"], 3) + on_data(make_sweep(["adam", "sgd"], 3), "f1f1", "fashion_mnist")
    paths = write_report(compare_by_data(records), records, tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert "<h1>sgd leads on both data sets (mnist, fashion_mnist). On each data set sgd beats adam.</h1>" in html
    assert "Data: mnist" in html and "Data: fashion_mnist" in html
    assert {"table.csv", "data2-table.csv"} <= {path.name for path in paths}
    assert not EXTERNAL.search(EMBEDDED.sub("", html))


@pytest.mark.parametrize(
    "records", [make_sweep(num_seeds=1), make_sweep(["adam"]), [make_run("adam", 0, status="FAILED")]]
)
def test_sweeps_with_few_runs_have_a_report(records, tmp_path):
    assert (write_report(compare(records), records, tmp_path)[0]).exists()


def test_figures_without_data_are_omitted(tmp_path):
    records = make_sweep(["adam", "sgd"], history={"epoch_seconds": []})
    names = {path.stem for path in write_report(compare(records), records, tmp_path)}
    assert "val_loss" in names and "val_loss_seconds" not in names and "disagreement" not in names
    bare = [RunRecord(run.run_id, params=run.params, metrics=run.metrics) for run in records]
    assert "final_values" in {path.stem for path in write_report(compare(bare), bare, tmp_path / "bare")}


def test_an_options_style_depends_only_on_the_sorted_names():
    names = [*STRATEGIES, *MORE]
    assert option_styles(names) == option_styles(reversed(names))
    styles = option_styles(names).values()
    assert len({style.colour for style in styles}) == len({style.marker for style in styles}) == 10


def test_colours_stand_out_on_white_and_on_dark():
    """At least 2:1 on both cards (WCAG's formula), 3:1 on one; markers carry the rest."""
    for colour in COLOURS:
        on_white, on_dark = contrast(colour, "#f5f6f8"), contrast(colour, "#1e2227")
        assert min(on_white, on_dark) > 2 and max(on_white, on_dark) > 3, colour
    assert len(MARKERS) >= len(COLOURS)


def contrast(one, other):
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_confusions_are_shares_over_all_seeds():
    records = make_sweep(["adam", "sgd"], 2, labels=LABELS)
    shares = confusion_shares(compare(records), records)["sgd"]
    total = sum(np.array(run.confusion) for run in records if run.params["optimizer"] == "sgd")
    np.testing.assert_allclose(shares, total / 80)


def test_the_most_disputed_image_has_different_predictions_per_option():
    def record(option, seed, predicted):
        answers = {"predicted": np.array(predicted), "confidence": np.ones(4)}
        return make_run(option, seed, predictions=answers)

    records = [record("adam", seed, [1, 2, third, 4]) for seed, third in enumerate((3, 0, 5))]
    records += [record("sgd", seed, [1, 7, third, 4]) for seed, third in enumerate((3, 0, 5))]
    votes = prediction_shares(compare(records), records, 4)
    assert votes["sgd"][1, 7] == 1.0
    np.testing.assert_allclose(votes["adam"][2][[0, 3, 5]], 1 / 3)
    assert most_disputed_images(votes, 4).tolist() == [1]


def test_no_image_is_drawn_where_the_options_agree():
    answers = {"predicted": np.array([1, 2, 3, 4]), "confidence": np.ones(4)}
    records = [make_run(option, seed, predictions=answers) for option in ("adam", "sgd") for seed in range(3)]
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.array([1, 2, 3, 3])
    assert disagreement_figure(compare(records), records, images, labels) is None


def test_no_heavy_library_is_imported():
    import subprocess
    import sys

    code = (
        "import sys, mnistlab.comparison; "
        "heavy = {'matplotlib', 'mlflow', 'keras', 'tensorflow', 'hydra', 'pandas'}; "
        "import mnistlab.comparison.tables; assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "import mnistlab.comparison.report; heavy -= {'matplotlib'}; heavy |= {'matplotlib.pyplot'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


@pytest.mark.long
def test_very_many_options_are_complete_in_the_files_and_few_on_the_page(tmp_path):
    strategies = {f"option{index:03d}": (0.9 + index / 3000, 0.002, 32, 0.01, 0.4) for index in range(200)}
    records = make_sweep(strategies, 10, epochs=10, strategies=strategies, labels=LABELS)
    comparison = compare(records)
    write_report(comparison, records, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert len(page.encode()) < 2_500_000
    assert "Ranking (the best 50 of 200 options; all are in table.csv)" in page
    assert "the first 50 of 199; all 19900 are in pairs.csv" in page
    assert page.count('<th scope="row">') == 4 * 50  # ranking, pairs, diagnosis, time to target
    rows = rows_of((tmp_path / "table.csv").read_text())
    assert {row["option"] for row in rows} == set(strategies)
    assert [float(row["mean"]) for row in rows] == [option.mean for option in comparison.options]
    assert [row["settled_epoch"] for row in rows] == [
        str(option.reading.settled_epoch) for option in comparison.options
    ]
    scores = rows_of((tmp_path / "scores.csv").read_text())
    assert {(row["option"], int(row["seed"])): float(row["score"]) for row in scores} == {
        (run.params["optimizer"], run.seed): run.metrics["best_epoch_val_accuracy"] for run in records
    }
    pairs = rows_of((tmp_path / "pairs.csv").read_text())
    assert len({frozenset((row["first"], row["second"])) for row in pairs}) == 200 * 199 / 2
    saved = json.loads((tmp_path / "comparison.json").read_text())
    assert [pair["p_holm"] for pair in saved["pairs"]] == [pair.p_holm for pair in comparison.pairs]
    assert [option["scores"] for option in saved["options"]] == [option.scores for option in comparison.options]


def test_csv_functions_work_on_their_own():
    comparison = compare(make_sweep(["adam", "sgd"]))
    assert rows_of(options_csv(comparison))[0]["optimizer"] == "sgd"
    assert rows_of(pairs_csv(comparison))[0]["first"] == "sgd"


def test_curves_average_trained_runs_only():
    group = [*make_sweep(["rmsprop"], 3), diverged("rmsprop", 3)]
    band = option_band(group, "accuracy")
    expected = np.mean([run.history["val_accuracy"] for run in group[:3]], axis=0)
    np.testing.assert_allclose(band.mean, expected)
    assert not band.diverged and option_band(group[3:], "accuracy").diverged


def test_only_wrong_predictions_are_in_a_box():
    records = make_sweep(["adam", "sgd"], 2, labels=LABELS)
    comparison = compare(records)
    votes = prediction_shares(comparison, records, len(LABELS))
    shown = most_disputed_images(votes, 10)
    wrong = sum(int(shares[index].argmax() != LABELS[index]) for shares in votes.values() for index in shown)
    figure = disagreement_figure(comparison, records, IMAGES, LABELS)
    assert 0 < wrong < 20 and len(figure.axes[0].patches) == wrong
