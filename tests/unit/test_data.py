"""Sources reject unusable data; `prepare` splits, weights and hashes a data set as documented."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from mnistlab.config import ConfigError
from mnistlab.data import epoch_order, prepare, sources
from mnistlab.data.splitting import stratified


def images(counts: list[int], shape: tuple[int, ...] = (4, 4, 1)) -> sources.Images:
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    names = tuple(f"class {index}" for index in range(len(counts)))
    split = sources.Split(pixels, labels)
    return sources.Images("made", split, sources.Split(pixels[::2], labels[::2]), names, "here")


def test_mnist_5k_is_genuine_and_stratified() -> None:
    loaded = sources.mnist_5k()
    assert loaded.train.images.shape == (4000, 28, 28, 1)
    assert loaded.train.images.dtype == np.uint8
    assert np.bincount(loaded.train.labels).tolist() == [400] * 10
    assert np.bincount(loaded.test.labels).tolist() == [100] * 10
    assert loaded.train.images.max() == 255
    again = sources.mnist_5k()
    assert np.array_equal(loaded.test.images, again.test.images)
    # a one has less ink than a zero: the labels fit the images
    ink = [loaded.train.images[loaded.train.labels == digit].mean() for digit in (0, 1)]
    assert ink[0] > 1.5 * ink[1]


def test_npz_grayscale_and_colour(make_npz) -> None:
    grayscale = sources.npz(str(make_npz("grayscale.npz", shape=(6, 5))))
    assert grayscale.train.images.shape == (60, 6, 5, 1)
    colour = sources.npz(str(make_npz("colour.npz", shape=(6, 5, 3), num_classes=2)), class_names=["no", "yes"])
    assert colour.train.images.shape == (40, 6, 5, 3)
    assert colour.class_names == ("no", "yes")
    named = sources.npz(str(make_npz("named.npz", class_names=np.array(["a", "b", "c"]))))
    assert named.class_names == ("a", "b", "c")


def test_npz_accepts_whole_numbers_and_one_hot(make_npz) -> None:
    plain = sources.npz(str(make_npz("plain.npz")))
    whole = sources.npz(str(make_npz("whole.npz", x_train=plain.train.images[..., 0].astype(np.float64))))
    assert np.array_equal(plain.train.images, whole.train.images)
    one_hot = sources.npz(str(make_npz("one_hot.npz", y_train=np.eye(3)[plain.train.labels])))
    assert np.array_equal(plain.train.labels, one_hot.train.labels)


@pytest.mark.parametrize(
    ("replaced", "expected"),
    [
        ({"y_test": None}, ["Missing: y_test", "x_train"]),
        ({"y_train": np.arange(7)}, ["x_train and y_train must have the same length", "60 images, 7 labels"]),
        ({"x_test": np.zeros((60, 9, 9), np.uint8)}, ["images of one shape", "(6, 5, 1)", "(9, 9, 1)"]),
        ({"x_train": np.zeros((60, 5), np.uint8)}, ["x_train must have the shape", "(60, 5)"]),
        ({"x_train": np.full((60, 6, 5), 0.5)}, ["x_train and x_test must be on one scale", "(255 * x_train)"]),
        ({"x_train": np.full((60, 6, 5), 300)}, ["x_train and x_test must be on one scale", "int64 from 300 to 300"]),
        ({"x_train": np.full((60, 6, 5), "a")}, ["x_train must hold numbers"]),
        ({"y_train": np.full(60, 0.5)}, ["y_train must hold integer labels", "float64"]),
        ({"class_names": np.array(["a", "b"])}, ["below the number of classes, 2", "Received: 2"]),
        ({"x_train": np.zeros((0, 6, 5), np.uint8), "y_train": np.zeros(0, int)}, ["x_train must hold at least one"]),
    ],
)
def test_npz_rejects_arrays_that_do_not_match(make_npz, replaced, expected) -> None:
    with pytest.raises(ConfigError) as error:
        sources.npz(str(make_npz(**replaced)))
    assert [text for text in expected if text not in str(error.value)] == []


def test_npz_missing_truncated_or_another_format(make_npz, tmp_path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        sources.npz(str(tmp_path / "missing.npz"))
    whole = make_npz()
    for share in (0.2, 0.9):
        truncated = tmp_path / f"truncated{share}.npz"
        truncated.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
        with pytest.raises(ConfigError, match="truncated"):
            sources.npz(str(truncated))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ConfigError, match="cannot be read as an .npz file"):
        sources.npz(str(tmp_path / "text.npz"))
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(ConfigError, match="one array; its labels are needed too: source.labels=LABELS.npy"):
        sources.npz(str(tmp_path / "single.npy"))


def test_offline_must_be_a_known_choice() -> None:
    with pytest.raises(ConfigError, match="fallback or error"):
        sources.mnist(offline="perhaps")


@pytest.mark.parametrize(
    ("target", "path", "expected"),
    [
        ("mnistlab.data.sources.mnist", "mnist.npz", True),
        ("mnistlab.data.sources.mnist", None, False),
        ("mnistlab.data.sources.fashion_mnist", "fashion.npz", True),
        ("mnistlab.data.sources.fashion_mnist", None, False),
        ("mnistlab.data.sources.mnist_5k", None, True),
        ("mnistlab.data.sources.npz", "own.npz", True),
        ("mnistlab.data.folders.source.directory", "pets", True),
        ("my_project.images", None, False),
    ],
)
def test_which_sources_load_without_keras(monkeypatch, target, path, expected) -> None:
    monkeypatch.setattr(sources, "_cached_mnist", lambda: None)
    assert sources.loads_without_keras({"_target_": target, "path": path}) is expected


def test_the_named_sources_exist() -> None:
    for target in (*sources.SOURCES_WITHOUT_KERAS, "mnistlab.data.sources.mnist", "mnistlab.sources.Images"):
        module, _, name = target.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


def test_the_held_out_images_are_stratified_seeded_and_disjoint() -> None:
    source = images([100, 50, 10])
    first, again, other = (prepare(source, validation_fraction=0.1, split_seed=seed) for seed in (0, 0, 1))
    assert first.counts["validation"] == [10, 5, 1]
    assert first.counts["train"] == [90, 45, 9]
    assert first.digests == again.digests
    assert first.digests["validation"] != other.digests["validation"]
    assert first.digests["test"] == other.digests["test"]
    rows = {row.tobytes() for row in first.train.images} & {row.tobytes() for row in first.validation.images}
    assert rows == set()


def test_the_held_out_fraction_is_exact() -> None:
    labels = np.repeat(np.arange(10), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    assert stratified(labels, 0.1, np.random.default_rng(0)).sum() == 6000


def test_validating_on_the_test_set_keeps_all_training_images() -> None:
    dataset = prepare(images([30, 30]), validation="test")
    assert len(dataset.train) == 60
    assert dataset.digests["validation"] == dataset.digests["test"]


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="Class 1 needs at least 2"):
        prepare(images([10, 1]))


def test_balanced_weights_equal_scikit_learns() -> None:
    dataset = prepare(images([90, 9]), class_weight="balanced", validation="test")
    expected = compute_class_weight("balanced", classes=np.arange(2), y=dataset.train.labels)
    assert dataset.class_weight == pytest.approx(dict(enumerate(expected)))


def test_class_weights_accept_numbers_and_names_and_must_be_complete() -> None:
    assert prepare(images([9, 9]), class_weight={"0": 1, 1: 5}).class_weight == {0: 1.0, 1: 5.0}
    assert prepare(images([9, 9]), class_weight={"class 0": 1, "class 1": 5}).class_weight == {0: 1.0, 1: 5.0}
    with pytest.raises(ConfigError, match=r"must name every class, 0 to 1. Missing: 1"):
        prepare(images([9, 9]), class_weight={0: 1})
    with pytest.raises(ConfigError, match="unknown class. Received: 7"):
        prepare(images([9, 9]), class_weight={0: 1, 1: 1, 7: 5})


def test_keep_thins_the_training_images_only() -> None:
    dataset = prepare(images([100, 100]), keep={1: 0.1}, validation_fraction=0.1)
    assert dataset.counts["train"] == [90, 9]
    assert dataset.counts["validation"] == [10, 10]
    with pytest.raises(ConfigError, match="unknown class"):
        prepare(images([9, 9]), keep={5: 0.1})


def test_limit_keeps_the_class_shares() -> None:
    assert prepare(images([100, 50]), limit=30, validation="test").counts["train"] == [20, 10]


def test_targets_have_the_format_of_the_labels() -> None:
    one_hot, integer = (prepare(images([9, 9]), labels=labels) for labels in ("one_hot", "integer"))
    assert one_hot.targets(np.array([1, 0])).tolist() == [[0, 1], [1, 0]]
    assert integer.targets(np.array([1, 0])).tolist() == [1, 0]


def test_a_digest_depends_on_every_pixel_every_label_and_the_order() -> None:
    source = images([9, 9])
    base = prepare(source, validation="test").digests["train"]
    pixels = source.train.images.copy()
    pixels[3, 2, 1, 0] ^= 1
    labels = source.train.labels.copy()
    labels[0] = 1
    for changed in (
        sources.Split(pixels, source.train.labels),
        sources.Split(source.train.images, labels),
        source.train.take(np.arange(18)[::-1]),
    ):
        other = sources.Images("made", changed, source.test, source.class_names, "here")
        assert prepare(other, validation="test").digests["train"] != base


def test_epoch_order_depends_on_seed_and_epoch() -> None:
    orders = {(seed, epoch): epoch_order(100, seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert all(sorted(order) == list(range(100)) for order in orders.values())
    assert len({order.tobytes() for order in orders.values()}) == 6
    assert np.array_equal(orders[1, 2], epoch_order(100, 1, 2))


@pytest.mark.parametrize("setting", ["validation_fraction", "test_fraction"])
def test_a_fraction_of_less_than_one_image_a_class_is_said_or_refused(setting) -> None:
    source = dataclasses.replace(images([100, 100]), test=None)
    dataset = prepare(source, **{setting: 0.006})  # 1.2 of 200 images, or of the 180 that a test set leaves
    held_out = dataset.validation if setting == "validation_fraction" else dataset.test
    assert np.bincount(held_out.labels).tolist() == [1, 1]
    number = {"validation_fraction": 180, "test_fraction": 200}[setting]
    assert (
        f"data.{setting}=0.006 of {number} images is less than one a class: one of each is held out." in dataset.notes
    )
    with pytest.raises(ConfigError) as error:
        prepare(source, **{setting: 0.001})
    assert str(error.value) == (
        f"data.{setting} must hold out images of every class. Received: 0.001 of {number} training images, less than "
        f"one. Use at least {2 / number:.2g}."
    )
    tiny = prepare(dataclasses.replace(images([4, 4]), test=None))  # the defaults always split
    assert [len(split) for split in tiny.splits.values()] == [4, 2, 2]
