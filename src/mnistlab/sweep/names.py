"""The names of jobs."""

from typing import Any

SHORT_NAMES = {"learning_rate": "lr", "batch_size": "batch"}


def name_of_value(axis: str, value: Any) -> str:
    """A swept value in a job's name: an option alone ('adam'), a setting with its last name ('lr0.01', 'seed1')."""
    last = axis.rpartition(".")[2]
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, list):
        text = f"[{','.join(map(str, value))}]"
    return text if "." not in axis and axis != "seed" else f"{SHORT_NAMES.get(last, last)}{text}"
