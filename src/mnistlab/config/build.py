"""The only place that instantiates: a config node names a callable and its arguments, the run adds the others.

The checks need neither Keras nor TensorFlow: the signatures of mnistlab's callables are read from their source text,
those of other packages are inspected when they are built.
"""

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from mnistlab.config import Config, ConfigError, model_values, pretrained_bases, suggest, trust
from mnistlab.config.options import callback_problems
from mnistlab.config.trust import FUNCTION_GETTERS, nodes

PACKAGE = Path(__file__).resolve().parents[1]
ASSUMED_STEPS = 1000  # of an epoch, to check a schedule before the data are loaded
# Where the callables of older configurations are now.
MOVED = {
    "mnistlab.sources.": "mnistlab.data.sources.",
    "mnistlab.directory.": "mnistlab.data.folders.source.",
    "mnistlab.models.": "mnistlab.training.models.",
}
# The arguments of a model and of a schedule that the run adds to those in the YAML file; what a schedule is.
RUN_ARGUMENTS = {"input_shape", "num_outputs", "output_activation"}
SCHEDULE = "keras.optimizers.schedules.LearningRateSchedule"
BUILT = {"model": "keras.Model", "optimizer": "keras.optimizers.Optimizer", "source": "mnistlab.data.images.Images"}
SCHEDULE_ARGUMENTS = {"learning_rate", "total_steps", "steps_per_epoch"}


def build(node: Mapping[str, Any], name: str, **run_arguments: Any) -> Any:
    """Call the callable that `node['_target_']` names with the arguments of the node and of the run.

    Args:
        node: plain mapping with `_target_`; nested nodes with a `_target_` are built first.
        name: the node's place in the configuration, for error messages ('optimizer').

    Raises:
        ConfigError: the callable may not be called, cannot be found or imported (with the cause), rejects its
            arguments, or builds something else than its place needs.
    """
    if "_target_" not in node:
        raise ConfigError(f"{name} must name a callable in {name}._target_. Received: {dict(node)}.")
    for path, target in _targets(node, name):
        refuse_moved(target, path)
    trust.refuse_unsafe(node, name)
    for path, inner in nodes(node, name):
        locate(inner["_target_"], path)
        if inner["_target_"] in FUNCTION_GETTERS:
            locate(inner["path"], path, "path")
    built = _instantiated(node, name, run_arguments)
    if name in BUILT and not isinstance(built, locate(BUILT[name], name)):
        raise ConfigError(f"{name}._target_={node['_target_']} must return a {BUILT[name]}. Received: {built!r:.200}.")
    return built


def _instantiated(node: Mapping[str, Any], name: str, run_arguments: Mapping[str, Any]) -> Any:
    try:
        return instantiate(dict(node), **run_arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigError):
            raise cause from error
        raise ConfigError(_refusal(node, name, cause)) from error


def check_without_data(config: Config) -> None:
    """Build what needs no data, so that a wrong argument is found before they are loaded: the optimizer and layers of
    Keras that the model lists. It draws random numbers: seed afterwards.

    Raises:
        ConfigError: as `build`.
    """
    layers = config.model.get("layers")
    listed = {f"model.layers.{index}": layer for index, layer in enumerate(layers if isinstance(layers, list) else ())}
    for name, node in {"optimizer": config.optimizer, **listed}.items():
        targets = [target for _, target in _targets(node, name)]
        if targets and all(target.startswith("keras.") for target in targets):
            build(node, name)
    if str(config.schedule.get("_target_")).startswith(("keras.", "mnistlab.")):
        _build_schedule(config, ASSUMED_STEPS)


def build_optimizer(config: Config, steps_per_epoch: int) -> Any:
    """The optimizer, with the learning rate that `schedule` gives if one is chosen.

    Raises:
        ConfigError: as `build`; the optimizer takes no learning rate or has none to start from.
    """
    if not config.schedule:
        return build(config.optimizer, "optimizer")
    return build({**config.optimizer, "learning_rate": _build_schedule(config, steps_per_epoch)}, "optimizer")


