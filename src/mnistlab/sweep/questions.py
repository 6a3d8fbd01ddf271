"""Checks before the first job whether the sweep's question can be answered: objective, direction, targets, axes."""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from mnistlab.config import Config, SweepConfig, parameters, suggest
from mnistlab.config.metric_names import TIME_TO_TARGET, metric_direction, metric_names
from mnistlab.config.objectives import BEST_EPOCH, extreme_name
from mnistlab.config.schema import FIRST_SEEDS
from mnistlab.sweep.rates import LEARNING_RATE
from mnistlab.tracking import background

if TYPE_CHECKING:
    from mnistlab.config.compose import Command

# Class of a sweeper of Hydra's plugins -> its settings that say which objective is better, and what they are for each.
SWEEPER_DIRECTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "OptunaSweeper": (("direction",), {"lower": "minimize", "higher": "maximize"}),
    "NevergradSweeper": (("optim.maximize",), {"lower": False, "higher": True}),
    "AxSweeper": (("ax_config.experiment.minimize", "ax_config.early_stop.minimize"), {"lower": True, "higher": False}),
}
NEVER_AN_AXIS = ("paths", "tracking", "sweep", "launch", "hydra", "explain")


def question_problems(command: "Command", swept: Sequence[str]) -> Iterator[str]:
    """Why the runs of these jobs could not be compared by the settings under `sweep`. swept: as in `Command`."""
    configs = command.configs
    yield from _asked_problems(configs, swept)
    yield from _until_problems(command)
    yield from _tune_problems(command, swept)
    yield from _search_problems(command)
    yield from _objective_problems(configs)
    yield from _sweeper_problems(command)
    yield from _target_problems(configs)
    yield from _axis_problems(configs, swept)
    yield from _limit_problems(configs[0].sweep)
    if len({config.deterministic for config in configs}) > 1:
        yield (
            "deterministic must be the same in all jobs: TensorFlow cannot switch its determinism off again in a "
            "process. Run two sweeps, with deterministic=true and deterministic=false."
        )


def _asked_problems(configs: Sequence[Config], swept: Sequence[str]) -> Iterator[str]:
    question = configs[0].sweep.question
    if question == "best":
        return
    axes = list(configs[0].sweep.axes or [axis for axis in swept if axis != "seed"])
    settings = [{axis: value for axis, value in parameters(config).items() if axis in axes} for config in configs]
    problem: str = background.call_or_run_here(_problem_of_question, question, axes, settings)
    if problem:
        yield f"sweep.question: {problem}."


