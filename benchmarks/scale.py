"""How much is measured: the three modes. Images are training images; what runs on fewer than all is extrapolated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """rounds: measured epochs of each contender, a slow one takes part in every second round; *_images: None is all.

    slow_images_32, slow_images_1: of mnistlab's keras engine at batch 32, and of it and the notebook at batch 1.
    torch_images_1: of the PyTorch loop at batch 1; adam_images: of the notebook with Adam; cnn_images: of the cnn.
    run_rounds, sweep_rounds, help_rounds: measurements of a whole command; jobs: in one process, for its memory.
    """

    name: str
    rounds: int
    slow_images_32: int | None
    slow_images_1: int | None
    torch_images_1: int | None
    adam_images: int | None
    cnn_images: int | None
    sgd_sweep_images: int | None
    run_rounds: int
    sweep_rounds: int
    help_rounds: int
    jobs: int


DEFAULT = Scale("default", 6, 20_000, 5_000, 12_000, 20_000, 6_400, 5_000, 3, 2, 7, 50)
FULL = Scale("full", 10, None, None, None, None, None, None, 5, 3, 15, 50)
QUICK = Scale("quick", 1, 1_600, 320, 320, 1_600, 320, 320, 1, 1, 1, 12)
