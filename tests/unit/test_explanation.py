"""What an explanation shows: which images are chosen, what is left out and why, and what the figures contain."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mnistlab.evaluation import Evaluation, drawing, embedding, explanation, explanation_figures
from mnistlab.evaluation.confusions import frequent_confusions, most_confident_right
from mnistlab.evaluation.explanation import SeenImages, explain

NAMES = ("ant", "bee", "cow")
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2])
PREDICTED = np.array([0, 1, 1, 1, 0, 1, 2, 1])
CONFIDENCE = np.array([0.9, 0.6, 0.8, 0.7, 0.95, 0.99, 0.5, 0.4])


def evaluated(labels=LABELS, predicted=PREDICTED, confidence=CONFIDENCE, names=NAMES) -> Evaluation:
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (labels, predicted), 1)
    return Evaluation(labels, predicted, confidence, confusion, tuple(names), {}, "", {})


class FakeView:
    """Answers with arrays whose values are known, or with the reason that it is given."""

    def __init__(self, **reasons: str) -> None:
        self.reasons = reasons
        self.asked: dict[str, list] = {"saliency": [], "last_hidden": []}

    def first_layer(self):
        return self.reasons.get("first_layer") or ("units", "dense", np.ones((3, 4, 5, 1), np.float32))

    def saliency(self, images, classes):
        self.asked["saliency"].append((images[:, 0, 0, 0].tolist(), classes.tolist()))
        return self.reasons.get("saliency") or np.ones(images.shape[:3], np.float32)

    def class_activation(self, images, classes):
        return self.reasons.get("class_activation") or np.zeros(images.shape[:3], np.float32)

    def last_hidden(self, images):
        if self.reasons.get("last_hidden") == "error":
            raise ZeroDivisionError("a layer\nfails")
        return self.reasons.get("last_hidden") or images.reshape(len(images), -1).astype(np.float32)


def seen(rows: np.ndarray) -> np.ndarray:
    """Images of 4x5 whose values are their row numbers."""
    return np.broadcast_to(rows[:, np.newaxis, np.newaxis, np.newaxis], (len(rows), 4, 5, 1)).astype(np.uint8)


IMAGES = SeenImages("digits, test images", seen, lambda raw: raw)


def test_the_most_frequent_confusions_with_the_most_confident_images_first() -> None:
    found = frequent_confusions(evaluated(), count=2)
    assert [(one.true, one.predicted, one.count, one.of) for one in found] == [(0, 1, 2, 3), (2, 1, 1, 2)]
    assert [one.rows.tolist() for one in found] == [[2, 1], [7]]
    assert [one.rows.tolist() for one in frequent_confusions(evaluated(), count=1, examples=1)] == [[2]]
    assert frequent_confusions(evaluated(predicted=LABELS)) == []


def test_right_predictions_are_of_every_class_first() -> None:
    assert most_confident_right(evaluated()).tolist() == [5, 0, 6, 3]
    assert most_confident_right(evaluated(), 2).tolist() == [5, 0]


def test_every_figure_has_its_images_and_the_class_whose_score_is_explained() -> None:
    view = FakeView()
    found = explain(evaluated(), IMAGES, view)
    assert (tuple(found.shown), found.left_out) == (explanation.FIGURES, {})
    assert view.asked["saliency"] == [([5, 0, 6, 3], [1, 0, 2, 1]), ([4, 2, 1, 7], [0, 1, 1, 1])]
    _, maps, truth, predicted, confidence, name = found.shown["saliency_wrong"]
    assert (truth, predicted) == (["bee", "ant", "ant", "cow"], ["ant", "bee", "bee", "bee"])
    assert (len(maps), name, confidence.tolist()) == (2, "digits, test images", [0.95, 0.8, 0.6, 0.4])
    assert found.shown["first_layer"][3] == NAMES  # the units of the first layer are the classes
    assert found.metrics("test")["test_mean_confidence"] == pytest.approx(CONFIDENCE.mean())
    assert found.report()["figures"] == list(explanation.FIGURES)
    assert next(iter(found.lines())).startswith("expected calibration error 0.")


def test_what_does_not_apply_is_left_out_with_the_reason() -> None:
    reasons = {name: f"no {name}" for name in ("first_layer", "saliency", "class_activation", "last_hidden")}
    found = explain(evaluated(), IMAGES, FakeView(**reasons))
    assert list(found.shown) == ["reliability", "confusions"]
    assert found.left_out == {
        "first_layer": "no first_layer",
        "saliency_right": "no saliency",
        "saliency_wrong": "no saliency",
        "embedding": "no last_hidden",
    }
    assert "embedding is left out: no last_hidden." in list(found.lines())
    only_map = explain(evaluated(), IMAGES, FakeView(class_activation="no maps"))
    assert len(only_map.shown["saliency_right"][1]) == 1


def test_an_error_leaves_one_figure_out() -> None:
    found = explain(evaluated(), IMAGES, FakeView(last_hidden="error"))
    assert found.left_out == {"embedding": "ZeroDivisionError: a layer fails"}


@pytest.mark.parametrize(
    ("given", "drawn", "reason"),
    [
        (evaluated(predicted=LABELS), 4, "no image was classified wrongly"),
        (evaluated(predicted=(LABELS + 1) % 3), 5, "no image was classified rightly"),
        (evaluated(np.zeros(8, int), np.zeros(8, int), np.ones(8), ["one"]), 2, "there is one class only"),
        (evaluated(confidence=np.full(8, np.nan)), 1, "the model's outputs are not finite numbers"),
        (evaluated(LABELS[:0], LABELS[:0], CONFIDENCE[:0]), 1, "there are no images"),
        (evaluated(LABELS[:3], PREDICTED[:3], CONFIDENCE[:3]), 5, "an embedding needs at least 5 images; there are 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusual_results(given: Evaluation, drawn: int, reason: str) -> None:
    found = explain(given, IMAGES, FakeView())
    assert len(found.shown) == drawn
    assert reason in found.left_out.values()
    assert all(np.isfinite(value) for value in found.metrics("test").values())


def test_an_embedding_separates_what_is_apart_and_repeats() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    features = generator.normal(size=(60, 8)) + 50 * labels[:, np.newaxis]
    points = embedding.in_plane(features)
    assert points.shape == (60, 2)
    middle = np.array([points[labels == one].mean(axis=0) for one in (0, 1)])
    nearest = np.linalg.norm(points[:, np.newaxis] - middle, axis=-1).argmin(axis=1)
    assert nearest.tolist() == labels.tolist()
    assert np.array_equal(points, embedding.in_plane(features))
    assert embedding.in_plane(features[:, :1]).shape == (60, 2)


def test_outputs_without_an_embedding() -> None:
    assert embedding.problem(np.ones((9, 3))) == "the outputs of the last hidden layer are the same for all images"
    assert "not finite" in embedding.problem(np.full((9, 3), np.nan))
    assert embedding.problem(np.eye(9)) == ""
    with pytest.raises(ValueError, match="are the same"):
        embedding.in_plane(np.ones((9, 3)))


def test_at_most_two_thousand_images_are_embedded() -> None:
    assert embedding.sample_rows(7).tolist() == list(range(7))
    rows = embedding.sample_rows(10_000)
    assert len(set(rows.tolist())) == 2000 and sorted(rows) == rows.tolist()


# ---- figures --------------------------------------------------------------------------------------------------------


def images_of(figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def test_weights_share_a_scale_that_is_symmetric_around_zero() -> None:
    weights = np.zeros((2, 2, 2, 1), np.float32)
    weights[0, 0, 0], weights[1, 1, 1], weights[1, 0, 0] = 0.5, -1.0, 1.0
    figure = explanation_figures.first_layer(weights, "filters", "conv2d")
    limit = np.quantile(np.abs(weights), 0.995)
    half = round(255 * (0.5 / limit / 2 + 0.5))
    assert [image.tolist() for image in images_of(figure)] == [[[half, 128], [128, 128]], [[255, 128], [128, 0]]]
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == [f"{-limit:.2g}", "0", f"{limit:.2g}"]
    assert figure.get_suptitle() == "First layer, conv2d: weights of 2 filters"


def test_of_many_units_those_with_the_largest_weights_are_shown() -> None:
    weights = np.arange(1, 121, dtype=np.float32).reshape(120, 1, 1, 1)
    figure = explanation_figures.first_layer(weights, "units", "dense")
    assert len(images_of(figure)) == 100
    assert figure.get_suptitle().endswith("weights of 120 units\nthe 100 with the largest weights")


def test_colours_and_other_channels() -> None:
    coloured = explanation_figures.first_layer(np.ones((2, 3, 3, 3)), "filters", "conv")
    assert images_of(coloured)[0].shape == (3, 3, 3)
    mean = explanation_figures.first_layer(np.ones((2, 3, 3, 4)), "filters", "conv")
    assert images_of(mean)[0].shape == (3, 3)
    assert "the mean of 4 channels" in mean.get_suptitle()
    assert (
        images_of(explanation_figures.first_layer(np.zeros((1, 2, 2, 1)), "units", "d"))[0].tolist() == [[128] * 2] * 2
    )


def test_saliency_is_red_on_the_faint_image() -> None:
    pixels = np.full((1, 2, 2, 1), 255, np.uint8)  # white strokes are shown black
    maps = np.array([[[0, 0], [0, 3.0]]])
    figure = explanation_figures.saliency_right(pixels, [maps, 0 * maps], ["a"], ["a"], np.array([0.5]), "x")
    (shown,) = images_of(figure)
    faint = round(255 - 0.35 * 255)
    assert shown[0].tolist() == [[0] * 3] * 2 + [[255] * 3] + [[faint] * 3] * 2 + [[255] * 3] + [[faint] * 3] * 2
    assert shown[1, 3].tolist() == [faint] * 3 and shown[1, 4].tolist() == [200, 0, 0]


def test_the_rows_of_confusions_have_count_and_share() -> None:
    pixels = [np.zeros((2, 4, 4, 1), np.uint8), np.zeros((1, 4, 4, 1), np.uint8)]
    counts = [(20, 1000), (1, 3)]
    figure = explanation_figures.confusions(pixels, [("a", "b"), ("c$", "d")], counts, "x")
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "a\n→ b\n20 of 1,000 (2.0%)",
        "c\\$\n→ d\n1 of 3 (33.3%)",
    ]
    assert len(images_of(figure)) == 3


@pytest.mark.parametrize("num_classes", [2, 10, 47, 100])
def test_names_in_an_embedding_do_not_overlap(num_classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(num_classes)
    labels = generator.integers(0, num_classes, 1500)
    points = generator.uniform(-60, 60, (num_classes, 2))[labels] + generator.normal(size=(1500, 2)) * 4
    monkeypatch.setattr(embedding, "in_plane", lambda features: points)
    names = [f"{'class_name' * (num_classes != 47)}{index}" for index in range(num_classes)]
    figure = explanation_figures.embedding(points, labels, labels, names, "x")
    figure.set_dpi(100)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) >= 0.95 * num_classes
    overlapping = [
        (one, other)
        for index, one in enumerate(boxes)
        for other in boxes[:index]
        if one.shrunk(0.96, 0.9).overlaps(other)
    ]
    assert overlapping == []
    inside = figure.bbox
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 and box.y1 <= inside.y1 for box in boxes)


def test_the_figures_of_an_explanation_are_written(tmp_path) -> None:
    drawing.draw(tmp_path, explain(evaluated(), IMAGES, FakeView()).shown)
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.png" for name in explanation.FIGURES}
    for file in tmp_path.iterdir():
        with Image.open(file) as image:
            assert min(image.size) > 200
