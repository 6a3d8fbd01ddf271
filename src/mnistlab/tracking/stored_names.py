"""How a run's entries are named and chosen in the tracking store, so that MLflow's pages begin with what matters.

A run's folder has everything under mnistlab's own names. In the store:

- *Metrics* are in sections, which the UI sorts by name and folds. Those of every epoch come first: 'epoch/loss',
  'epoch/val_loss', 'epoch/learning_rate'. Then those of one value: 'summary/best_val_accuracy', 'test/accuracy',
  'test_f1/7', 'time/train_seconds'. Names without a section would come last.
- *Tags* of the provenance have the prefix 'record.': 'record.fingerprint', 'record.git.commit', 'record.version.keras'.
- *Parameters* are the settings that describe the experiment and those that differ from their defaults. All others are
  in the tag 'record.settings' as JSON.

Everything that reads runs from the store turns the names back: `metric_name`, `tags_of`, `parameters_of`.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from mnistlab.config import conf_folder, flatten
from mnistlab.config.schema import KERAS_NAMES

SECTIONS = ("test", "train", "validation", "all")
EPOCH, SUMMARY = "epoch/", "summary/"
TIMES = ("epoch_seconds", "train_seconds", "steps_per_epoch")
PER_CLASS = re.compile(r"((?:test|train|validation|all)_(?:f1|precision|recall))\.(?!macro$)(.+)", re.DOTALL)
STORED_PER_CLASS = re.compile(r"((?:test|train|validation|all)_(?:f1|precision|recall))/(.+)", re.DOTALL)

RECORD = "record."
PROVENANCE = re.compile(r"(fingerprint|hash|git|version|model\.sha256|default)(\.|$)")
SETTINGS_TAG = RECORD + "settings"
MAX_SETTINGS = 7000  # characters

# Settings of these groups are parameters, whatever their values; of the others those that are no defaults.
GROUPS = ("source", "model", "optimizer", "schedule", "callbacks")
ALWAYS = ("seed", "data", "fit.epochs", "fit.batch_size", *GROUPS)
# Where results are stored and how they are computed, not what: never parameters.
NEVER = (
    *("paths", "tracking", "sweep", "run", "save.register"),
    *(f"fit.{name}" for name in ("resume", "checkpoint_percent", "checkpoint_seconds", "max_seconds")),
    *(f"data.{twin}" for twin in KERAS_NAMES.values()),
)


def stored_metric(name: str) -> str:
    """'loss' -> 'epoch/loss', 'best_epoch' -> 'summary/best_epoch', 'test_f1.7' -> 'test_f1/7'; 'my/metric' stays."""
    if "/" in name.partition(".")[0]:
        return name
    if name in TIMES:
        return f"time/{name}"
    if name.startswith("best_"):
        return f"{SUMMARY}{name}"
    if found := PER_CLASS.fullmatch(name):
        return f"{found[1]}/{found[2]}"
    section, _, rest = name.partition("_")
    return f"{section}/{rest}" if section in SECTIONS and rest else f"{EPOCH}{name}"


def metric_name(stored: str) -> str:
    """The name that `stored_metric` was given; names without a section, as of earlier versions, stay."""
    if found := STORED_PER_CLASS.fullmatch(stored):
        return f"{found[1]}.{found[2]}"
    section, _, rest = stored.partition("/")
    if f"{section}/" in (EPOCH, SUMMARY) or (section == "time" and rest in TIMES):
        return rest
    return f"{section}_{rest}" if section in SECTIONS and rest else stored


def stored_tag(name: str) -> str:
    """'git.commit' -> 'record.git.commit'."""
    return f"{RECORD}{name}" if PROVENANCE.match(name) else name


def tags_of(stored: Mapping[str, str]) -> dict[str, str]:
    """The tags under their own names."""
    return {name.removeprefix(RECORD) if name != SETTINGS_TAG else name: value for name, value in stored.items()}


def split_parameters(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings that are parameters, and the others as strings, for the tag `SETTINGS_TAG`."""
    defaults = _defaults()
    shown = {name: value for name, value in settings.items() if _is_shown(name, value, defaults)}
    return shown, {name: str(value) for name, value in settings.items() if name not in shown}


def settings_tag(others: Mapping[str, str]) -> str:
    """JSON of the settings that are no parameters; the longest are left out of a text that is too long for a tag."""
    kept = dict(others)
    while len(text := json.dumps(kept)) > MAX_SETTINGS:
        del kept[max(kept, key=lambda name: len(kept[name]))]
    return text


def parameters_of(params: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """All settings of a run, as strings. tags: under their stored names."""
    try:
        others = json.loads(tags.get(SETTINGS_TAG, "{}"))
    except ValueError:
        others = {}
    return {**(others if isinstance(others, dict) else {}), **params}


def _is_shown(name: str, value: Any, defaults: Mapping[str, Any]) -> bool:
    group = name.partition(".")[0]
    if name.endswith("_target_"):
        return not str(value).startswith(("keras.", "mnistlab."))
    if _is_below(name, NEVER):
        return False
    if name in ALWAYS or group in GROUPS:
        return value is not None
    return name not in defaults or (defaults[name] != value and str(defaults[name]) != str(value))


def _is_below(name: str, settings: tuple[str, ...]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in settings)


@functools.cache
def _defaults() -> Mapping[str, Any]:
    """Setting -> its default, of those that are in no group of options, and of `data`."""
    found: dict[str, Any] = {}
    for file, prefix in (("train.yaml", ""), ("data/default.yaml", "data.")):
        content = yaml.safe_load((conf_folder() / file).read_text(encoding="utf-8"))
        flat = flatten({key: value for key, value in content.items() if key not in ("defaults", "hydra")})
        found |= {f"{prefix}{name}": value for name, value in flat.items()}
    return found
