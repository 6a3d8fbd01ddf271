"""The report of a comparison: a self-contained HTML page, Markdown, CSV, JSON and PNG figures in a folder."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnistlab.comparison import searched, tables, tuned
from mnistlab.comparison.across import across_data
from mnistlab.comparison.answer_tables import answer_table, rounds_table
from mnistlab.comparison.collection import collection_paused
from mnistlab.comparison.curve_figures import curves_figure, learning_rates_figure
from mnistlab.comparison.curves import DIAGNOSIS_RULE
from mnistlab.comparison.data_sets import group_by_data
from mnistlab.comparison.figures import final_values_figure, learning_rate_figure, time_to_target_figure
from mnistlab.comparison.images import confusions_figure, disagreement_figure
from mnistlab.comparison.interaction_figure import interaction_figure
from mnistlab.comparison.interaction_wording import METHOD
from mnistlab.comparison.option_panels import option_panels_figure
from mnistlab.comparison.outlook import one_more_hour, paragraph
from mnistlab.comparison.race_figure import rounds_figure
from mnistlab.comparison.records import RunRecord
from mnistlab.comparison.results import AcrossData, Comparison, to_json
from mnistlab.comparison.search_figures import history_figure, importances_figure, parallel_figure
from mnistlab.comparison.style import VERY_MANY, drawing_settings, render_png, render_svg
from mnistlab.comparison.tables import leading_rows

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("mnistlab.comparison", ""),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
SOURCES = (
    "Demsar (2006), Statistical comparisons of classifiers over multiple data sets, JMLR 7",
    "Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6",
    "Smyth (2004), Linear models and empirical Bayes methods, Stat. Appl. Genet. Mol. Biol. 3",
    "Dahl et al. (2023), Benchmarking neural network training algorithms (AlgoPerf), arXiv 2306.07179",
)


@dataclass(frozen=True)
class RenderedFigure:
    """A figure with its file name, as PNG bytes and as an SVG for the page."""

    name: str
    caption: str
    png: bytes
    svg: str


@dataclass(frozen=True)
class AcrossSection:
    """The section on all data sets together."""

    across: AcrossData
    tables: dict[str, tables.Table]
    figures: dict[str, RenderedFigure]


@dataclass(frozen=True)
class Section:
    """The section of one data set; prefix of its file names ("" for the first)."""

    comparison: Comparison
    prefix: str
    summary: str
    tables: dict[str, tables.Table]
    figures: dict[str, RenderedFigure]
    outlook: str
    paragraph: str


@collection_paused()
def write_report(
    comparison: Comparison | Sequence[Comparison],
    records: Sequence[RunRecord],
    folder: str | Path,
    images: NDArray[np.uint8] | None = None,
    labels: NDArray[Any] | None = None,
    write: Callable[[Path, bytes], object] = Path.write_bytes,
) -> list[Path]:
    """Write the report and return its files: report.html and report.md first.

    comparison: one, or the list of `compare_by_data`, which gives a section (and files with a prefix) per data
    set. images: test images, uint8, shape (n, height, width, channels); labels: int, shape (n,); both in the order
    of the records' predictions, for the figure of images on which options disagree. write: writes one file. The page
    embeds its figures and has no external references.
    """
    comparisons = [comparison] if isinstance(comparison, Comparison) else list(comparison)
    if not comparisons:
        raise ValueError("comparison: nothing to report. Received: an empty list")
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    test_set = None if images is None or labels is None else (images, labels)
    groups = _group_records(comparisons, records)
    sections = [
        _section(one, runs, number, test_set if len(comparisons) == 1 else None)
        for number, (one, runs) in enumerate(zip(comparisons, groups, strict=True))
    ]
    across = _across_section(comparisons) if len(comparisons) > 1 else None
    verdict = across.across.verdict if across else sections[0].comparison.verdict
    context: dict[str, Any] = {"sections": sections, "verdict": verdict, "across": across}
    context["interaction_method"] = METHOD if across or any(one.interaction for one in comparisons) else ""
    sources = SOURCES + (tuned.SOURCES if any(one.tuned for one in comparisons) else ())
    sources += searched.SOURCES if any(one.searched for one in comparisons) else ()
    context |= {"sources": sources, "diagnosis_rule": DIAGNOSIS_RULE, "describe_best": searched.describe_best}
    html = TEMPLATES.get_template("report.html.j2").render(context)
    files = {"report.html": html.encode(), "report.md": _markdown(context).encode()}
    files |= _across_files(across) if across else {}
    for section in sections:
        files |= _section_files(section)
    for name, content in files.items():
        write(folder / name, content)
    return [folder / name for name in files]


def _across_files(section: AcrossSection) -> dict[str, bytes]:
    files = {
        "by_data.csv": tables.interaction_csv(section.across.interaction).encode(),
        "across.json": to_json(section.across).encode(),
    }
    return files | {f"figures/{figure.name}.png": figure.png for figure in section.figures.values()}


def _section_files(section: Section) -> dict[str, bytes]:
    comparison = section.comparison
    files = {
        f"{section.prefix}table.csv": tables.options_csv(comparison),
        f"{section.prefix}scores.csv": tables.scores_csv(comparison),
        f"{section.prefix}pairs.csv": tables.pairs_csv(comparison),
        f"{section.prefix}comparison.json": to_json(comparison),
    }
    if comparison.interaction:
        files[f"{section.prefix}interaction.csv"] = tables.interaction_csv(comparison.interaction)
    if comparison.tuned:
        files[f"{section.prefix}tuning.csv"] = tuned.tuning_csv(comparison.tuned)
    if comparison.searched:
        files[f"{section.prefix}trials.csv"] = searched.trials_csv(comparison.searched, comparison.objective)
    figures = {f"figures/{figure.name}.png": figure.png for figure in section.figures.values()}
    return {name: text.encode() for name, text in files.items()} | figures


def _group_records(comparisons: Sequence[Comparison], records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The records of each comparison, by the rule that `compare_by_data` follows."""
    keys = [*comparisons[0].data_axis, *comparisons[0].axis]
    groups = {one.name: one.records for one in group_by_data(records, keys).data_sets}
    if len(comparisons) == 1 and (len(groups) == 1 or comparisons[0].data not in groups):
        return [list(records)]
    unknown = [one.data for one in comparisons if one.data not in groups]
    if unknown:
        raise ValueError(f"records: no run was trained on {', '.join(unknown)}. Choices: {', '.join(groups)}")
    return [groups[one.data] for one in comparisons]


