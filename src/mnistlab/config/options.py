"""Which options of a group have a setting: the advice for a setting of an option that was not chosen."""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mnistlab.config.schema import conf_folder, flatten

GROUPS = ("source", "model", "optimizer", "schedule", "callbacks")
LISTS = ("fit.metrics", "save.formats", "sweep.axes", "sweep.targets", "model.units", "model.filters", "model.layers")
ONE_OPTION_GROUPS = ("source", "data", "model", "optimizer", "schedule", "tracking")
OPTION_LIST = re.compile(r"\+*([\w/]+)(?:@[\w.]*)?=\[(.*)\]")
MAX_LISTED = 5


def config_folders(config_dir: str | None = None) -> list[Path]:
    """The folders with config groups: mnistlab's, and the user's if there is one."""
    users = [Path(config_dir).resolve()] if config_dir and Path(config_dir).is_dir() else []
    return [conf_folder(), *users]


def option_advice(key: str, overrides: Sequence[str], config_dir: str | None = None) -> str:
    """'It is a setting of optimizer=momentum. Write: ...' if options that are not chosen have the setting, else ''.

    Args:
        key: of the unknown setting: 'callbacks.early_stopping.patience', also without its group ('patience').
        overrides: of the command line: the value that was given and the chosen callbacks.
        config_dir: the user's folder of config groups.
    """
    parent, _, last = key.rpartition(".")
    words = (last, key.split(".")[1]) if key.startswith("callbacks.") else (last,)
    folders = tuple(config_folders(config_dir))
    found = {group: _settings_of(group, words, folders) for group in GROUPS}
    settings = {f"{group}.{name}": options for group, names in found.items() for name, options in names.items()}
    known = [name for name in settings if name == key or (not parent and name.rpartition(".")[2] == last)]
    callback = ".".join(key.split(".")[:2])
    beside = [name for name in settings if name.startswith(f"{callback}.")] if key.startswith("callbacks.") else []
    if not known and not beside:
        return ""
    added = "" if known else "+"
    near = [] if known else difflib.get_close_matches(key, beside, n=1, cutoff=0.85)
    setting = (known or near or [key])[0]
    options = settings[(known or beside)[0]]
    group = setting.split(".")[0]
    given = next((one.partition("=")[2] for one in overrides if one.lstrip("+~").partition("=")[0] == key), "VALUE")
    chosen = _chosen_callbacks(overrides)
    if added and not near and callback.removeprefix("callbacks.") in chosen:
        passed = f"+{setting}={given or 'VALUE'}"
        return f"{setting} is not among the settings of {'+'.join(chosen)}. To pass it on to the callback: {passed}."
    several = ", ".join(options[:MAX_LISTED]) + (", ..." if len(options) > MAX_LISTED else "")
    option = next((one.partition("=")[2] for one in overrides if one.partition("=")[0] == group), "")
    like = (difflib.get_close_matches(option, options, n=1, cutoff=0.5) or options)[0]  # mnist, not mnist_5k
    write = f"{_choice(group, like, overrides)} {'' if near else added}{setting}={given or 'VALUE'}"
    return f"{setting} is a setting of {group}={several}, which is not chosen. Write: {write}."


def group_advice(option: str, group: str = "", config_dir: str | None = None) -> str:
    """' It is an option of callbacks: callbacks=early_stopping.' for the name of an option of another group than this,
    in any case; else ''."""
    for file in (file for folder in config_folders(config_dir) for file in sorted(folder.glob("*/*.yaml"))):
        is_other = file.parent.name != group and file.stem not in ("default", "none")
        if is_other and file.stem == option.lower():
            return f" It is an option of {file.parent.name}: {file.parent.name}={file.stem}."
    return ""


def several_values_advice(key: str, values: str) -> str:
    """What to write for several values without --multirun: 'optimizer=sgd,adam'."""
    rule = f"{key}={values} has several values without --multirun."
    compare = f"To compare them: --multirun {key}={values}."
    if key == "callbacks" or key in LISTS:
        return f"{rule} To use them together: '{key}=[{values}]'. {compare}"
    return f"{rule} {compare}"


def flag_advice(flag: str, words: Sequence[str], known: Sequence[str]) -> str:
    """What to write for a flag that does not exist: --epochs 5 is fit.epochs=5."""
    name, equals, value = flag.lstrip("-").partition("=")
    following = words[words.index(flag) + 1 :] if flag in words else []
    value = value if equals else next((word for word in following[:1] if "=" not in word), "VALUE")
    name = name.replace("-", "_")
    near = [key for key in known if name in (key, key.rpartition(".")[2]) or (name == "lr" and "learning_rate" in key)]
    hint = f" Did you mean {near[0]}={value}?" if near else ""
    return f"{flag} is not a flag; see --help. Settings are written without dashes: NAME=VALUE.{hint}"


