"""Real trainings of one option under two names: the comparison must not tell them apart."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import run_command

from mnistlab.comparison.statistics import compare_pairs

pytestmark = pytest.mark.long

SEEDS, SWEEPS, SIZE = 20, 100, 5


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Validation accuracies and losses of 40 runs that differ in nothing but their seed, shape (40,)."""
    folder = tmp_path_factory.mktemp("same")
    words = ("source=mnist_5k", "optimizer=momentum", "fit.epochs=3", "tracking=none", "save.formats=[]")
    done = run_command(folder, "--multirun", *words, f"seed=range(0,{2 * SEEDS})", timeout=900)
    assert done.code == 0, done.err
    found: dict[str, list[float]] = {}
    for file in sorted(folder.glob("runs/*/*/*/metrics.jsonl")):
        final = json.loads(file.read_text().splitlines()[-1])["metrics"]
        assert final["num_validation_images"] == 400
        for name in ("best_epoch_val_accuracy", "best_epoch_val_loss"):
            found.setdefault(name, []).append(final[name])
    assert {len(values) for values in found.values()} == {2 * SEEDS}
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize(
    ("objective", "resolution"), [("best_epoch_val_accuracy", 1 / 400), ("best_epoch_val_loss", 0.0)]
)
@pytest.mark.parametrize("names", [2, 4])
def test_sweeps_of_one_option_under_several_names_claim_nothing(scores, objective, resolution, names) -> None:
    """100 sweeps of 5 seeds, drawn from the 40 runs; three standard errors are allowed."""
    generator, claims = np.random.default_rng(0), 0
    for _ in range(SWEEPS):
        drawn = generator.permutation(scores[objective])[: names * SIZE].reshape(names, SIZE)
        claims += compare_pairs(drawn, resolution=resolution).significant.any()
    assert claims / SWEEPS <= 0.05 + 3 * (0.05 * 0.95 / SWEEPS) ** 0.5
