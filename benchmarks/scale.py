"""How much is measured in each of the three modes. Times on fewer than all training images are extrapolated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """rounds: measured epochs of each contender, half of them for a slow one; *_images: training images, None for all.

    slow_images_32, slow_images_1: of mnistlab's keras engine; notebook_images_1: of the notebook at batch 1;
    best_images_1: of Keras with its fastest settings and of PyTorch at batch 1; threads_images_32, threads_images_1:
    of PyTorch with its default number of threads; adam_images: of the notebook with Adam; cnn_images: of the cnn;
    sgd_images: of the notebook's sgd in the seven strategies.
    run_rounds, sweep_rounds, help_rounds: measurements of a command; folder_rounds: of each loader of image folders;
    memory_jobs: in one process, to measure its memory; protection_rounds: pairs of runs with and without checkpoints;
    predict_rounds: of each way to predict; requests: to the model server; num_runs: in a tracking store, in turn.
    """

    name: str
    rounds: int
    slow_images_32: int | None = None
    slow_images_1: int | None = None
    notebook_images_1: int | None = None
    best_images_1: int | None = None
    threads_images_32: int | None = None
    threads_images_1: int | None = None
    adam_images: int | None = None
    cnn_images: int | None = None
    sgd_images: int | None = None
    run_rounds: int = 5
    sweep_rounds: int = 3
    help_rounds: int = 15
    folder_rounds: int = 5
    memory_jobs: int = 50
    protection_rounds: int = 9
    predict_rounds: int = 11
    requests: int = 300
    num_runs: tuple[int, ...] = (100, 1_000, 10_000)


DEFAULT = Scale(
    "default",
    rounds=5,
    slow_images_32=20_000,
    slow_images_1=3_000,
    notebook_images_1=5_000,
    best_images_1=6_000,
    threads_images_32=6_400,
    threads_images_1=600,
    adam_images=20_000,
    cnn_images=6_400,
    sgd_images=5_000,
    run_rounds=2,
    sweep_rounds=2,
    help_rounds=7,
    folder_rounds=3,
    protection_rounds=5,
    predict_rounds=5,
    requests=100,
)
FULL = Scale("full", rounds=10)
QUICK = Scale(
    "quick",
    rounds=1,
    slow_images_32=1_600,
    slow_images_1=320,
    notebook_images_1=320,
    best_images_1=320,
    threads_images_32=640,
    threads_images_1=100,
    adam_images=1_600,
    cnn_images=320,
    sgd_images=320,
    run_rounds=1,
    sweep_rounds=1,
    help_rounds=1,
    folder_rounds=1,
    memory_jobs=12,
    protection_rounds=1,
    predict_rounds=1,
    requests=5,
    num_runs=(100,),
)
