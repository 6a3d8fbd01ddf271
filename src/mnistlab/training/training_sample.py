"""Measures a trained model beside its training: on training images in the way that validation images are measured, and
on which validation images it is right."""

import keras
import numpy as np

from mnistlab.data import Dataset
from mnistlab.data.folders import batches as file_batches
from mnistlab.data.folders.images import raise_original
from mnistlab.training.array_metrics import scalar_metrics
from mnistlab.training.engine import fused
from mnistlab.training.fitting import evaluation_batch_size, predict, resident_of

MAX_IMAGES = 10_000
MAX_FILES = 2_000  # images that have to be decoded again


def evaluate_training_sample(model: keras.Model, dataset: Dataset, engine: str) -> tuple[dict[str, float], int]:
    """The compiled metrics on training images without dropout, augmentation and class weights, and their number.

    Of more than 10,000 images (2,000 in files), every n-th is measured.
    """
    limit = MAX_IMAGES if dataset.train.resident else MAX_FILES
    rows = np.arange(0, len(dataset.train), -(-len(dataset.train) // limit))
    if engine == "fused":
        resident, first_rows = resident_of(dataset)
        metrics, _ = fused.evaluate(model, resident, first_rows["train"][rows])
        return scalar_metrics(metrics, dataset.class_names, model), len(rows)
    sample = dataset.train.take(rows)
    if sample.resident:
        batch = {"batch_size": evaluation_batch_size(model), "verbose": 0}
        metrics = model.evaluate(sample.images, dataset.targets(sample.labels), return_dict=True, **batch)
    else:
        with raise_original():
            batches = file_batches.evaluation_batches(dataset, sample)
            metrics = model.evaluate(batches, verbose=0, return_dict=True)
    return scalar_metrics(metrics, dataset.class_names, model), len(rows)


def validation_report(model: keras.Model, dataset: Dataset, engine: str) -> dict[str, dict[str, np.ndarray]]:
    """A file of the reports with the validation images that the model has right: file name -> {"validation_correct":
    bits of `numpy.packbits`, uint8}.

    It lets a comparison tell what depends on the seeds from what depends on the images. Empty for images in files,
    which would have to be decoded again.
    """
    if not dataset.validation.resident:
        return {}
    _, probabilities = predict(model, dataset, "validation", engine)
    correct = probabilities.argmax(axis=1) == np.asarray(dataset.validation.labels)
    return {"validation_images.npz": {"validation_correct": np.packbits(correct)}}
