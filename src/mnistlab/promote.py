"""The promoting command, `python -m mnistlab.promote run=best alias=champion`."""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mnistlab.config import ConfigError, parse_settings, project_root, trust
from mnistlab.runtime import errors, exits, startup
from mnistlab.tracking import background, chosen_models, registry, stores
from mnistlab.tracking.chosen_models import ChosenModel
from mnistlab.tracking.registry import Version
from mnistlab.tracking.stores import StoreAddress

if TYPE_CHECKING:
    from mnistlab.comparison.paired_images import ImagePairs

USAGE = """Point the alias of a registered model to a better version.

Usage: python -m mnistlab.promote [run=best] [alias=champion] [name=NAME] [force=true] [setting=value ...]

  run=MODEL     the challenger, as for mnistlab.predict: best, latest, a run's id or name, models:/NAME/VERSION
  alias=ALIAS   champion; MLflow serves what it points to: mlflow models serve -m models:/NAME@champion
  name=NAME     the registered model; without it the one that the run is registered as. A run that has no version there
                gets one
  force=true    move the alias without a comparison
  objective=best_epoch_val_accuracy   for run=best
  trust=[mypackage]   a package with classes of the models
  paths.root=FOLDER, tracking.uri=STORE, tracking.experiment=NAME

The alias moves if the challenger is better than the model that has it: both classify the same validation images, and
the images that only one of them has right decide (McNemar's exact test, 5 %). The difference is printed with its
interval. An alias that does not exist yet is set.

Exit status: 0 the alias points to the challenger, 1 it stays, 2 a user's mistake."""
SETTINGS = ("run", "alias", "name", "force", "objective", *stores.SETTING_NAMES)


def main() -> None:
    """The command. Exit status: 0 the challenger has the alias, 1 it stays, 2 a user's mistake, 130 interrupted."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    exits.leave(errors.run_command(_promote, USAGE))


def _promote() -> int:
    words, named = trust.split_trust(sys.argv[1:])
    settings = parse_settings(words, SETTINGS)
    alias, force = settings.get("alias", "champion"), settings.get("force", "false")
    if force not in ("true", "false"):
        raise ConfigError(f"force must be true or false. Received: {force}.")
    if alias == "latest" or not re.fullmatch(r"(?!v\d+$)[\w-]+", alias):
        raise ConfigError(f"alias must be a name of letters, digits, - and _, not latest or v1. Received: {alias}.")
    root = str(settings.get("paths.root") or settings.get("root") or project_root())
    store = stores.named_address(settings)
    objective = settings.get("objective", chosen_models.OBJECTIVE)
    arguments = (store, root, objective, str(Path.cwd()))
    exits.catch_signals()
    challenger = background.call(chosen_models.choose, settings.get("run", chosen_models.BEST), *arguments)
    print(challenger.reason, flush=True)
    name = settings.get("name") or _only_name(store, challenger)
    address = f"models:/{name}@{alias}"
    holder = background.call(registry.target_of_alias, store, name, alias)
    if holder is not None and holder.model_id == _model_id(challenger):
        print(f"{address} is this model already: version {holder.number}.")
        return 0
    if holder is not None and force == "false":
        champion = background.call(chosen_models.choose, address, *arguments)
        with trust.trusting(named):
            compared = _compare(challenger, champion)
        versions = f"{challenger.name} against version {holder.number}, {champion.name}"
        print(f"{versions}: {compared.in_words()}.", flush=True)
        if not compared.first_is_better:
            print(f"{_reason(compared)}: {address} stays version {holder.number}. force=true moves it all the same.")
            return exits.FAILED
    version = background.call(registry.register, store, name, _model_id(challenger), challenger.run_id or "")
    background.call(registry.set_alias, store, version, alias)
    print(_moved(address, version, holder))
    return 0


def _compare(challenger: ChosenModel, champion: ChosenModel) -> "ImagePairs":
    with startup.loading():
        from mnistlab.inference import challenge
    return challenge.compare(challenger, champion)


def _reason(compared: "ImagePairs") -> str:
    return "It is worse" if compared.second_is_better else "Not distinguishable yet"


def _moved(address: str, version: Version, holder: Version | None) -> str:
    before = "" if holder is None else f", before that version {holder.number}"
    return f"{address} is version {version.number} now{before}."


def _model_id(chosen: ChosenModel) -> str:
    """The logged model of a run, or what models:/ID names."""
    address = str(chosen.tags.get("model.address", ""))
    if not address:
        raise ConfigError(
            f"{chosen.place} must be a model that MLflow has: a run's, or models:/NAME. Received: {chosen.name}, which "
            "was trained with tracking=none or by another program."
        )
    return address.removeprefix("models:/")


def _only_name(store: StoreAddress, chosen: ChosenModel) -> str:
    """The registered model that a run has a version of."""
    _model_id(chosen)
    names = background.call(registry.names_of_run, store, chosen.run_id or "")
    if len(names) != 1:
        found = f"is registered as {' and as '.join(names)}" if names else "is not registered"
        raise ConfigError(f"name=NAME must say which registered model is meant: {chosen.name} {found}.")
    return str(names[0])


if __name__ == "__main__":
    main()
