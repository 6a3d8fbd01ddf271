"""Decodes one image file into pixels as Keras's `load_img` does, and finds out what is wrong with a file.

The decoding processes import this module, so it loads NumPy, Pillow and the standard library only.
"""

import contextlib
import hashlib
import importlib
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")
# Pillow opens more formats, some through external programs; only these are tried, regardless of the file's ending.
PLUGINS = ("Png", "Jpeg", "Bmp", "Ppm", "Tiff", "Gif", "WebP", "Avif", "Jpeg2K")
for plugin in PLUGINS:  # here, because Pillow's lazy import of them is not safe with threads
    with contextlib.suppress(ImportError):  # Pillow before 11.3 has no AVIF
        importlib.import_module(f"PIL.{plugin}ImagePlugin")
FORMATS = tuple(name for name in (*map(str.upper, PLUGINS), "JPEG2000") if name in Image.OPEN)
MAX_PIXELS = 89_478_485  # above it, Pillow warns of a decompression bomb
EXIF_ORIENTATION = 0x0112
SIXTEEN_BIT = ("error", "high_byte", "stretch")
SIXTEEN_BIT_PROBLEM = (
    "has more than 8 bits per channel: choose how they become 8, source.sixteen_bit=high_byte (value // 256, for "
    "values up to 65535) or stretch (the darkest to 0 and the brightest to 255, in each image by itself)"
)
HIGH_BYTE_PROBLEM = "does not fit source.sixteen_bit=high_byte, which is for whole numbers from 0 to 65535"
DEEP_COLOUR = ";16"  # marks the mode of a PNG of 16-bit colours, of which Pillow reads the high bytes
DEEP_COLOUR_PROBLEM = (
    "has 16-bit colours, of which Pillow reads the high byte only: set source.sixteen_bit=high_byte (value // 256)"
)
MAX_DARK = 4096  # a 16-bit image without higher values is almost black if its high byte is taken
OUTDATED_PROBLEMS = ("is not an image in spite", "has more than 8 bits per channel (", "is truncated or corrupt: ")


class BadImageError(ValueError):
    """A file is not an image that can be trained on; the message continues a sentence that starts with its path."""


@dataclass(frozen=True)
class Decoding:
    """How a file becomes pixels: Keras's `color_mode`, `target_size`, `interpolation` and `keep_aspect_ratio`.

    size: (height, width); sixteen_bit: how more than 8 bits per channel become 8, one of `SIXTEEN_BIT`.
    """

    color_mode: str
    size: tuple[int, int]
    interpolation: str = "nearest"
    keep_aspect_ratio: bool = False
    sixteen_bit: str = "error"

    @property
    def key(self) -> tuple[object, ...]:
        """The values that make the pixels, for hashes."""
        key = (self.color_mode, self.size, self.interpolation, self.keep_aspect_ratio)
        return key if self.sixteen_bit == "error" else (*key, self.sixteen_bit)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)"""
        return (*self.size, CHANNELS[self.color_mode])

    @property
    def image_bytes(self) -> int:
        """The memory that a decoded image takes."""
        return math.prod(self.shape)


class Facts(NamedTuple):
    """What is known about a file after it was read.

    sha256: of its bytes, empty if they could not be read; mode: Pillow's; traits: those of `source.TRAITS` that apply;
    problem: why it cannot be used, empty if it can.
    """

    sha256: str
    width: int = 0
    height: int = 0
    mode: str = ""
    traits: tuple[str, ...] = ()
    problem: str = ""


def open_image(content: bytes) -> Image.Image:
    """Open the image in a file's bytes: Pillow reads its header, but not yet its pixels."""
    return Image.open(io.BytesIO(content), formats=FORMATS)


