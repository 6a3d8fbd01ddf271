"""Random bytes of model files: each is loaded, or refused with a reason. Never another exception, never without end."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest
from fuzzing import LENGTHS, Damage, damaged, damages, fuzz, limited

from mnistlab.config import ConfigError
from mnistlab.training import model_files, saving


def network() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)])


@LENGTHS
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_damaged_model_files(name: str, length: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "READ_SECONDS", 10)
    saving.save_model(network(), tmp_path, ["keras", "h5", "weights"])
    whole, file = (tmp_path / name).read_bytes(), tmp_path / f"damaged-{name}"

    def check(steps: list[Damage]) -> None:
        file.write_bytes(damaged(whole, steps))
        with limited((name, steps)):
            try:
                saving.load_weights(network(), file)
            except ConfigError as error:
                assert error.problems[0].startswith(f"init.from={file} ")
                assert "\n" not in error.problems[0]

    fuzz(length, quick=2, long=40, steps=damages())(check)
