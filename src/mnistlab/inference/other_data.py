"""The images that a trained model is evaluated on: its run's own, or those of another source with its classes."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from mnistlab.config import Config, ConfigError
from mnistlab.config.build import build
from mnistlab.config.compose import compose_config
from mnistlab.data import Dataset, Images, Split, loading
from mnistlab.data.dataset import LABELS_OF_CLASS_MODE, digest, with_value_range
from mnistlab.data.value_range import UINT8, ValueRange
from mnistlab.inference.trained_model import TrainedModel

SPLITS = ("auto", "test", "validation", "train", "all")
COLOR_MODES = {1: "grayscale", 3: "rgb", 4: "rgba"}


@dataclass(frozen=True)
class OtherData:
    """dataset: whose test split has the images to evaluate on, with the model's classes; split: what they are, 'test',
    'validation', 'train' or 'all'; notes: what was done to them; warnings: messages that the user must see."""

    dataset: Dataset
    split: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def load(trained: TrainedModel, overrides: Sequence[str], config_dir: str | None, split: str = "auto") -> OtherData:
    """Load the images of `source=...`, or those of the model's run without it.

    Args:
        overrides: settings of the source and of `data`, as on the training's command line; empty: the run's own.
        split: 'auto': the source's own test set if it has one, else all images.

    Raises:
        ConfigError: there are no such images, or they do not fit the model: other classes, another shape.
    """
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}. Received: {split}.")
    images, chosen, origin = _of_source(trained, overrides, config_dir, split) if overrides else _own(trained, split)
    labels, class_notes = _model_labels(trained, images, chosen)
    fitted, range_notes = _fitting(trained, images, chosen)
    evaluated = Split(fitted, labels)
    dataset = Dataset(
        name=images.name,
        origin=images.origin,
        train=evaluated,
        validation=evaluated,
        test=evaluated,
        class_names=trained.class_names,
        digests={origin: digest(chosen)},
        labels=_label_format(trained),
        value_range=trained.input.value_range,
    )
    warnings = [images.warning] if images.warning else []
    if digest(chosen) == trained.chosen.tags.get("hash.train"):
        warnings.append("These are the images that the model was trained on: the numbers say nothing about new ones.")
    return OtherData(dataset, origin, (*class_notes, *range_notes), tuple(warnings))


def _own(trained: TrainedModel, split: str) -> tuple[Images, Split, str]:
    """The images of the model's run, split as there."""
    recorded = trained.chosen.config
    if not {"source", "data"} <= recorded.keys():
        raise ConfigError(f"{trained.chosen.place} has no record of its data. Name a source: source=mnist.")
    resolved: Any = OmegaConf.to_container(
        OmegaConf.create({key: recorded[key] for key in ("source", "data")}), resolve=True
    )
    config = compose_config([])
    known = {entry.name for entry in dataclasses.fields(config.data)}  # of this version
    recorded_data = {name: value for name, value in resolved["data"].items() if name in known}
    config.source, config.data = resolved["source"], dataclasses.replace(config.data, **recorded_data)
    dataset = loading.load(config)
    images = Images(
        dataset.name, dataset.train, dataset.test, dataset.class_names, dataset.origin, dataset.warning,
        dataset.validation, value_range=dataset.value_range,
    )  # fmt: skip
    return images, *_chosen_split(images, "test" if split == "auto" else split)


def _of_source(
    trained: TrainedModel, overrides: Sequence[str], config_dir: str | None, split: str
) -> tuple[Images, Split, str]:
    images: Images = with_value_range(build(_source_config(trained, overrides, config_dir).source, "source"))
    if split == "auto":
        split = "test" if images.test is not None else "all"
    return images, *_chosen_split(images, split)


def _source_config(trained: TrainedModel, overrides: Sequence[str], config_dir: str | None) -> Config:
    """The composed settings; image folders are read in the model's size and colours unless these are given."""
    config = compose_config(list(overrides), config_dir=config_dir)
    if config.choices.get("source") != "directory":
        return config
    height, width, channels = trained.input.shape
    added = {"data.image_size": f"[{height},{width}]", "source.color_mode": COLOR_MODES.get(channels, "auto")}
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    size_is_given = bool(given & {"data.image_size", "data.target_size", "source.image_size"})
    more = [f"{name}={value}" for name, value in added.items() if name not in given]
    more = [one for one in more if not (size_is_given and one.startswith("data.image_size"))]
    return compose_config([*overrides, *more], config_dir=config_dir)


