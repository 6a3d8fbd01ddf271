"""Random bytes of image files in a folder: each image is read, left out, or named in an error.

Never another exception, never without end, never memory for pixels that a header merely claims, never pixels or caches
that are half written.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import LENGTHS, Damage, check_data_set, damaged, damages, fuzz, saved
from hypothesis import strategies as st
from PIL import Image, features

from mnistlab.data.folders.source import directory

GENERATOR = np.random.default_rng(0)


def image_files() -> dict[str, bytes]:
    """Small whole images, by format and mode."""
    gray = Image.fromarray(GENERATOR.integers(0, 256, (9, 7), dtype=np.uint8))
    colour = Image.fromarray(GENERATOR.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    deep = Image.fromarray(GENERATOR.integers(0, 65536, (9, 7), dtype=np.uint16))
    floats = Image.fromarray(GENERATOR.random((9, 7), dtype=np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [colour.rotate(90).resize((7, 9))] * 2}
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "png": (colour, "png", {}),
        "palette.png": (colour.quantize(16), "png", {"transparency": 0}),
        "deep.png": (deep, "png", {}),
        "rgba.png": (colour.convert("RGBA"), "png", {}),
        "animated.png": (colour, "png", frames),
        "jpeg": (colour, "jpeg", {"exif": exif}),
        "progressive.jpeg": (gray.resize((40, 30)), "jpeg", {"progressive": True}),
        "cmyk.jpeg": (colour.convert("CMYK"), "jpeg", {}),
        "bmp": (colour, "bmp", {}),
        "palette.bmp": (colour.quantize(16), "bmp", {}),
        "gif": (colour.quantize(16), "gif", {}),
        "animated.gif": (colour, "gif", frames),
        "tiff": (colour, "tiff", {}),
        "lzw.tiff": (gray, "tiff", {"compression": "tiff_lzw"}),
        "jpeg.tiff": (colour, "tiff", {"compression": "jpeg"}),
        "floats.tiff": (floats, "tiff", {}),
        "pages.tiff": (gray, "tiff", {"save_all": True, "append_images": [gray.rotate(90)]}),
        "ppm": (colour, "ppm", {}),
    }
    if features.check("webp"):
        kinds |= {"webp": (colour, "webp", {}), "animated.webp": (colour, "webp", frames)}
    if features.check("avif"):
        kinds["avif"] = (colour, "avif", {})
    if features.check("jpg_2000"):
        kinds["jp2"] = (colour, "jpeg2000", {})
    return {kind: saved(image.save, format=form, **more) for kind, (image, form, more) in kinds.items()}


IMAGE_FILES = image_files()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # a run reports unusable images itself
@LENGTHS
def test_damaged_images(tmp_path: Path, length: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder where some images are damaged: read, left out, or named in an error. No pixels are left half-written."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    for index in range(8):
        file = tmp_path / "own" / f"class_{index % 2}" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(IMAGE_FILES["png"])
    target = tmp_path / "own" / "class_0" / "damaged.jpg"
    cache = tmp_path / "cache"
    ends: Counter[str] = Counter()

    @fuzz(
        length,
        40,
        2500,
        kind=st.sampled_from(list(IMAGE_FILES)),
        steps=damages(),
        loader=st.sampled_from(["auto", "resident", "stream"]),
        on_bad_image=st.sampled_from(["error", "skip", "skip"]),
        sixteen_bit=st.sampled_from(["error", "high_byte", "stretch"]),
        color_mode=st.sampled_from(["auto", "grayscale", "rgb", "rgba"]),
        cached=st.booleans(),
    )
    def check(kind: str, steps: list[Damage], cached: bool, **settings: Any) -> None:
        target.write_bytes(damaged(IMAGE_FILES[kind], steps))
        size = {"image_size": (6, 6), "max_megapixels": 1.0, "cache": str(cache) if cached else None, "workers": 1}
        end = check_data_set(lambda: directory(str(tmp_path / "own"), **size, **settings), (kind, steps, settings))
        ends[end] += 1
        assert [file for file in (tmp_path / "temporary").rglob("*") if file.suffix != ".txt"] == []
        assert list(cache.rglob(".*")) == []

    print(dict(ends))


def png(width: int, height: int, rows: bytes, kind: int = 0) -> bytes:
    """A PNG file that claims this size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    start = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    packed = zlib.compress(rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(1_000_000, 1_000_000), (2**31 - 1, 2**31 - 1), (9_000, 9_000), (100_000, 1), (1, 0)])
def test_images_that_claim_to_be_huge(make_folder, size: tuple[int, int]) -> None:
    folder = make_folder("own", per_class=5)
    (folder / "class_0" / "huge.png").write_bytes(png(*size, bytes(1 << 20)))
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b","
    (folder / "class_1" / "huge.gif").write_bytes(
        gif + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\0;"
    )
    assert check_data_set(lambda: directory(str(folder), max_megapixels=1), size) == "refused"
    assert check_data_set(lambda: directory(str(folder), max_megapixels=1, on_bad_image="skip"), size) == "read"
