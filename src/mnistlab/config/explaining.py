"""Explains errors of Hydra and OmegaConf in the user's terms: the nearest name, the choices, what to write instead."""

import re
from pathlib import Path

from hydra import compose
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import Mark, MarkedYAMLError, YAMLError

from mnistlab.config import conf_folder, flatten, hydra_internals, options, register, suggest, trust
from mnistlab.config.checks import AUGMENTATIONS, NO_AUGMENTATIONS, no_such_setting
from mnistlab.config.override_mistakes import form_problem
from mnistlab.config.yaml_files import defaults_problem, no_mapping, unreadable_file

COMPOSING_ERRORS = (
    *(HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError, RecursionError),
    *(TypeError, AttributeError, LookupError, AssertionError),  # of Hydra and PyYAML for odd files
)
EXTRAS: dict[tuple, str] = {("hydra/launcher", "joblib"): "joblib"}  # group and option -> the extra that brings it
HYDRAS_NOTES = ("full_key:", "object_type=", "reference_type=")


def explain(error: Exception, overrides: list[str], config_dir: str | None = None) -> str:
    """An error of Hydra or OmegaConf in the user's terms, with the choices, also those of the user's folder."""
    message, cause = str(error), str(error.__cause__ or "")
    if "maximum recursion depth" in message:
        return _odd(error, config_dir)
    if isinstance(error, YAMLError | UnicodeDecodeError):
        return _unreadable(error, config_dir)
    if "Key 'trust' not in" in message:
        return trust.IN_FILE
    if wrong := form_problem(error, overrides, lambda: known_keys([], config_dir)):
        return wrong
    if found := re.search(r"In '([^']+)': Overriding hydra.searchpath", message):
        file = _file_of(found[1], config_dir)
        return f"hydra.searchpath must not stand in a file. Write --config-dir FOLDER. Received: in {file}."
    if re.search("Could not (?:find|load) '", message):
        return _no_such_option(message, overrides, config_dir)
    if found := re.search(r"Ambiguous value for argument '([^'=]+)=([^']*)'", message):
        return options.several_values_advice(found[1], found[2])
    if found := re.search(r"Could not override '([^'@]+)", message):
        return _no_such_key(found[1], overrides, config_dir)
    if found := re.search(r"Error merging override (.*)", message):
        reason = re.sub(r"^field '.*' is not Optional", "null is not allowed here", cause.split("\n")[0])
        if "Cannot merge DictConfig with ListConfig" in reason:
            key, _, value = found[1].partition("=")
            return f"{key} is a list: write '{key}=[{value}]'. Received: {found[1]}."
        if wrong := _not_a_mapping(reason, found[1]):
            return wrong
        if "could not be converted to Integer" in reason:
            return f"{found[1].partition('=')[0]} must be a whole number, in digits only. Received: {found[1]}."
        if reason == "null is not allowed here":
            return f"{found[1].partition('=')[0]} must not be null. Received: {found[1]}."
        return f"{found[1]} does not fit: {reason}."
    if found := re.search(
        r"In '([^']+)': \w+ raised while composing config:\s*(.*?)\s*full_key: ?(\S*)", message, re.DOTALL
    ):
        return _wrong_in_file(found[1], " ".join(found[2].split()), found[3], config_dir)
    if isinstance(error, OverrideParseException):
        key, equals, value = error.override.partition("=")
        if not equals and re.fullmatch(r"[\w.+~@/]+", key):
            return f"{key} needs a value: {key}=VALUE, or to remove it: ~{key}."
        quoted = "Quote an argument that has brackets, braces or spaces: 'callbacks=[early_stopping,reduce_lr]'."
        if "{" in value and value[0] not in "{[\"'" and '"' not in value:  # a path of Keras: {epoch}.keras
            quoted = f"Quote a value with braces twice: '{key}=\"{value}\"'."
        said = message.splitlines()[0]
        said = "" if "Exception" in said else f": {said}"  # a class of the parser's
        return f"{error.override} cannot be read as key=value{said}. {quoted}"
    lines = [line.strip() for line in message.splitlines() if "hydra.cc" not in line]
    said = " ".join(line for line in lines if line and not line.startswith(HYDRAS_NOTES))
    return said if isinstance(error, HydraException | OmegaConfBaseException) and said else _odd(error, config_dir)


