"""Which callables a configuration may name: those of Keras and mnistlab that build what their place needs, and those
of packages that the user named on the command line or in MNISTLAB_TRUST. Decided by name, before anything is imported.
"""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mnistlab.config.schema import ConfigError

VARIABLE = "MNISTLAB_TRUST"
MAX_LENGTH = 200
FUNCTION_GETTERS = ("hydra.utils.get_method", "hydra.utils.get_object", "hydra.utils.get_class")
KERAS_PREFIXES = ("tensorflow.keras.", "keras.")
# Packages that are installed with mnistlab and build nothing of an experiment. `trust` does not help them.
NEVER = {
    *sys.stdlib_module_names,
    *("pip", "setuptools", "pkg_resources", "wheel", "numpy", "pandas", "scipy", "sklearn", "joblib", "PIL", "h5py"),
    *("hydra", "hydra_plugins", "omegaconf", "antlr4", "yaml", "mlflow", "sqlalchemy", "alembic", "flask", "git"),
    *("matplotlib", "seaborn", "requests", "urllib3", "cloudpickle", "dill", "absl", "rich", "mlxtend", "pytest"),
    *("_pytest", "uvicorn", "gunicorn", "docker", "jinja2", "tf_keras", "tensorboard", "google", "jax", "jaxlib"),
} - {"__main__"}
NOT_OF_USERS = {*NEVER, "keras", "tensorflow", "mnistlab"}
# What each place of the configuration needs: in words, Keras's modules that have it, mnistlab's modules that have it.
PLACES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "source": ("a data source", (), ("data.sources", "data.folders.source")),
    "model": ("a model", (), ("training.models", "training.resnet", "training.pretrained")),
    "optimizer": ("an optimizer", ("optimizers",), ()),
    "schedule": ("a learning-rate schedule", ("optimizers.schedules",), ("training.schedules",)),
    "callback": ("a callback", ("callbacks",), ()),
    "loss": ("a loss", ("losses",), ()),
    "metric": ("a metric", ("metrics",), ()),
    "layer": ("a layer", ("layers", "applications"), ()),
    "initializer": ("an initializer", ("initializers",), ()),
    "regularizer": ("a regularizer", ("regularizers",), ()),
    "constraint": ("a constraint", ("constraints",), ()),
    "function": ("a function", ("activations", "ops", "losses", "metrics"), ("training.schedules",)),
    "argument": (
        "an argument",
        (
            *("layers", "activations", "initializers", "regularizers", "constraints", "optimizers"),
            *("optimizers.schedules", "losses", "metrics", "dtype_policies"),
        ),
        ("training.schedules",),
    ),
}
GROUPS = {"source": "source", "model": "model", "optimizer": "optimizer", "schedule": "schedule"}
# The last part of an argument's name, for what it needs.
ARGUMENTS = (
    (r"learning_rate", "schedule"),
    (r"(\w+_)?optimizer|inner", "optimizer"),
    (r"layers?|\w+_layer|cell|cells", "layer"),
    (r"\w+_initializer|initializer", "initializer"),
    (r"\w+_regularizer|regularizer", "regularizer"),
    (r"\w+_constraint|constraint", "constraint"),
    (r"loss|loss_fn", "loss"),
)
WITH_FUNCTIONS = {"activations", "ops", "losses", "metrics", "applications"}  # modules of Keras; others have classes
NO_BUILDERS = {"get", "serialize", "deserialize"}
# Layers that run code which is no part of Keras, or that a saved model could not load in safe mode.
UNSAFE_LAYERS = {"Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper"}
IN_FILE = (
    "trust stands in a file, which could have come with a run: it counts on the command line only. Take it out of the "
    f"file; if you trust the package, type trust=[PACKAGE], or set {VARIABLE}=PACKAGE."
)


# ---- what the user has named ----------------------------------------------------------------------------------------


def trusted() -> frozenset[str]:
    """The packages and modules that MNISTLAB_TRUST names; of a command that is running, also those that it names."""
    return frozenset(name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip())