def _build_schedule(config: Config, steps_per_epoch: int) -> Any:
    """The learning-rate schedule of `schedule`. Of the run's arguments its callable gets those that it takes; Keras's
    classes have other names for them."""
    target, optimizer = config.schedule["_target_"], config.optimizer.get("_target_", "")
    _check_start(config, optimizer)
    rate, total_steps = config.optimizer["learning_rate"], steps_per_epoch * config.fit.epochs
    offered = {"learning_rate": rate, "total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    offered |= {"initial_learning_rate": rate, "decay_steps": total_steps}
    takes = argument_names(target) or set()
    given = {name: value for name, value in offered.items() if name in takes and name not in config.schedule}
    asked = any(override.lstrip("+").startswith("optimizer.learning_rate=") for override in config.overrides)
    if asked and not {"learning_rate", "initial_learning_rate"} & set(given):
        raise ConfigError(
            f"optimizer.learning_rate has no effect on this schedule, {target}: its own settings decide. "
            f"Received: optimizer.learning_rate={rate}. Leave it out, or set the schedule's."
        )
    schedule = build(config.schedule, "schedule", **given)
    if not isinstance(schedule, locate(SCHEDULE, "schedule")):
        raise ConfigError(f"schedule._target_={target} must return a {SCHEDULE}. Received: {schedule!r}.")
    return schedule


def _check_start(config: Config, optimizer: str) -> None:
    known = argument_names(optimizer)
    if known is not None and "learning_rate" not in known:
        raise ConfigError(
            "schedule needs an optimizer with the argument learning_rate. "
            f"Received: {optimizer}, which has none. Set schedule=constant."
        )
    if not isinstance(config.optimizer.get("learning_rate"), int | float):
        raise ConfigError(
            "schedule needs the learning rate from which it starts. "
            f"Received: {optimizer} without one. Add +optimizer.learning_rate=0.001."
        )


def locate(target: str, name: str, key: str = "_target_") -> Any:
    """The object that a dotted path names.

    name, key: the node's place in the configuration and the path's name there, for error messages.

    Raises:
        ConfigError: names the module that is missing, or the names that the module has.
    """
    refuse_moved(target, name)
    parts = target.split(".")
    for split in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:split])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
                continue
            raise ConfigError(f"{name}.{key}={target}: importing {module_name} failed: {error}.") from error
        except Exception as error:
            raise ConfigError(f"{name}.{key}={target}: importing {module_name} failed: {error!r}.") from error
        found = _attribute(found, parts[split:], target, f"{name}.{key}")
        if target not in FUNCTION_GETTERS and (problem := trust.origin_problem(found, f"{name}.{key}", target)):
            raise ConfigError(problem)
        return found
    raise ConfigError(f"{name}.{key}={target}: there is no module {parts[0]!r} in this environment.")


def refuse_moved(target: str, name: str) -> None:
    """Raise a ConfigError with the new path if this callable has moved to another module."""
    for old, new in MOVED.items():
        if target.startswith(old):
            raise ConfigError(f"{name}._target_={target} has moved. Write {name}._target_={target.replace(old, new)}.")


def _attribute(found: Any, rest: list[str], target: str, setting: str) -> Any:
    for part in rest:
        if not hasattr(found, part):
            public = [word for word in dir(found) if not word.startswith("_")]
            where = getattr(found, "__name__", target)
            raise ConfigError(f"{setting}={target}: {where} has no {part!r}.{_near(part, public)}")
        found = getattr(found, part)
    return found


def _near(word: str, choices: list[str]) -> str:
    hint = suggest(word, choices)
    return hint if len(choices) <= 30 else hint.split(" Choices:")[0]


def _targets(node: Any, name: str) -> Iterator[tuple[str, str]]:
    for path, inner in nodes(node, name):
        yield path, inner["_target_"]


def _refusal(node: Mapping[str, Any], name: str, cause: BaseException) -> str:
    """Why a callable rejected its arguments, with the arguments that it takes if one of them is unknown."""
    message = str(cause).strip().split("\nfull_key:")[0].strip()
    located = re.search(r"Error in call to target '([^']+)'", message)
    message = re.sub(r"^Error in call to target '[^']+':\s*", "", message)
    error = re.match(r"(\w*(?:Error|Exception|Warning))\((.*)\)$", message, re.DOTALL)
    reason = error.group(2).strip("'\"") if error else message
    target = located.group(1) if located else node["_target_"]
    unknown = [
        f"{path}.{key} is not an argument of {inner['_target_']}.{suggest(key, known)}"
        for path, inner in nodes(node, name)
        for key, known in _unknown_arguments(inner)
    ]
    return "\n".join(unknown) or f"{name}: {target} rejected its arguments: {reason}"


