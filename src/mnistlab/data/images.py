"""`Split` and `Images`: the types that every source returns its images and labels in."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mnistlab.data.value_range import ValueRange

if TYPE_CHECKING:
    from mnistlab.data.folders.images import FolderImages


@dataclass(frozen=True)
class Split:
    """images: uint8 or float32, shape (n, height, width, channels), or files that give uint8 pixels when indexed;
    labels: int64, shape (n,), 0 <= label < number of classes."""

    images: "np.ndarray | FolderImages"
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Split":
        return Split(self.images.take(indices, axis=0), self.labels[indices])

    @property
    def resident(self) -> bool:
        """Whether the pixels are in memory."""
        return isinstance(self.images, np.ndarray)


def pixel_type(images: "np.ndarray | FolderImages") -> str:
    """'uint8' or 'float32', the type of the pixels."""
    return images.dtype.name if isinstance(images, np.ndarray) else "uint8"


@dataclass(frozen=True)
class Images:
    """A data set as its source returns it.

    name: `mnist_5k` if that replaces MNIST; origin: a path, package or Keras module; warning: a message that the user
    must see, or empty; notes: other messages; test, validation: None if `prepare` must hold training images out;
    skipped: files that are not part of the data set, as rows with path and reason; how_read: sentences on how files
    or arrays became images and classes, for `reading_report`; None: no report, because the data set is well known;
    value_range: of the pixels; None: 0 to 255 of uint8, by the training images of other types.
    """

    name: str
    train: "Split"
    test: "Split | None"
    class_names: tuple[str, ...]
    origin: str
    warning: str = ""
    validation: "Split | None" = None
    notes: tuple[str, ...] = ()
    skipped: tuple[dict[str, str], ...] = ()
    how_read: tuple[str, ...] | None = ()
    value_range: ValueRange | None = None