@contextlib.contextmanager
def trusting(names: Iterable[str]) -> Iterator[None]:
    """Trust these packages too, in this process and in those that it starts."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ",".join(sorted({*trusted(), *names}))
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def split_trust(overrides: Sequence[str]) -> tuple[list[str], set[str]]:
    """The overrides without `trust=[...]`, and the packages that the user has named by typing them there or in the
    dotted name of a callable: model._target_=mymodel.build.

    Raises:
        ConfigError: `trust` names something else than packages, or one of those in NEVER.
    """
    kept, names = [], set()
    for override in overrides:
        key, equals, value = override.partition("=")
        if equals and key.lstrip("+") == "trust":
            listed = [name.strip(" '\"") for name in value.strip().strip("[]").split(",")]
            names |= {_checked_name(name, override) for name in listed if name}
        else:
            kept.append(override)
            names |= {target.split(".")[0] for target in _typed_targets(key.lstrip("+"), value)} - NOT_OF_USERS
    return kept, names


def _checked_name(name: str, override: str) -> str:
    if not _is_dotted(name, min_parts=1) or name.split(".")[0] in NOT_OF_USERS:
        raise ConfigError(
            "trust names packages or modules of your own, as in trust=[mypackage]; the standard library and what "
            f"mnistlab itself needs are not among them. Received: {override[:MAX_LENGTH]}."
        )
    return name


def _typed_targets(key: str, value: str) -> Iterator[str]:
    """The dotted names of callables in an override."""
    if key.endswith("._target_") or (key.endswith(".path") and key.count(".") > 1):
        yield from re.findall(r"[^\W\d]\w*(?:\.\w+)+", value)
    yield from re.findall(r"_target_['\"]?\s*:\s*['\"]?([\w.]+)", value)
    if any(getter in value for getter in FUNCTION_GETTERS):
        yield from re.findall(r"\bpath['\"]?\s*:\s*['\"]?([\w.]+)", value)


# ---- what a configuration names -------------------------------------------------------------------------------------


def target_problems(groups: Mapping[str, Any], named: Iterable[str]) -> Iterator[str]:
    """Callables that a configuration must not name, with what to do about each.

    Args:
        groups: place -> its part of the configuration: 'optimizer', 'fit.loss', 'callbacks', ...
        named: the packages that the user trusts.
    """
    names = frozenset(named)
    for group, tree in groups.items():
        for name, node in nodes(tree, group):
            yield from node_problems(node, name, names)


def node_problems(node: Mapping[str, Any], name: str, named: frozenset[str] | None) -> Iterator[str]:
    """Why one node may not be built; named: None to leave open whether the user trusts a package of his own."""
    target, place = str(node["_target_"]), _place(name)
    if target not in FUNCTION_GETTERS:
        yield from _name_problems(f"{name}._target_", target, place, named)
        return
    path = node.get("path")
    if not isinstance(path, str) or {"_args_", "_partial_"} & set(node):
        yield f"{name}: {target} takes one argument, path: the dotted name of a function. Received: {dict(node)}."
    else:
        yield from _name_problems(f"{name}.path", path, "function", named)


def refuse_unsafe(node: Any, name: str) -> None:
    """Raise a ConfigError if a node or one within it may not be built whomever the user trusts: the last check, before
    anything is imported."""
    problems = [problem for place, inner in nodes(node, name) for problem in node_problems(inner, place, None)]
    problems += list(_interpolations(node, name))
    if problems:
        raise ConfigError(problems)


def nodes(node: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each node with a `_target_`, also within others, with its dotted name."""
    if isinstance(node, Mapping) and isinstance(node.get("_target_"), str):
        yield name, node
    inner = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in inner:
        yield from nodes(value, f"{name}.{key}")


