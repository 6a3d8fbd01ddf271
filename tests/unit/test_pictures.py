"""Pictures in every state of light, paper and file format become what a model takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from mnistlab.config import ConfigError
from mnistlab.data import sources
from mnistlab.data.background import background_of
from mnistlab.data.value_range import UINT8, ValueRange
from mnistlab.inference import pictures, strokes
from mnistlab.inference.pictures import ModelInput

MNIST = ModelInput((28, 28, 1), background=0.0)
HEIGHT, WIDTH = 300, 400


def drawn() -> np.ndarray:
    """A 4 of ink on paper: how much ink, 0 to 1, shape (HEIGHT, WIDTH)."""
    page = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(page).line([(230, 90), (180, 170), (260, 170)], fill=255, width=13, joint="curve")
    ImageDraw.Draw(page).line([(240, 120), (232, 240)], fill=255, width=13)
    return np.asarray(page) / 255


def gray(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


def states() -> dict[str, Image.Image]:
    """The same drawing, seen in other light, on other paper, with other pens and by other scanners."""
    ink, noise = drawn(), np.random.default_rng(0).normal(0, 0.04, (HEIGHT, WIDTH))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
    paper = 1 - 0.9 * ink
    specks = paper.copy()
    for row, column in ((20, 30), (280, 380), (150, 20), (40, 350)):
        specks[row : row + 4, column : column + 4] = 0
    frame = paper.copy()
    frame[:, :15] = 0.1
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH]
    squares = 0.92 * np.where((row % 30 < 2) | (column % 30 < 2), 0.78, 1.0) * paper + noise / 4
    cream = Image.merge("RGB", [gray(paper * share) for share in (1.0, 0.92, 0.7)])
    blue = Image.merge("RGB", [gray(1 - ink * share) for share in (0.85, 0.8, 0.3)])
    clear = Image.merge("RGBA", [*[Image.new("L", (WIDTH, HEIGHT))] * 3, gray(ink)])
    chalk = Image.merge("RGBA", [*[Image.new("L", (WIDTH, HEIGHT), 255)] * 3, gray(ink)])
    return {
        "clean": gray(paper),
        "dim light": gray(0.4 * paper),
        "light from the side": gray(paper * (0.35 + 0.6 * x)),
        "shadow of a hand": gray(paper * np.where(x + 0.5 * y > 0.8, 0.5, 1.0)),
        "sharp shadow over half of the page": gray(0.92 * paper * np.where(row + column > 280, 0.55, 1.0) + noise / 4),
        "squared paper, cut along a line": gray(squares),
        "pencil": gray(1 - 0.3 * ink + noise / 2),
        "noise": gray(paper * 0.8 + noise),
        "specks": gray(specks),
        "dark edge": gray(frame),
        "cream paper": cream,
        "blue ink": blue,
        "transparent": clear,
        "white on transparent": chalk,
        "white on black": gray(1 - paper),
        "one bit": gray(paper).convert("1"),
        "palette": cream.convert("P", palette=Image.Palette.ADAPTIVE),
        "cmyk": cream.convert("CMYK"),
        "16 bits": Image.fromarray(np.rint(paper * 40_000).astype(np.uint16)),
        "a corner of a large page": gray(np.pad(paper, ((0, 900), (0, 1200)), constant_values=1.0)),
    }


STATES = states()


def saved(image: Image.Image, tmp_path: Path) -> Path:
    file = tmp_path / f"picture.{'tif' if image.mode == 'CMYK' else 'png'}"
    image.save(file)
    return file


@pytest.mark.parametrize("state", STATES)
def test_strokes_become_the_same_digit_in_every_state(state: str, tmp_path: Path) -> None:
    clean = pictures.prepare(saved(STATES["clean"], tmp_path), MNIST, method="mnist").pixels
    found = pictures.prepare(saved(STATES[state], tmp_path), MNIST, method="mnist")
    assert (found.problem, found.pixels.shape, found.pixels.dtype) == ("", (28, 28, 1), np.uint8)
    digit = found.pixels[..., 0]
    assert np.corrcoef(digit.ravel(), clean.ravel())[0, 1] > 0.9
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    assert 19 <= max(np.ptp(rows) + 1, np.ptp(columns) + 1) <= 20
    assert np.abs(np.array(ndimage.center_of_mass(digit)) - 13.5).max() <= 0.6
    assert digit.max() >= 240
    assert np.concatenate([digit[0], digit[-1], digit[:, 0], digit[:, -1]]).max() == 0
    assert ("inverted" in found.steps) == ("white on" not in state)


def test_digits_of_mnist_survive_the_scanner(tmp_path: Path) -> None:
    images = sources.mnist_5k().test.images[::50, ..., 0]
    correlations = []
    for image in images:
        page = Image.new("L", (700, 600), 240)
        large = Image.fromarray(255 - image).resize((420, 420), Image.Resampling.BICUBIC)
        page.paste(large.point(lambda value: value * 240 // 255), (150, 60))
        found = pictures.prepare(saved(page, tmp_path), MNIST, method="mnist").pixels[..., 0]
        shifted = [np.roll(found, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        correlations.append(max(np.corrcoef(one.ravel(), image.ravel())[0, 1] for one in shifted))
    assert np.median(correlations) > 0.9
    assert min(correlations) > 0.7


def test_a_thin_pen_is_widened(tmp_path: Path) -> None:
    page = Image.new("L", (1000, 1000), 255)
    ImageDraw.Draw(page).ellipse((300, 200, 700, 800), outline=0, width=5)
    found = pictures.prepare(saved(page, tmp_path), MNIST, method="mnist")
    assert "thin strokes widened" in found.steps
    row = found.pixels[14, :, 0]
    assert 300 < row[:14].sum() < 900  # about two pixels of full ink on either side


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_page_has_no_strokes(level: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(level, 3, (200, 200))
    for page in (np.full((200, 200), level), noise):
        file = saved(Image.fromarray(np.clip(page, 0, 255).astype(np.uint8)), tmp_path)
        found = pictures.prepare(file, MNIST, method="mnist")
        assert (found.pixels, found.problem) == (None, "has no strokes that stand out from the ground")


@pytest.mark.parametrize(
    "state", ["clean", "dim light", "light from the side", "pencil", "cream paper", "white on black"]
)
def test_whole_pictures_are_inverted_where_the_training_images_are_the_other_way_round(state: str, tmp_path) -> None:
    file = saved(STATES[state], tmp_path)
    on_black = pictures.prepare(file, MNIST)
    assert ("inverted" in on_black.steps) == (state != "white on black")
    on_white = pictures.prepare(file, ModelInput((28, 28, 1), background=1.0))
    assert ("inverted" in on_white.steps) == (state == "white on black")
    for unknown in (ModelInput((28, 28, 1)), ModelInput((28, 28, 3), background=0.0)):
        assert "inverted" not in pictures.prepare(file, unknown).steps
    assert "inverted" in pictures.prepare(file, MNIST, invert="true").steps
    assert "inverted" not in pictures.prepare(file, MNIST, invert="false").steps


def test_a_picture_of_the_model_s_size_stays_as_it_is(tmp_path: Path) -> None:
    image = sources.mnist_5k().test.images[7]
    file = saved(Image.fromarray(image[..., 0]), tmp_path)
    found = pictures.prepare(file, MNIST)
    np.testing.assert_array_equal(found.pixels, image)
    assert found.steps == ()
    unit = pictures.prepare(file, ModelInput((28, 28, 1), ValueRange(0, 1, "unit"), "float32", 0.0)).pixels
    np.testing.assert_allclose(unit, image.astype(np.float32) / 255, atol=1e-7)
    signed = pictures.prepare(file, ModelInput((28, 28, 1), ValueRange(-1, 1, "signed"), "float32", 0.0)).pixels
    np.testing.assert_allclose(signed, image / 127.5 - 1, atol=1e-6)


def test_a_long_picture_is_padded_with_its_own_ground(tmp_path: Path) -> None:
    page = np.full((40, 120), 30, np.uint8)
    page[10:30, 50:70] = 200
    file = saved(Image.fromarray(page), tmp_path)
    padded = pictures.prepare(file, MNIST)
    assert "padded to keep its proportions" in padded.steps
    rows, columns = np.nonzero(padded.pixels[..., 0] > 100)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
    assert padded.pixels[0, 0, 0] == 30
    stretched = pictures.prepare(file, ModelInput((28, 28, 1))).pixels
    rows, columns = np.nonzero(stretched[..., 0] > 100)
    assert np.ptp(rows) > 2 * np.ptp(columns)


def test_a_photo_is_turned_as_viewers_show_it(tmp_path: Path) -> None:
    page = Image.new("L", (40, 40))
    page.paste(255, (0, 0, 40, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    page.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    found = pictures.prepare(tmp_path / "photo.jpg", ModelInput((4, 4, 1)))
    assert found.steps == ("turned by its EXIF orientation",)
    assert found.pixels[:, 3, 0].min() > 200 and found.pixels[:, 0, 0].max() < 50


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image but text, such as SVG or a web page"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "is "),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_no_picture_gives_its_reason(content: bytes | None, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.png"
    if content is not None:
        file.write_bytes(content)
    found = pictures.prepare(file, MNIST)
    assert found.pixels is None
    assert found.problem.startswith(problem)


def test_files_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "notes.txt", "deep/er/c.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert pictures.list_files(["."]) == [Path("a.JPG"), Path("b.png"), Path("deep/er/c.tif")]
    assert pictures.list_files(["*.png", "b.png", "notes.txt"]) == [Path("b.png"), Path("notes.txt")]
    assert pictures.list_files(["**/*.tif"]) == [Path("deep/er/c.tif")]
    with pytest.raises(ConfigError, match=r"Received: \*\.bmp, which does not exist\."):
        pictures.list_files(["b.png", "*.bmp"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"Received: empty, which has no pictures\."):
        pictures.list_files(["empty"])


def test_the_background_of_a_data_set() -> None:
    images = sources.mnist_5k().train.images
    assert background_of(images, UINT8) == 0.0
    assert background_of(255 - images, UINT8) == 1.0
    assert background_of(images.astype(np.float32) / 255, ValueRange(0, 1, "unit")) == 0.0
    assert background_of(np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8), UINT8) is None


def test_dark_and_light_are_told_by_the_ground() -> None:
    for name, image in STATES.items():
        if image.mode == "L":
            assert strokes.is_dark_on_light(np.asarray(image)) == (name != "white on black"), name