def _no_such_option(message: str, overrides: list[str], config_dir: str | None) -> str:
    """Hydra could not find the file of an option."""
    if (found := re.search(r"Could not find '(hydra/\w+)/(\w+)'", message)) and (extra := EXTRAS.get(found.groups())):
        given = next((word for word in overrides if word.endswith(f"={found[2]}")), found[2])
        return f"{found[2]} is not installed: pip install 'mnistlab[{extra}]'. Received: {given}."
    if found := re.search(r"In '(\w+/\w+)': Could not find '\w+/(\w+)/(\w+)'", message):
        file = _file_of(found[1], config_dir)
        return (
            f"{file}: a file of a group chooses an option of another group with `- override /{found[2]}: {found[3]}` "
            f"in its defaults. Received: `- {found[2]}: {found[3]}`."
        )
    if found := re.search(r"Could not (?:find|load) '(?:(.+)/)?([^'/]+)'", message):
        listed = re.findall(r"^\t(\S+)$", message, re.MULTILINE)
        folders = [folder / (found[1] or "") for folder in options.config_folders(config_dir)]
        choices = listed or [file.stem for folder in folders for file in folder.glob("*.yaml")]
        hint = suggest(found[2], choices)
        elsewhere = "" if "Did you mean" in hint else options.group_advice(found[2], found[1] or "", config_dir)
        return f"{found[1]}={found[2]} is not an option.{elsewhere or hint}"
    return message


