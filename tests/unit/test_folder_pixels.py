"""Exports, splits, loaders and the cache of image folders: same pixels everywhere, no damaged or old cache used."""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistlab.config import ConfigError
from mnistlab.data import manifest_csv, prepare, sources
from mnistlab.data.folders import decoding, processes
from mnistlab.data.folders.decoding import Decoding
from mnistlab.data.folders.source import directory
from mnistlab.export import export, export_from_arguments


def write(file: Path, seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB", **settings) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(file, **settings)
    return file


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name, count in (("cat", 30), ("dog", 10)):
        for index in range(count):
            write(tmp_path / "pets" / name / f"{index:03}.png", seed=1000 * (name == "dog") + index)
    return tmp_path / "pets"


def small_source(shape=(6, 5, 1), train: int = 40, test: int = 12) -> sources.Images:
    generator = np.random.default_rng(0)

    def split(count: int) -> sources.Split:
        labels = generator.permutation(np.arange(count) % 3)
        return sources.Split(generator.integers(0, 256, (count, *shape), dtype=np.uint8), labels)

    return sources.Images("small", split(train), split(test), ("a", "b b", "ç"), "made")


@pytest.mark.parametrize("shape", [(6, 5, 1), (6, 5, 3)])
def test_an_export_keeps_pixels_order_and_split(tmp_path, shape) -> None:
    source = small_source(shape)
    folder = export(source, tmp_path / "out")
    back = directory(str(folder))
    assert back.class_names == source.class_names
    for name in ("train", "test"):
        exported, read = getattr(source, name), getattr(back, name)
        assert np.array_equal(exported.labels, read.labels)
        assert np.array_equal(exported.images, read.images[:])
    before, after = prepare(source, split_seed=3, limit=20), prepare(back, split_seed=3, limit=20)
    for name, split in before.splits.items():
        assert np.array_equal(split.images, after.splits[name].images)


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch) -> None:
    def full(*arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ConfigError, match="No space left"):
        export(small_source(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["source=mnist_5k"], "Give to=FOLDER"),
        (["source=mnist_5k", "to=x", "fit.epochs=3"], "Give to=FOLDER"),
        (["source=mnist_6k", "to=x"], "Did you mean mnist_5k?"),
        (["source=directory", "source.path=x", "to=y"], "already reads image folders"),
        (["source=mnist_5k", "to=."], "must be a new or an empty folder"),
    ],
)
def test_mistakes_in_an_export_are_reported(tmp_path, monkeypatch, arguments, expected) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    with pytest.raises(ConfigError) as error:
        export_from_arguments(arguments)
    assert expected in str(error.value)


def test_the_stratified_split_is_seeded_disjoint_and_in_the_manifest(pets) -> None:
    images = directory(str(pets))
    first, again, other = (prepare(images, test_fraction=0.2, split_seed=seed) for seed in (0, 0, 1))
    assert first.counts == {"train": [22, 7], "validation": [2, 1], "test": [6, 2]}
    assert first.digests == again.digests
    assert first.digests["test"] != other.digests["test"]
    rows = list(csv.DictReader(io.StringIO(manifest_csv(first.manifest))))
    assert len({row["path"] for row in rows}) == len(rows) == 40
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    assert rows[0]["bytes"] == str((pets / rows[0]["path"]).stat().st_size)
    assert len(rows[0]["sha256"]) == 64
    assert "There is no test set" in "\n".join(first.notes)


def test_keras_s_split_takes_the_first_of_each_class(pets) -> None:
    dataset = prepare(directory(str(pets)), split="keras", validation_fraction=0.25)
    taken = sorted(row["path"] for row in dataset.manifest if row["split"] == "validation")
    assert taken == [f"cat/{index:03}.png" for index in range(7)] + [f"dog/{index:03}.png" for index in range(2)]
    assert dataset.test is dataset.validation
    assert "the test numbers ARE the validation numbers" in "\n".join(dataset.notes)
    with pytest.raises(ConfigError, match="leaves class 1 without validation"):
        prepare(directory(str(pets)), split="keras", validation_fraction=0.05)


def test_a_class_too_small_for_three_splits_is_an_error(pets) -> None:
    for file in sorted((pets / "dog").iterdir())[2:]:
        file.unlink()
    with pytest.raises(ConfigError, match=r"Class 1 needs at least 3 training images.*2 of dog"):
        prepare(directory(str(pets)))


def test_validating_on_the_test_set_ignores_the_validation_folder(tmp_path) -> None:
    for split, name, index in itertools.product(("train", "validation", "test"), ("a", "b"), range(3)):
        write(tmp_path / split / name / f"{index}.png", seed=10 * len(split) + index + (name == "b") * 100)
    images = directory(str(tmp_path))
    assert [len(split) for split in prepare(images).splits.values()] == [6, 6, 6]
    dataset = prepare(images, validation="test")
    assert dataset.validation is dataset.test
    assert "The 6 validation images are not used" in "\n".join(dataset.notes)


