"""Settings: each one's name, type and range; from overrides on the command line to a checked `Config`.

`schema` declares the settings, `checks` checks their values, `compose` asks Hydra for a job's configuration and
explains mistakes, `build` is the only place that calls what a YAML file names, and `run_names` names a run after what
differs from the defaults. This front door loads nothing heavy; `compose`, `checks` and `build` load Hydra.
"""

from mnistlab.config.schema import (
    FILLED_IN,
    Config,
    ConfigError,
    LaunchConfig,
    SweepConfig,
    SweepJobInfo,
    TrackingConfig,
    conf_folder,
    flatten,
    parameters,
    parse_settings,
    project_root,
    register,
    suggest,
)
from mnistlab.config.secrets import hide_secrets

__all__ = [
    "FILLED_IN",
    "Config",
    "ConfigError",
    "LaunchConfig",
    "SweepConfig",
    "SweepJobInfo",
    "TrackingConfig",
    "conf_folder",
    "flatten",
    "hide_secrets",
    "parameters",
    "parse_settings",
    "project_root",
    "register",
    "suggest",
]
