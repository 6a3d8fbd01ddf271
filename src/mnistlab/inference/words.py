"""The command line of the commands that take a trained model and a source of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnistlab.config import ConfigError, TrackingConfig, project_root
from mnistlab.config.compose import compose_config
from mnistlab.runtime import exits, startup
from mnistlab.tracking import background, chosen_models, stores

if TYPE_CHECKING:
    from mnistlab.inference.other_data import OtherData
    from mnistlab.inference.trained_model import TrainedModel
    from mnistlab.tracking.chosen_models import ChosenModel

SETTINGS = ("run", "split", "objective", "pixels", *stores.SETTING_NAMES)
DATA_GROUPS = ("source", "data")


@dataclass(frozen=True)
class Words:
    """settings: the command's own; overrides: of `source` and `data`, as in a training; is_tracked: whether it is
    recorded in a store."""

    settings: dict[str, str]
    overrides: list[str]
    is_tracked: bool

    @property
    def run(self) -> str:
        """What names the model."""
        return self.settings.get("run", chosen_models.LATEST)

    @property
    def objective(self) -> str:
        """For run=best."""
        return self.settings.get("objective", chosen_models.OBJECTIVE)

    @property
    def root(self) -> str:
        """The folder of all results."""
        return str(self.settings.get("paths.root") or self.settings.get("root") or project_root())

    @property
    def tracking(self) -> TrackingConfig:
        """Where it is recorded."""
        given = {stores.SHORT_NAMES.get(name, name): value for name, value in self.settings.items()}
        uri, experiment = given.get("tracking.uri"), given.get("tracking.experiment")
        return TrackingConfig(backend="mlflow" if self.is_tracked else "none", uri=uri, experiment=experiment)


def read(words: Sequence[str]) -> Words:
    """The words of the command line in their parts.

    Raises:
        ConfigError: some are no settings; each is named.
    """
    settings, overrides, is_tracked, unknown = {}, [], True, []
    for word in words:
        name, _, value = word.partition("=")
        if name in SETTINGS:
            settings[name] = value
        elif name.lstrip("+").split(".")[0] in DATA_GROUPS:
            overrides.append(word)
        elif word == "tracking=none":
            is_tracked = False
        elif word != "tracking=mlflow":
            unknown.append(word)
    if unknown:
        choices = ", ".join((*SETTINGS, "source, data and their settings", "tracking=none"))
        raise ConfigError([f"{word} is not a setting. Choices: {choices}; see --help." for word in unknown])
    return Words(settings, overrides, is_tracked)


def load(asked: Words, config_dir: str | None) -> "tuple[TrainedModel, OtherData]":
    """The model and the images that a command names; prints what was chosen and assumed.

    config_dir: a folder with the user's config groups.

    Raises:
        ConfigError: there is no such model, or no such images, or they do not fit together.
    """
    if asked.overrides:
        compose_config(asked.overrides, config_dir=config_dir)  # a mistake is told before anything is loaded
    store = stores.named_address(asked.settings)
    choosing = background.submit(chosen_models.choose, asked.run, store, asked.root, asked.objective, str(Path.cwd()))
    exits.catch_signals()
    with startup.loading():
        from mnistlab.inference import other_data, trained_model
    chosen: ChosenModel = choosing.result()
    trained = trained_model.load(chosen, asked.settings.get("pixels", "auto"))
    other = other_data.load(trained, asked.overrides, config_dir, asked.settings.get("split", "auto"))
    for note in (chosen.reason, *trained.notes, *other.notes, *(f"WARNING: {text}" for text in other.warnings)):
        print(note, flush=True)
    return trained, other
