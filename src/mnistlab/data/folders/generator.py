"""The `generator` loader: Keras's ImageDataGenerator over image files, with seeded augmentation."""

import contextlib
import io
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from mnistlab.config import ConfigError
from mnistlab.data.folders.images import FolderImages, remember_failure
from mnistlab.runtime.keras_internals import load_samples

if TYPE_CHECKING:
    from mnistlab.data.folders.batches import EpochOrder

REPORTED_ELSEWHERE = (
    "Palette images with Transparency",  # a warning of Pillow's; the source reports it once
    "Please import `affine_transform`",  # Keras calls SciPy by a name that SciPy 2 will not have
)


class GeneratorBatches(keras.utils.PyDataset):
    """One epoch's batches of an ImageDataGenerator over the given files.

    The augmentation's random numbers depend on seed, epoch and batch only, not on the worker that draws them.

    arrays: targets and, perhaps, weights, a row per image; arguments: of ImageDataGenerator.
    """

    def __init__(
        self,
        images: "FolderImages",
        arrays: Sequence[np.ndarray],
        batch_size: int,
        order: "EpochOrder",
        arguments: Mapping[str, Any],
    ) -> None:
        super().__init__(workers=images.folder.workers)
        self.images = images
        self.arrays = arrays
        self.batch_size = batch_size
        self.order = order
        self.generator = augmenting_generator(arguments)
        self.files = _files_iterator(self.generator, images, batch_size)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = self.order.order[index * self.batch_size : (index + 1) * self.batch_size]
        self.generator.set_seed([self.order.seed or 0, self.order.epoch, index])
        with remember_failure():
            try:
                values, _ = load_samples(self.files, chosen)
            except Exception:
                self.images[chosen]  # raises an error that names the file; Keras's does not
                raise
        return (to_pixels(values), *(array[chosen] for array in self.arrays))


def augmenting_generator(arguments: Mapping[str, Any]) -> Any:
    """An ImageDataGenerator that does not change NumPy's global random state.

    Raises:
        ConfigError: it rejects the arguments.
    """
    for message in REPORTED_ELSEWHERE:
        warnings.filterwarnings("ignore", message=message)

    class SeededGenerator(tf.keras.preprocessing.image.ImageDataGenerator):
        lock = threading.Lock()
        local = threading.local()

        def set_seed(self, seed: Sequence[int]) -> None:
            """Seed this thread's random numbers."""
            self.local.state = np.random.RandomState(np.random.SeedSequence(seed).generate_state(4)).get_state()

        def get_random_transform(self, img_shape: tuple[int, ...], seed: int | None = None) -> dict[str, Any]:
            if not arguments:
                return {}
            with self.lock:
                before = np.random.get_state()
                np.random.set_state(self.local.state)
                try:
                    return super().get_random_transform(img_shape)
                finally:
                    self.local.state = np.random.get_state()
                    np.random.set_state(before)

    try:
        return SeededGenerator(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"data.augmentation: ImageDataGenerator rejects its arguments: {error}") from error


def _files_iterator(generator: Any, images: "FolderImages", batch_size: int) -> Any:
    """ImageDataGenerator's iterator over these files, like the one that `flow_from_directory` returns."""
    import pandas

    decoding = images.folder.decoding
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how many it found
        files = generator.flow_from_dataframe(
            pandas.DataFrame({"filename": images.paths(), "label": np.arange(len(images))}),
            x_col="filename",
            y_col="label",
            class_mode="raw",
            target_size=decoding.size,
            color_mode=decoding.color_mode,
            interpolation=decoding.interpolation,
            batch_size=batch_size,
            shuffle=False,
            validate_filenames=False,
        )
    files.keep_aspect_ratio = decoding.keep_aspect_ratio
    return files


def augmented_versions(arguments: Mapping[str, Any], image: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Random versions of an image, uint8, shape (count, height, width, channels)."""
    generator = augmenting_generator(arguments)
    generator.set_seed([seed])
    return to_pixels(np.stack([generator.random_transform(image.astype(np.float32)) for _ in range(count)]))


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Values rounded to uint8 grey levels, clipped to 0 to 255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
