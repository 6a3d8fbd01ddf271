"""The jobs of a sweep map the images that the sweep has prepared; what is not there is loaded."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from mnistlab.config import Config
from mnistlab.config.compose import compose_config
from mnistlab.data import loading, shared


@pytest.fixture(autouse=True)
def fresh():
    yield
    loading._shared.clear()
    for cache in (loading._prepared, loading._loaded):
        cache.cache_clear()


def config_of(folder: Path, *words: str) -> Config:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    labels = np.arange(60) % 10
    np.savez(folder / "made.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    return compose_config([f"source.path={folder / 'made.npz'}", "source=npz", *words])


@pytest.mark.parametrize(
    "words",
    [[], ["data=notebook"], ["data.class_weight=balanced", "data.keep={3: 0.5}", "data.labels=integer"]],
    ids=["held out", "validated on the test set", "weighted"],
)
def test_another_process_maps_the_data_set_that_was_prepared(words: list[str], tmp_path: Path) -> None:
    config = config_of(tmp_path, *words)
    prepared = loading.load(config)
    loading.share(config, tmp_path / "images")
    loading._prepared.cache_clear()
    (tmp_path / "made.npz").unlink()  # so that it cannot be loaded again
    loading._loaded.cache_clear()
    loading.use_shared(tmp_path / "images")
    mapped = loading.load(config)
    assert mapped is not prepared
    for one in fields(prepared):
        if one.name not in prepared.splits:
            assert getattr(mapped, one.name) == getattr(prepared, one.name), one.name
    for name, split in prepared.splits.items():
        np.testing.assert_array_equal(mapped.splits[name].images, split.images)
        np.testing.assert_array_equal(mapped.splits[name].labels, split.labels)
        assert not mapped.splits[name].images.flags.writeable
    assert (mapped.validation is mapped.test) == (prepared.validation is prepared.test)


def test_other_settings_and_damaged_files_are_loaded(tmp_path: Path) -> None:
    config, other = config_of(tmp_path), config_of(tmp_path, "data.limit=30")
    loading.share(config, tmp_path / "images")
    loading.use_shared(tmp_path / "images")
    assert len(loading.load(other).train) < len(loading.load(config).train)
    (file,) = (tmp_path / "images").glob("*/dataset.pickle")
    for content in (file.read_bytes()[:-20], pickle.dumps("no data set")[:-1], b""):
        file.write_bytes(content)
        assert shared.read(file.parent) is None
        loading._prepared.cache_clear()
        assert len(loading.load(config).train) == 50  # five of each digit


def test_a_file_that_is_too_short_is_no_data_set(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    loading.share(config, tmp_path / "images")
    (folder,) = (tmp_path / "images").iterdir()
    (folder / "0.bin").write_bytes((folder / "0.bin").read_bytes()[:-1])
    assert shared.read(folder) is None


def test_only_the_user_can_read_it_and_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    loading.share(config, tmp_path / "images")
    (folder,) = (tmp_path / "images").iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    (tmp_path / "file").write_text("not a folder")
    assert shared.write(loading.load(config), tmp_path / "file" / "images") is False