def _chosen_split(images: Images, split: str) -> tuple[Split, str]:
    found = {"train": images.train, "validation": images.validation, "test": images.test}
    present = {name: one for name, one in found.items() if one is not None}
    if split != "all":
        if split not in present:
            raise ConfigError(f"split={split}: {images.name} has no such images. Choices: {', '.join(present)}, all.")
        return present[split], split
    if len(present) == 1:
        return images.train, "all"
    if not all(one.resident for one in present.values()):
        raise ConfigError(
            f"split=all needs all images of {images.name} in memory: set source.loader=resident, or choose one of "
            f"{', '.join(present)}."
        )
    pixels = np.concatenate([np.asarray(one.images) for one in present.values()])
    return Split(pixels, np.concatenate([one.labels for one in present.values()])), "all"


def _model_labels(trained: TrainedModel, images: Images, split: Split) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels as the model numbers its classes: they are matched by their names."""
    theirs, ours = images.class_names, trained.class_names
    if not trained.chosen.class_names:
        if len(theirs) != len(ours):
            raise ConfigError(
                f"{trained.chosen.place} has {len(ours)} classes without names, and {images.name} has {len(theirs)}: "
                f"{_listed(theirs)}. The two must have as many."
            )
        return split.labels, (f"The model's classes are taken to be those of {images.name}, in its order.",)
    present = sorted(set(np.unique(split.labels).tolist()))
    if unknown := [theirs[index] for index in present if theirs[index] not in ours]:
        raise ConfigError(
            f"The model and the source must have the same classes. {images.name} has {_listed(unknown)}, which "
            f"{trained.chosen.place} does not know: it has {_listed(ours)}."
        )
    numbers = np.array([ours.index(name) if name in ours else -1 for name in theirs])
    notes = [] if theirs == ours else [f"The classes were matched by their names; in {images.name}: {_listed(theirs)}."]
    if absent := [name for name in ours if name not in {theirs[index] for index in present}]:
        notes.append(f"Without images: {_listed(absent)}.")
    return numbers[split.labels], tuple(notes)


def _fitting(trained: TrainedModel, images: Images, split: Split) -> tuple[Any, tuple[str, ...]]:
    """The images with the model's shape and value range."""
    shape, wanted = tuple(split.images.shape[1:]), trained.input.shape
    if shape != wanted:
        raise ConfigError(
            f"The images must have the shape that the model takes, {_times(wanted)}. Received: {_times(shape)}, of "
            f"{images.name}. Image folders can be read in that shape (source=directory)."
        )
    theirs, ours = images.value_range or UINT8, trained.input.value_range
    pixels: Any = split.images
    if not isinstance(pixels, np.ndarray):
        if (ours.black, ours.white) != (0, 255):
            raise ConfigError(
                f"The model takes values from {ours}, and image files have 0 to 255: set source.loader=resident."
            )
        return pixels, ()
    notes: tuple[str, ...] = ()
    if (theirs.black, theirs.white) != (ours.black, ours.white):
        notes = (f"The values of {images.name}, {theirs}, were mapped to those of the model, {ours}.",)
        pixels = mapped(pixels, theirs, ours, trained.input.dtype)
    return pixels.reshape(len(pixels), *trained.model.input_shape[1:]), notes


def mapped(images: np.ndarray, values: ValueRange, wanted: ValueRange, dtype: str) -> np.ndarray:
    """The images with another value range: black stays black and white stays white."""
    if dtype == "uint8":
        return values.as_pixels(images)
    shares = (images.astype(np.float32) - values.black) / values.width
    found: np.ndarray = (shares * wanted.width + wanted.black).astype(np.float32)
    return found


def _label_format(trained: TrainedModel) -> str:
    """'one_hot', 'integer' or 'binary', as in the model's training."""
    if trained.model.output_shape[1] == 1:
        return "binary"
    data: Mapping[str, Any] = trained.chosen.config.get("data", {})
    return LABELS_OF_CLASS_MODE.get(data.get("class_mode") or "", str(data.get("labels", "one_hot")))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
