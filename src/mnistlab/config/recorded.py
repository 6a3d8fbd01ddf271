"""The configuration of an earlier run, from what the run recorded."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import open_dict

from mnistlab.config.compose import checked, compose_settings
from mnistlab.config.schema import FILLED_IN, Config, ConfigError

# Where results are stored and how a sweep was run: these are not repeated.
NOT_REPEATED = ("run", "tracking", "paths", "sweep", "launch")


def recorded_config(recorded: Mapping[str, Any], place: str, named: Iterable[str] = ()) -> Config:
    """The configuration in a run's config.yaml, checked as one from the command line.

    Settings that the record lacks, as one of an earlier version may, have their defaults; those that no longer exist
    are left out. Values of environment variables are read again.

    Args:
        recorded: the content of config.yaml.
        place: what named the run, for messages.
        named: packages that the user trusts.

    Raises:
        ConfigError: the record is no configuration, names code that is not trusted, or no longer fits.
    """
    groups = [field.name for field in dataclasses.fields(Config) if field.name not in (*FILLED_IN, *NOT_REPEATED)]
    if missing := [name for name in ("source", "data", "model", "optimizer", "fit") if name not in recorded]:
        raise ConfigError(f"{place} has no record of its settings: config.yaml lacks {', '.join(missing)}.")
    composed = compose_settings([], "train", None)
    typed = {field.name for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)}
    with open_dict(composed):
        del composed["hydra"]
        for name in groups:
            if name not in recorded:
                continue
            value = recorded[name]
            if name in typed and isinstance(value, Mapping):
                for key in value.keys() & composed[name].keys():
                    composed[name][key] = value[key]
            else:
                composed[name] = value
    choices: dict[str, str | None] = {group: str(option) for group, option in (recorded.get("choices") or {}).items()}
    config = checked(composed, [], choices, named=named)
    return dataclasses.replace(config, overrides=list(recorded.get("overrides") or []))
