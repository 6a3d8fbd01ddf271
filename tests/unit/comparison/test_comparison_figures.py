"""The figures of a comparison: everything inside its axes, labels that do not overlap, times, footnotes."""

import functools
import itertools
import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from synthetic_runs import diverged, failed, flagship, make_run, make_sweep

from mnistlab.comparison import RunRecord, compare
from mnistlab.comparison.curve_figures import curves_figure, learning_rates_figure
from mnistlab.comparison.curves import time_to_target, training_seconds
from mnistlab.comparison.figures import final_values_figure, learning_rate_figure, time_to_target_figure
from mnistlab.comparison.images import confusion_shares
from mnistlab.comparison.layout import short_names, spread_out, text_inches
from mnistlab.comparison.option_panels import option_panels_figure
from mnistlab.comparison.scales import Scale, choose_scale
from mnistlab.comparison.style import drawing_settings, option_styles, shown_options

NAME = "adam lr={:g} batch=128"


def many(num_options=20, name=NAME, **settings):
    """A sweep of options with long names, each better than the next; the last one is at chance."""
    accuracies = [0.97 - 0.005 * index for index in range(num_options - 1)] + [0.1]
    strategies = {
        name.format(0.001 * (index + 1)): (accuracy, 0.002, 32, 0.01, 0.3 + 0.05 * index)
        for index, accuracy in enumerate(accuracies)
    }
    return make_sweep(tuple(strategies), strategies=strategies, **settings)


def difficult():
    """One seed and several, one epoch and several, diverged in two ways, failed, and a slow option that explodes."""
    exploding = [2.0, 50.0, 4e3, 1e5, 1e6, 3e6]
    nothing = {"loss": [math.nan], "val_loss": [math.nan], "accuracy": [0.1], "val_accuracy": [0.1]}
    return [
        *make_sweep(["adam", "sgd"], num_seeds=2, epochs=6),
        make_run("adagrad", 0, epochs=1),
        diverged("rmsprop", 0, epochs=6),
        make_run("lion", 0, tags={"outcome": "diverged"}, history={**nothing, "epoch_seconds": [1.0]}),
        failed("nadam", 0),
        make_run(
            "adamw", 0, epochs=6, history={"loss": exploding, "val_loss": exploding, "epoch_seconds": [200.0] * 6}
        ),
    ]


def same_numbers():
    """Three options with exactly the same runs, two of them with long names that differ in the middle."""
    runs = make_sweep(["adam"], num_seeds=2, epochs=5)
    names = ["adam", *(f"a long name of an optimizer that differs here: {n} at its end" for n in ("one", "two"))]
    return [
        RunRecord(**{**vars(run), "run_id": name + run.run_id, "params": {**run.params, "optimizer": name}})
        for name in names
        for run in runs
    ]


SWEEPS = {
    "the guide's seven": flagship,
    "two": lambda: make_sweep(["adam", "sgd"], num_seeds=1),
    "one epoch": lambda: make_sweep(num_seeds=2, epochs=1),
    "twenty": lambda: many(num_seeds=2, epochs=12),
    "difficult": difficult,
    "same": same_numbers,
}


def figures_of(records):
    """All figures of a comparison of optimizers, by name."""
    comparison = compare(records, "optimizer", resamples=200)
    both = (comparison, records)
    with drawing_settings():
        figures = {
            "final values": final_values_figure(comparison),
            "time to target": time_to_target_figure(comparison),
            "rates": learning_rates_figure(*both),
        }
        for metric in ("loss", "accuracy"):
            figures[metric] = curves_figure(*both, metric)
            figures[f"{metric} over seconds"] = curves_figure(*both, metric, "seconds")
            figures[f"{metric} by option"] = option_panels_figure(*both, metric)
    return {name: figure for name, figure in figures.items() if figure is not None}


@functools.cache
def figures_of_sweep(sweep):
    """The figures of one of SWEEPS, each with the boxes of its texts."""
    return {name: (figure, text_boxes(figure)) for name, figure in figures_of(SWEEPS[sweep]()).items()}


