"""The configuration's schema: each setting's name, type and range; the settings as flat parameters.

Every setting that mnistlab's code reads is typed here. The arguments of a callable (`source`, `model`, `optimizer`,
`schedule`, `callbacks`) are an open mapping: `build.py` checks them against the callable. Defaults stand in conf/;
`checks.py` checks the values that are given. Importing this loads neither Hydra nor OmegaConf.
"""

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnistlab.config.secrets import hidden, is_named_like_a_secret


class ConfigError(ValueError):
    """A mistake that the user can correct: a setting, a file, an argument. Commands print it without a traceback.

    Args:
        problems: one or more messages. Each states the rule, what was received and the choices.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


def _choice(*options: str) -> Any:
    return field(metadata={"choices": options})


def _number(rule: str, holds: Callable[[float], bool]) -> Any:
    return field(metadata={"rule": rule, "holds": holds})


def _list_of(items: str) -> Any:
    """A list, for which one item may stand. items: 'names', 'metrics' (names or mappings) or 'numbers'."""
    return field(metadata={"items": items})


def _filled_in(default: Callable[[], Any]) -> Any:
    return field(default_factory=default, metadata={"omegaconf_ignore": True})


@dataclass(kw_only=True)
class DataConfig:
    """How the data set is split, scaled, weighted and augmented (`data`)."""

    labels: str = _choice("one_hot", "integer")
    class_mode: str | None = _choice("binary", "categorical", "sparse")
    scaling: str = _choice("auto", "unit", "centered", "none", "pixels")
    rescale: Any
    image_size: Any
    target_size: Any
    split: str = _choice("stratified", "keras")
    validation: str = _choice("holdout", "test")
    validation_fraction: float = _number("0 < value < 1", lambda value: 0 < value < 1)
    validation_split: float | None = _number("0 < value < 1", lambda value: 0 < value < 1)
    test_fraction: float = _number("0 < value < 1", lambda value: 0 < value < 1)
    split_seed: int = _number("0 <= value < 2**32", lambda value: 0 <= value < 2**32)
    class_weight: Any
    keep: Any
    limit: int | None = _number("value >= 1", lambda value: value >= 1)
    augmentation: dict[str, Any]


@dataclass(kw_only=True)
class FitConfig:
    """How the model is trained (`fit`)."""

    epochs: int = _number("value >= 1", lambda value: value >= 1)
    batch_size: Any
    engine: str = _choice("auto", "fused", "keras")
    precision: str | None
    strategy: str | None = _choice("mirrored")
    cpu_devices: int | None = _number("value >= 1", lambda value: value >= 1)
    resident_gigabytes: float = _number("value > 0", lambda value: value > 0)
    resume: str = _choice("auto", "never", "must")
    checkpoint_percent: float = _number("0 < value <= 100", lambda value: 0 < value <= 100)
    checkpoint_seconds: float | None = _number("value >= 0", lambda value: value >= 0)
    max_seconds: float | None = _number("value > 0", lambda value: value > 0)
    loss: Any
    metrics: Any = _list_of("metrics")


@dataclass(kw_only=True)
class SaveConfig:
    """Which epoch's model is saved, in which formats, and under which name it is registered (`save`)."""

    which: str = _choice("auto", "best", "last")
    monitor: str
    formats: Any = _list_of("names")
    register: str | None = None


@dataclass(kw_only=True)
class TrackingConfig:
    """Where runs are recorded (`tracking`)."""

    backend: str = _choice("mlflow", "none")
    uri: str | None
    experiment: str | None
    required: bool = False
    server_only: bool = False


@dataclass(kw_only=True)
class RunConfig:
    """What the run is called (`run`)."""

    name: str | None


@dataclass(kw_only=True)
class PathsConfig:
    """The folder of all results and that of this run (`paths`)."""

    root: str
    run: str | None


@dataclass(kw_only=True)
class SweepConfig:
    """How a multirun is planned and compared (`sweep`)."""

    seeds: int = _number("value >= 1", lambda value: value >= 1)
    axes: Any = _list_of("names")
    objective: str
    direction: str = _choice("auto", "higher", "lower")
    targets: Any = _list_of("numbers")
    question: str
    until: str | None = _choice("verdict")
    max_seeds: int = _number("value >= 3", lambda value: value >= 3)
    max_seconds: float | None = _number("value > 0", lambda value: value > 0)
    tune: int | None = _number("value >= 5", lambda value: value >= 5)
    tune_seeds: int = _number("value >= 1", lambda value: value >= 1)
    tune_range: Any = _list_of("numbers")
    trials: int | None = _number("1 <= value <= 10000", lambda value: 1 <= value <= 10_000)
    sampler: str = _choice("tpe", "random")
    pruner: str | None = _choice("median", "hyperband")
    only_with: Any
    storage: str | None
    diverged: str = _choice("ok", "fail")
    isolate: bool
    memory_gigabytes: float | None = _number("value > 0", lambda value: value > 0)
    job_max_seconds: float | None = _number("value > 0", lambda value: value > 0)
    preflight: bool
    dry_run: bool
    force: bool
    plan: str | None