def pixels(image: Image.Image, decoding: Decoding) -> np.ndarray:
    """The image's pixels, uint8, shape `decoding.shape`, converted and resized in the same steps as in `load_img`."""
    mode = MODES[decoding.color_mode]
    if is_deep_gray(image.mode):
        image = with_8_bits(image, decoding.sixteen_bit)
    if image.mode != mode:
        if mode != "RGBA":
            image.load()
            image.info.pop("transparency", None)  # this changes no pixel and avoids a warning of Pillow
        image = image.convert(mode)
    height, width = decoding.size
    if image.size != (width, height):
        box = _centered_box(image.size, (width, height)) if decoding.keep_aspect_ratio else None
        image = image.resize((width, height), Image.Resampling[decoding.interpolation.upper()], box=box)
    return np.asarray(image).reshape(decoding.shape)


def has_more_than_8_bits(mode: str) -> bool:
    """Whether the channels of an image of this mode have more than 8 bits: I, I;16, I;16B, F, ..., RGB;16."""
    return is_deep_gray(mode) or mode.endswith(DEEP_COLOUR)


def is_deep_gray(mode: str) -> bool:
    """Whether Pillow gives an image of this mode with more than 8 bits; they are all grey."""
    return mode.startswith(("I", "F"))


def is_deep_colour(content: bytes) -> bool:
    """Whether a file is a PNG of 16 bits a channel that has colours or is grey with alpha."""
    return content[:8] == b"\x89PNG\r\n\x1a\n" and content[24:25] == b"\x10" and content[25:26] in b"\x02\x04\x06"


def with_8_bits(image: Image.Image, rule: str) -> Image.Image:
    """The image with 256 grey levels.

    Raises:
        BadImageError: the rule does not fit the image's values.
    """
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadImageError("has values that are not numbers (NaN or infinite)")
    if rule == "high_byte":
        if image.mode == "F" or low < 0 or high > 65535:
            raise BadImageError(f"{HIGH_BYTE_PROBLEM}: it has values from {low:g} to {high:g}; stretch takes all")
        return Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8))
    if rule == "stretch":
        return Image.fromarray(np.rint((values - low) * (255 / ((high - low) or 1))).astype(np.uint8))
    raise BadImageError(SIXTEEN_BIT_PROBLEM)