def test_identical_files_in_two_splits_or_classes_are_reported(tmp_path) -> None:
    for split, name, index in itertools.product(("train", "test"), ("a", "b"), range(4)):
        write(tmp_path / split / name / f"{index}.png", seed=len(split) * 100 + index + 10 * (name == "b"))
    (tmp_path / "test" / "a" / "9.png").write_bytes((tmp_path / "train" / "a" / "0.png").read_bytes())
    (tmp_path / "train" / "b" / "8.png").write_bytes((tmp_path / "train" / "a" / "1.png").read_bytes())
    dataset = prepare(directory(str(tmp_path)), validation="test")
    notes = "\n".join(dataset.notes)
    assert (
        "another split, so the results look better than they are: 2" in notes
    )  # validation and test are the same images
    assert "another class: 1 (train/b/8.png (b) = train/a/1.png (a))" in notes
    rows = {(row["path"], row["split"]): row.get("same_as") for row in dataset.manifest}
    assert rows["test/a/9.png", "test"] == "train/a/0.png"


@pytest.mark.parametrize("class_mode", ["binary", "categorical", "sparse"])
def test_class_modes_mean_what_they_mean_in_keras(pets, class_mode) -> None:
    dataset = prepare(directory(str(pets)), class_mode=class_mode, class_weight="balanced")
    targets = dataset.targets(np.array([0, 1]))
    assert targets.tolist() == {"binary": [[0], [1]], "categorical": [[1, 0], [0, 1]], "sparse": [0, 1]}[class_mode]
    last_layer = (1, "sigmoid") if class_mode == "binary" else (2, "softmax")
    assert (dataset.num_outputs, dataset.output_activation) == last_layer
    assert dataset.class_weight[1] > dataset.class_weight[0]
    outputs = np.array([[0.25]]) if class_mode == "binary" else np.array([[0.75, 0.25]])
    assert dataset.probabilities(outputs).tolist() == [[0.75, 0.25]]


def test_binary_needs_two_classes() -> None:
    with pytest.raises(ConfigError, match="exactly two classes. Received 3: a, b b, ç"):
        prepare(small_source(), class_mode="binary")


def test_loaders_share_pixels_labels_split_and_digests(pets) -> None:
    prepared = [prepare(directory(str(pets), loader=loader, image_size=[7, 9])) for loader in ("resident", "stream")]
    assert [dataset.resident for dataset in prepared] == [True, False]
    first, second = prepared
    assert first.digests == second.digests
    for name in first.splits:
        assert np.array_equal(first.splits[name].images, second.splits[name].images[:])
        assert np.array_equal(first.splits[name].labels, second.splits[name].labels)


def test_auto_is_resident_within_the_budget_and_logs_why(pets, caplog) -> None:
    with caplog.at_level(logging.INFO):
        assert directory(str(pets)).train.images.loader == "resident"
        assert directory(str(pets), memory_budget_mb=0.01).train.images.loader == "stream"
    assert "source.loader=auto: resident, the decoded images take 0 MB of the budget of 1,024 MB" in caplog.text
    assert "source.loader=auto: stream, the decoded images would take" in caplog.text


def count_examined(monkeypatch) -> list[int]:
    """A list that gets the number of files of each later call of `examine_all`."""
    counts: list[int] = []
    real = processes.examine_all

    def counting(files, indices, **settings):
        counts.append(len(indices))
        return real(files, indices, **settings)

    monkeypatch.setattr(processes, "examine_all", counting)
    return counts


def test_decoded_images_are_kept_between_processes(pets, tmp_path, monkeypatch) -> None:
    cache = str(tmp_path / "cache")
    first = directory(str(pets), cache=cache).train.images[:]
    counts = count_examined(monkeypatch)
    assert np.array_equal(directory(str(pets), cache=cache).train.images[:], first)
    assert counts == []
    assert directory(str(pets), cache=cache, image_size=[4, 4]).train.images.shape == (40, 4, 4, 3)
    assert counts == [40]  # another size: decoded, then kept beside the first
    assert np.array_equal(directory(str(pets), cache=cache).train.images[:], first)
    assert counts == [40]