def _problem_of_question(text: str, axes: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> str:
    """Runs in the background process, which has SciPy. settings: of each job, on the axes."""
    from mnistlab.comparison.question import parse_question
    from mnistlab.comparison.records import option_name

    try:
        question = parse_question(text)
    except ValueError as error:
        return str(error)
    names = {option_name(axes, [one.get(axis) for axis in axes]) for one in settings}
    if question.baseline and question.baseline not in names:
        return f"{text} does not name an option of this sweep.{suggest(question.baseline, names)}"
    return ""


def _until_problems(command: "Command") -> Iterator[str]:
    sweep = command.configs[0].sweep
    if sweep.until is None:
        if sweep.max_seconds is not None and sweep.trials is None:
            yield (
                "sweep.max_seconds limits a sweep with sweep.until=verdict or sweep.trials; the limit of a job is "
                f"sweep.job_max_seconds. Received: {sweep.max_seconds:g}."
            )
        return
    if sweep.question.startswith("fastest_within"):
        yield (
            "sweep.until=verdict answers the questions best, better_than and equivalent. "
            f"Received: sweep.question={sweep.question}; give sweep.seeds instead."
        )
    first_seeds = len({config.seed for config in command.configs})
    if sweep.max_seeds < first_seeds:
        yield (
            f"sweep.max_seeds must be at least the seeds of the first round, {first_seeds} (sweep.seeds, at least "
            f"{FIRST_SEEDS}). Received: {sweep.max_seeds}."
        )
    if not command.is_grid:
        yield (
            "sweep.until=verdict chooses its jobs itself: it needs hydra/sweeper=basic. "
            f"Received: {command.sweeper_name}."
        )


def _tune_problems(command: "Command", swept: Sequence[str]) -> Iterator[str]:
    sweep = command.configs[0].sweep
    given = {override.lstrip("+~").partition("=")[0] for override in command.configs[0].overrides}
    if sweep.tune is None:
        for name in sorted(given & {"sweep.tune_seeds", "sweep.tune_range"}):
            yield f"{name} is about a sweep that tunes learning rates: add sweep.tune=7, or sweep=tuned."
        return
    if sweep.until is not None:
        yield "sweep.tune has a fixed number of runs, so it cannot be combined with sweep.until. Use sweep.seeds."
    if others := [name for name in swept if name not in ("optimizer", "seed")] or list(given & {LEARNING_RATE}):
        yield (
            "sweep.tune chooses optimizer.learning_rate itself and compares optimizers only: of all settings, only "
            f"optimizer and seed may vary. Received: {', '.join(others)}."
        )
    if sweep.axes not in (None, ["optimizer"]):
        yield f"sweep.axes must be [optimizer] with sweep.tune. Received: {list(sweep.axes)}."
    if not command.is_grid:
        yield f"sweep.tune chooses its jobs itself: it needs hydra/sweeper=basic. Received: {command.sweeper_name}."
    for name, config in {config.choices["optimizer"]: config for config in command.configs}.items():
        rate, limits = config.optimizer.get("learning_rate"), config.sweep.tune_range
        if not isinstance(rate, int | float) or rate <= 0:
            yield f"sweep.tune needs an optimizer.learning_rate > 0 in the file of {name}. Received: {rate}."
        if limits is not None and not (len(limits) == 2 and 0 < limits[0] < limits[1]):
            yield f"sweep.tune_range of {name} must be [lowest,highest], 0 < lowest < highest. Received: {limits}."


def _search_problems(command: "Command") -> Iterator[str]:
    sweep = command.configs[0].sweep
    given = {override.lstrip("+~").partition("=")[0] for override in command.configs[0].overrides}
    if sweep.trials is None:
        for name in ("sampler", "pruner", "only_with", "storage"):
            if f"sweep.{name}" in given:
                yield f"sweep.{name} is about a search: add sweep.trials=30, or sweep=search."
        return
    others = {"sweep.until": sweep.until, "sweep.tune": sweep.tune, "sweep.axes": sweep.axes}
    for name, value in others.items():
        if value is not None:
            yield f"A search (sweep.trials) cannot be combined with {name}. Received: {name}={value}."
    if sweep.question != "best":
        yield f"A search compares what it finds with the defaults. Received: sweep.question={sweep.question}."
    if not command.is_grid:
        yield f"sweep.trials drives Optuna itself: it needs hydra/sweeper=basic. Received: {command.sweeper_name}."
    if importlib.util.find_spec("optuna") is None:
        yield "Optuna is not installed: pip install 'mnistlab[optuna]'."


def _limit_problems(sweep: SweepConfig) -> Iterator[str]:
    for name in ("memory_gigabytes", "job_max_seconds"):
        value = getattr(sweep, name)
        if value is not None and not sweep.isolate:
            yield f"sweep.{name} limits a job in a process of its own: add sweep.isolate=true. Received: {value:g}."


def recorded_metrics(config: Config) -> list[str]:
    """The metrics that a run will record and that may be an objective: of the best epoch and the extremes over all
    epochs, not of the test set."""
    names = ("loss", *metric_names(config.fit.metrics))
    over_epochs = filter(None, (extreme_name(f"val_{name}") for name in names))
    times = filter(TIME_TO_TARGET.fullmatch, [config.sweep.objective] if "accuracy" in names else [])
    of_epoch = (f"{BEST_EPOCH}{part}{name}" for part in ("val_", "") for name in names)
    return [*of_epoch, *over_epochs, "train_seconds", *times]


def direction(config: Config) -> str | None:
    """Whether a 'higher' or a 'lower' objective is better; None if neither the setting nor the metric's name says."""
    return config.sweep.direction if config.sweep.direction != "auto" else metric_direction(config.sweep.objective)


def _objective_problems(configs: Sequence[Config]) -> Iterator[str]:
    objective = configs[0].sweep.objective
    if others := sorted({config.sweep.objective for config in configs} - {objective}):
        yield (
            "sweep.objective must be the same in all jobs, and auto is not: by save.monitor and fit.metrics it is "
            f"{' or '.join([objective, *others])}. Give one: sweep.objective={BEST_EPOCH}val_loss."
        )
        return
    known = [name for name in recorded_metrics(configs[0]) if all(name in recorded_metrics(one) for one in configs)]
    if (metric := objective.removeprefix(BEST_EPOCH)).startswith("test_"):
        hint = suggest(metric.replace("test_", f"{BEST_EPOCH}val_"), known)
        yield (
            "sweep.objective must not be a metric of the test set: options that are chosen by the test set have seen "
            f"it, and their test values are then too good. Received: {objective}.{hint}"
        )
    elif objective not in known:
        some = any(objective in recorded_metrics(config) for config in configs)
        rule = "that every job records" if some else "that the runs record"
        yield f"sweep.objective must be a metric {rule}. Received: {objective}.{suggest(_longer(objective), known)}"
    elif direction(configs[0]) is None:
        yield (
            f"sweep.direction must be given: whether a higher or a lower {objective} is better is not known. "
            "Choices: higher, lower."
        )


def _sweeper_problems(command: "Command") -> Iterator[str]:
    """The sweepers of Hydra's plugins know nothing of metrics: by default they would look for the lowest accuracy."""
    better = direction(command.configs[0])
    if command.sweeper_name not in SWEEPER_DIRECTIONS or better is None:
        return
    settings, values = SWEEPER_DIRECTIONS[command.sweeper_name]
    wanted = values[better]
    for setting in settings:
        received = OmegaConf.select(OmegaConf.create(dict(command.sweeper)), setting)
        received = getattr(received, "name", received)  # an enumeration
        if received != wanted:
            yield (
                f"hydra.sweeper.{setting} must be {str(wanted).lower()}: of {command.configs[0].sweep.objective}, "
                f"{better} is better. Received: {str(received).lower()}. "
                f"Add hydra.sweeper.{setting}={str(wanted).lower()}."
            )


def _longer(objective: str) -> str:
    """For the suggestion: 'val_acc' is nearer to 'best_epoch_val_accuracy' if it begins in the same way."""
    return f"{BEST_EPOCH}{objective}" if objective.startswith("val_") else objective


def _target_problems(configs: Sequence[Config]) -> Iterator[str]:
    """Only targets that the user gave: the default ones are left out of the report where they have no meaning."""
    given = any(override.split("=")[0] == "sweep.targets" for override in configs[0].overrides)
    recorded = [metric_names(config.fit.metrics) for config in configs]
    if given and configs[0].sweep.targets and not all("accuracy" in names for names in recorded):
        yield (
            "sweep.targets are validation accuracies, which not every job records: "
            "add accuracy to fit.metrics, or set sweep.targets=[]."
        )


def _axis_problems(configs: Sequence[Config], swept: Sequence[str]) -> Iterator[str]:
    axes = configs[0].sweep.axes or ()
    settings = [parameters(config) for config in configs]
    known = {name for one in settings for name in one if not name.startswith(NEVER_AN_AXIS)} - {"seed"}
    varied = {name for name in known if len({repr(one.get(name)) for one in settings}) > 1} | ({*swept} - {"seed"})
    choices = ", ".join(name for name in swept if name != "seed") or "none but the seed"
    for axis in axes:
        if axis == "seed":
            yield "sweep.axes must not list the seed: runs with other seeds are repetitions. Received: seed."
        elif axis not in known | varied:
            near = suggest(axis, known).split(" Choices:")[0]
            yield f"sweep.axes must list settings. Received: {axis}.{near} This sweep varies: {choices}."
        elif axis not in varied:
            yield (
                f"sweep.axes must list settings that this sweep varies. Received: {axis}, which is "
                f"{settings[0].get(axis)} in every job. This sweep varies: {choices}."
            )
    repeated = sorted({axis for axis in axes if list(axes).count(axis) > 1})
    if repeated:
        yield f"sweep.axes must list each setting once. Received twice: {', '.join(repeated)}."
