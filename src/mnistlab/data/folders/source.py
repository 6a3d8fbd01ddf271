"""`source=directory`: a folder of images by class as `Images`.

`layout` finds the files; `reading` checks and decodes them. This module checks the arguments, reports unusable images
and describes in notes how the others are handled.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mnistlab.config import ConfigError, suggest
from mnistlab.data.folders.bad_images import bad_image_problems
from mnistlab.data.folders.cache import FolderCache
from mnistlab.data.folders.decoding import INTERPOLATIONS, MAX_PIXELS, SIXTEEN_BIT, Decoding, Facts
from mnistlab.data.folders.images import Folder, FolderImages
from mnistlab.data.folders.labels import add_labelled_files
from mnistlab.data.folders.layout import join_names, open_root, scan
from mnistlab.data.folders.listing import Scan
from mnistlab.data.folders.reading import KERAS_SIZE, DecodingOptions, FolderReader, is_resident
from mnistlab.data.images import Images, Split
from mnistlab.runtime import resources

log = logging.getLogger("mnistlab")

CHOICES = {
    "loader": ("auto", "generator", "stream", "resident"),
    "color_mode": ("auto", "grayscale", "rgb", "rgba"),
    "interpolation": INTERPOLATIONS,
    "on_bad_image": ("error", "skip"),
    "sixteen_bit": SIXTEEN_BIT,
}
TRAITS = {
    "palette": ("a palette", "they are converted to its colours"),
    "alpha": ("transparency", "it is dropped, and hidden pixels show, unless source.color_mode=rgba"),
    "cmyk": ("CMYK colours", "they are converted without a colour profile, so colours may be off"),
    "animated": ("several frames", "only the first is used"),
    "dark": (
        "no value above 4095",
        "with source.sixteen_bit=high_byte they are almost black; if the camera gives 12 bits, choose stretch",
    ),
    "rotated": ("an EXIF rotation", "it is ignored: they are used as they are stored"),
}
MEGABYTE = 1 << 20
SIXTEEN_BIT_NOTES = {
    "high_byte": "the high byte of each value is used, value // 256",
    "stretch": "each image's darkest value becomes 0 and its brightest 255",
}


def directory(
    path: str,
    *,
    loader: str = "auto",
    image_size: Sequence[int] | None = None,
    color_mode: str = "auto",
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
    splits: str | Mapping[str, str] | None = None,
    labels: str | None = None,
    follow_links: bool = False,
    on_bad_image: str = "error",
    sixteen_bit: str = "error",
    max_megapixels: float = MAX_PIXELS / 1e6,
    memory_budget_mb: float = 1024,
    workers: int | None = None,
    cache: str | None = None,
) -> Images:
    """Images in one folder per class: `path/CLASS/...`, or `path/{train,validation,test}/CLASS/...`.

    Args:
        loader: 'resident' keeps the decoded pixels in memory, 'stream' decodes in every epoch, 'generator' is Keras's
            ImageDataGenerator; 'auto' is resident within the memory budget, else stream.
        image_size: (height, width) that all are resized to; None: the images' size if all have the same, else Keras's
            256x256.
        color_mode: 'grayscale', 'rgb', 'rgba', or 'auto': grayscale if all images are, else rgb.
        interpolation: one of Keras's names: nearest, bilinear, bicubic, hamming, box, lanczos.
        keep_aspect_ratio: crop around the centre instead of distorting.
        splits: split -> folder, as {'train': 'fold_a', 'test': 'fold_b'}; None: the usual names (train,
            training_set, val, dev, test, ...), also one folder deeper; 'none': folders with such names are classes.
        labels: a CSV file with file names and labels, for images that are not sorted by class.
        follow_links: follow links to folders, and to files outside `path`.
        on_bad_image: 'error' reports all unusable images at once, 'skip' leaves them out; the manifest lists them.
        sixteen_bit: how images with more than 8 bits per channel become 8: 'high_byte' keeps the high byte of 16-bit
            values, 'stretch' spreads each image's values over 0 to 255, 'error' refuses them.
        max_megapixels: a larger image counts as unusable.
        memory_budget_mb: memory for the decoded images (1 MB = 2**20 bytes).
        workers: number of processes that decode; None: the available cores.
        cache: a folder that keeps decoded images for later processes; None: no cache.

    Raises:
        ConfigError: every problem of the folder and its files, with their paths.
    """
    _check_choices(
        loader=loader,
        color_mode=color_mode,
        interpolation=interpolation,
        on_bad_image=on_bad_image,
        sixteen_bit=sixteen_bit,
    )
    found = _scan(path, follow_links, splits, labels, on_bad_image)
    options = DecodingOptions(color_mode, image_size, interpolation, keep_aspect_ratio, sixteen_bit)
    max_pixels, workers = round(max_megapixels * 1e6), workers or len(resources.processors())
    reader = FolderReader(found, FolderCache(cache, found.root), options, max_pixels, workers)
    return _read(reader, loader, round(memory_budget_mb * MEGABYTE), on_bad_image)


def _scan(
    path: str, follow_links: bool, splits: str | Mapping[str, str] | None, labels: str | None, on_bad_image: str
) -> Scan:
    if labels is None:
        return scan(path, follow_links, splits)
    if splits is not None:
        raise ConfigError("source.labels and source.splits exclude each other: give one of them.")
    found = open_root(path, follow_links)
    if not found.problems:
        add_labelled_files(found, labels, on_bad_image)
    return found


def _read(reader: FolderReader, loader: str, budget: int, on_bad_image: str) -> Images:
    """Read and check the images of a scan; budget: bytes."""
    found = reader.scan
    facts, pixels, decoding = reader.read(loader, budget)
    problems = [*found.problems, *bad_image_problems(found, facts, on_bad_image, reader.cache.folder)]
    if problems or decoding is None:
        raise ConfigError(problems or [f"{found.root} holds no usable image."])
    _check_generator(loader, found, facts)
    loader = _resolved_loader(loader, decoding, len(found.files), budget)
    folder = Folder(found.root, tuple(found.files), tuple(facts), decoding, loader, reader.workers, budget, pixels)
    notes = [*found.notes, *_size_notes(folder, reader.options), *_trait_notes(folder)]
    return _as_images(found, folder, notes)


def _check_choices(**received: str) -> None:
    problems = [
        f"source.{name} must be one of its choices. Received: {value}.{suggest(str(value), CHOICES[name])}"
        for name, value in received.items()
        if value not in CHOICES[name]
    ]
    if problems:
        raise ConfigError(problems)


def _resolved_loader(loader: str, decoding: Decoding, num_images: int, budget: int) -> str:
    """The loader that 'auto' stands for; logs the choice and its reason."""
    if loader != "auto":
        return loader
    needed, limit = (f"{size / MEGABYTE:,.0f} MB" for size in (num_images * decoding.image_bytes, budget))
    if is_resident(loader, decoding, num_images, budget):
        log.info("source.loader=auto: resident, the decoded images take %s of the budget of %s.", needed, limit)
        return "resident"
    reason = f"the decoded images would take {needed}, more than the budget of {limit} (source.memory_budget_mb)"
    log.info("source.loader=auto: stream, %s.", reason)
    return "stream"


def _check_generator(loader: str, found: Scan, facts: Sequence[Facts]) -> None:
    """Keras's generator converts images with more than 8 bits in its own way, which clips them to white."""
    deep = [file.path for file, known in zip(found.files, facts, strict=True) if "deep" in known.traits]
    if loader == "generator" and deep:
        raise ConfigError(
            "source.loader=generator lets Keras read the images, and Keras clips those with more than 8 bits to white: "
            f"choose source.loader=auto. Such images: {len(deep):,} ({deep[0]})."
        )


