"""Compare the options of a sweep from plain run records: tests, fairness, report. Needs no MLflow and no Keras."""

from mnistlab.comparison.across import across_data
from mnistlab.comparison.compare import compare, compare_by_data
from mnistlab.comparison.data_sets import data_axes
from mnistlab.comparison.fairness import fairness
from mnistlab.comparison.metric_names import metric_direction
from mnistlab.comparison.records import RunRecord
from mnistlab.comparison.results import AcrossData, Comparison, to_json
from mnistlab.comparison.terminal import print_summary, terminal_summary, terminal_summary_across

__all__ = [
    "AcrossData",
    "Comparison",
    "RunRecord",
    "across_data",
    "compare",
    "compare_by_data",
    "data_axes",
    "fairness",
    "metric_direction",
    "print_summary",
    "terminal_summary",
    "terminal_summary_across",
    "to_json",
]
