"""Formats of image files: chosen by content, with Keras's pixels; leftovers of systems and archives are no images."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image, features

from mnistlab.data.folders.leftovers import is_leftover
from mnistlab.data.folders.source import directory

SIZE = (9, 7)  # width, height
FORMATS = {
    **{"a.png": "PNG", "a.JPG": "JPEG", "a.jfif": "JPEG", "a.bmp": "BMP", "a.gif": "GIF", "a.webp": "WEBP"},
    **{"a.tiff": "TIFF", "a.ppm": "PPM", "a.pnm": "PPM", "a.jp2": "JPEG2000"},
    **({"a.avif": "AVIF"} if features.check("avif") else {}),
}
DISGUISED = {
    **{"png.jpg": "PNG", "jpeg.png": "JPEG", "gif.jpeg": "GIF", "webp.bmp": "WEBP"},
    **{name: name.upper() for name in ("png", "jpeg", "bmp", "gif", "webp", "tiff", "ppm")},  # no ending
    **{"n02085620.7": "JPEG", "photo.png_large": "PNG", "scan.TIFF_1": "TIFF"},
}


def write(file: Path, file_format: str, **settings) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(file.name)).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, format=file_format, **settings)
    return file


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        write(tmp_path / name / "0.png", "PNG")
    return tmp_path


def test_every_format_is_read_by_its_content_with_keras_s_pixels(pets) -> None:
    files = {**FORMATS, **DISGUISED}
    for name, file_format in files.items():
        write(pets / "cat" / name, file_format)
    images = directory(str(pets))
    assert len(images.train) == 2 + len(files)
    assert images.skipped == ()
    for path, pixels in zip(images.train.images.paths(), images.train.images[:], strict=True):
        assert np.array_equal(pixels, keras.utils.img_to_array(keras.utils.load_img(path)).astype(np.uint8)), path


def test_the_first_frame_of_a_gif_is_used(pets) -> None:
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue", "green")]
    frames[0].save(pets / "dog" / "moving.gif", save_all=True, append_images=frames[1:])
    images = directory(str(pets))
    moving = images.train.images[[path.endswith("gif") for path in images.train.images.paths()]]
    assert moving.reshape(-1, 3).tolist() == [[255, 0, 0]] * (SIZE[0] * SIZE[1])
    assert "Images with several frames: 1 (dog/moving.gif); as in Keras, only the first is used." in images.notes


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PN", b"RIFF\0\0\0\0WAVEfmt ", b"BM is a company", b"P7 is a file", b"%!PS-Adobe-3.0", b"text"],
)
def test_other_files_without_an_image_s_ending_are_counted(pets, content) -> None:
    (pets / "cat" / "other").write_bytes(content)
    images = directory(str(pets))
    assert len(images.train) == 2
    assert images.notes == ("Skipped, not an image file: no ending: 1 (cat/other).",)


LEFTOVERS = (
    *("__MACOSX/cat/._0.png", "cat/._0.png", "dog/.DS_Store", "cat/Thumbs.db", "cat/desktop.ini", "lost+found/x.png"),
    *("@eaDir/SYNOPHOTO_THUMB.jpg", "dog/@eaDir/0.png@SynoEAStream", "#recycle/dog/0.png", "$RECYCLE.BIN/a.png"),
    *(".ipynb_checkpoints/0-checkpoint.png", "cat/.ipynb_checkpoints/0.png", "System Volume Information/a.png"),
    *("@Recycle/a.png", ".git/a.png", "dog/ehthumbs.db", "dog/.picasa.ini", ".Trash-1000/a.png", "__pycache__/a.png"),
)


def test_leftovers_of_archives_and_systems_are_ignored_and_counted(pets) -> None:
    for name in LEFTOVERS:
        write(pets / name, "PNG")
    images = directory(str(pets))
    assert images.class_names == ("cat", "dog")
    assert len(images.train) == 2
    assert images.notes == (f"Skipped, left by a system, an archive or a program: {len(LEFTOVERS)} (#recycle, ...).",)


@pytest.mark.parametrize("name", ["thumbs", "Macosx", "recycle", "git", "desktop", "lost", "found", "cache", "_cat"])
def test_classes_with_similar_names_are_classes(name) -> None:
    assert not is_leftover(name)
