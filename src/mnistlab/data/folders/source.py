"""`source=directory`: a folder of images by class as a source; scanned, checked, decoded or ready to be."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mnistlab.config import ConfigError, suggest
from mnistlab.data.folders import processes
from mnistlab.data.folders.cache import FolderCache, pixels_name
from mnistlab.data.folders.decoding import INTERPOLATIONS, MAX_PIXELS, Decoding, Facts, available_workers, glance
from mnistlab.data.folders.images import Folder, FolderImages
from mnistlab.data.folders.layout import Scan, listed, scan
from mnistlab.data.sources import Images, Split

log = logging.getLogger("mnistlab")

LOADERS = ("auto", "generator", "stream", "resident")
COLOR_MODES = ("auto", "grayscale", "rgb", "rgba")
TRAITS = {
    "palette": ("a palette", "its colours are looked up"),
    "alpha": ("transparency", "it is dropped and what it hid shows, unless source.color_mode=rgba"),
    "cmyk": ("CMYK colours", "converted without a colour profile, they may look off"),
    "animated": ("several frames", "the first is used"),
    "rotated": ("an EXIF rotation", "it is not applied, they are used as they are stored"),
}
KERAS_SIZE = (256, 256)  # flow_from_directory's target_size if none is given
PEEKED = 16
MEGABYTE = 1 << 20


def directory(
    path: str,
    *,
    loader: str = "auto",
    image_size: Sequence[int] | None = None,
    color_mode: str = "auto",
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
    follow_links: bool = False,
    on_bad_image: str = "error",
    max_megapixels: float = MAX_PIXELS / 1e6,
    memory_budget_mb: float = 1024,
    workers: int | None = None,
    cache: str | None = None,
) -> Images:
    """Pictures in folders, a folder a class: `path/class/...`, or `path/{train,validation,test}/class/...`.

    Args:
        loader: 'resident' decodes once and keeps the pixels, 'stream' decodes in every epoch beside the training,
            'generator' is Keras's ImageDataGenerator; 'auto' is resident within the memory budget, else stream.
        image_size: (height, width) that all are resized to; None: their own if they have one, else Keras's 256 x 256.
        color_mode: 'grayscale', 'rgb', 'rgba', or 'auto': grayscale if all images are, else rgb.
        interpolation: Keras's names: nearest, bilinear, bicubic, hamming, box, lanczos.
        keep_aspect_ratio: cut the middle out instead of distorting.
        follow_links: read outside of `path` too, where links lead.
        on_bad_image: 'error' refuses them all at once, 'skip' leaves them out and lists them on the run.
        max_megapixels: a larger image is a bad one.
        memory_budget_mb: how much the decoded images may take (1 MB = 2**20 bytes).
        workers: threads that decode; None: the cores there are.
        cache: a folder in which to keep decoded images between processes; None keeps none.

    Raises:
        ConfigError: everything that is wrong with the folder and its files, with their paths.
    """
    _check_words(loader, color_mode, interpolation, on_bad_image)
    found = scan(path, follow_links)
    reading = _Reading(
        found,
        FolderCache(cache, found.root),
        max_pixels=round(max_megapixels * 1e6),
        workers=workers or available_workers(),
    )
    wanted = _Wanted(color_mode, _checked_size(image_size), interpolation, keep_aspect_ratio)
    budget = round(memory_budget_mb * MEGABYTE)
    facts, pixels, decoding = _read(reading, wanted, loader, budget)
    problems = [*found.problems, *_bad_images(found, facts, on_bad_image)]
    if problems or decoding is None:
        raise ConfigError(problems or [f"{path} holds no image that can be used."])
    loader = _chosen_loader(loader, decoding, len(found.files), budget)
    folder = Folder(found.root, tuple(found.files), tuple(facts), decoding, loader, reading.workers, budget, pixels)
    if wanted.size is None and len({(known.height, known.width) for known in facts if not known.problem}) > 1:
        found.notes.append(_sizes_note(folder))
    return _as_images(found, folder)


def _check_words(loader: str, color_mode: str, interpolation: str, on_bad_image: str) -> None:
    given = {
        "loader": (loader, LOADERS),
        "color_mode": (color_mode, COLOR_MODES),
        "interpolation": (interpolation, tuple(INTERPOLATIONS)),
        "on_bad_image": (on_bad_image, ("error", "skip")),
    }
    problems = [
        f"source.{name} is one of a few words. Received: {word}.{suggest(str(word), choices)}"
        for name, (word, choices) in given.items()
        if word not in choices
    ]
    if problems:
        raise ConfigError(problems)


def _checked_size(image_size: Sequence[int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    height, width = image_size
    return int(height), int(width)


@dataclass(frozen=True)
class _Wanted:
    """What the user asked for, with None and 'auto' where the images decide."""

    color_mode: str
    size: tuple[int, int] | None
    interpolation: str
    keep_aspect_ratio: bool

    def decoding(self, facts: Sequence[Facts]) -> Decoding | None:
        """How to decode images of these kinds; None if none of them can be used."""
        usable = [known for known in facts if not known.problem]
        sizes = {(known.height, known.width) for known in usable}
        if not usable:
            return None
        size = self.size or (sizes.pop() if len(sizes) == 1 else KERAS_SIZE)
        grey = all(known.mode in ("L", "LA", "1") for known in usable)
        mode = ("grayscale" if grey else "rgb") if self.color_mode == "auto" else self.color_mode
        return Decoding(mode, size, self.interpolation, self.keep_aspect_ratio)


@dataclass
class _Reading:
    """Reads the files of a scan, each once if that can be."""

    found: Scan
    cache: FolderCache
    max_pixels: int
    workers: int

    def __post_init__(self) -> None:
        self.files = [f"{self.found.root}/{file.path}" for file in self.found.files]
        self.stamps = {file.path: file.stamp for file in self.found.files}

    def known(self) -> dict[int, Facts]:
        by_path = self.cache.facts(self.stamps)
        known = {index: by_path[file.path] for index, file in enumerate(self.found.files) if file.path in by_path}
        # source.max_megapixels may have changed since: large files are looked at again
        return {
            index: facts
            for index, facts in known.items()
            if "too large" not in facts.problem and facts.width * facts.height <= self.max_pixels
        }

    def peek(self) -> list[Facts]:
        """The facts of a few files, to guess what the rest is like."""
        few = range(0, len(self.files), max(1, len(self.files) // PEEKED))
        return [glance(self.files[index]) for index in few]

    def examine(
        self, indices: Sequence[int], decoding: Decoding | None = None, out: np.ndarray | None = None
    ) -> dict[int, Facts]:
        started = last = time.monotonic()

        def progress(done: int) -> None:
            nonlocal last
            if time.monotonic() - last > 5:
                last = time.monotonic()
                left = (last - started) / done * (len(indices) - done)
                log.info("Read %s of %s images (%.0f s left)", f"{done:,}", f"{len(indices):,}", left)

        return processes.examine_all(
            self.files,
            indices,
            decoding=decoding,
            out=out,
            max_pixels=self.max_pixels,
            workers=self.workers,
            progress=progress,
        )


def _read(
    reading: _Reading, wanted: _Wanted, loader: str, budget: int
) -> tuple[list[Facts], np.ndarray | None, Decoding | None]:
    """The facts of all files and, for the resident loader, their pixels; every file is decoded once, as a check.

    Returns the decoding too: None if no image can be used.
    """
    count = len(reading.files)
    known = reading.known()
    missing = [index for index in range(count) if index not in known]
    guess = wanted.decoding(list(known.values()) if known else reading.peek())
    out = None
    if guess is not None and missing and _is_resident(loader, guess, count, budget) and not reading.found.problems:
        out = reading.cache.room_for_pixels((count, *guess.shape))
        missing = list(range(count))
    try:
        if missing:
            known |= reading.examine(missing, guess, out)
            reading.cache.keep_facts(reading.stamps, {reading.found.files[i].path: f for i, f in known.items()})
        facts = [known[index] for index in range(count)]
        decoding = wanted.decoding(facts)
        if decoding is None or reading.found.problems or not _is_resident(loader, decoding, count, budget):
            reading.cache.discard(out)
            return facts, None, decoding
        if out is not None and decoding == guess:
            reading.cache.keep_pixels(out, pixels_name((known.sha256 for known in facts), decoding))
            return facts, out, decoding
        reading.cache.discard(out)
        return facts, _pixels(reading, facts, decoding), decoding
    except BaseException:
        reading.cache.discard(out)
        raise


def _pixels(reading: _Reading, facts: Sequence[Facts], decoding: Decoding) -> np.ndarray:
    """All pixels, from the cache or decoded now."""
    name = pixels_name((known.sha256 for known in facts), decoding)
    shape = (len(facts), *decoding.shape)
    kept = reading.cache.pixels(name, shape)
    if kept is not None:
        return kept
    out = reading.cache.room_for_pixels(shape)
    reading.examine(range(len(facts)), decoding, out)
    reading.cache.keep_pixels(out, name)
    return out


def _decoded_bytes(decoding: Decoding, count: int) -> int:
    return count * int(np.prod(decoding.shape))


def _is_resident(loader: str, decoding: Decoding, count: int, budget: int) -> bool:
    return loader == "resident" or (loader == "auto" and _decoded_bytes(decoding, count) <= budget)


def _chosen_loader(loader: str, decoding: Decoding, count: int, budget: int) -> str:
    """The loader that 'auto' means here; it says which and why."""
    if loader != "auto":
        return loader
    need, have = f"{_decoded_bytes(decoding, count) / MEGABYTE:,.0f} MB", f"{budget / MEGABYTE:,.0f} MB"
    if _is_resident(loader, decoding, count, budget):
        log.info("source.loader=auto: resident, the decoded images take %s of the budget of %s.", need, have)
        return "resident"
    log.info(
        "source.loader=auto: stream, the decoded images would take %s, above the budget of %s "
        "(source.memory_budget_mb).",
        need,
        have,
    )
    return "stream"


def _bad_images(found: Scan, facts: Sequence[Facts], on_bad_image: str) -> Iterator[str]:
    """The problems with unusable files: themselves, or, if they are skipped, classes that lose all their images."""
    bad = {file.path: known.problem for file, known in zip(found.files, facts, strict=True) if known.problem}
    if on_bad_image == "error":
        yield from (f"{found.root}/{path} {problem}." for path, problem in list(bad.items())[:100])
        if len(bad) > 100:
            yield f"... and {len(bad) - 100:,} more images that cannot be used."
        if bad:
            advice = "Mend them, or leave them out: source.on_bad_image=skip."
            yield f"{len(bad):,} of {len(facts):,} images cannot be used. {advice}"
        return
    found.skipped |= {path: f"unusable: {problem}" for path, problem in bad.items()}
    if bad:
        found.notes.append(
            f"Left out (source.on_bad_image=skip): {len(bad):,} unusable images, {listed(list(bad), 5)}."
        )
    before = Counter((file.split, file.class_name) for file in found.files)
    after = Counter((file.split, file.class_name) for file in found.files if file.path not in bad)
    for split, name in before.keys() - after.keys():
        yield f"{found.root / split / name}: none of the {before[split, name]} images of this class can be used."


def _sizes_note(folder: Folder) -> str:
    """Images of several sizes are made equal, as `flow_from_directory` does it: said if nobody asked for it."""
    sizes = {(known.height, known.width) for known in folder.facts if not known.problem}
    heights, widths = zip(*sizes, strict=True)
    return (
        f"NOTE: the images have {len(sizes):,} sizes, {min(heights)} to {max(heights)} high and {min(widths)} to "
        f"{max(widths)} wide: all are resized to {KERAS_SIZE[0]}x{KERAS_SIZE[1]}, Keras's default. Choose another size "
        "with data.image_size='[HEIGHT,WIDTH]'."
    )


def _as_images(found: Scan, folder: Folder) -> Images:
    """The source's splits as the folders make them; a test or validation set that they lack is None."""
    label_of = {name: label for label, name in enumerate(found.class_names)}
    labels = np.array([label_of[file.class_name] for file in folder.files], dtype=np.int64)
    usable = np.array([not known.problem for known in folder.facts])
    where = np.array([file.split or "train" for file in folder.files])

    def part(name: str) -> Split:
        indices = np.flatnonzero(usable & (where == name))
        return Split(FolderImages(folder, indices), labels[indices])

    log.info("Classes, in order: %s", listed([f"{label} {name}" for name, label in label_of.items()]))
    notes = [*found.notes, *_trait_notes(folder)]
    return Images(
        name=found.root.name,
        train=part("train"),
        test=part("test") if "test" in where else None,
        class_names=found.class_names,
        origin=str(found.root),
        validation=part("validation") if "validation" in where else None,
        notes=tuple(notes),
        skipped=tuple({"path": path, "reason": reason} for path, reason in sorted(found.skipped.items())),
    )


def _trait_notes(folder: Folder) -> Iterator[str]:
    """What is silently done to some images, as Keras does it, said once per kind."""
    for trait, (name, treatment) in TRAITS.items():
        paths = [file.path for file, known in zip(folder.files, folder.facts, strict=True) if trait in known.traits]
        if paths and not (trait == "alpha" and folder.decoding.color_mode == "rgba"):
            where = f"{paths[0]}, ..." if paths[1:] else paths[0]
            yield f"Images with {name}: {len(paths):,} ({where}); as in Keras, {treatment}."