def test_changed_files_are_read_again(pets, tmp_path, caplog) -> None:
    cache = str(tmp_path / "cache")
    directory(str(pets), cache=cache)
    file = pets / "cat" / "004.png"
    before = file.stat()
    content = write(tmp_path / "other.png", seed=77).read_bytes()
    file.write_bytes(content[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time of change
    with caplog.at_level(logging.INFO):
        images = directory(str(pets), cache=cache, on_bad_image="skip")
    assert "1 files are new, changed or removed" in caplog.text
    fresh = directory(str(pets), on_bad_image="skip")
    assert np.array_equal(images.train.images[:], fresh.train.images[:])


@pytest.mark.parametrize("damage", ["bit", "cut", "checksum", "facts"])
def test_a_damaged_cache_is_rebuilt(pets, tmp_path, caplog, damage) -> None:
    cache = tmp_path / "cache"
    whole = directory(str(pets), cache=str(cache)).train.images[:]
    (pixels,) = cache.rglob("*.npy")
    if damage == "bit":
        content = bytearray(pixels.read_bytes())
        content[-50] ^= 4
        pixels.write_bytes(content)
    elif damage == "cut":
        pixels.write_bytes(pixels.read_bytes()[:-100])
    elif damage == "checksum":
        pixels.with_suffix(".json").unlink()
    else:
        next(cache.rglob("facts-2.json")).write_text("half a")
    assert np.array_equal(directory(str(pets), cache=str(cache)).train.images[:], whole)
    assert "is damaged" in caplog.text
    caplog.clear()
    assert np.array_equal(directory(str(pets), cache=str(cache)).train.images[:], whole)
    assert caplog.text == ""
    assert not list(cache.rglob("*half*"))


def test_a_cache_that_cannot_be_written_is_not_used(pets, tmp_path, caplog) -> None:
    (tmp_path / "cache").write_text("a file where a folder belongs")
    assert len(directory(str(pets), cache=str(tmp_path / "cache")).train) == 40
    assert "cannot be written" in caplog.text


def test_unfinished_files_of_killed_processes_are_removed(pets, tmp_path) -> None:
    cache = tmp_path / "cache"
    directory(str(pets), cache=str(cache))
    folder = next(cache.rglob("facts-2.json")).parent
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (folder / f".{gone.pid}.half.npy").touch()
    directory(str(pets), cache=str(cache), image_size=[3, 3])
    assert not list(folder.glob("*half*"))


def test_a_smaller_max_megapixels_applies_to_cached_files_too(pets, tmp_path) -> None:
    directory(str(pets), cache=str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="is too large: 12 x 10"):
        directory(str(pets), cache=str(tmp_path / "cache"), max_megapixels=0.0001)
    assert len(directory(str(pets), cache=str(tmp_path / "cache")).train) == 40


def test_only_a_few_sizes_are_kept(pets, tmp_path) -> None:
    for side in range(3, 8):
        directory(str(pets), cache=str(tmp_path / "cache"), image_size=[side, side])
        time.sleep(0.01)
    assert [len(list((tmp_path / "cache").rglob(f"*.{ending}"))) for ending in ("npy", "json")] == [3, 4]


def test_processes_decode_as_this_process_does(pets, tmp_path) -> None:
    files = [str(file) for file in sorted(pets.rglob("*.png"))] * 10
    settings = Decoding("rgb", (5, 7), "bicubic")
    out = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", dtype=np.uint8, shape=(400, 5, 7, 3))
    facts = processes.examine_all(files, range(400), decoding=settings, out=out, workers=2)
    assert np.array_equal(out, np.stack([decoding.read(file, settings) for file in files]))
    assert [facts[index] for index in range(400)] == [decoding.examine(file)[0] for file in files]
    two_processes = processes.decoding_processes(2)
    with pytest.raises(OSError, match="missing.png cannot be read as an image"):
        two_processes.call(processes.read_files, ["missing.png"], settings)
    assert two_processes.call(processes.read_files, files[:3], settings).shape == (3, 5, 7, 3)


def test_decoding_processes_import_numpy_and_pillow_only() -> None:
    program = "import sys, mnistlab.data.folders.processes; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"hydra", "omegaconf", "keras", "tensorflow", "pandas", "scipy", "sklearn", "yaml", "rich", "mlflow"}
    assert heavy & set(done.stdout.split()) == set()


def test_a_dead_decoding_process_is_an_error_and_replaced() -> None:
    one_process, settings = processes.DecodingProcesses(1), Decoding("rgb", (2, 2))
    with pytest.raises(ChildProcessError, match="ended"):
        one_process.call(os._exit, 1)
    assert one_process.call(processes.read_files, [], settings).shape == (0, 2, 2, 3)
    one_process.kill()


def test_a_file_removed_during_training_is_named(pets) -> None:
    images = directory(str(pets), loader="stream").train.images
    (pets / "cat" / "003.png").unlink()
    with pytest.raises(OSError, match="cat/003.png cannot be read"):
        images[:]


def test_the_cached_facts_are_json(tmp_path, pets) -> None:
    directory(str(pets), cache=str(tmp_path / "cache"))
    checksum, body = next((tmp_path / "cache").rglob("facts-2.json")).read_text().split("\n", 1)
    assert len(checksum) == 64
    assert len(json.loads(body)) == 40