def mapping_advice(group: str) -> str:
    """What to write for a group that is given a mapping, which Hydra would merge into the chosen option."""
    single = f"settings one by one ({group}.NAME=VALUE, or +{group}.NAME=VALUE to add one)"
    own = f"a class without an option has a file of its own: --config-dir FOLDER with FOLDER/{group}/NAME.yaml"
    return f"{group} takes the name of an option, {group}=OPTION, and {single}; {own}. Received: a mapping."


def option_lists(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Group -> its options, of the overrides that give a group a list: 'experiment=[small,wide]'."""
    matches = [found for override in overrides if (found := OPTION_LIST.fullmatch(override))]
    return {found[1]: [name.strip(" '\"") for name in found[2].split(",") if name.strip()] for found in matches}


def one_option_problems(
    choices: Mapping[str, str | None], lists: Mapping[str, Sequence[str]], overrides: Sequence[str]
) -> Iterator[str]:
    """Groups that have a list of options, which Hydra would merge into one. It names no choice for them."""
    for group in ONE_OPTION_GROUPS:
        if any(override.lstrip("+").startswith(f"{group}={{") for override in overrides):
            yield mapping_advice(group)
            continue
        removed = any(override.split("=")[0] == f"~{group}" for override in overrides)
        if choices.get(group) or removed:
            continue
        names = lists.get(group)
        received = "a list in a YAML file" if names is None else f"{group}=[{','.join(names)}]"
        advice = f"Write {group}={names[0] if names else 'OPTION'}"
        if group != "tracking" and (names is None or len(names) > 1):
            several = ",".join(names or ["OPTION", "OPTION"])
            advice = f"{advice}, or to compare them: --multirun {group}={several}"
        yield (
            f"{group} takes one option, not a list: the settings of several options would be merged into one. "
            f"Received: {received}. {advice}."
        )


def callback_problems(callbacks: Mapping[str, Any], config_dir: str | None = None) -> Iterator[str]:
    """Callbacks that have settings but were not chosen, as after +callbacks.early_stopping.patience=5 alone."""
    for name, node in callbacks.items():
        if not isinstance(node, Mapping):
            yield f"callbacks.{name} must be a mapping with _target_, the callback's class. Received: {node}."
        elif "_target_" not in node and any(
            (folder / "callbacks" / f"{name}.yaml").is_file() for folder in config_folders(config_dir)
        ):
            yield f"callbacks.{name} has settings but is not chosen. Write callbacks={name} before them."
        elif not isinstance(node.get("_target_"), str):
            yield f"callbacks.{name}._target_ must name the callback's class, as in keras.callbacks.EarlyStopping."


def _chosen_callbacks(overrides: Sequence[str]) -> list[str]:
    """The callbacks that the command line names last: callbacks=reduce_lr, callbacks=[early_stopping,reduce_lr]."""
    given = [one.partition("=")[2].strip("[]") for one in overrides if one.partition("=")[0] == "callbacks"]
    return [name.strip() for name in given[-1].split(",")] if given else []


def _choice(group: str, option: str, overrides: Sequence[str]) -> str:
    chosen = [name for name in _chosen_callbacks(overrides) if name not in ("", "none", "null")]
    return f"'{group}=[{','.join([*chosen, option])}]'" if group == "callbacks" and chosen else f"{group}={option}"


@functools.cache
def _settings_of(group: str, words: tuple[str, ...], folders: tuple[Path, ...]) -> dict[str, list[str]]:
    """Dotted setting without its group -> the options of the group whose YAML file has it. Only files that contain one
    of the words: to parse them all takes a tenth of the answer to a typo."""
    found: dict[str, list[str]] = {}
    for file in (file for folder in folders for file in sorted((folder / group).glob("*.yaml"))):
        text = file.read_text(encoding="utf-8", errors="replace")
        if not any(word in text for word in words):
            continue
        try:
            content: Any = yaml.safe_load(text)
        except yaml.YAMLError:  # composing it says what is wrong
            continue
        if not isinstance(content, dict):
            continue
        content.pop("defaults", None)
        settings = content.get(group, content)
        lists = (
            [key for key, value in settings.items() if isinstance(value, list)] if isinstance(settings, dict) else []
        )
        names = [*flatten(settings), *map(str, lists)]
        for name in (name for name in names if name and not name.startswith("_") and "._" not in name):
            options = found.setdefault(name, [])
            if file.stem not in options:
                options.append(file.stem)
    return found
