"""Mappings whose keys are class names, `data.class_weight` and `data.keep`, with quoted keys on the command line.

In YAML, {"10": 5} has the text 10 as its key and {10: 5} the number. Hydra's command line refuses quotes in a mapping,
so such a mapping is handed to it as text.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

OVERRIDE = re.compile(r"(\+{0,2}data\.(?:class_weight|keep)=)(.*)", re.DOTALL)
STRINGS_AND_MAPPINGS = re.compile(
    r"""(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<mapping>\{(?:[^{}"']|"[^"]*"|'[^']*')*\})"""
)


def quote_mappings(overrides: Sequence[str]) -> list[str]:
    """The overrides with each mapping that has quoted keys as one quoted text: data.keep='{"10": 0.1}'."""
    return [_with_quoted_mappings(override) for override in overrides]


def _with_quoted_mappings(override: str) -> str:
    match = OVERRIDE.fullmatch(override)
    if not match:
        return override

    def quote(found: re.Match[str]) -> str:
        text = found["mapping"] or ""
        if '"' not in text and "'" not in text:
            return found[0]
        escaped = text.replace("\\", "\\\\").replace("'", r"\'")
        return f"'{escaped}'"

    return match[1] + STRINGS_AND_MAPPINGS.sub(quote, match[2])


def read_mapping(value: Any) -> Any:
    """A mapping that was given as text, with its keys as in YAML; every other value as it is."""
    if not isinstance(value, str) or not value.strip().startswith("{"):
        return value
    try:
        found = OmegaConf.to_container(OmegaConf.create(value))
    except (OmegaConfBaseException, YAMLError, ValueError):
        return value
    return found if isinstance(found, Mapping) else value
