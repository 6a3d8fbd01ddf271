"""Real trainings of one option under two names: the comparison must not tell them apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_command

from mnistlab.comparison.race import race_for_best
from mnistlab.comparison.sequential import Looks
from mnistlab.comparison.statistics import compare_pairs

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.verdict_errors import winner

pytestmark = pytest.mark.long

SEEDS, SIZE = 20, 5
SWEEPS, RACES = 1000, 300
OBJECTIVES = [("best_epoch_val_accuracy", 1 / 400), ("best_epoch_val_loss", 0.0)]


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


def allowed(sweeps: int) -> float:
    """5 % and three standard errors."""
    return 0.05 + 3 * (0.05 * 0.95 / sweeps) ** 0.5


@pytest.mark.parametrize(("objective", "resolution"), OBJECTIVES)
@pytest.mark.parametrize("names", [2, 4, 8])
def test_sweeps_of_one_option_under_several_names_claim_nothing(scores, objective, resolution, names) -> None:
    """Sweeps of 5 seeds, drawn from the 40 runs."""
    generator, claims, winners = np.random.default_rng(0), 0, 0
    for _ in range(SWEEPS):
        drawn = generator.permutation(scores[objective])[: names * SIZE].reshape(names, SIZE)
        tests = compare_pairs(drawn, resolution=resolution)
        claims += tests.significant.any()
        winners += winner(drawn, tests, resolution) is not None
    print(f"{objective}, {names} names: {claims} of {SWEEPS} sweeps with a significant pair, {winners} with a winner")
    assert claims / SWEEPS <= allowed(SWEEPS)
    assert winners / SWEEPS <= allowed(SWEEPS)


@pytest.mark.parametrize(("objective", "resolution"), OBJECTIVES)
@pytest.mark.parametrize("names", [2, 4])
def test_sweeps_until_a_verdict_of_one_option_under_several_names_have_no_winner(
    scores, objective, resolution, names
) -> None:
    """Sweeps with a look after each seed, from the third to the last: 20 seeds of two names, 10 of four."""
    generator, winners, last = np.random.default_rng(1), 0, 2 * SEEDS // names
    for _ in range(RACES):
        drawn = generator.permutation(scores[objective]).reshape(names, last)
        race = race_for_best("abcd"[:names], drawn, Looks(3, 20), 0.05, resolution)
        winners += len(race.open) == 1
    print(f"{objective}, {names} names: {winners} of {RACES} sweeps until a verdict with a winner")
    assert winners / RACES <= allowed(RACES)
