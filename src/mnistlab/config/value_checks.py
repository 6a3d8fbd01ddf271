"""Values that no callable can use, whatever the setting: booleans and texts for numbers, NaN, empty names, a NUL."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from mnistlab.config.schema import FILLED_IN, Config, flatten

MAX_SEEDS = 10_000
MAX_IMAGE_SIDE = 16_384
NAMES = (
    "run.name",
    "tracking.uri",
    "tracking.experiment",
    "paths.root",
    "save.monitor",
    "save.register",
    "source.path",
)


def value_problems(config: Config) -> Iterator[str]:
    """Problems with values that have the right type or, as a callable's arguments, no type."""
    settings = flatten({key: value for key, value in dataclasses.asdict(config).items() if key not in FILLED_IN})
    for name, value in settings.items():
        if isinstance(value, str):
            yield from _text_problems(name, value)
        elif isinstance(value, float) and not _is_usable(name, value):
            yield f"{name} must be a finite number. Received: {value}."
    if not isinstance(path := config.source.get("path"), str | int | list | None) or isinstance(path, bool):
        yield f"source.path must be the path of a file or folder. Received: {path}."
    if isinstance(rate := config.optimizer.get("learning_rate"), bool):
        yield f"optimizer.learning_rate must be a number >= 0, or a schedule. Received: {str(rate).lower()}."
    if config.fit.strategy is not None and config.fit.engine == "fused":
        chosen = config.fit.strategy
        yield f"fit.engine=fused trains on one device. Received: fit.strategy={chosen}. Use fit.engine=auto or keras."
    metrics = [entry for entry in config.fit.metrics if isinstance(entry, str)]
    for name, listed in {"fit.metrics": metrics, "save.formats": config.save.formats}.items():
        for word in dict.fromkeys(entry for entry in listed if listed.count(entry) > 1):
            yield f"{name} lists {word} more than once. Write it once."
    if config.sweep.seeds > MAX_SEEDS:
        yield f"sweep.seeds must satisfy value <= {MAX_SEEDS:,}. Received: {config.sweep.seeds}."
    if (register := config.save.register) and (not register.isprintable() or set("/:%@") & set(register)):
        yield f"save.register must be a name without / : % @. Received: {register!r}."
    if config.save.register and config.tracking.backend == "none":
        yield "save.register needs a tracking store, which has the registered models. Received: tracking=none."
    for name in ("image_size", "target_size"):
        size = getattr(config.data, name)
        if isinstance(size, list) and any(type(side) is int and side > MAX_IMAGE_SIDE for side in size):
            yield f"data.{name} must satisfy height and width <= {MAX_IMAGE_SIDE:,}. Received: {size}."


def _is_usable(name: str, value: float) -> bool:
    """Whether it is finite; a callback may start from infinity, and the learning rate has its own check."""
    elsewhere = name == "optimizer.learning_rate" or (name.startswith("callbacks.") and not math.isnan(value))
    return elsewhere or math.isfinite(value)


def _text_problems(name: str, value: str) -> Iterator[str]:
    if "\0" in value:
        yield f"{name} must not contain a NUL character. Received: {value!r}."
    elif name in NAMES and not value.strip():
        yield f"{name} must not be empty. Leave it out for its default. Received: {value!r}."
    elif name == "run.name" and not value.isprintable():
        yield f"run.name must be one line of printable characters. Received: {value!r}."


def class_mapping_problems(name: str, mapping: Any, low: float, high: float) -> Iterator[str]:
    """Problems with a mapping of classes to numbers in low < number <= high."""
    if mapping is None or isinstance(mapping, str):
        return
    if not isinstance(mapping, Mapping):
        yield f"{name} maps classes to numbers, as in '{{0: 1, 1: 0.5}}'. Received: {mapping}."
        return
    for key, value in mapping.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isinf(value):
            continue  # `value_problems` says it
        if not number or not low < value <= high:
            bounds = f"{low:g} < value" + ("" if math.isinf(high) else f" <= {high:g}")
            yield f"{name} of class {key} must satisfy {bounds}. Received: {value}."
