"""Prepares picture files of any size and mode as a trained model expects them."""

import contextlib
import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mnistlab.config import ConfigError
from mnistlab.data.background import border_of
from mnistlab.data.folders import decoding
from mnistlab.data.value_range import UINT8, ValueRange
from mnistlab.inference import strokes

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".ppm", ".pgm", ".jp2")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
DISTORTION = 1.1  # up to which the aspect ratio may differ before a picture is padded


@dataclass(frozen=True)
class ModelInput:
    """What a model takes.

    shape: height, width, channels; value_range, dtype: of its raw pixels, 'uint8' or 'float32'; background: of the
    images that it was trained on, 0 black to 1 white; None if that is not known or not uniform.
    """

    shape: tuple[int, int, int]
    value_range: ValueRange = UINT8
    dtype: str = "uint8"
    background: float | None = None


@dataclass(frozen=True)
class Prepared:
    """A picture as a model takes it.

    pixels: of `ModelInput.shape` and dtype; None if the file cannot be used, for the reason in `problem`, which
    continues a sentence that starts with the file; steps: what was done, in words.
    """

    file: Path
    pixels: np.ndarray | None
    problem: str = ""
    steps: tuple[str, ...] = ()


def list_files(patterns: Sequence[str]) -> list[Path]:
    """The files that these name, each once: files, folders with all pictures in them, and patterns such as scans/*.png.

    Raises:
        ConfigError: one of them names nothing.
    """
    found: dict[Path, None] = {}  # in order
    for pattern in patterns:
        files = list(_named(pattern))
        if not files:
            what = "has no pictures" if Path(pattern).expanduser().is_dir() else "does not exist"
            raise ConfigError(
                f"images must name files, folders or patterns in quotes. Received: {pattern}, which {what}."
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _named(pattern: str) -> Iterator[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
    elif path.exists():
        yield path
    else:
        found = glob.glob(str(path), recursive=True)  # noqa: PTH207 (the pattern may be absolute)
        yield from (Path(file) for file in sorted(found) if Path(file).is_file())


def prepare(file: Path, model: ModelInput, invert: str = "auto", method: str = "resize") -> Prepared:
    """Read a picture and make it what the model takes. A file that cannot be used gives its problem, no error.

    Args:
        invert: 'auto': where strokes and ground are the other way round than in the training images, for models of one
            channel whose background is known; 'true'; 'false'.
        method: 'resize': the whole picture; 'mnist': its strokes, as MNIST was made (`strokes.as_mnist`).
    """
    try:
        picture, steps = _upright(file)
    except OSError as error:
        return Prepared(file, None, f"cannot be read: {error.strerror or 'it is no picture'}")
    except Exception as error:
        return Prepared(file, None, decoding.problem_of(error))
    if method == "mnist":
        field = strokes.as_mnist(np.asarray(picture.convert("L")), model.shape[:2], _dark_on_light(invert))
        if field.problem:
            return Prepared(file, None, field.problem)
        pixels = field.pixels if (model.background or 0.0) < 0.5 else 255 - field.pixels
        pixels = np.repeat(pixels[..., np.newaxis], model.shape[2], axis=-1)
        return Prepared(file, _as_input(pixels, model), steps=(*steps, *field.steps))
    pixels, resized = _resized(picture, model)
    steps += resized
    if _shall_invert(pixels, model, invert):
        pixels, steps = 255 - pixels, [*steps, "inverted"]
    return Prepared(file, _as_input(pixels, model), steps=tuple(steps))


def _dark_on_light(invert: str) -> bool | None:
    """What `invert` says of the strokes: True: dark on light; None: to be told from the picture."""
    return None if invert == "auto" else invert == "true"


def _upright(file: Path) -> tuple[Image.Image, list[str]]:
    """The picture in mode L or RGB, turned as viewers show it, without transparency; and what was done."""
    content = file.read_bytes()
    sixteen_bit = "high_byte" if decoding.is_deep_colour(content) else "stretch"
    picture = decoding.checked_image(content, decoding.MAX_PIXELS, sixteen_bit)
    steps = []
    if decoding.is_deep_gray(picture.mode):
        picture = decoding.with_8_bits(picture, "stretch")
        steps.append("16 bits stretched to 8")
    with contextlib.suppress(Exception):  # damaged EXIF data
        if picture.getexif().get(decoding.EXIF_ORIENTATION, 1) != 1:
            picture = ImageOps.exif_transpose(picture)
            steps.append("turned by its EXIF orientation")
    if "A" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        opaque = np.asarray(picture.getchannel("A"), np.float64) / 255
        if opaque.min() < 1:
            light = np.average(np.asarray(picture.convert("L")), weights=np.maximum(opaque, 1e-6)) > 127
            ground = Image.new("RGBA", picture.size, (0, 0, 0, 255) if light else (255, 255, 255, 255))
            picture = Image.alpha_composite(ground, picture)
            steps.append(f"transparent ground made {'black' if light else 'white'}")
    return picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"), steps


def _resized(picture: Image.Image, model: ModelInput) -> tuple[np.ndarray, list[str]]:
    """The whole picture in the model's size and channels, uint8; padded with its own ground where the training images
    have a uniform background and its aspect ratio is another."""
    height, width, channels = model.shape
    steps: list[str] = []
    ratio = (picture.width / picture.height) / (width / height)
    if model.background is not None and not 1 / DISTORTION <= ratio <= DISTORTION:
        larger = max(picture.width / width, picture.height / height)
        size = (max(1, round(width * larger)), max(1, round(height * larger)))
        border = np.median(border_of(np.asarray(picture)), axis=0)
        color = tuple(int(value) for value in np.atleast_1d(border))
        field = Image.new(picture.mode, size, color if len(color) > 1 else color[0])
        field.paste(picture, ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2))
        picture, steps = field, ["padded to keep its proportions"]
    picture = picture.convert(MODES.get(channels, "RGB"))
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)  # Pillow smooths before it reduces
    return np.asarray(picture).reshape(model.shape), steps


def _shall_invert(pixels: np.ndarray, model: ModelInput, invert: str) -> bool:
    if invert != "auto":
        return invert == "true"
    if model.shape[2] != 1 or model.background is None:
        return False
    return strokes.is_dark_on_light(pixels[..., 0]) == (model.background < 0.5)


def _as_input(pixels: np.ndarray, model: ModelInput) -> np.ndarray:
    """uint8 pixels in the model's value range."""
    if model.dtype == "uint8":
        return pixels
    values = model.value_range
    found: np.ndarray = (pixels.astype(np.float32) / 255 * values.width + values.black).astype(np.float32)
    return found
