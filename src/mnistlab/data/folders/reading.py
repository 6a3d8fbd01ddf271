"""Reads the files of a scanned folder: examines each one, decodes all if their pixels fit in memory, uses the cache."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mnistlab.data.folders import processes
from mnistlab.data.folders.cache import FolderCache, pixels_name
from mnistlab.data.folders.decoding import (
    DEEP_COLOUR,
    DEEP_COLOUR_PROBLEM,
    HIGH_BYTE_PROBLEM,
    SIXTEEN_BIT_PROBLEM,
    Decoding,
    Facts,
    has_more_than_8_bits,
    is_deep_gray,
    read_header,
)
from mnistlab.data.folders.listing import Scan
from mnistlab.runtime import terminal

log = logging.getLogger("mnistlab")

KERAS_SIZE = (256, 256)  # flow_from_directory's default target_size
SAMPLE_SIZE = 16  # files whose headers are read to guess how all will be decoded
MIN_IMAGES_FOR_BAR = 256  # fewer are read in a moment
SECONDS_BETWEEN_LOGS = 5


def is_resident(loader: str, decoding: Decoding, num_images: int, budget: int) -> bool:
    """Whether the loader keeps the decoded images in memory; budget: bytes."""
    return loader == "resident" or (loader == "auto" and num_images * decoding.image_bytes <= budget)


@dataclass(frozen=True)
class DecodingOptions:
    """How the user wants images decoded; `color_mode='auto'` and `size=None` depend on the images."""

    color_mode: str
    size: Sequence[int] | None
    interpolation: str
    keep_aspect_ratio: bool
    sixteen_bit: str = "error"

    def decoding_for(self, facts: Iterable[Facts]) -> Decoding | None:
        """How to decode these images; None if no image can be used."""
        usable = [known for known in facts if not known.problem and not self._refused(known.mode)]
        sizes = {(known.height, known.width) for known in usable}
        if not usable:
            return None
        height, width = self.size or (sizes.pop() if len(sizes) == 1 else KERAS_SIZE)
        color_mode = self.color_mode
        if color_mode == "auto":
            gray = (known.mode in ("L", "LA", "1") or is_deep_gray(known.mode) for known in usable)
            color_mode = "grayscale" if all(gray) else "rgb"
        size = (int(height), int(width))
        return Decoding(color_mode, size, self.interpolation, self.keep_aspect_ratio, self.sixteen_bit)

    def _refused(self, mode: str) -> bool:
        """Whether images of this mode have too many bits per channel."""
        return self.sixteen_bit == "error" and has_more_than_8_bits(mode)

    def may_have_changed(self, known: Facts) -> bool:
        """Whether facts from the cache depend on another `sixteen_bit` than this one."""
        made_by = {SIXTEEN_BIT_PROBLEM: "error", HIGH_BYTE_PROBLEM: "high_byte", DEEP_COLOUR_PROBLEM: "stretch"}
        rules = [rule for problem, rule in made_by.items() if problem in known.problem]
        rules += ["high_byte"] if known.mode.endswith(DEEP_COLOUR) else []
        return self._refused(known.mode) or rules not in ([], [self.sixteen_bit])


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

    def read(self, loader: str, budget: int) -> tuple[list[Facts], np.ndarray | None, Decoding | None]:
        """Decode every file once to check it, and keep the pixels of a resident loader.

        The pixels come from the same pass, with a decoding that is guessed from a few files and seldom wrong.

        Args:
            budget: memory for the decoded images, in bytes.

        Returns:
            the facts of each file; the pixels of all, or None; the decoding, None if no image can be used.
        """
        count = len(self.files)

        def resident(decoding: Decoding) -> bool:
            return not self.scan.problems and is_resident(loader, decoding, count, budget)

        known = self._cached_facts()
        missing = [index for index in range(count) if index not in known]
        sample = self.files[:: max(1, count // SAMPLE_SIZE)]
        guess = self.options.decoding_for(known.values() or map(read_header, sample))
        out = pixels = None
        if guess and missing and resident(guess):
            out = self.cache.allocate_pixels((count, *guess.shape))
            missing = list(range(count))
        try:
            if missing:
                known |= self._examine(missing, guess, out)
                self.cache.store_facts(self.scan.files, known)
            facts = [known[index] for index in range(count)]
            decoding = self.options.decoding_for(facts)
            if out is not None and decoding and decoding == guess:
                self.cache.store_pixels(out, pixels_name(facts, decoding))
                pixels, out = out, None
        finally:
            self.cache.discard(out)
        if pixels is None and decoding and resident(decoding):
            pixels = self._all_pixels(facts, decoding)
        return facts, pixels, decoding

    def _cached_facts(self) -> dict[int, Facts]:
        """File index -> facts from the cache, except of files that other settings may have refused or accepted."""
        return {
            index: facts
            for index, facts in self.cache.load_facts(self.scan.files).items()
            if "too large" not in facts.problem
            and facts.width * facts.height <= self.max_pixels
            and not self.options.may_have_changed(facts)
        }

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
                sixteen_bit=self.options.sixteen_bit,
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


@contextlib.contextmanager
def show_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of images read so far: it shows a bar on a terminal, else it logs."""
    started = last_logged = time.monotonic()
    bar = terminal.start_bar() if total >= MIN_IMAGES_FOR_BAR else None

    def progress(done: int) -> None:
        nonlocal last_logged
        now = time.monotonic()
        if bar:
            bar.update("Reading images", done / total, now - started, f"{done:,} of {total:,}")
        elif now - last_logged > SECONDS_BETWEEN_LOGS:
            last_logged = now
            remaining_seconds = (now - started) / done * (total - done)
            log.info("Read %s of %s images (%.0f s left)", f"{done:,}", f"{total:,}", remaining_seconds)

    try:
        yield progress
    finally:
        if bar:
            bar.stop()
