"""Compares a model with the one that has an alias, image by image on the validation images of both runs."""

import numpy as np

from mnistlab.comparison.paired_images import ImagePairs, compare_on_images
from mnistlab.config import ConfigError
from mnistlab.inference import other_data, trained_model
from mnistlab.inference.trained_model import TrainedModel
from mnistlab.tracking.chosen_models import ChosenModel

DIGEST = "hash.validation"


def check_same_images(challenger: ChosenModel, champion: ChosenModel) -> None:
    """Check that both runs were validated on the same images.

    Raises:
        ConfigError: they were not, or one has no record of it.
    """
    ours, theirs = challenger.tags.get(DIGEST), champion.tags.get(DIGEST)
    if ours is None or ours != theirs:
        raise ConfigError(
            f"{challenger.place} and {champion.place} must be validated on the same images. Received: "
            f"{_images(challenger)} and {_images(champion)}. Train one again on the other's data, or move the alias "
            "without a comparison: force=true."
        )


def _images(chosen: ChosenModel) -> str:
    digest = chosen.tags.get(DIGEST)
    return f"{chosen.tags.get('source.used', 'a data set')} ({digest[:8]})" if digest else "no record of its data"


def compare(challenger: ChosenModel, champion: ChosenModel) -> ImagePairs:
    """Have both models classify the validation images.

    Raises:
        ConfigError: they were validated on other images, or one cannot be loaded.
    """
    check_same_images(challenger, champion)
    ours, theirs = trained_model.load(challenger), trained_model.load(champion)
    other = other_data.load(ours, [], None, "validation")
    found = next(iter(other.dataset.digests.values()))
    if found != challenger.tags[DIGEST]:
        raise ConfigError(
            f"The validation images of {challenger.name} have changed since its training: their digest was "
            f"{challenger.tags[DIGEST][:8]} and is {found[:8]} now."
        )
    images, labels = other.dataset.test.images, np.asarray(other.dataset.test.labels)
    names = np.asarray(ours.class_names)[labels]
    pixels = np.asarray(images[np.arange(len(images))])
    first, second = (_right(model, pixels, names) for model in (ours, theirs))
    return compare_on_images(first, second)


def _right(trained: TrainedModel, images: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Whether each image gets its class, by the classes' names."""
    predicted = trained_model.ranked(trained.probabilities(images), 1)[:, 0]
    right: np.ndarray = np.asarray(trained.class_names)[predicted] == names
    return right