def curve_figure(records, metric="accuracy", over="epochs"):
    with drawing_settings():
        return curves_figure(compare(records, "optimizer", resamples=0), records, metric, over)


def footnote(figure):
    return figure.texts[1].get_text().replace("\n", " ")


def text_boxes(figure):
    """The boxes of all texts, in pixels."""
    canvas = FigureCanvasAgg(figure)
    with drawing_settings():
        canvas.draw()  # this is when matplotlib places the names of the axes
    renderer = canvas.get_renderer()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [child for child in axes.get_children() if isinstance(child, Text)]
        texts += [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
    return {text: text.get_window_extent(renderer) for text in texts if text.get_text().strip() and text.get_visible()}


def overlapping(boxes):
    pairs = itertools.combinations(boxes.items(), 2)
    return [(one.get_text(), other.get_text()) for (one, a), (other, b) in pairs if a.shrunk(0.98, 0.9).overlaps(b)]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_no_texts_overlap_or_leave_the_figure(sweep):
    for name, (figure, boxes) in figures_of_sweep(sweep).items():
        assert overlapping(boxes) == [], name
        for text, box in boxes.items():
            inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
            assert inside, (name, text.get_text())


@pytest.mark.parametrize("sweep", SWEEPS)
def test_all_that_is_drawn_is_inside_the_axes(sweep):
    for name, (figure, _) in figures_of_sweep(sweep).items():
        for axes in figure.axes:
            for line in (line for line in axes.lines if line.get_transform() == axes.transData):
                positions = axes.transData.transform(line.get_xydata())
                finite = positions[np.isfinite(positions).all(axis=1)]
                inside = axes.transAxes.inverted().transform(finite)
                assert ((inside >= -1e-6) & (inside <= 1 + 1e-6)).all(), (name, line.get_xydata())
            low, high = sorted(axes.get_ylim())
            bands = [path.vertices[:, 1] for one in axes.collections for path in one.get_paths()]
            assert all(low <= band.min() and band.max() <= high for band in bands), name


@pytest.mark.parametrize("sweep", SWEEPS)
def test_labels_stay_clear_of_the_ends_of_the_curves(sweep):
    for name, (figure, boxes) in figures_of_sweep(sweep).items():
        axes = figure.axes[0]
        ends = [axes.transData.transform(line.get_xydata()[-1]) for line in axes.lines if len(line.get_xydata()) > 1]
        labels = [box for text, box in boxes.items() if text.get_transform() == axes.transAxes]
        assert not [1 for x, y in ends for box in labels if box.contains(x, y)], name


def test_every_option_has_a_curve_and_a_label_or_is_named_below():
    records = difficult()
    names = shown_options(compare(records, "optimizer", resamples=0))
    for metric in ("loss", "accuracy"):
        figure = curve_figure(records, metric)
        labels = {text.get_text().removesuffix(" (diverged)") for text in figure.axes[0].texts}
        missing = {name for name in names if name not in labels}
        assert missing == ({"lion", "nadam"} if metric == "loss" else {"nadam"})
        assert f"no curve: {', '.join(sorted(missing))}" in footnote(figure)


def test_an_option_at_chance_does_not_compress_the_others():
    records = make_sweep(num_seeds=1, epochs=5)
    axes = curve_figure(records).axes[0]
    position = {
        option: axes.transAxes.inverted().transform(axes.transData.transform((5, run.history["val_accuracy"][-1])))[1]
        for option, run in ((run.params["optimizer"], run) for run in records)
    }
    assert 0 < position["batch_gd"] < 0.2 < position["minibatch_gd"] < position["sgd"] < 1
    assert position["sgd"] - position["adam"] > 0.1  # 97.2 and 96.0 %, beside 12 %


def test_the_axis_of_seconds_starts_at_zero():
    for metric in ("loss", "accuracy"):
        for records in (flagship(), difficult(), many(num_seeds=1)):
            axes = curve_figure(records, metric, "seconds").axes[0]
            assert axes.get_xlim()[0] == 0 and 0 in axes.get_xticks()


def test_the_axis_of_epochs_has_whole_epochs_from_one():
    for epochs in (1, 2, 5, 12, 30, 200):
        records = make_sweep(["adam", "sgd"], num_seeds=1, epochs=epochs)
        comparison = compare(records, "optimizer", resamples=0)
        for figure in (curves_figure, option_panels_figure):
            for axes in figure(comparison, records, "accuracy").axes:
                ticks = sorted(axes.get_xticks())
                assert ticks[0] == 1 and ticks[-1] <= epochs and all(tick == int(tick) for tick in ticks)
                assert 0 < axes.get_xlim()[0] < 1 < axes.get_xlim()[1]
                assert len(ticks) > 1 or epochs == 1


def test_compilation_is_no_part_of_the_seconds():
    run = make_run("adam", 0, epochs=4, history={"epoch_seconds": [9.0, 1.0, 2.0, 1.5]})
    assert training_seconds(run) == [1.5, 1.0, 2.0, 1.5]
    fast_start = make_run("adam", 0, epochs=3, history={"epoch_seconds": [0.5, 1.0, 2.0]})
    assert training_seconds(fast_start) == [0.5, 1.0, 2.0]
    assert training_seconds(make_run("adam", 0, epochs=1, history={"epoch_seconds": [9.0]})) == [9.0]
    assert training_seconds(make_run("adam", 0, history={"epoch_seconds": []})) == []
    axes = curve_figure([run], over="seconds").axes[0]
    curve = next(line for line in axes.lines if len(line.get_xdata()) == 4)
    assert curve.get_xdata() == pytest.approx([1.5, 2.5, 4.5, 6.0])
    assert time_to_target([run], 0.5).seconds == 1.5


def test_the_footnote_says_how_far_compilation_is_excluded():
    assert "without compilation" in footnote(curve_figure(make_sweep(num_seeds=1), over="seconds")).lower()
    assert "compilation" not in footnote(curve_figure(make_sweep(num_seeds=1)))
    one_epoch = footnote(curve_figure(make_sweep(num_seeds=1, epochs=1), over="seconds"))
    assert "one epoch: includes compilation" in one_epoch.lower() and "without" not in one_epoch
    mixed = [make_run("adagrad", 0, epochs=1), make_run("sgd", 0, epochs=3)]
    assert "adagrad: one epoch, includes compilation" in footnote(curve_figure(mixed, over="seconds"))


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_footnotes_speak_of_seeds_only_if_there_are_several(num_seeds):
    for name, figure in figures_of(make_sweep(num_seeds=num_seeds)).items():
        note = footnote(figure)
        assert ("over seeds" in note or "interval" in note) == (num_seeds > 1), name
    rates = [make_run("adam", seed, history={"learning_rate": [0.2, 0.1, 0.05]}) for seed in range(num_seeds)]
    figure = figures_of(rates)["rates"]
    assert ("over seeds" in footnote(figure)) == (num_seeds > 1)


def test_twenty_options_are_all_shown_and_distinguishable():
    records = many(num_seeds=1)
    names = shown_options(compare(records, "optimizer", resamples=0))
    assert len(names) == 20
    assert len({(style.colour, style.marker, style.line) for style in option_styles(names).values()}) == 20
    figures = figures_of(records)
    assert len(figures["loss by option"].axes) == 20
    width, height = figures["accuracy"].axes[0].bbox.size / figures["accuracy"].dpi
    assert width > 2.2 and height > 2.4
    for axes in figures["accuracy by option"].axes:
        assert min(axes.bbox.size / figures["accuracy by option"].dpi) > 0.9


def test_the_figures_say_how_many_options_they_leave_out():
    records = many(24, num_seeds=1)
    for name, figure in figures_of(records).items():
        assert "20 of 24 options: the best" in footnote(figure), name


def test_there_is_a_confusion_matrix_of_at_most_ten_options():
    labels = np.arange(100) % 10
    records = many(12, num_seeds=1, labels=labels)
    assert len(confusion_shares(compare(records, "optimizer", resamples=0), records)) == 10


def test_a_panel_has_training_and_validation_of_its_option():
    records = make_sweep(["adam", "sgd"], num_seeds=1, epochs=4)
    for metric in ("loss", "accuracy"):
        figure = figures_of(records)[f"{metric} by option"]
        for axes, name in zip(figure.axes, ("sgd", "adam"), strict=True):
            history = next(run.history for run in records if run.params["optimizer"] == name)
            assert axes.get_title(loc="left") == name
            *_, training, validation = axes.lines
            assert list(validation.get_ydata()) == pytest.approx(history[f"val_{metric}"])
            assert list(training.get_ydata()) == pytest.approx(history[metric])
            assert training.get_linestyle() == "--" and validation.get_linestyle() == "-"


def test_a_single_epoch_is_a_mark():
    axes = figures_of(make_sweep(["adam"], num_seeds=2, epochs=1))["loss by option"].axes[0]
    assert [line.get_marker() for line in axes.lines] == ["o", "o"]
    (span,) = axes.collections[0].get_segments()
    values = [run.history["val_loss"][0] for run in make_sweep(["adam"], num_seeds=2, epochs=1)]
    assert span[:, 1].tolist() == [min(values), max(values)]


def test_learning_rates_that_change_are_drawn_per_option():
    records = make_sweep(["adam", "sgd"], num_seeds=2)
    assert learning_rates_figure(compare(records), records) is None
    falling = [
        make_run("adam", seed, history={"learning_rate": [0.2, 0.1, scale]}) for seed, scale in ((0, 0.01), (1, 0.03))
    ]
    records = [*falling, *make_sweep(["sgd"], num_seeds=2)]
    axes = learning_rates_figure(compare(records), records).axes[0]
    curves = {tuple(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) == 3}
    assert {(0.2, 0.1, 0.02), (0.01, 0.01, 0.01)} <= curves
    assert axes.get_yscale() == "log"  # sgd's 0.01 is less than a tenth of adam's 0.2


def test_a_rate_that_ends_at_zero_is_at_the_lower_edge():
    records = [make_run("adam", 0, history={"learning_rate": [0.1, 0.01, 0.0]}), make_run("sgd", 0)]
    figure = figures_of(records)["rates"]
    (curve,) = [line for line in figure.axes[0].lines if list(line.get_ydata()) == [0.1, 0.01, 0.01]]
    assert "below 0.01 at the lower edge" in footnote(figure).lower() and curve.get_xdata()[-1] == 3


def test_the_learning_rates_of_many_optimizers_have_labels_that_do_not_overlap():
    records = [
        make_run(
            option,
            seed,
            strategies={option: (0.9, 0.01, 32, 0.01, 0.4)},
            params={"optimizer.learning_rate": rate},
            metrics={"best_val_accuracy": 0.95 - 0.002 * index - 0.1 * abs(math.log10(rate / 0.01)) + 0.02 * seed},
        )
        for index, option in enumerate(f"an optimizer with name {n}" for n in range(14))
        for rate in (0.0001, 0.01, 1.0)
        for seed in range(2)
    ]
    comparison = compare(records, ("optimizer", "optimizer.learning_rate"), resamples=0)
    with drawing_settings():
        figure = learning_rate_figure(comparison)
    assert overlapping(text_boxes(figure)) == [] and len(figure.axes[0].texts) == 14
    low, high = figure.axes[0].get_ylim()
    for row in comparison.grid.rows:
        for point in row.points:
            assert low <= point.mean - point.sd and point.mean + point.sd <= high


def test_targets_that_are_reached_at_about_the_same_time_share_a_label():
    records = make_sweep(["adam"], num_seeds=1, epochs=3, history={"val_accuracy": [0.96, 0.975, 0.99]})
    records += make_sweep(["sgd"], num_seeds=1, epochs=3, history={"epoch_seconds": [100.0] * 3})
    texts = [text.get_text() for text in figures_of(records)["time to target"].axes[0].texts]
    assert "95, 97, 98" in texts


# --- scales ---------------------------------------------------------------------------------------------------------


def test_an_outlying_option_does_not_compress_the_range_of_the_others():
    finals = {"batch_gd": 0.12, "minibatch_gd": 0.927, "adam": 0.958, "sgd": 0.971}
    scale = choose_scale(finals, {name: [value] for name, value in finals.items()}, "higher")
    assert 0.8 < scale.edge < 0.927 and scale.low < 0.12
    losses = {name: 1 - value for name, value in finals.items()}
    mirrored = choose_scale(losses, {name: [value] for name, value in losses.items()}, "lower")
    assert 0.073 < mirrored.edge < 0.2 and mirrored.high > 0.88 and mirrored.side == "high"
    two = {"batch_gd": 0.12, "sgd": 0.971}
    assert choose_scale(two, {name: [value] for name, value in two.items()}, "higher").edge is None


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize(("edge", "side"), [(None, "low"), (0.1, "low"), (0.1, "high")])
def test_a_scale_and_its_inverse_agree(logarithmic, edge, side):
    scale = Scale(0.001, 1.0, edge, side, logarithmic)
    values = np.geomspace(0.001, 1.0, 50)
    positions = scale.position(values)
    assert positions[0] == pytest.approx(0) and positions[-1] == pytest.approx(1) and (np.diff(positions) > 0).all()
    np.testing.assert_allclose(scale.value(positions), values)


@pytest.mark.parametrize("scale", [Scale(0.0, 0.98, 0.9), Scale(0.05, 3e6, 0.3, "high", True), Scale(0.09, 2.4)])
@pytest.mark.parametrize("spacing", [0.05, 0.15])
def test_ticks_keep_their_distance_and_are_in_both_parts(scale, spacing):
    ticks = scale.ticks(spacing)
    assert (np.diff(scale.position(ticks)) >= spacing).all() and len(ticks) >= 3
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    if scale.edge is not None:
        assert min(ticks) < scale.edge < max(ticks)


# --- layout ---------------------------------------------------------------------------------------------------------


def test_labels_are_moved_apart_as_little_as_possible():
    placed = spread_out([0.5, 0.5, 0.51, 0.98, 0.99, 2.0], 0.1)
    assert all(b - a >= 0.1 - 1e-9 for a, b in itertools.pairwise(sorted(placed)))
    assert max(placed) <= 1.0 and placed[3] < placed[4] < placed[5]
    assert placed[0] == pytest.approx(0.4033, abs=1e-3)  # the three around 0.5 stay centred there
    np.testing.assert_allclose(spread_out([0.1, 0.5, 0.9], 0.1), [0.1, 0.5, 0.9])
    assert max(spread_out([0.2] * 30, 0.1)) <= 1 and min(np.diff(spread_out([0.2] * 30, 0.1))) > 0.03


def test_short_names_stay_different():
    assert short_names(["adam", "sgd"]) == {"adam": "adam", "sgd": "sgd"}
    middle = [f"an optimizer with momentum {n} and a schedule" for n in (0.8, 0.9)]
    assert len(set(short_names(middle).values())) == 2
    alike = [f"{'a' * 60}{n}{'b' * 60}" for n in range(3)]
    short = short_names([*alike, "adam"])
    assert len(set(short.values())) == 4 and max(map(len, short.values())) <= 30 and short["adam"] == "adam"


def test_text_is_measured():
    with drawing_settings():
        assert text_inches(["mmmm"]) > 1.5 * text_inches(["iiii"])
        assert text_inches(["a\nabcdef", "abc"]) == text_inches(["abcdef"])
        assert text_inches([]) == 0