def _across_section(comparisons: Sequence[Comparison]) -> AcrossSection:
    across = across_data(comparisons)
    found = across.interaction
    contrasts = tables.contrasts_table(found)
    shown = {"interaction": tables.interaction_table(found)} | ({"contrasts": contrasts} if contrasts else {})
    with drawing_settings():
        figure = interaction_figure(found)
        rendered = {"by_data": _rendered("by_data", "Options by data set", figure)} if figure else {}
    return AcrossSection(across, shown, rendered)


def _rendered(name: str, caption: str, figure: Figure) -> RenderedFigure:
    return RenderedFigure(name, caption, render_png(figure), render_svg(figure, name))


def _section(
    comparison: Comparison,
    records: Sequence[RunRecord],
    number: int,
    test_set: tuple[NDArray[np.uint8], NDArray[Any]] | None,
) -> Section:
    prefix = "" if number == 0 else f"data{number + 1}-"
    found = {
        "options": leading_rows(tables.with_counterpart(tables.options_table(comparison), comparison)),
        "rates": tuned.rates_table(comparison),
        "answer": answer_table(comparison),
        "rounds": rounds_table(comparison),
        "pairs": tables.pairs_table(comparison),
        "targets": leading_rows(tables.targets_table(comparison)),
        "curves": leading_rows(tables.curves_table(comparison)),
        "interaction": tables.interaction_table(comparison.interaction) if comparison.interaction else None,
        "contrasts": tables.contrasts_table(comparison.interaction) if comparison.interaction else None,
        "grid": tables.grid_table(comparison.grid, comparison.objective) if comparison.grid else None,
        "tuning": tuned.tuning_table(comparison),
        "trials": searched.trials_table(comparison),
        "failures": tables.failures_table(records, comparison.objective),
    }
    return Section(
        comparison,
        prefix,
        _summary_line(comparison),
        {name: table for name, table in found.items() if table},
        _render_figures(comparison, records, prefix, test_set),
        one_more_hour(comparison),
        paragraph(comparison),
    )


def _summary_line(comparison: Comparison) -> str:
    """The subject: "axis optimizer · 7 options · 35 runs on 5 seeds · data mnist"."""
    runs = sum(option.num_runs for option in comparison.options)
    seeds = f"{len(comparison.seeds)} seed{'' if len(comparison.seeds) == 1 else 's'}"
    axis = " and ".join(comparison.axis)
    options = f"{len(comparison.options)} option{'' if len(comparison.options) == 1 else 's'}"
    data = f" · data {comparison.data}" if comparison.data else ""
    return f"axis {axis} · {options} · {runs} runs on {seeds} · objective {comparison.objective}{data}"