def _size_notes(folder: Folder, options: DecodingOptions) -> Iterator[str]:
    """A note if images of several sizes are resized to a size that the user did not choose."""
    sizes = {(known.height, known.width) for known in folder.facts if not known.problem}
    if options.size is None and len(sizes) > 1:
        heights, widths = zip(*sizes, strict=True)
        yield (
            f"NOTE: the images have {len(sizes):,} sizes, {min(heights)} to {max(heights)} high and {min(widths)} to "
            f"{max(widths)} wide: all are resized to {KERAS_SIZE[0]}x{KERAS_SIZE[1]}, Keras's default. Choose another "
            "size with data.image_size='[HEIGHT,WIDTH]'."
        )


def _trait_notes(folder: Folder) -> Iterator[str]:
    """One note for each trait of images that Keras handles without a message."""
    rule = SIXTEEN_BIT_NOTES.get(folder.decoding.sixteen_bit, "")
    deep = (f"more than 8 bits per channel (source.sixteen_bit={folder.decoding.sixteen_bit})", rule)
    for trait, (name, treatment) in {**TRAITS, "deep": deep}.items():
        paths = [file.path for file, known in zip(folder.files, folder.facts, strict=True) if trait in known.traits]
        if paths and not (trait == "alpha" and folder.decoding.color_mode == "rgba"):
            examples = f"{paths[0]}, ..." if paths[1:] else paths[0]
            as_in_keras = "" if trait in ("deep", "dark") else "as in Keras, "
            yield f"Images with {name}: {len(paths):,} ({examples}); {as_in_keras}{treatment}."


def _how_read(found: Scan, folder: Folder) -> Iterator[str]:
    """Sentences for the report on how the data were read."""
    usable = [known for known in folder.facts if not known.problem]
    sizes, decoding = {(known.height, known.width) for known in usable}, folder.decoding
    yield f"{len(usable):,} image files of {found.root}, labelled by {found.labelled_by}."
    if sizes != {decoding.size}:
        cropped = ", cropped to keep their proportions" if decoding.keep_aspect_ratio else ""
        yield f"They are resized to {decoding.size[0]} x {decoding.size[1]} ({decoding.interpolation}){cropped}."
    if any("deep" in known.traits for known in usable):
        yield f"16 bits become 8: {SIXTEEN_BIT_NOTES[decoding.sixteen_bit]}."
    if found.skipped:
        yield f"Files and folders that are not used: {len(found.skipped):,}."


def _as_images(found: Scan, folder: Folder, notes: Sequence[str]) -> Images:
    """The splits that the folders make; a test or validation set without a folder is None."""
    label_of = {name: label for label, name in enumerate(found.class_names)}
    labels = np.array([label_of[file.class_name] for file in folder.files], dtype=np.int64)
    usable = np.array([not known.problem for known in folder.facts])
    split_of = np.array([file.split or "train" for file in folder.files])

    def split(name: str) -> Split:
        indices = np.flatnonzero(usable & (split_of == name))
        return Split(FolderImages(folder, indices), labels[indices])

    log.info("Classes, in order: %s", join_names([f"{label} {name}" for name, label in label_of.items()]))
    return Images(
        name=found.root.name,
        train=split("train"),
        test=split("test") if "test" in split_of else None,
        class_names=found.class_names,
        origin=str(found.root),
        validation=split("validation") if "validation" in split_of else None,
        notes=tuple(notes),
        skipped=tuple({"path": path, "reason": reason} for path, reason in sorted(found.skipped.items())),
        how_read=tuple(_how_read(found, folder)),
    )
