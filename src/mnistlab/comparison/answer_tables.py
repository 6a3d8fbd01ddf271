"""The tables of an answer: the pairs it rests on, and the rounds in which it came about."""

from mnistlab.comparison.question import Round
from mnistlab.comparison.results import Answer, Comparison, Pair
from mnistlab.comparison.tables import Table, interval_cell, p_cell
from mnistlab.comparison.wording import format_value, join_names


def answer_table(comparison: Comparison) -> Table | None:
    """The pairs that the answer rests on, where they are not simply all pairs; None without a test."""
    answer = comparison.answer
    if answer is None or not any(pair.p is not None for pair in answer.pairs):
        return None
    if answer.question == "best" and answer.winner is None:
        return None  # its tests exclude options; only the claim on a winner holds as a whole
    rows = [
        [pair.words, interval_cell(comparison, pair), p_cell(pair.p), _level_cell(pair, answer.question)]
        for pair in answer.pairs
    ]
    title = f"The question: {_title(answer)}"
    return Table(title, ["pair", "difference and interval", "p", "tested at"], rows)


def _title(answer: Answer) -> str:
    kind, _, argument = answer.question.partition(":")
    if kind == "better_than":
        return f"which options differ from {argument}"
    if kind == "fastest_within":
        return f"which option is the fastest within {argument} of the best"
    return f"which options are equivalent within {argument}" if kind == "equivalent" else "which option is best"


def _level_cell(pair: Pair, question: str) -> str:
    """The level that the p value is compared with. Of the two one-sided tests of equivalence it is half of that of the
    interval."""
    if pair.confidence is None or pair.p is None:
        return "-"
    is_one_sided = question.startswith("equivalent") and pair.decision != "better"
    return f"{100 * (1 - pair.confidence) / (2 if is_one_sided else 1):.2g} %"


def rounds_table(comparison: Comparison) -> Table | None:
    """A row per round of a sweep until a verdict: who led, who was still in doubt, who got no further seeds and why."""
    answer = comparison.answer
    if answer is None or not answer.rounds:
        return None
    rows, settled = [], set()
    for found in answer.rounds:
        new = [one for one in found.standings if one.words and one.option not in settled]
        settled |= {one.option for one in new}
        mean = next(one.mean for one in found.standings if one.option == found.leader)
        leader = f"{found.leader} ({format_value(comparison.objective, mean)})"
        decided = "; ".join(f"{one.option}: {one.words}" for one in new)
        rows.append([str(found.num_seeds), str(found.num_runs), leader, _doubt(found), decided or "-"])
    title = "How the verdict came about" + (f": it ended because {answer.why}" if answer.why else "")
    return Table(title, ["seeds", "runs", "leader", "in doubt", "decided in this round"], rows)


def _doubt(found: Round) -> str:
    names = found.open
    if not names or names == [found.leader]:
        return "none"
    return join_names(names, limit=4) if len(names) <= 4 else f"{len(names)} options"
