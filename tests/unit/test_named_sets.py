"""Well-known data sets from people's own files: CIFAR, KMNIST, EMNIST, MNIST as they come from their pages."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from test_table_files import write_idx

from mnistlab.config import ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.data import sources
from mnistlab.data.arrays.named_sets import CIFAR10, CIFAR100, EMNIST

GENERATOR = np.random.default_rng(0)


def grey(count: int) -> np.ndarray:
    return GENERATOR.integers(0, 256, (count, 28, 28), dtype=np.uint8)


def write_set(folder: Path, labels: np.ndarray, prefix: str = "", test: str = "t10k") -> np.ndarray:
    """IDX files with one image for each label, the same for training and test."""
    images = grey(len(labels))
    folder.mkdir(exist_ok=True)
    for split in ("train", test):
        write_idx(folder / f"{prefix}{split}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}{split}-labels-idx1-ubyte.gz", labels)
    return images


@pytest.mark.parametrize(
    ("subset", "labels", "first", "last", "count"),
    [
        ("balanced", np.arange(47), "0", "t", 47),
        ("bymerge", np.arange(47), "0", "t", 47),
        ("byclass", np.arange(62), "0", "z", 62),
        ("letters", np.arange(1, 27), "A", "Z", 26),
        ("digits", np.arange(10), "0", "9", 10),
        ("mnist", np.arange(10), "0", "9", 10),
    ],
)
def test_emnist_has_characters_as_classes_and_upright_images(
    tmp_path, subset: str, labels: np.ndarray, first: str, last: str, count: int
) -> None:
    stored = write_set(tmp_path, labels, f"emnist-{subset}-", "test")
    write_set(tmp_path, np.arange(10), "emnist-other-", "test")
    images = sources.emnist(str(tmp_path), subset)
    assert (images.name, images.class_names[0], images.class_names[-1], len(images.class_names)) == (
        "emnist",
        first,
        last,
        count,
    )
    assert images.train.labels.tolist() == list(range(count))
    assert np.array_equal(images.train.images[..., 0], stored.swapaxes(1, 2))
    assert images.test is not None
    assert np.array_equal(images.test.images, images.train.images)


@pytest.mark.parametrize("files", ["idx", "npz"])
def test_kmnist_in_both_formats(tmp_path, files: str) -> None:
    labels = np.arange(20) % 10
    if files == "idx":
        stored = write_set(tmp_path, labels)
    else:
        stored = grey(20)
        for split in ("train", "test"):
            np.savez_compressed(tmp_path / f"kmnist-{split}-imgs.npz", stored)
            np.savez_compressed(tmp_path / f"kmnist-{split}-labels.npz", labels)
    images = sources.kmnist(str(tmp_path))
    assert images.class_names == ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    assert np.array_equal(images.train.images[..., 0], stored)
    assert images.train.labels.tolist() == labels.tolist()
    assert images.test is not None


def test_mnist_and_fashion_mnist_may_be_idx_files(tmp_path) -> None:
    stored = write_set(tmp_path, np.arange(10))
    for load in (sources.mnist, sources.fashion_mnist):
        images = load(path=str(tmp_path))
        assert np.array_equal(images.train.images[..., 0], stored)
        assert len(images.class_names) == 10


@pytest.mark.parametrize(("load", "num_classes"), [(sources.cifar10, 10), (sources.cifar100, 100)])
def test_cifar_from_batches_and_from_arrays(tmp_path, load, num_classes: int) -> None:
    labels = np.arange(num_classes * 5) % num_classes
    rows = GENERATOR.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    names = CIFAR10 if num_classes == 10 else CIFAR100
    key = b"labels" if num_classes == 10 else b"fine_labels"
    batch = pickle.dumps({b"data": rows, key: labels.tolist()}, protocol=2)
    batches = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for file in batches if num_classes == 10 else ["train", "test"]:
        (tmp_path / file).write_bytes(batch)
    images = load(str(tmp_path))
    upright = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert (images.name, images.class_names) == (load.__name__, names)
    assert np.array_equal(images.train.images[: len(rows)], upright)
    assert images.train.labels[: len(labels)].tolist() == labels.tolist()
    np.savez(tmp_path / "own.npz", x_train=upright, y_train=labels[:, np.newaxis], x_test=upright, y_test=labels)
    again = load(str(tmp_path / "own.npz"))
    assert again.class_names == names
    assert np.array_equal(again.train.images, upright)


def test_what_is_not_the_named_data_set_is_refused(tmp_path) -> None:
    write_set(tmp_path / "idx", np.arange(10), "emnist-digits-", "test")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b")
    np.savez(tmp_path / "three.npz", x=grey(9), y=np.arange(9) % 3)
    for load, expected in {
        lambda: sources.emnist(
            str(tmp_path / "idx"), "digit"
        ): "must be one of EMNIST's. Received: digit. Did you mean digi",
        lambda: sources.emnist(str(tmp_path / "idx")): "Missing: x_train, y_train; it holds: emnist-digits-test-images",
        lambda: sources.cifar10(str(tmp_path / "cifar-10-python.tar.gz")): "Unpack it: tar -xf ",
        lambda: sources.cifar10(str(tmp_path / "idx")): "must be the folder cifar-10-batches-py",
        lambda: sources.cifar100(str(tmp_path / "three.npz")): "images of the shape (32, 32, 3). Received: (28, 28, 1)",
        lambda: sources.kmnist(
            str(tmp_path / "nowhere")
        ): "nowhere, which does not exist. Download them from http://codh",
        lambda: sources.emnist(): "then: source=emnist source.path=FOLDER.",
    }.items():
        with pytest.raises(ConfigError) as error:
            load()
        assert expected in str(error.value)


def test_the_names_of_classes_are_different_and_complete() -> None:
    assert {subset: len(set(names)) for subset, names in EMNIST.items()} == {
        **dict.fromkeys(("balanced", "bymerge"), 47),
        **dict.fromkeys(("digits", "mnist"), 10),
        "byclass": 62,
        "letters": 26,
    }
    assert (len(set(CIFAR10)), len(set(CIFAR100))) == (10, 100)
    assert list(CIFAR100) == sorted(CIFAR100)


def test_only_sources_that_keras_downloads_wait_for_keras() -> None:
    for option, path, expected in (
        ("cifar10", "null", False),
        ("cifar10", "own", True),
        ("cifar100", "null", False),
        ("kmnist", "own", True),
        ("emnist", "own", True),
    ):
        source = compose_config([f"source={option}", f"source.path={path}"]).source
        assert sources.loads_without_keras(source) is expected
