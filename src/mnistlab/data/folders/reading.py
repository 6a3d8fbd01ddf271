"""Reads the files of a scanned folder: examines each one, decodes all if their pixels fit in memory, uses the cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mnistlab.data.folders import processes
from mnistlab.data.folders.cache import FolderCache, pixels_name
from mnistlab.data.folders.decoding import Decoding, Facts, read_header
from mnistlab.data.folders.layout import Scan
from mnistlab.data.folders.progress import show_progress

KERAS_SIZE = (256, 256)  # flow_from_directory's default target_size
SAMPLE_SIZE = 16  # files whose headers are read to guess how all will be decoded


def decoded_bytes(decoding: Decoding, num_images: int) -> int:
    """The memory that the decoded images take, in bytes."""
    return num_images * int(np.prod(decoding.shape))


def is_resident(loader: str, decoding: Decoding, num_images: int, budget: int) -> bool:
    """Whether the loader keeps the decoded images in memory; budget: bytes."""
    return loader == "resident" or (loader == "auto" and decoded_bytes(decoding, num_images) <= budget)


@dataclass(frozen=True)
class DecodingOptions:
    """How the user wants images decoded; `color_mode='auto'` and `size=None` depend on the images."""

    color_mode: str
    size: tuple[int, int] | None
    interpolation: str
    keep_aspect_ratio: bool

    def decoding_for(self, facts: Sequence[Facts]) -> Decoding | None:
        """How to decode these images; None if no image can be used."""
        usable = [known for known in facts if not known.problem]
        sizes = {(known.height, known.width) for known in usable}
        if not usable:
            return None
        size = self.size or (sizes.pop() if len(sizes) == 1 else KERAS_SIZE)
        grayscale = all(known.mode in ("L", "LA", "1") for known in usable)
        color_mode = ("grayscale" if grayscale else "rgb") if self.color_mode == "auto" else self.color_mode
        return Decoding(color_mode, size, self.interpolation, self.keep_aspect_ratio)


class FolderContents(NamedTuple):
    """facts: of each file; pixels: of all files if the loader keeps them in memory; decoding: None if no image can be
    used."""

    facts: list[Facts]
    pixels: np.ndarray | None
    decoding: Decoding | None


@dataclass
class FolderReader:
    """Reads a folder's files, each one once if possible.

    max_pixels: a larger image is not decoded and counts as unusable; workers: number of decoding processes.
    """

    scan: Scan
    cache: FolderCache
    options: DecodingOptions
    max_pixels: int
    workers: int

    def __post_init__(self) -> None:
        self.files = [f"{self.scan.root}/{file.path}" for file in self.scan.files]
        self.stamps = {file.path: file.stamp for file in self.scan.files}

    def read(self, loader: str, budget: int) -> FolderContents:
        """The facts of all files and, for a resident loader, their pixels. Every file is decoded once to check it.

        The pixels are decoded in the same pass, with a decoding that is guessed from a few files and seldom wrong.

        Args:
            budget: memory for the decoded images, in bytes.
        """
        count = len(self.files)

        def resident(decoding: Decoding) -> bool:
            return not self.scan.problems and is_resident(loader, decoding, count, budget)

        known = self._cached_facts()
        missing = [index for index in range(count) if index not in known]
        guess = self.options.decoding_for(list(known.values()) or self._sample())
        out = pixels = None
        if guess and missing and resident(guess):
            out = self.cache.allocate_pixels((count, *guess.shape))
            missing = list(range(count))
        try:
            if missing:
                known |= self._examine(missing, guess, out)
                self._store_facts(known)
            facts = [known[index] for index in range(count)]
            decoding = self.options.decoding_for(facts)
            if out is not None and decoding and decoding == guess:
                self.cache.store_pixels(out, pixels_name(facts, decoding))
                pixels, out = out, None
        finally:
            self.cache.discard(out)
        if pixels is None and decoding and resident(decoding):
            pixels = self._all_pixels(facts, decoding)
        return FolderContents(facts, pixels, decoding)

    def _cached_facts(self) -> dict[int, Facts]:
        """File index -> facts from the cache, except of large files: source.max_megapixels may have changed."""
        by_path = self.cache.load_facts(self.stamps)
        known = {index: by_path[file.path] for index, file in enumerate(self.scan.files) if file.path in by_path}
        return {
            index: facts
            for index, facts in known.items()
            if "too large" not in facts.problem and facts.width * facts.height <= self.max_pixels
        }

    def _store_facts(self, facts: Mapping[int, Facts]) -> None:
        self.cache.store_facts(self.stamps, {self.scan.files[index].path: known for index, known in facts.items()})

    def _sample(self) -> list[Facts]:
        """The facts in the headers of a few files."""
        return [read_header(file) for file in self.files[:: max(1, len(self.files) // SAMPLE_SIZE)]]

    def _examine(
        self, indices: Sequence[int], decoding: Decoding | None, out: np.ndarray | None = None
    ) -> dict[int, Facts]:
        with show_progress(len(indices)) as progress:
            return processes.examine_all(
                self.files,
                indices,
                decoding=decoding,
                out=out,
                max_pixels=self.max_pixels,
                workers=self.workers,
                progress=progress,
            )

    def _all_pixels(self, facts: Sequence[Facts], decoding: Decoding) -> np.ndarray:
        """All pixels, from the cache or decoded now."""
        name, shape = pixels_name(facts, decoding), (len(facts), *decoding.shape)
        cached = self.cache.load_pixels(name, shape)
        if cached is not None:
            return cached
        out = self.cache.allocate_pixels(shape)
        self._examine(range(len(facts)), decoding, out)
        self.cache.store_pixels(out, name)
        return out
