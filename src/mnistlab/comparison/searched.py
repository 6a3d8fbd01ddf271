"""What a search did: its trials as tables, and how it came to the settings that the comparison calls found."""

import csv
import dataclasses
import io
from collections.abc import Sequence

from mnistlab.comparison.results import Comparison
from mnistlab.comparison.search_summary import SearchSummary, TrialSummary
from mnistlab.comparison.tables import Table
from mnistlab.comparison.wording import format_value

MAX_ROWS = 15
SOURCES = (
    "Akiba et al. (2019), Optuna: a next-generation hyperparameter optimization framework, KDD, arXiv 1907.10902",
    "Bergstra et al. (2011), Algorithms for hyper-parameter optimization (TPE), NeurIPS 24",
    "Golovin et al. (2017), Google Vizier (the median rule), KDD",
    "Li et al. (2018), Hyperband: a novel bandit-based approach to hyperparameter optimization, JMLR 18",
    "Hutter, Hoos and Leyton-Brown (2014), An efficient approach for assessing hyperparameter importance, ICML",
)
STATES = {"complete": "", "pruned": "stopped early", "diverged": "diverged", "running": "did not finish"}


def with_search(comparison: Comparison, search: SearchSummary) -> Comparison:
    """The comparison of found and default settings, with the search that has found them."""
    method = f"{comparison.method} {_describe_method(search)}"
    best = best_trial(search)
    found = "The search has found nothing" if best is None else f"The best of {len(search.trials)} trials is {best.job}"
    verdict = f"{found}. {comparison.verdict}"
    varied = tuple(f"{name} differs" for name in dimensions(search))
    notes = [note for note in comparison.notes if not note.text.startswith(varied)]  # as it is meant to
    return dataclasses.replace(comparison, verdict=verdict, searched=search, method=method, notes=notes)


def best_trial(search: SearchSummary) -> TrialSummary | None:
    """The best trial, None without a complete one."""
    return next((trial for trial in search.trials if trial.number == search.best), None)


def describe_best(search: SearchSummary) -> str:
    """The settings of the best trial in a sentence; '' without one."""
    best = best_trial(search)
    if best is None:
        return ""
    return f"Found in trial {best.number}: {', '.join(f'{name}={best.values[name]}' for name in best.values)}."


def trials_table(comparison: Comparison) -> Table | None:
    """The best trials, then those that were stopped or diverged; None without a search."""
    search = comparison.searched
    if search is None:
        return None
    ranked = ranked_trials(search, comparison.direction == "higher")
    names = dimensions(search)
    header = ["trial", comparison.objective, *names, ""]
    rows = [
        [str(one.number), format_value(comparison.objective, one.score), *_cells(one, names), _state(one)]
        for one in ranked[:MAX_ROWS]
    ]
    rest = len(ranked) - len(rows)
    title = "The trials, best first" + (f" (the other {rest} are in trials.csv)" if rest > 0 else "")
    return Table(title, header, rows)


def ranked_trials(search: SearchSummary, higher: bool) -> list[TrialSummary]:
    """Complete trials by their score, then the others in their order."""
    sign = -1 if higher else 1
    complete = [trial for trial in search.trials if trial.state == "complete" and trial.score is not None]
    others = [trial for trial in search.trials if trial not in complete]
    return [*sorted(complete, key=lambda trial: sign * (trial.score or 0.0)), *others]


def dimensions(search: SearchSummary) -> list[str]:
    """The settings of the trials; those of one choice without naming it, as each trial has one at most."""
    names = (_setting(name) for trial in search.trials for name in trial.values)
    return list(dict.fromkeys(names))


def _setting(name: str) -> str:
    return name.partition(" (")[0]


def _cells(trial: TrialSummary, names: Sequence[str]) -> list[str]:
    values = {_setting(name): value for name, value in trial.values.items()}
    return [str(values.get(name, "-")) for name in names]


def _state(trial: TrialSummary) -> str:
    return STATES[trial.state] + (f" after epoch {trial.epochs}" if trial.epochs else "")


def trials_csv(search: SearchSummary, objective: str) -> str:
    """A row per trial, in their order."""
    names = dimensions(search)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["trial", "job", "state", "stopped_after_epoch", objective, *names])
    for one in search.trials:
        values = ["" if cell == "-" else cell for cell in _cells(one, names)]
        writer.writerow([one.number, one.job, one.state, one.epochs, one.score, *values])
    return buffer.getvalue()


def _describe_method(search: SearchSummary) -> str:
    how = "at random" if search.sampler == "random" else "by the tree-structured Parzen estimator (TPE) of Optuna"
    pruned = "" if search.pruner is None else f" The pruner '{search.pruner}' stopped trials that fell behind."
    return (
        f"The settings of {len(search.trials)} trials were chosen {how}, all on seed {search.seed}; the first had the "
        f"defaults as far as they are in the space.{pruned} Found and default settings were then run on seeds that no "
        "trial had, so that the luck of the best trial is not compared. Trials and comparison share the validation "
        "images. The importance of a setting is its share of the variance of the scores (functional ANOVA)."
    )
