"""Well-known data sets from files of the user's: class names that their files lack, and the formats they come in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnistlab.config import ConfigError, suggest
from mnistlab.data.arrays.assemble import MAX_GIGABYTES, images_from_arrays, images_from_file
from mnistlab.data.arrays.cifar_files import images_from_cifar
from mnistlab.data.arrays.files import read_arrays, read_headers
from mnistlab.data.arrays.idx_files import images_from_idx
from mnistlab.data.images import Images

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
CAPITALS, SMALL = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), tuple("abcdefghijklmnopqrstuvwxyz")
# Small letters that look like their capitals are one class with them (Cohen et al. 2017, arXiv:1702.05373).
MERGED = (*DIGITS, *CAPITALS, *"abdefghnqrt")
EMNIST = {
    "balanced": MERGED,
    "bymerge": MERGED,
    "byclass": (*DIGITS, *CAPITALS, *SMALL),
    "letters": CAPITALS,
    "digits": DIGITS,
    "mnist": DIGITS,
}
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FINE_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = tuple(FINE_CLASSES.split())
SHAPES = {**dict.fromkeys(("cifar10", "cifar100"), (32, 32, 3)), **dict.fromkeys(("emnist", "kmnist"), (28, 28, 1))}
PAGES = {
    "mnist": "https://yann.lecun.org/exdb/mnist",
    "fashion_mnist": "https://github.com/zalandoresearch/fashion-mnist",
    **dict.fromkeys(("cifar10", "cifar100"), "https://www.cs.toronto.edu/~kriz/cifar.html"),
    "kmnist": "http://codh.rois.ac.jp/kmnist",
    "emnist": "https://www.nist.gov/itl/products-and-services/emnist-dataset",
}
PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".gz")
SPLIT_FILES = {"x_train": "train-imgs", "y_train": "train-labels", "x_test": "test-imgs", "y_test": "test-labels"}


def from_files(path: str | None, name: str, class_names: Sequence[str], subset: str | None = None) -> Images:
    """A well-known data set from an .npz file, or from a folder of IDX files, CIFAR's batches or KMNIST's .npz files.

    Args:
        name: the data set's; subset: what the names of its IDX files start with; None: the folder has one data set.

    Raises:
        ConfigError: the files are missing, packed, damaged, or hold images of another shape.
    """
    folder = Path(path or "").expanduser()
    if path is None or not folder.exists():
        received = "no path" if path is None else f"{path}, which does not exist"
        raise ConfigError(
            f"source={name} needs its files. Received: {received}. Download them from {PAGES[name]}, then: "
            f"source={name} source.path=FOLDER."
        )
    if folder.is_file() and folder.name.endswith(PACKED):
        tool = "unzip" if folder.suffix == ".zip" else "tar -xf" if ".t" in folder.name else "gunzip"
        raise ConfigError(f"source.path must be an .npz file or a folder. Received: {path}. Unpack it: {tool} {path}.")
    if not folder.is_dir():
        images = images_from_file(path, name, class_names)
    elif name.startswith("cifar"):
        images = images_from_cifar(path, class_names)
    elif files := _npz_of_splits(folder):
        images = _from_npz_of_splits(files, name, str(folder.resolve()), class_names)
    else:
        images = images_from_idx(path, subset, None, class_names, MAX_GIGABYTES)
    shape, expected = images.train.images.shape[1:], SHAPES.get(name)
    if expected and shape != expected:
        raise ConfigError(f"source={name} has images of the shape {expected}. Received: {shape} in {path}.")
    return replace(images, name=name)


def emnist_names(subset: str) -> tuple[str, ...]:
    """The characters of EMNIST's classes. Raises ConfigError for a subset that it does not have."""
    if subset not in EMNIST:
        raise ConfigError(f"source.subset must be one of EMNIST's. Received: {subset}.{suggest(subset, EMNIST)}")
    return EMNIST[subset]


def _npz_of_splits(folder: Path) -> dict[str, Path]:
    """Role -> file, for a folder with files such as kmnist-train-imgs.npz; empty if one is missing."""
    found = {role: sorted(folder.glob(f"*{ending}.npz")) for role, ending in SPLIT_FILES.items()}
    return {role: files[0] for role, files in found.items()} if all(map(len, found.values())) else {}


def _from_npz_of_splits(files: dict[str, Path], name: str, origin: str, class_names: Sequence[str]) -> Images:
    arrays: dict[str, np.ndarray] = {}
    for role, file in files.items():
        headers = read_headers(file)
        if len(headers) != 1:
            raise ConfigError(f"{file} must hold one array. Received: {', '.join(headers) or 'none'}.")
        (arrays[role],) = read_arrays(file, headers, list(headers), MAX_GIGABYTES)
    names = {role: file.name for role, file in files.items()}
    return images_from_arrays(arrays, name, origin, class_names, names=names)