def _centered_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest centred box with the target's aspect ratio: (left, upper, right, lower)."""
    (width, height), (target_width, target_height) = size, target
    crop_height = min(height, (width * target_height) // target_width)
    crop_width = min(width, (height * target_width) // target_height)
    left, upper = (width - crop_width) // 2, (height - crop_height) // 2
    return left, upper, left + crop_width, upper + crop_height


def read(file: str | Path, decoding: Decoding) -> np.ndarray:
    """A file's pixels, uint8 of shape `decoding.shape`.

    Raises:
        OSError: the file cannot be read or decoded; the message names it.
    """
    try:
        with open(file, "rb", buffering=0) as stream:  # noqa: PTH123 (a third of the time of Path.open)
            return pixels(open_image(stream.read()), decoding)
    except Exception as error:
        reason = (error.strerror or "") if isinstance(error, OSError) else ""
        raise OSError(f"{file} cannot be read as an image: {reason or 'it is truncated or corrupt'}") from error


def read_header(file: str) -> Facts:
    """The facts in a file's header, without a hash or a check of the pixels."""
    try:
        content = Path(file).read_bytes()
        with open_image(content) as image:
            return Facts("", image.width, image.height, _mode(image, content))
    except Exception as error:
        return Facts("", problem=str(error) or type(error).__name__)


def examine(
    file: str, decoding: Decoding | None = None, max_pixels: int = MAX_PIXELS, sixteen_bit: str = "error"
) -> tuple[Facts, np.ndarray | None]:
    """Read a file once and decode all of it; returns its facts and, if `decoding` is given, its pixels."""
    try:
        with open(file, "rb", buffering=0) as stream:  # noqa: PTH123
            content = stream.read()
    except OSError as error:
        return Facts("", problem=f"cannot be read: {error.strerror or error}"), None
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        image = checked_image(content, max_pixels, sixteen_bit)
        mode = _mode(image, content)
        facts = Facts(sha256, image.width, image.height, mode, _traits(image, mode, sixteen_bit))
        return facts, None if decoding is None else pixels(image, decoding)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and others
        return Facts(sha256, problem=problem_of(error)), None


def problem_of(error: Exception) -> str:
    """Why an image cannot be used, from what `checked_image` raised."""
    if isinstance(error, BadImageError):
        return str(error)
    too_short = any(word in str(error).casefold() for word in ("truncated", "eof", "end of file", "not enough"))
    return "is truncated" if too_short else "is corrupt"


def _mode(image: Image.Image, content: bytes) -> str:
    """Pillow's mode, marked if the file has 16-bit colours."""
    return image.mode + DEEP_COLOUR * is_deep_colour(content)


def checked_image(content: bytes, max_pixels: int, sixteen_bit: str) -> Image.Image:
    """The image, completely decoded. Raises BadImageError if it is unusable, and Pillow's errors if it is damaged."""
    if not content:
        raise BadImageError("is empty (0 bytes)")
    try:
        image = open_image(content)
    except Image.DecompressionBombError as error:
        raise BadImageError(f"is too large: {_million_pixels(error)}; it may be a decompression bomb") from error
    except UnidentifiedImageError as error:
        raise BadImageError(_no_image(content)) from error
    if image.width * image.height > max_pixels:
        raise BadImageError(
            f"is too large: {image.width} x {image.height} = {image.width * image.height / 1e6:,.0f} million pixels "
            f"(source.max_megapixels={max_pixels / 1e6:g}); it may be a decompression bomb"
        )
    if is_deep_colour(content) and sixteen_bit != "high_byte":
        raise BadImageError(DEEP_COLOUR_PROBLEM)
    if is_deep_gray(image.mode) and sixteen_bit == "error":
        raise BadImageError(SIXTEEN_BIT_PROBLEM)
    image.load()
    if is_deep_gray(image.mode):
        with_8_bits(image, sixteen_bit)
    return image


def _million_pixels(error: Image.DecompressionBombError) -> str:
    """The image's size, which Pillow gives in its message only."""
    number = re.search(r"\((\d+) pixels\)", str(error))
    return f"{int(number[1]) / 1e6:,.0f} million pixels" if number else "more pixels than Pillow opens"


def _no_image(content: bytes) -> str:
    """Why Pillow does not identify a file."""
    if content[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "is a HEIC image, which Pillow does not read: convert it to JPEG or PNG"
    if content[4:8] == b"ftyp" and content[8:12] in (b"avif", b"avis"):
        return "is an AVIF image, which this version of Pillow does not read: convert it to JPEG or PNG"
    if content[:4] in (b"II*\0", b"MM\0*"):
        return "is a TIFF image of a kind that Pillow does not read, such as 16-bit colour: convert it to PNG"
    if content.lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<html", b"<!doc"):
        return "is not an image but text, such as SVG or a web page"
    return f"is not an image of a format that is read here (its first bytes: {content[:8]!r})"


def _traits(image: Image.Image, mode: str, sixteen_bit: str) -> tuple[str, ...]:
    """Traits that Keras handles without a message; `source.TRAITS` explains how."""
    deep = has_more_than_8_bits(mode)
    has_exif = image.format != "TIFF" and "exif" in image.info
    applies = {
        "palette": image.mode.startswith("P"),
        "alpha": image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info,
        "cmyk": image.mode == "CMYK",
        "animated": image.format != "MPO" and getattr(image, "is_animated", False),  # MPO's second frame is a preview
        "rotated": has_exif and image.getexif().get(EXIF_ORIENTATION, 1) != 1,
        "deep": deep,
        "dark": is_deep_gray(mode) and sixteen_bit == "high_byte" and int(np.asarray(image).max()) < MAX_DARK,
    }
    return tuple(trait for trait in applies if applies[trait])
