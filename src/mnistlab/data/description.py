"""What is recorded about a data set, as plain values."""

from typing import Any

from mnistlab.data.dataset import Dataset
from mnistlab.data.manifest import manifest_csv


def describe(dataset: Dataset) -> dict[str, Any]:
    """Name, origin, loader, notes, class names, and for each split its size, shape, class counts and digest.

    'manifest' is the text of manifest.csv, empty for images that do not come from files.
    """
    splits = {
        name: {
            "num_images": len(split),
            "image_shape": list(dataset.image_shape),
            "class_counts": dict(zip(dataset.class_names, dataset.counts[name], strict=True)),
            "digest": dataset.digests[name],
        }
        for name, split in dataset.splits.items()
    }
    return {
        "name": dataset.name,
        "origin": dataset.origin,
        "loader": dataset.loader,
        "notes": list(dataset.notes),
        "class_names": list(dataset.class_names),
        "splits": splits,
        "manifest": manifest_csv(dataset.manifest) if dataset.manifest else "",
    }