@dataclass(kw_only=True)
class LaunchConfig:
    """Where the jobs of a multirun run (`launch`)."""

    name: str | None = _choice("joblib", "ray", "slurm", "submitit_local", "auto")
    workers: int | None = _number("value >= 1", lambda value: value >= 1)
    job_gigabytes: float | None = _number("value > 0", lambda value: value > 0)
    cpus: int | None = _number("value >= 1", lambda value: value >= 1)
    gpus: float | None = _number("value >= 0", lambda value: value >= 0)
    address: str | None
    options: dict[str, Any]


@dataclass(frozen=True)
class SweepJobInfo:
    """What a job knows about its sweep: its name there, the tags that connect its run to the parent run, its key in the
    plan. wait: whether it waits until its record is complete; in the sweep's own process the sweep waits for all.
    process: the name of the sweep's process. trial: of a search: see `training.pruning`; empty without one."""

    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    wait: bool = True
    process: str = ""
    trial: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Config:
    """The complete configuration of one experiment.

    The last five fields are not settings. They are filled in after composing: the chosen option of each group, the
    overrides of the command line, the settings that come from environment variables (as expressions, so that no
    secret is recorded), the user's folder of config groups, and the job's place in a sweep.
    """

    source: dict[str, Any]
    data: DataConfig
    model: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    callbacks: dict[str, Any]
    fit: FitConfig
    init: dict[str, Any]
    save: SaveConfig
    run: RunConfig
    tracking: TrackingConfig
    paths: PathsConfig
    sweep: SweepConfig
    launch: LaunchConfig
    seed: int = _number("0 <= value < 2**32", lambda value: 0 <= value < 2**32)
    deterministic: bool
    explain: bool
    choices: dict[str, str] = _filled_in(dict)
    overrides: list[str] = _filled_in(list)
    from_environment: dict[str, Any] = _filled_in(dict)
    config_dir: str | None = _filled_in(lambda: None)
    sweep_job: SweepJobInfo = _filled_in(SweepJobInfo)


FIRST_SEEDS = 3  # of the first round of a sweep until a verdict: two have no spread to speak of

# Keras's names of settings of `data`; their values are moved to ours.
KERAS_NAMES = {"validation_fraction": "validation_split", "image_size": "target_size"}
FILLED_IN = ("choices", "overrides", "from_environment", "config_dir", "sweep_job")


def project_root() -> str:
    """The folder of `mlruns/` and `runs/`, whatever the working directory: $MNISTLAB_ROOT, else the checkout that the
    package is installed from, else ~/mnistlab."""
    configured = os.environ.get("MNISTLAB_ROOT")
    checkout = Path(__file__).resolve().parents[3]
    if configured:
        return str(Path(configured).expanduser().resolve())
    return str(checkout if (checkout / "pyproject.toml").is_file() else Path.home() / "mnistlab")


def conf_folder() -> Path:
    """The folder of the config groups: inside an installed package, beside `src/` in a checkout."""
    inside = Path(__file__).resolve().parents[1] / "conf"
    return inside if inside.is_dir() else Path(__file__).resolve().parents[3] / "conf"


def register() -> None:
    """Register the schema and the `project_root` resolver with Hydra. Repeated calls do no harm."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("project_root", project_root, replace=True)
    if "schema.yaml" not in ConfigStore.instance().repo:
        ConfigStore.instance().store(name="schema", node=Config)


def parse_settings(arguments: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """The settings of a command without config groups, from arguments name=value.

    Raises:
        ConfigError: an argument has another form or another name.
    """
    settings = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name not in names:
            raise ConfigError(f"{argument} is not a setting. Choices: {', '.join(names)}; see --help.")
        settings[name] = value
    return settings


def suggest(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """' Did you mean X? Choices: ...' for a word that is not among the choices."""
    ordered = sorted(choices)
    by_lower = {choice.lower(): choice for choice in reversed(ordered)}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {prefix}{by_lower[near[0]]}?" if near else ""
    return f"{hint} Choices: {', '.join(ordered)}."


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists of mappings as flat dotted keys: {'optimizer.learning_rate': 0.01}."""
    if isinstance(node, Mapping) and node:
        items = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list) and any(isinstance(value, Mapping) for value in node):
        items = [(str(index), value) for index, value in enumerate(node)]
    else:
        return {prefix.rstrip("."): node}
    return {key: leaf for name, value in items for key, leaf in flatten(value, f"{prefix}{name}.").items()}


def parameters(config: Config) -> dict[str, Any]:
    """Every resolved setting under its dotted name, and each group's chosen option under the group's name.

    Settings that come from environment variables are given as their expression. Other secrets are hidden.
    """
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in FILLED_IN}
    # An empty group (callbacks=none) flattens to {'callbacks': {}}; the choice, added last, replaces it.
    flat = flatten(settings)
    flat |= {f"data.{theirs}": flat[f"data.{ours}"] for ours, theirs in KERAS_NAMES.items()}
    flat |= {**config.choices, **config.from_environment}
    return {key: hidden(_text_if_secret(key, value), key) for key, value in flat.items()}


def _text_if_secret(name: str, value: Any) -> Any:
    """A number as text if it is a password. Other numbers are not hidden: a metric may be named token_accuracy."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number and is_named_like_a_secret(name) else value
