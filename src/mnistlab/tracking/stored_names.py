"""How a run's entries are named and chosen in the tracking store, so that MLflow's pages begin with what matters.

A run's folder has everything under mnistlab's own names. In the store:

- *Metrics* are in sections, which the UI sorts by name and folds. Those of every epoch come first: 'epoch/loss',
  'epoch/val_loss', 'epoch/learning_rate'. Then those of one value: 'summary/best_epoch_val_accuracy',
  'summary/max_val_accuracy', 'test/accuracy', 'test_f1/7', 'time/train_seconds'. Names without a section would come
  last.
- *Tags* of the provenance have the prefix 'record.', and are few: 'record.fingerprint', and in JSON 'record.hash',
  'record.version', 'record.git' and so on, which hold 'hash.train', 'hash.test', ...
- *Parameters* are the settings that describe the experiment and those that differ from their defaults. All others are
  in the tag 'record.settings' as JSON.

Everything that reads runs from the store turns the names back: `metric_name`, `tags_of`, `parameters_of`. So do the
names of earlier versions become the present ones: 'best_val_accuracy' is 'best_epoch_val_accuracy'.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from mnistlab.config import conf_folder, flatten
from mnistlab.config.objectives import BEST_EPOCH, EXTREMES, current_name
from mnistlab.config.schema import KERAS_NAMES

SECTIONS = ("test", "train", "validation", "all")
EPOCH, SUMMARY = "epoch/", "summary/"
OF_A_SWEEP = ("best_mean_", "best_child_")  # its parent run has the objective of the best option and of the best run
TIMES = ("epoch_seconds", "train_seconds", "steps_per_epoch")
PER_CLASS = re.compile(r"((?:test|train|validation|all)_(?:f1|precision|recall))\.(?!macro$)(.+)", re.DOTALL)
STORED_PER_CLASS = re.compile(r"((?:test|train|validation|all)_(?:f1|precision|recall))/(.+)", re.DOTALL)

RECORD = "record."
PROVENANCE = re.compile(r"(fingerprint|hash|git|version|model\.sha256|default)(\.|$)")
# Families of tags that are one tag in the store, as JSON. 'fingerprint.' has two others of its own.
FAMILIES = ("hash", "version", "git")
FINGERPRINT, PARTS = "fingerprint.", "fingerprint.parts"
OWN_TAGS = ("fingerprint.request", "fingerprint.code")  # the first is searched for, the second is long
SETTINGS_TAG = RECORD + "settings"
MAX_JSON = 7000  # characters

# Settings of these groups are parameters, whatever their values; of the others those that are no defaults.
GROUPS = ("source", "model", "optimizer", "schedule", "callbacks")
ALWAYS = ("seed", "data", "fit.epochs", "fit.batch_size", *GROUPS)
# Where results are stored and how they are computed, not what: never parameters.
NEVER = (
    *("paths", "tracking", "sweep", "launch", "run", "save.register"),
    *(f"fit.{name}" for name in ("resume", "checkpoint_percent", "checkpoint_seconds", "max_seconds")),
    *(f"data.{twin}" for twin in KERAS_NAMES.values()),
)


def stored_metric(name: str) -> str:
    """'loss' -> 'epoch/loss', 'best_epoch' -> 'summary/best_epoch', 'test_f1.7' -> 'test_f1/7'; 'my/metric' stays."""
    if "/" in name.partition(".")[0]:
        return name
    if name in TIMES:
        return f"time/{name}"
    if name.startswith((BEST_EPOCH, *EXTREMES, *OF_A_SWEEP)) or name in ("best_epoch", "num_validation_images"):
        return f"{SUMMARY}{name}"
    if found := PER_CLASS.fullmatch(name):
        return f"{found[1]}/{found[2]}"
    section, _, rest = name.partition("_")
    return f"{section}/{rest}" if section in SECTIONS and rest else f"{EPOCH}{name}"


def metric_name(stored: str) -> str:
    """The name that `stored_metric` was given, as it is called now; other names without a section stay."""
    if found := STORED_PER_CLASS.fullmatch(stored):
        return f"{found[1]}.{found[2]}"
    section, _, rest = stored.partition("/")
    if f"{section}/" == SUMMARY:
        return current_name(rest)
    if f"{section}/" == EPOCH or (section == "time" and rest in TIMES):
        return rest
    return f"{section}_{rest}" if section in SECTIONS and rest else current_name(stored)


def stored_tag(name: str) -> str:
    """The tag that has it in the store: 'hash.train' -> 'record.hash', 'model.address' -> 'model.address'."""
    family = name.partition(".")[0]
    if family in FAMILIES and "." in name:
        return RECORD + family
    if name.startswith(FINGERPRINT) and name not in OWN_TAGS:
        return RECORD + PARTS
    return f"{RECORD}{name}" if PROVENANCE.match(name) else name


def stored_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as they are stored. All of a family must be among them: they replace the earlier ones."""
    stored: dict[str, str] = {}
    families: dict[str, dict[str, str]] = {}
    for name, value in tags.items():
        place = stored_tag(name)
        if prefix := _prefix(place):
            families.setdefault(place, {})[name.removeprefix(prefix)] = str(value)
        else:
            stored[place] = str(value)
    return stored | {place: json_tag(entries) for place, entries in families.items()}


def tags_of(stored: Mapping[str, str]) -> dict[str, str]:
    """The tags under their own names."""
    tags: dict[str, str] = {}
    for place, value in stored.items():
        if prefix := _prefix(place):
            tags |= {f"{prefix}{name}": entry for name, entry in _mapping(value).items()}
        else:
            tags[place if place == SETTINGS_TAG else place.removeprefix(RECORD)] = value
    return tags


def _prefix(place: str) -> str:
    """Of the names of those tags that are stored in this one, '' if it is no family."""
    name = place.removeprefix(RECORD)
    if name == place:
        return ""
    return f"{name}." if name in FAMILIES else FINGERPRINT if name == PARTS else ""


def _mapping(text: str) -> dict[str, Any]:
    """A JSON object; empty if the text is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def split_parameters(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings that are parameters, and the others as strings, for the tag `SETTINGS_TAG`."""
    defaults = _defaults()
    shown = {name: value for name, value in settings.items() if _is_shown(name, value, defaults)}
    return shown, {name: str(value) for name, value in settings.items() if name not in shown}


def json_tag(entries: Mapping[str, str]) -> str:
    """JSON of many entries for one tag; the longest are left out of a text that is too long for a tag."""
    kept = dict(entries)
    while len(text := json.dumps(kept)) > MAX_JSON:
        del kept[max(kept, key=lambda name: len(kept[name]))]
    return text


def parameters_of(params: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """All settings of a run, as strings. tags: under their stored names."""
    return {**_mapping(tags.get(SETTINGS_TAG, "{}")), **params}


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
