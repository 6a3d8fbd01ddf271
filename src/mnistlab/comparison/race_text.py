"""A round of a race as text: the ranking so far with intervals, for the terminal and the report."""

from mnistlab.comparison.question import Round, Standing
from mnistlab.comparison.wording import format_difference, format_value

MAX_OPTIONS = 12


def describe_standing(standing: Standing, found: Round, objective: str) -> str:
    """How an option stands: how far it is behind the leader, or why it gets no further seeds."""
    seeds = f" ({standing.num_seeds} seeds)"
    if standing.words:
        return standing.words + seeds
    if standing.option == found.leader:
        return "leads"
    if standing.difference is None or standing.low is None or standing.high is None:
        return "no test is possible yet"
    return f"behind by {format_difference(objective, standing.difference, standing.low, standing.high)}"


def round_text(found: Round, objective: str, title: str = "") -> str:
    """The ranking after a round: a line for each option, those in doubt first."""
    open_options = found.open
    doubt = f"{len(open_options)} of {len(found.standings)} options in doubt" if open_options else "nothing in doubt"
    lines = [f"{title}After {found.num_seeds} seeds ({found.num_runs} runs): {doubt}"]
    shown = found.standings[:MAX_OPTIONS]
    width = max(len(standing.option) for standing in shown)
    for standing in shown:
        value = format_value(objective, standing.mean)
        lines.append(f"  {standing.option:{width}}  {value:>9}  {describe_standing(standing, found, objective)}")
    if len(found.standings) > len(shown):
        lines.append(f"  and {len(found.standings) - len(shown)} more")
    return "\n".join(lines)
