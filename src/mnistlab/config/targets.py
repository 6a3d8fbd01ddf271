"""Imports everything that a configuration names, and compares arguments with signatures, before the data are loaded."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mnistlab.config import Config, ConfigError, suggest
from mnistlab.config.build import RUN_ARGUMENTS, SCHEDULE_ARGUMENTS, locate
from mnistlab.config.trust import FUNCTION_GETTERS, nodes


def check_targets(config: Config) -> None:
    """Import the callables and compare the arguments that they are given. It builds nothing.

    Raises:
        ConfigError: all problems: a callable cannot be imported, does not take an argument, or needs one more.
    """
    of_schedule = {*SCHEDULE_ARGUMENTS, "initial_learning_rate", "decay_steps"}
    groups = {
        "source": (config.source, set()),
        "model": (config.model, RUN_ARGUMENTS),
        "optimizer": (config.optimizer, {"learning_rate"} if config.schedule else set()),
        "schedule": (config.schedule, of_schedule),
        "callbacks": (config.callbacks, set()),
        "fit.loss": (config.fit.loss, {"name"}),
        "fit.metrics": (config.fit.metrics, {"name"}),
    }
    problems: list[str] = []
    for group, (tree, given) in groups.items():
        for name, node in nodes(tree, group):
            run_adds = given if name == group else set()
            allowed = {"name"} if group.startswith("fit.") else set()
            problems += _problems(name, node, run_adds, allowed, required=group == "model" and name == group)
    if problems:
        raise ConfigError(problems)


def _problems(name: str, node: Mapping[str, Any], run_adds: set[str], allowed: set[str], required: bool) -> list[str]:
    """required: whether the callable must take what the run adds."""
    target = node["_target_"]
    if target.startswith("mnistlab."):  # compared with their source text before
        return []
    try:
        found = locate(target, name)
        if target in FUNCTION_GETTERS and isinstance(path := node.get("path"), str):
            locate(path, name, "path")
        return list(_argument_problems(name, node, found, run_adds, allowed, required))
    except ConfigError as error:
        return error.problems


def _argument_problems(
    name: str, node: Mapping[str, Any], found: Any, run_adds: set[str], allowed: set[str], required: bool
) -> Iterator[str]:
    parameters = _parameters(found)
    if parameters is None:
        return
    names = {entry.name for entry in parameters if entry.kind in (entry.POSITIONAL_OR_KEYWORD, entry.KEYWORD_ONLY)}
    given = {key for key in node if not key.startswith("_")}
    if not any(entry.kind is entry.VAR_KEYWORD for entry in parameters):
        for key in sorted(given - names - allowed):
            yield f"{name}.{key} is not an argument of {node['_target_']}.{suggest(key, names - run_adds)}"
        if required and (missing := sorted(run_adds - names)):
            must = ", ".join(sorted(run_adds))
            yield f"{name}: {node['_target_']} must take the arguments {must}. Missing: {', '.join(missing)}."
    yield from _no_numbers(name, node, parameters)
    if "_args_" in node or node.get("_partial_"):
        return
    for entry in parameters:
        if entry.name in names and entry.default is entry.empty and entry.name not in given | run_adds:
            yield f"{name}.{entry.name} must be given: +{name}.{entry.name}=VALUE."


def _no_numbers(name: str, node: Mapping[str, Any], parameters: list[inspect.Parameter]) -> Iterator[str]:
    """Arguments whose default is a number and that are given a boolean, or, by one of Keras, a text. Keras's callbacks
    take texts for some (`profile_batch="10,20"`), and `verbose=true`."""
    texts = node["_target_"].startswith("keras.") and not name.startswith("callbacks.")
    for entry in parameters:
        value = node.get(entry.name)
        wrong = (isinstance(value, bool) and entry.name != "verbose") or (isinstance(value, str) and texts)
        if wrong and type(entry.default) in (int, float):
            yield f"{name}.{entry.name} must be a number, as its default {entry.default}. Received: {value}."


def _parameters(found: Any) -> list[inspect.Parameter] | None:
    """What a function or a class's `__init__` takes; None if it cannot be inspected. Keras's classes have a `__new__`
    that takes everything."""
    is_class = inspect.isclass(found)
    if is_class:
        found = next((vars(base)["__init__"] for base in found.__mro__[:-1] if "__init__" in vars(base)), None)
    try:
        parameters = list(inspect.signature(found).parameters.values()) if found else []
    except (TypeError, ValueError):
        return None
    return parameters[1:] if is_class else parameters
