"""The three loaders give equal pixels, labels, splits and orders, and Keras's; so does augmentation."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_data import digits

from mnistlab import evaluation, training
from mnistlab.config import ConfigError
from mnistlab.data import epoch_order, prepare
from mnistlab.data.folders import batches
from mnistlab.data.folders import decoding as decoder
from mnistlab.data.folders.decoding import Decoding
from mnistlab.data.folders.source import directory
from mnistlab.training import augmentation, models

ImageDataGenerator = tf.keras.preprocessing.image.ImageDataGenerator


def picture(seed: int, size: tuple[int, int] = (21, 17)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


SCIPY_NAME_IN_KERAS = pytest.mark.filterwarnings("ignore:Please import `affine_transform`")


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> Path:
    """Two unequal classes of JPEG files of mixed sizes; dogs are brighter."""
    root = tmp_path_factory.mktemp("pets")
    for name, count, add in (("cat", 40, 0), ("dog", 14, 90)):
        (root / name).mkdir()
        for index in range(count):
            image = picture(index + 100 * add, size=(16 + index % 7, 20 + index % 5))
            Image.eval(image, lambda value, add=add: min(255, value // 2 + add)).save(root / name / f"{index:02}.jpg")
    return root


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """Every kind of file that Keras reads, in one class folder; the other holds plain ones."""
    root = tmp_path_factory.mktemp("odd")
    (root / "odd").mkdir()
    (root / "plain").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    save = {
        "grey.png": (picture(0).convert("L"), {}),
        "palette.png": (picture(1).convert("P"), {}),
        "see_through.png": (picture(2).convert("P"), {"transparency": bytes(range(256))}),
        "alpha.png": (picture(3).convert("RGBA"), {}),
        "grey_alpha.png": (picture(4).convert("LA"), {}),
        "bits.png": (picture(5).convert("1"), {}),
        "print.jpg": (picture(6).convert("CMYK"), {}),
        "turned.jpg": (picture(7), {"exif": exif}),
        "turned.tif": (picture(8), {"exif": exif}),
        "bitmap.bmp": (picture(9), {}),
        "pixmap.ppm": (picture(10), {}),
        "progressive.jpeg": (picture(11), {"progressive": True}),
        "moving.png": (picture(12), {"format": "GIF", "save_all": True, "append_images": [picture(13)]}),
        "web.jpg": (picture(14), {"format": "WEBP"}),
    }
    for name, (image, settings) in save.items():
        image.save(root / "odd" / name, **settings)
        picture(20).save(root / "plain" / name, format="PNG")
    return root


@pytest.mark.parametrize("color_mode", ["grayscale", "rgb", "rgba"])
@pytest.mark.parametrize(
    ("interpolation", "keep_aspect_ratio", "size"),
    [("nearest", False, (9, 13)), ("bilinear", True, (9, 13)), ("lanczos", True, (30, 8)), ("box", False, (17, 21))],
)
def test_each_kind_of_file_is_read_as_keras_reads_it(odd, color_mode, interpolation, keep_aspect_ratio, size) -> None:
    decoding = Decoding(color_mode, size, interpolation, keep_aspect_ratio)
    for file in sorted(odd.rglob("*.*")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of palettes with transparency
            image = keras.utils.load_img(file, color_mode, size, interpolation, keep_aspect_ratio)
        expected = keras.utils.img_to_array(image)
        assert np.array_equal(decoder.read(str(file), decoding), expected), file.name


def batches_of(dataset, seed: int | None = None) -> list[tuple[np.ndarray, ...]]:
    order = batches.EpochOrder(len(dataset.train), seed)
    made = batches._batches(dataset, dataset.train, 8, order)
    if isinstance(made, keras.utils.PyDataset):
        return [made[index] for index in range(len(made))]
    return [tuple(part.numpy() for part in batch) for batch in made]


@pytest.mark.parametrize("loader", ["stream", "generator"])
def test_loaders_give_the_pixels_and_order_of_the_resident_one(odd, loader) -> None:
    resident, other = (
        prepare(directory(str(odd), loader=name, image_size=[9, 11], color_mode="rgb"), class_mode="categorical")
        for name in ("resident", loader)
    )
    order = epoch_order(len(resident.train), 5, 0)
    read = batches_of(other, seed=5)
    assert np.array_equal(np.concatenate([images for images, _ in read]), resident.train.images[order])
    assert np.array_equal(np.concatenate([labels for _, labels in read]), np.eye(2)[resident.train.labels[order]])


@pytest.mark.parametrize("subset", ["training", "validation"])
def test_the_keras_split_is_that_of_flow_from_directory(pets, subset) -> None:
    dataset = prepare(
        directory(str(pets), loader="generator", image_size=[15, 15]), split="keras", validation_fraction=0.3
    )
    with contextlib.redirect_stdout(io.StringIO()):
        files = ImageDataGenerator(validation_split=0.3).flow_from_directory(
            pets, target_size=(15, 15), class_mode="binary", subset=subset, shuffle=False, batch_size=100
        )
    split = dataset.train if subset == "training" else dataset.validation
    assert sorted(split.images.paths()) == sorted(files.filepaths)
    images, labels = files[0]
    ours = np.argsort(split.images.paths())
    theirs = np.argsort(files.filepaths)
    assert np.array_equal(split.images[ours], images[theirs])
    assert np.array_equal(split.labels[ours], labels[theirs])


def trained(dataset, seed=0, epochs=2, scaling="unit"):
    training.start_job(seed, deterministic=False)
    network = models.mlp(dataset.image_shape, dataset.num_outputs, dataset.output_activation, units=[8])
    made = [] if dataset.loader == "generator" else augmentation.layers(dataset.augmentation, dataset.image_shape)
    model = models.with_preprocessing(network, dataset.image_shape, scaling, made)
    training.compile_model(model, keras.optimizers.Adam(0.01), loss="auto", metrics=["accuracy"], labels=dataset.labels)
    plan = training.plan_fit(model, dataset, epochs=epochs, batch_size=8, seed=seed)
    return model, training.fit(model, dataset, plan, keep="last").history


@pytest.mark.long_after(1)
@pytest.mark.parametrize("class_mode", ["binary", "sparse"])
def test_training_from_files_is_training_from_memory(pets, class_mode) -> None:
    histories = []
    for loader in ("resident", "stream", "generator"):
        images = directory(str(pets), loader=loader, image_size=[16, 16])
        dataset = prepare(images, class_mode=class_mode, class_weight="balanced", test_fraction=0.2)
        model, history = trained(dataset)
        metrics, probabilities = training.predict(model, dataset, "test")
        histories.append([row[name] for name in ("loss", "val_loss") for row in history] + [metrics["loss"]])
        evaluated = evaluation.evaluate(probabilities, dataset.test.labels, dataset.class_names)
        assert probabilities.shape == (len(dataset.test), 2)
        assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert evaluated.report["accuracy"] == pytest.approx(metrics["accuracy"])
    assert histories[1] == pytest.approx(histories[0], rel=1e-4)
    assert histories[2] == pytest.approx(histories[0], rel=1e-4)


@SCIPY_NAME_IN_KERAS
def test_the_random_state_of_numpy_is_left_alone(pets) -> None:
    arguments = {"rotation_range": 20, "horizontal_flip": True}
    images = directory(str(pets), loader="generator", image_size=[16, 16])
    trained(prepare(images, class_mode="binary", augmentation=arguments), seed=3, epochs=1)
    untouched = np.random.RandomState(3).random(3)  # trained() seeds it at its start; nothing draws from it afterwards
    assert np.array_equal(np.random.random(3), untouched)


@SCIPY_NAME_IN_KERAS
def test_the_generator_augments_training_images_only_and_repeatably(pets) -> None:
    arguments = {"rotation_range": 20, "width_shift_range": 0.2, "brightness_range": [0.5, 1.5], "shear_range": 5}
    plain, augmented = (
        prepare(directory(str(pets), loader="generator", image_size=[16, 16]), augmentation=chosen)
        for chosen in ({}, arguments)
    )
    first, again, other, without = (
        batches_of(augmented, 1),
        batches_of(augmented, 1),
        batches_of(augmented, 2),
        batches_of(plain, 1),
    )
    assert all(np.array_equal(one[0], two[0]) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0][0], other[0][0])
    assert not np.array_equal(first[0][0], without[0][0])
    (images, _), *_ = list(batches.evaluation_batches(augmented, augmented.validation))
    assert np.array_equal(images, augmented.validation.images[:])


def test_wrong_arguments_of_the_generator_are_an_error(pets) -> None:
    images = directory(str(pets), loader="generator", image_size=[16, 16])
    with pytest.raises(ConfigError, match="ImageDataGenerator rejects its arguments"):
        trained(prepare(images, augmentation={"zoom_range": [1, 2, 3]}))


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ({}, []),
        ({"rotation_range": 0, "zoom_range": 0.0, "horizontal_flip": False, "fill_mode": "nearest"}, []),
        ({"rotation_range": 30}, ["RandomRotation"]),
        ({"width_shift_range": 2, "height_shift_range": 0.1}, ["RandomTranslation"]),
        ({"zoom_range": [0.8, 1.1]}, ["RandomZoom"]),
        ({"horizontal_flip": True, "vertical_flip": True, "cval": 255, "fill_mode": "constant"}, ["RandomFlip"]),
    ],
)
def test_arguments_become_layers(arguments, kinds) -> None:
    made = augmentation.layers(arguments, (20, 10, 3))
    assert [type(layer).__name__ for layer in made] == kinds


@SCIPY_NAME_IN_KERAS
def test_layers_do_what_the_generator_does() -> None:
    """Over many draws a dot moves as far, and a shape grows as much, by either."""

    def both(image: np.ndarray, arguments: dict) -> list[np.ndarray]:
        images = np.repeat(image[np.newaxis], 200, axis=0)
        generator = ImageDataGenerator(fill_mode="constant", **arguments)
        np.random.seed(0)
        generated = np.stack([generator.random_transform(one.astype(np.float32)) for one in images])
        return [augmentation.versions(images, {**arguments, "fill_mode": "constant"}, seed=1), generated]

    def extent(images: np.ndarray) -> list[int]:
        return np.abs(np.argwhere(images[..., 0] > 60)[:, 1:] - 20).max(axis=0).tolist()

    dot, square = np.zeros((2, 41, 41, 1), np.uint8)
    dot[20, 20] = 255
    square[10:31, 10:31] = 255
    layered, generated = both(dot, {"width_shift_range": 0.2})
    assert extent(layered) == [0, 8]
    assert extent(generated) == [8, 0]  # Keras's generator exchanges the two directions; batches.py warns of it
    layered, generated = both(dot, {"width_shift_range": 6.0, "height_shift_range": 0.15})
    assert extent(layered) == [6, 6] == extent(generated)
    for factor in (0.5, 1.6):
        layered, generated = both(square, {"zoom_range": [factor, factor]})
        assert (layered > 128).sum() == pytest.approx((generated > 128).sum(), rel=0.1)
    layered, generated = both(square, {"rotation_range": 45})
    assert (layered > 128).mean(axis=0)[8, 20] == pytest.approx((generated > 128).mean(axis=0)[8, 20], abs=0.15)


@pytest.mark.parametrize(
    "arguments",
    [{"brightness_range": [0.5, 1]}, {"shear_range": 5}, {"channel_shift_range": 9}, {"width_shift_range": [1, 2]}],
)
def test_an_argument_without_a_layer_is_an_error_that_names_the_generator(arguments) -> None:
    with pytest.raises(ConfigError, match="source.loader=generator"):
        augmentation.layers(arguments, (20, 10, 3))


def test_all_wrong_arguments_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        augmentation.layers({"fill_mode": "mirror", "rotation_range": "far", "shear_range": 1}, (20, 10, 3))
    assert len(error.value.problems) == 3


def test_layers_are_active_in_training_only_and_saved_without_mnistlab(tmp_path) -> None:
    dataset = prepare(digits(), limit=64, augmentation={"rotation_range": 20, "zoom_range": 0.2})
    model, _ = trained(dataset, epochs=1)
    images = dataset.test.images[:8]
    predicted = [model.predict(images, verbose=0) for _ in range(2)]
    assert np.array_equal(*predicted)
    assert not np.allclose(model(images, training=True), predicted[0])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(images, verbose=0), predicted[0], rtol=1e-5)


@SCIPY_NAME_IN_KERAS
@pytest.mark.parametrize("loader", ["resident", "stream", "generator"])
def test_augmented_versions_of_an_image(pets, loader) -> None:
    arguments = {"rotation_range": 20}
    dataset = prepare(directory(str(pets), loader=loader, image_size=[16, 16]), augmentation=arguments)
    image = dataset.train.images[np.arange(1)][0]
    versions = training.augmented_versions(dataset, image, 5, seed=0)
    assert (versions.shape, versions.dtype) == ((5, 16, 16, 3), np.uint8)
    assert len({version.tobytes() for version in versions}) == 5


def test_a_batch_beyond_the_memory_budget_is_an_error(pets) -> None:
    images = directory(str(pets), loader="stream", image_size=[200, 200], memory_budget_mb=4)
    with pytest.raises(ConfigError, match="At most 11 fit"):
        batches.check_batch_size("all", prepare(images))
    batches.check_batch_size(11, prepare(images))
    batches.check_batch_size("all", prepare(digits()))


@pytest.mark.parametrize("loader", ["stream", "generator"])
def test_a_file_lost_during_the_training_is_named(pets, tmp_path, loader) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(20):
            picture(index).save(tmp_path / name / f"{index}.png")
    dataset = prepare(directory(str(tmp_path), loader=loader))
    lost = Path(dataset.train.images.paths()[0])
    lost.unlink()
    with pytest.raises(OSError, match=f"{lost.name} cannot be read"):
        trained(dataset)
