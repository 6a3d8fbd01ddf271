"""Images that cannot be used as they are: long lists of bad files, and 16-bit images by an explicit setting."""

from __future__ import annotations

import itertools
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistlab.config import ConfigError
from mnistlab.data import prepare
from mnistlab.data.folders.decoding import Decoding
from mnistlab.data.folders.source import directory

SHAPE = (4, 6)


def write(file: Path, values: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file)
    return file


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        for index in range(4):
            write(tmp_path / "pets" / name / f"{index}.png", np.full(SHAPE, 10 * index, np.uint8))
    return tmp_path / "pets"


def error_of(path: Path, **settings) -> list[str]:
    with pytest.raises(ConfigError) as error:
        directory(str(path), **settings)
    return error.value.problems


@pytest.mark.parametrize("cached", [True, False])
def test_of_many_bad_images_ten_are_shown_and_all_are_in_a_file(pets, tmp_path, monkeypatch, cached) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for index in range(1000):
        (pets / "cat" / f"bad{index:03}.jpg").write_bytes(b"text" if index % 5 else b"")
    problems = error_of(pets, cache=str(tmp_path / "cache") if cached else None)
    assert len(problems) == 12
    assert problems[0] == f"{pets}/cat/bad000.jpg is empty (0 bytes)."
    assert problems[1] == (
        f"{pets}/cat/bad001.jpg is not an image of a format that is read here (its first bytes: b'text')."
    )
    before, _, listed = problems[10].partition(" All are listed in ")
    kinds = "800 x 'is not an image of a format that is read here'; 200 x 'is empty'"
    assert before == f"... and 990 more. In total: {kinds}."
    file = Path(listed.removesuffix("."))
    assert file.is_relative_to(tmp_path / "cache" if cached else tmp_path)
    lines = file.read_text().splitlines()
    assert len(lines) == 1000
    assert lines[:10] == problems[:10]
    assert problems[11].startswith("1,000 of 1,008 images cannot be used. Repair them, or leave them out: ")


def test_many_bad_images_that_are_left_out_are_counted_by_kind(pets) -> None:
    for index in range(20):
        (pets / "cat" / f"bad{index:03}.jpg").write_bytes(b"text" if index % 5 else b"")
    images = directory(str(pets), on_bad_image="skip")
    assert len(images.skipped) == 20
    assert images.notes[0].startswith(
        "Left out (source.on_bad_image=skip): 20 unusable images (16 x 'is not an image of a format that is read "
        "here'; 4 x 'is empty'), cat/bad000.jpg, cat/bad001.jpg, "
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC image, which Pillow does not read: convert it to JPEG or"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "is not an image but text, such as SVG or a web page."),
        (b"<!DOCTYPE html><html>404</html>", "is not an image but text, such as SVG or a web page."),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "is a TIFF image of a kind that Pillow does not read"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "is "),
    ],
)
def test_files_that_only_have_an_image_s_ending(pets, content, expected) -> None:
    (pets / "cat" / "a.jpg").write_bytes(content)
    problems = error_of(pets)
    assert problems[0].startswith(f"{pets}/cat/a.jpg {expected}")
    assert "Error" not in problems[0]


DEEP = {
    "12 bits": (np.linspace(0, 4095, 24).reshape(SHAPE).astype(np.uint16), "png"),
    "16 bits": (np.linspace(0, 65535, 24).reshape(SHAPE).astype(np.uint16), "png"),
    "16 bits, tiff": (np.linspace(300, 50000, 24).reshape(SHAPE).astype(np.uint16), "tiff"),
    "16 bits, ppm": (np.linspace(300, 50000, 24).reshape(SHAPE).astype(np.uint16), "ppm"),
    "32 bits": (np.linspace(0, 60000, 24).reshape(SHAPE).astype(np.int32), "tiff"),
    "one value": (np.full(SHAPE, 700, np.uint16), "png"),
}
FLOATS = np.linspace(-1, 1, 24).reshape(SHAPE).astype(np.float32)


def stretched(values: np.ndarray) -> np.ndarray:
    span = float(values.max()) - float(values.min())
    return np.rint((values.astype(float) - values.min()) * (255 / (span or 1)))