def _render_figures(
    comparison: Comparison,
    records: Sequence[RunRecord],
    prefix: str,
    test_set: tuple[NDArray[np.uint8], NDArray[Any]] | None,
) -> dict[str, RenderedFigure]:
    """All figures for which the records have data, in the order of the report."""
    both, is_large = (comparison, records), len(comparison.options) > VERY_MANY
    with drawing_settings():
        figures = {
            "final_values": ("Final values with intervals", final_values_figure(comparison)),
            "val_loss": ("Validation loss per epoch", curves_figure(*both, "loss")),
            "val_accuracy": ("Validation accuracy per epoch", curves_figure(*both, "accuracy")),
            "val_loss_seconds": ("Validation loss over training time", curves_figure(*both, "loss", "seconds")),
            "val_accuracy_seconds": (
                "Validation accuracy over training time",
                None if is_large else curves_figure(*both, "accuracy", "seconds"),
            ),
            "loss_by_option": ("Training and validation loss of each option", option_panels_figure(*both, "loss")),
            "accuracy_by_option": (
                "Training and validation accuracy of each option",
                None if is_large else option_panels_figure(*both, "accuracy"),
            ),
            "rates": ("Learning rate per epoch", learning_rates_figure(*both)),
            "rounds": ("How the verdict came about", rounds_figure(comparison)),
            "interaction": ("Options by both axes", _interaction_figure(comparison)),
            "time_to_target": ("Time to target", time_to_target_figure(comparison)),
            "learning_rates": ("Learning-rate sensitivity", learning_rate_figure(_with_grid(comparison))),
            "search_history": ("Score of each trial", history_figure(comparison)),
            "search_importances": ("Importance of the settings", importances_figure(comparison)),
            "search_parallel": ("Settings and scores of the trials", parallel_figure(comparison)),
            "confusions": ("Confusion matrices", confusions_figure(*both)),
        }
        if test_set is not None:
            caption = "Test images on which the options disagree most"
            figures["disagreement"] = (caption, disagreement_figure(*both, *test_set))
        return {
            name: _rendered(prefix + name, caption, figure)
            for name, (caption, figure) in figures.items()
            if figure is not None
        }


def _with_grid(comparison: Comparison) -> Comparison:
    """With the grid of the tuning, if there is one."""
    return dataclasses.replace(comparison, grid=comparison.tuned.grid) if comparison.tuned else comparison


def _interaction_figure(comparison: Comparison) -> Figure | None:
    return interaction_figure(comparison.interaction) if comparison.interaction else None


def _markdown(context: dict[str, Any]) -> str:
    """The verdict, then the tables and figures of each data set."""
    lines = [f"**{_escaped(context['verdict'])}**", ""]
    if context["across"]:
        lines += _across_markdown(context["across"])
    for section in context["sections"]:
        comparison = section.comparison
        if len(context["sections"]) > 1:
            lines += [f"## Data: {_escaped(comparison.data)}", "", _escaped(comparison.verdict), ""]
        lines += [_escaped(section.summary), ""]
        lines += [f"- **{note.level}:** {_escaped(note.text)}" for note in comparison.notes]
        lines += ["", _escaped(comparison.convergence), ""]
        if comparison.interaction:
            lines += [f"{_escaped(comparison.interaction.sentence)}.", ""]
        lines += _markdown_of(section)
        lines += [f"{_escaped(comparison.new_images)}.", ""] if comparison.new_images else []
        lines += [_escaped(section.outlook), ""] if section.outlook else []
        lines += ["### For a paper", "", _escaped(section.paragraph), ""] if section.paragraph else []
        lines += ["### Method", "", comparison.method, ""]
    lines += [context["interaction_method"], ""] if context["interaction_method"] else []
    lines += [f"Curves: {context['diagnosis_rule']}", "", *(f"- {source}" for source in context["sources"]), ""]
    return "\n".join(lines)


def _across_markdown(section: AcrossSection) -> list[str]:
    lines = [_escaped(section.across.ranking), "", *_markdown_of(section)]
    return [*lines, *(f"- {_escaped(sentence)}" for sentence in section.across.not_compared), ""]


def _markdown_of(section: Section | AcrossSection) -> list[str]:
    """The tables, then the figures of a section."""
    lines = []
    for table in section.tables.values():
        lines += [f"### {_escaped(table.title)}", "", *_markdown_table(table), ""]
    for figure in section.figures.values():
        lines += [f"![{figure.caption}](figures/{figure.name}.png)", ""]
    return lines


def _markdown_table(table: tables.Table) -> list[str]:
    rows = [table.header, ["---"] * len(table.header), *table.rows]
    return [f"| {' | '.join(map(_escaped, row))} |" for row in rows]


def _escaped(text: str) -> str:
    """The text with Markdown's special characters escaped; batch_gd keeps its underscore."""
    return re.sub(r"([\\*_|<`])", r"\\\1", text).replace("\n", " ")
