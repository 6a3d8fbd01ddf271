"""A tuned sweep: every optimizer gets the same number of learning rates, then each is compared at its best.

The tuning has seeds of its own, so no score that chose a rate is compared. As in a sweep until a verdict, the same
command goes on after an interruption.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from mnistlab.config import Config
from mnistlab.config.compose import Command
from mnistlab.sweep.collecting import find_results
from mnistlab.sweep.plan import Sweep, add_jobs, check_space
from mnistlab.sweep.rates import LEARNING_RATE, TunedOption, Tuning, choose, further_rates, with_rate
from mnistlab.sweep.results import SweepResults
from mnistlab.sweep.rounds import run_missing

Scores = dict[str, dict[float, float | None]]


def run_tuned(sweep: Sweep, command: Command, launch: Callable[[list[str]], object], tuning: Tuning) -> None:
    """Run the first learning rates and the comparison at the default rates, which needs no tuning; then two further
    rates per option; then the comparison at the best rates.

    launch: starts Hydra with additional overrides; returns when all jobs have ended.
    """
    run_missing(sweep, launch)
    higher, results = sweep.direction == "higher", find_results(sweep)
    scores = tuning_scores(results, tuning)
    further = {name: further_rates(of_rates, higher) for name, of_rates in scores.items()}
    _add(sweep, command, {name: [(rate, seed) for rate in further[name] for seed in tuning.seeds] for name in further})
    print(f"\nTwo further learning rates for each: {_listed(further)}.", flush=True)
    run_missing(sweep, launch)
    scores = tuning_scores(find_results(sweep), tuning)
    sweep.tuning = replace(tuning, options=[choose(option, scores[option.name], higher) for option in tuning.options])
    print("\nThe tuning has ended.")
    for option in sweep.tuning.options:
        print(f"  {describe_choice(option, scores[option.name], results.objective)}", flush=True)
    seeds = dict.fromkeys(config.seed for config in command.configs)
    tuned = {one.name: one.best for one in sweep.tuning.options if one.best not in (None, one.default)}
    _add(sweep, command, {name: [(rate, seed) for seed in seeds] for name, rate in tuned.items() if rate is not None})
    run_missing(sweep, launch)


def tuning_scores(results: SweepResults, tuning: Tuning) -> Scores:
    """Option -> learning rate -> mean objective over the tuning's seeds; None if one of its runs has no finite one."""
    found: dict[str, dict[float, list[float]]] = {option.name: {} for option in tuning.options}
    for job in results.jobs:
        if job.values["seed"] in tuning.seeds:
            value = math.nan if job.error else job.metrics.get(results.objective, math.nan)
            found[job.values["optimizer"]].setdefault(job.values[LEARNING_RATE], []).append(value)
    means = {name: {rate: math.fsum(all_) / len(all_) for rate, all_ in rates.items()} for name, rates in found.items()}
    return {
        name: {rate: mean if math.isfinite(mean) else None for rate, mean in rates.items()}
        for name, rates in means.items()
    }


def describe_choice(option: TunedOption, scores: Mapping[float, float | None], objective: str) -> str:
    """The outcome of an option's tuning: "adam: 0.003, 94.51 % in the tuning; default 0.01"."""
    score = scores[option.best] if option.best is not None else None
    if option.best is None or score is None:
        return f"{option.name}: {option.why}; compared at its default, {option.default:g}"
    value = f"{100 * score:.2f} %" if "accuracy" in objective else f"{score:.4g}"
    edges = {min(scores): "lowest", max(scores): "highest"}
    edge = f", the {edges[option.best]} that was tried" if option.best in edges else ""
    default = "its default" if option.best == option.default else f"default {option.default:g}"
    return f"{option.name}: {option.best:g}{edge}, {value} in the tuning; {default}"


def _add(sweep: Sweep, command: Command, wanted: Mapping[str, list[tuple[float, int]]]) -> None:
    """Add jobs. wanted: option -> learning rates and seeds."""
    bases: dict[str, Config] = {config.choices["optimizer"]: config for config in reversed(command.configs)}
    configs = [with_rate(command, bases[name], *one) for name, listed in wanted.items() for one in listed]
    if configs:
        add_jobs(sweep, command, configs)
        check_space(sweep)


def _listed(rates: Mapping[str, list[float]]) -> str:
    return "; ".join(f"{name} {', '.join(f'{rate:g}' for rate in listed)}" for name, listed in rates.items())
