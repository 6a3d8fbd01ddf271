"""What a run is told: every setting's name, type and range; from words on the command line to a checked `Config`.

`schema` holds the settings, `checks` finds what is wrong with their values, `compose` asks Hydra for a job's
configuration and explains mistakes, `build` is the one place that calls what a YAML file names, and `run_names` names a
run by what differs from the defaults. The names below load nothing heavy; `compose` and `build` load Hydra.
"""

from mnistlab.config.schema import (
    FILLED_IN,
    Config,
    ConfigError,
    DataConfig,
    FitConfig,
    PathsConfig,
    SaveConfig,
    SweepConfig,
    SweepPart,
    TrackingConfig,
    conf_folder,
    flatten,
    hide_passwords,
    parameters,
    project_root,
    register,
    suggest,
)

__all__ = [
    "FILLED_IN",
    "Config",
    "ConfigError",
    "DataConfig",
    "FitConfig",
    "PathsConfig",
    "SaveConfig",
    "SweepConfig",
    "SweepPart",
    "TrackingConfig",
    "conf_folder",
    "flatten",
    "hide_passwords",
    "parameters",
    "project_root",
    "register",
    "suggest",
]
