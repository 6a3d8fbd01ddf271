"""How many jobs a multirun would have, counted before its values are listed."""

import math
from collections.abc import Sequence

from hydra.core.override_parser.types import Override, RangeSweep

from mnistlab.config.schema import ConfigError

MAX_JOBS = 10_000  # of a minute each is a week


def check_number_of_jobs(overrides: Sequence[Override]) -> None:
    """Raise ConfigError for a range without an end, and for more jobs than any sweep could run."""
    swept = {entry.get_key_element(): entry for entry in overrides if _is_listed(entry)}
    counts = {key: _count(entry) for key, entry in swept.items()}
    jobs = math.prod(counts.values())
    if jobs > MAX_JOBS:
        received = " ".join(str(swept[key].input_line) for key in counts if counts[key] > 1)
        raise ConfigError(f"A multirun may have at most {MAX_JOBS:,} jobs. Received: {jobs:,.0f}, of {received}.")


def _is_listed(entry: Override) -> bool:
    return entry.is_discrete_sweep() and not entry.is_hydra_override()


def _count(entry: Override) -> float:
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