def _odd(error: Exception, config_dir: str | None) -> str:
    """An error without a message of its own, or one of Python's: what it comes from, and the file."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)  # type: ignore[arg-type]
    folders = options.config_folders(config_dir)[1:]
    if wrong := defaults_problem(folders):
        return wrong
    file = unreadable_file(folders)
    told = (re.split(r"[\n;]", str(one))[0] for one in reversed(causes) if isinstance(one, COMPOSING_ERRORS[:4]))
    said = next(
        (f" Received: {text.rstrip('.')}." for text in told if text not in ("", "None") and "$" not in text), ""
    )
    if any(isinstance(one, RecursionError) or "maximum recursion" in str(one) for one in causes):
        said = " Received: too many lists or mappings in one another" + (
            "." if file else ", or a file in its own defaults."
        )
    rule = "must be settings: names with text, numbers, true, false, null, lists or mappings of them."
    return f"{file or 'The configuration'} {rule}{said}"


def _no_such_key(key: str, overrides: list[str], config_dir: str | None) -> str:
    if key.startswith("data.augmentation."):
        elsewhere = NO_AUGMENTATIONS.get(key.rpartition(".")[2])
        if elsewhere:
            return f"{key} is not an augmentation: {elsewhere}."
        hint = suggest(key.rpartition(".")[2], AUGMENTATIONS)
        return f"{key} is not set yet: to add an augmentation, write +{key}=VALUE.{hint}"
    if key in options.ONE_OPTION_GROUPS and any(one.startswith(f"{key}={{") for one in overrides):
        return options.mapping_advice(key)
    known = known_keys(overrides, config_dir)
    if key in known and "." in key:
        given = next((one for one in overrides if one.partition("=")[0] == key), f"{key}=VALUE")
        return f"{key} has no such entries yet: to add them, write '+{given}'."
    advice = options.option_advice(key, overrides, config_dir)
    if advice and not any(name.rpartition(".")[2] == key for name in known):
        return advice
    message = no_such_setting(key, known)
    if " Did you mean" not in message:
        message += options.group_advice(key.rpartition(".")[2], config_dir=config_dir)
    group = key.split(".")[0]
    if group in options.GROUPS and "." in key and (" Did you mean" not in message or f"mean {group}." in message):
        return f"{message} To pass {group} an additional argument, write +{key}=VALUE."
    return message


def known_keys(overrides: list[str], config_dir: str | None) -> list[str]:
    """All dotted settings of the chosen options, and the groups themselves."""
    register()
    folders = [entry for folder in options.config_folders(config_dir) for entry in folder.iterdir() if entry.is_dir()]
    groups = list(dict.fromkeys(entry.name for entry in folders if entry.name != "hydra"))
    chosen = [override for override in overrides if override.split("=")[0] in groups]
    for choices in (chosen, []):
        try:
            with hydra_internals.composing(str(conf_folder())):
                composed = compose("train", overrides=[*choices, *search_override(config_dir)])
        except COMPOSING_ERRORS:
            continue
        settings = flatten(OmegaConf.to_container(composed, resolve=False))
        return [*settings, *groups]
    return groups


def search_override(config_dir: str | None) -> list[str]:
    """The override that makes Hydra search the user's folder of config groups too."""
    return [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []


def _unreadable(error: YAMLError | UnicodeDecodeError, config_dir: str | None) -> str:
    """Why a YAML file cannot be read: the file, the line and what is wrong there."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, MarkedYAMLError) and mark is not None:
        problem = error.problem or "it is no YAML"
        tab = " Indent with spaces: YAML takes no tabs." if _is_tab(mark) else ""
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: {problem}.{tab}"
    for file in (file for folder in options.config_folders(config_dir)[1:] for file in sorted(folder.rglob("*.yaml"))):
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError as wrong:
            return f"{file} must be text in UTF-8. Received: {wrong.reason} at byte {wrong.start}. Save it as UTF-8."
    return f"A YAML file cannot be read: {' '.join(str(error).split())}."


def _is_tab(mark: Mark) -> bool:
    """Whether there is a tab at this place of a file. libyaml does not say which character it could not read."""
    try:
        line = Path(mark.name).read_text(encoding="utf-8").splitlines()[mark.line]
    except (OSError, ValueError, IndexError):
        return False
    return line[mark.column : mark.column + 1] == "\t"


def _not_a_mapping(reason: str, place: str) -> str:
    """The message for one value or a list where settings belong, as in `fit: 3`, or ''. place: key=value, or a key."""
    if found := re.search(r"(\w+) is not a subclass of (\w+)Config", reason):
        return f"{found[2].lower()} must be a mapping of settings: names and values. Received: {_kind(found[1])}."
    if found := re.search(r"Cannot assign (\w+) to Dict|(\w+) is not a subclass of Dict", reason):
        key, equals, value = place.partition("=")
        received = value if equals else _kind(found[1] or found[2])
        return f"{key} must be a mapping of settings: names and values. Received: {received}."
    return ""


def _kind(python_type: str) -> str:
    """A type of Python in words: 'a list' for list."""
    words = {"list": "a list", "str": "a text", "dict": "a mapping", "bool": "true or false"}
    return words.get(python_type, "a number" if python_type in ("int", "float") else python_type)


def _file_of(config: str, config_dir: str | None) -> Path:
    """The YAML file of 'experiment/mine': the user's, else mnistlab's."""
    files = [folder / f"{config}.yaml" for folder in reversed(options.config_folders(config_dir))]
    return next((file for file in files if file.is_file()), files[0])


def _wrong_in_file(config: str, reason: str, key: str, config_dir: str | None) -> str:
    """What is wrong with a setting in a YAML file, with the file."""
    file = _file_of(config, config_dir)
    place = f" In {file}."
    if kind := no_mapping(file):
        return f"{file} must be a mapping of settings: names and values. Received: {kind}."
    package = f" Its first line must be `# @package _global_`, which says that it has settings of all groups.{place}"
    if wrong := _not_a_mapping(reason, key or config):
        return f"{wrong}{place}"
    if not reason.startswith("Key '"):
        where = f"{key} does not fit" if key and "=" not in key else config
        return f"{where}: {reason}.{place}"
    if key == config.split("/")[0]:
        return f"{config} has settings of {key}, which has none.{package}"
    if key in ("global", "_global"):
        return f"{key} is not a package.{package}"
    return f"{no_such_setting(key, known_keys([], config_dir))}{place}"
