"""Which code Hydra may call by itself: plugins, callbacks, logging. What else a configuration names is in `trust`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from mnistlab.config.trust import nodes, short

LOGGING_CLASS = r"(logging|logging\.handlers|mnistlab\.runtime\.terminal|rich\.logging|colorlog)\.[A-Z]\w*"
HYDRAS = {  # key -> what may stand there, in the part of the configuration that is Hydra's
    "_target_": r"(hydra\._internal\.core_plugins|hydra\.experimental|hydra_plugins)\.([a-z_]\w*\.)*[A-Z]\w*",
    "class": LOGGING_CLASS,
    "()": LOGGING_CLASS,
}
LOGGING_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")


def hydra_problems(tree: Any, named: Iterable[str], name: str = "hydra") -> Iterator[str]:
    """Callables that Hydra and its logging would call by themselves: plugins, callbacks, handlers, formatters."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            trusts = tuple(f"{one}." for one in named)
            known = key not in HYDRAS or not isinstance(value, str) or re.fullmatch(HYDRAS[key], value)
            if not known and not str(value).startswith(trusts) and value not in _targets_of_plugins():
                yield (
                    f"{name}.{key} names code that is neither Hydra's nor mnistlab's. Received: {short(value)}. "
                    f"If you trust its package, say so on the command line: trust=[{value.split('.')[0]}]."
                )
            yield from hydra_problems(value, named, f"{name}.{key}")
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from hydra_problems(value, named, f"{name}.{index}")
    elif isinstance(tree, str) and tree.startswith(("ext://", "cfg://")) and tree not in LOGGING_STREAMS:
        yield f"{name} must be one of {', '.join(LOGGING_STREAMS)}. Received: {short(tree)}."


def _targets_of_plugins() -> set[str]:
    """The callables in the settings that Hydra's installed plugins bring along, such as Optuna's samplers."""
    stored = [*ConfigStore.instance().repo.get("hydra", {}).values()]
    found = set()
    while stored:
        one = stored.pop()
        if isinstance(one, dict):
            stored += one.values()
        elif isinstance(one.node, DictConfig):
            tree = OmegaConf.to_container(one.node, throw_on_missing=False)
            found |= {str(node["_target_"]) for _, node in nodes(tree, "")}
    return found
