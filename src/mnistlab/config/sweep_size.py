"""How many jobs a multirun has: its seeds, and the number of all combinations, counted before they are listed."""

import math
from collections.abc import Sequence

from hydra.core.override_parser.types import Override, RangeSweep
from omegaconf import DictConfig

from mnistlab.config.schema import FIRST_SEEDS, ConfigError

MAX_JOBS = 10_000  # of a minute each is a week


def check_number_of_jobs(overrides: Sequence[Override]) -> None:
    """Raise ConfigError for a range without an end, and for more jobs than any sweep could run."""
    swept = {entry.get_key_element(): entry for entry in overrides if _is_listed(entry)}
    counts = {key: count_values(entry) for key, entry in swept.items()}
    jobs = math.prod(counts.values())
    if jobs > MAX_JOBS:
        received = " ".join(str(swept[key].input_line) for key in counts if counts[key] > 1)
        raise ConfigError(f"A multirun may have at most {MAX_JOBS:,} jobs. Received: {jobs:,.0f}, of {received}.")


def _is_listed(entry: Override) -> bool:
    return entry.is_discrete_sweep() and not entry.is_hydra_override()


def count_values(entry: Override) -> float:
    """The number of values of a setting that is swept.

    Raises:
        ConfigError: a range with the step 0 or NaN, or without values.
    """
    value = entry.value()
    if not isinstance(value, RangeSweep):
        return len(getattr(value, "list", ())) or 1
    start, stop, step = (float(one or 0) for one in (value.start, value.stop, value.step))
    count = (stop - start) / step if step else math.nan
    if math.isnan(count):
        raise ConfigError(f"{entry.input_line} must be range(START,STOP,STEP) with finite numbers and a step except 0.")
    if count <= 0:
        raise ConfigError(
            f"{entry.key_or_group} needs at least one value: range(START,STOP,STEP) counts up from START, ends before "
            f"STOP, with a negative STEP down. Received: {entry.input_line}."
        )
    return count if math.isinf(count) else math.ceil(count)


def repeated_seeds(composed: DictConfig, overrides: Sequence[Override]) -> list[str]:
    """sweep.seeds=5 means seed=range(0,5), with seed=3 seed=range(3,8). Seeds that are listed are used as they are.

    Args:
        composed: the configuration without the swept values.

    Raises:
        ConfigError: `sweep.seeds` differs from the number of the listed seeds; a setting of the whole sweep is
            swept.
    """
    last = {entry.get_key_element().lstrip("+"): entry for entry in overrides}
    if problems := [
        f"{key} applies to the whole sweep and takes one value. Received: {entry.input_line}."
        for key, entry in last.items()
        if key.split(".")[0] in ("sweep", "launch") and entry.is_sweep_override()
    ]:
        raise ConfigError(problems)
    seed, num_seeds = last.get("seed"), composed.sweep.seeds
    if composed.sweep.until == "verdict":
        num_seeds = max(num_seeds, FIRST_SEEDS)
        if seed is not None and seed.is_sweep_override():
            raise ConfigError(
                f"sweep.until=verdict adds seeds by itself, counted from one seed: seed=3. Received: {seed.input_line}."
            )
    if seed is None or not seed.is_sweep_override():
        return [f"seed=range({composed.seed},{composed.seed + num_seeds})"] if num_seeds > 1 else []
    num_listed = len(set(seed.sweep_string_iterator())) if seed.is_discrete_sweep() else num_seeds
    if num_listed != num_seeds and (num_seeds != 1 or "sweep.seeds" in last):
        raise ConfigError(
            f"{seed.input_line} lists {num_listed} seeds, and sweep.seeds is {num_seeds}: the two must agree. "
            f"Write sweep.seeds={num_listed}, or leave one of them out."
        )
    return []