def _unknown_arguments(node: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    known = argument_names(node["_target_"])
    if known is not None:
        yield from ((key, sorted(known)) for key in node if not key.startswith("_") and key not in known)


def argument_names(target: str) -> set[str] | None:
    """The keyword arguments of an importable callable; None if it cannot be inspected. Keras's optimizers and layers
    take `**kwargs` for their base class's arguments, so those are gathered along the inheritance."""
    found = locate(target, "_target_")
    callables = [found]
    if inspect.isclass(found):
        callables = [vars(base)["__init__"] for base in found.__mro__[:-1] if "__init__" in vars(base)]
    names: set[str] = set()
    for function in callables:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return None
        names |= {entry.name for entry in parameters if entry.kind in (entry.POSITIONAL_OR_KEYWORD, entry.KEYWORD_ONLY)}
        if not any(entry.kind is entry.VAR_KEYWORD for entry in parameters):
            break
    return names - {"self"}


def argument_problems(config: Config) -> list[str]:
    """Misspelt, missing, superfluous or unusable arguments of mnistlab's callables, found without importing them.

    A number where a model takes several becomes a list: model.units=128.
    """
    problems = list(callback_problems(config.callbacks, config.config_dir))
    groups = {
        "source": (config.source, set()),
        "model": (config.model, RUN_ARGUMENTS),
        "optimizer": (config.optimizer, set()),
    }
    groups |= {"schedule": (config.schedule, SCHEDULE_ARGUMENTS)} if config.schedule else {}
    for name, (node, given) in groups.items():
        target = node.get("_target_")
        if not isinstance(target, str):
            problems.append(f"{name}._target_ must name a callable, as in package.module.function.")
        elif target.startswith("mnistlab."):
            refuse_moved(target, name)
            problems += _target_problems(name, target, node, given)
            if name == "model":
                problems += model_values.value_problems(node)
                problems += pretrained_bases.conflicts(config) if target == pretrained_bases.TARGET else ()
    return problems


def trust_problems(config: Config, named: Iterable[str]) -> list[str]:
    """Callables that the configuration must not name, given the packages that the user trusts."""
    fit = {"fit.loss": config.fit.loss, "fit.metrics": config.fit.metrics}
    groups = {"source": config.source, "model": config.model, "optimizer": config.optimizer}
    groups |= {"schedule": config.schedule, "callbacks": config.callbacks, **fit}
    return list(trust.target_problems(groups, named))


def _target_problems(name: str, target: str, node: Mapping[str, Any], given: set[str]) -> Iterator[str]:
    module, _, function = target.rpartition(".")
    functions = _functions_in(module)
    if function not in functions:
        yield f"{name}._target_={target}: there is no such function.{suggest(function, functions)}"
        return
    names, required = functions[function]
    for key in node:
        if not key.startswith("_") and key not in names:
            yield f"{name}.{key} is not an argument of {target}.{suggest(key, names - given, f'{name}.')}"
    for key in sorted(required - given - set(node)):
        yield f"{name}.{key} must be given: {name}.{key}=VALUE."


@functools.cache
def _functions_in(module: str) -> dict[str, tuple[set[str], set[str]]]:
    """Function name -> (its arguments, those without a default), read from the text of a module of mnistlab."""
    file = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not file.is_file():
        return {}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = {}
    for entry in tree.body:
        if isinstance(entry, ast.FunctionDef) and not entry.name.startswith("_"):
            arguments = entry.args
            positional = [argument.arg for argument in arguments.args]
            keyword_only = [argument.arg for argument in arguments.kwonlyargs]
            optional = positional[len(positional) - len(arguments.defaults) :]
            optional += [
                name for name, default in zip(keyword_only, arguments.kw_defaults, strict=True) if default is not None
            ]
            names = {*positional, *keyword_only}
            found[entry.name] = (names, names - set(optional))
    return found