@pytest.mark.parametrize("loader", ["resident", "stream"])
@pytest.mark.parametrize("case", DEEP)
def test_16_bit_images_become_8_bit_ones_as_set(pets, case, loader) -> None:
    values, ending = DEEP[case]
    file = write(pets / "dog" / f"deep.{ending}", values)
    problems = error_of(pets)
    assert problems[0].startswith(
        f"{file} has more than 8 bits per channel: choose how they become 8, source.sixteen_bit=high_byte (value // 256"
    )
    for rule, expected in (("high_byte", values // 256), ("stretch", stretched(values))):
        images = directory(str(pets), sixteen_bit=rule, loader=loader)
        (row,) = (index for index, path in enumerate(images.train.images.paths()) if "deep" in path)
        assert images.train.images.shape[1:] == (*SHAPE, 1)  # still grayscale
        assert images.train.images[[row]][0, :, :, 0].tolist() == expected.astype(int).tolist()
        assert any(f"(source.sixteen_bit={rule}): 1 (dog/deep.{ending}); " in note for note in images.notes)
        assert any("almost black" in note for note in images.notes) == (rule == "high_byte" and values.max() < 4096)


def png_of_16_bits(channels: int, values: np.ndarray) -> bytes:
    """A PNG file of 16 bits a channel, which Pillow cannot write. channels: 2 is grey with alpha."""
    height, width = SHAPE

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_16_bits_follow_the_setting_too(pets, tmp_path, channels) -> None:
    values = np.linspace(0, 65535, 24 * channels).reshape(*SHAPE, channels).astype(np.uint16)
    file = pets / "dog" / "deep.png"
    file.write_bytes(png_of_16_bits(channels, values))
    cache = str(tmp_path / "cache")
    for _ in range(2):
        assert "set source.sixteen_bit=high_byte (value // 256)" in error_of(pets, cache=cache)[0]
        images = directory(str(pets), sixteen_bit="high_byte", color_mode="rgba", cache=cache)
        (row,) = (index for index, path in enumerate(images.train.images.paths()) if "deep" in path)
        read = images.train.images[[row]][0]
        assert np.array_equal(read[..., -1], values[..., -1] // 256 if channels != 3 else np.full(SHAPE, 255))
        assert np.array_equal(read[..., 0], values[..., 0] // 256)
        assert "Pillow reads the high byte only" in error_of(pets, sixteen_bit="stretch", cache=cache)[0]


def test_values_that_have_no_high_byte_are_refused(pets) -> None:
    file = write(pets / "dog" / "float.tiff", FLOATS)
    assert error_of(pets, sixteen_bit="high_byte")[0] == (
        f"{file} does not fit source.sixteen_bit=high_byte, which is for whole numbers from 0 to 65535: it has values "
        "from -1 to 1; stretch takes all."
    )
    pixels = directory(str(pets), sixteen_bit="stretch").train.images[:]
    assert pixels.max() == 255
    write(file, np.where(FLOATS > 0, np.nan, FLOATS).astype(np.float32))
    assert "has values that are not numbers" in error_of(pets, sixteen_bit="stretch")[0]


def test_the_cache_knows_how_16_bit_images_were_read(pets, tmp_path) -> None:
    values = DEEP["16 bits"][0]
    write(pets / "dog" / "deep.png", values)
    cache = str(tmp_path / "cache")
    for rule in ("error", "high_byte", "stretch", "error", "stretch", "high_byte", "error"):
        if rule == "error":
            assert "has more than 8 bits" in error_of(pets, cache=cache)[0]
            continue
        pixels = directory(str(pets), cache=cache, sixteen_bit=rule).train.images[:]
        assert pixels.max() == 255
        assert np.array_equal(pixels, directory(str(pets), sixteen_bit=rule).train.images[:])


def test_keras_s_generator_refuses_16_bit_images(pets) -> None:
    write(pets / "dog" / "deep.png", DEEP["16 bits"][0])
    (problem,) = error_of(pets, loader="generator", sixteen_bit="stretch")
    assert problem.endswith("choose source.loader=auto. Such images: 1 (dog/deep.png).")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("6355744210913ccb", "3d813f480fb050c8", "3bfa85fb1eda2e2c")),
        ({"image_size": [3, 5], "color_mode": "rgb"}, ("cec2f0824e54e85c", "614482511c1bb4d2", "8fe064aeef018829")),
    ],
)
def test_the_setting_does_not_change_the_hashes_of_other_images(tmp_path, settings, expected) -> None:
    """The digests are those of the program before it had `sixteen_bit`."""
    for name, index in itertools.product(("cat", "dog"), range(4)):
        file = tmp_path / name / f"{index}.ppm"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"P5 6 4 255\n" + bytes([10 * index]) * 24)
    digests = prepare(directory(str(tmp_path), **settings)).digests
    assert digests == dict(zip(("train", "validation", "test"), expected, strict=True))
    assert prepare(directory(str(tmp_path), sixteen_bit="stretch", **settings)).digests != digests
    assert Decoding("rgb", (4, 6)).key == ("rgb", (4, 6), "nearest", False)