def _interpolations(node: Any, name: str) -> Iterator[str]:
    """Texts that would be interpolated a second time while the node is built, and could then name a callable."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _interpolations(value, f"{name}.{key}")
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _interpolations(value, f"{name}.{index}")
    elif isinstance(node, str) and "${" in node:
        yield f"{name} must not have an escaped interpolation. Received: {short(node)}."


@functools.cache
def _place(name: str) -> str:
    """What the node of this name must be: 'optimizer', 'callback', 'layer', ..."""
    if name in GROUPS or name == "fit.loss":
        return GROUPS.get(name, "loss")
    if re.fullmatch(r"callbacks\.[^.]+", name):
        return "callback"
    if re.fullmatch(r"fit\.metrics(\.\d+)?", name):
        return "metric"
    words = [word for word in name.split(".") if not word.isdigit()]
    return next((place for pattern, place in ARGUMENTS if re.fullmatch(pattern, words[-1])), "argument")


def _name_problems(setting: str, target: str, place: str, named: frozenset[str] | None) -> Iterator[str]:
    needs, top = PLACES[place][0], target.split(".")[0]
    if not _is_dotted(target):
        yield (
            f"{setting} must be the dotted name of a callable, package.module.name, at most {MAX_LENGTH} characters. "
            f"Received: {short(target)}."
        )
    elif _of_keras(target):
        yield from _keras_problems(setting, target, place)
    elif top == "mnistlab":
        yield from _mnistlab_problems(setting, target, place)
    elif top in NEVER or top == "tensorflow":
        whose = "the standard library" if top in sys.stdlib_module_names else f"the package {top}"
        yield f"{setting} must name {needs}, and {whose} has none. Received: {target}. {_choices(place)}"
    elif named is not None and not any(target == name or target.startswith(f"{name}.") for name in named):
        yield (
            f"{setting} stands in a file and names code that is neither Keras's nor mnistlab's, {target}. "
            f"If you trust the package {top}, say so on the command line: trust=[{top}], or set {VARIABLE}={top}."
        )


def _is_dotted(text: str, min_parts: int = 2) -> bool:
    parts = text.split(".")
    if len(text) > MAX_LENGTH or len(parts) < min_parts:
        return False
    return all(part.isidentifier() and (not part.startswith("__") or part == "__main__") for part in parts)


def _of_keras(target: str) -> str:
    """The name below `keras.`, or '' if it is none of Keras."""
    return next((target.removeprefix(prefix) for prefix in KERAS_PREFIXES if target.startswith(prefix)), "")


def _keras_problems(setting: str, target: str, place: str) -> Iterator[str]:
    module, _, last = _of_keras(target).rpartition(".")
    needs, modules, _ = PLACES[place]
    if module not in modules or last in NO_BUILDERS or (last[:1].islower() and module not in WITH_FUNCTIONS):
        public = " Names below keras.src are private." if module.split(".")[0] == "src" else ""
        yield f"{setting} must name {needs}, and {target} is none.{public} Received: {target}. {_choices(place)}"
    elif module == "layers" and last in UNSAFE_LAYERS:
        yield (
            f"{setting}={target} may run any code, and a saved model that has it does not load in safe mode. "
            "Write a class of your own instead: a keras.layers.Layer with @keras.saving.register_keras_serializable()."
        )


def _mnistlab_problems(setting: str, target: str, place: str) -> Iterator[str]:
    from mnistlab.config.build import MOVED

    if target.startswith(tuple(MOVED)):
        return  # it is answered with the new name
    module, _, last = target.removeprefix("mnistlab.").rpartition(".")
    needs, _, modules = PLACES[place]
    if module not in modules or last.startswith("_"):
        yield f"{setting} must name {needs}, and {target} is none. Received: {target}. {_choices(place)}"


def _choices(place: str) -> str:
    _, of_keras, of_mnistlab = PLACES[place]
    known = [f"keras.{module}.NAME" for module in of_keras] + [f"mnistlab.{module}.NAME" for module in of_mnistlab]
    return f"Choices: {', '.join([*known, 'a function or class of your own package'])}."


def short(text: str) -> str:
    """A text in quotes, its beginning only if it is long."""
    return repr(text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}...")


# ---- what was found and built ---------------------------------------------------------------------------------------


def origin_problem(found: Any, setting: str, target: str) -> str:
    """Why what a dotted name led to must not be called, '' if it may: `mymodel.os.system` is no code of mymodel."""
    inner = found.func if isinstance(found, functools.partial) else found
    module = getattr(inner, "__module__", None) or ""
    top = str(module).partition(".")[0]
    if not callable(found) or top in NEVER:
        what = f"{module}.{getattr(inner, '__qualname__', type(inner).__name__)}".lstrip(".")
        return f"{setting}={target} must name a function or class of its package. Received: {what}."
    return ""
