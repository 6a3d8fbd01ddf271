"""Compare the options of a sweep from plain run records: tests, fairness, report. Needs no MLflow and no Keras."""

from mnistlab.comparison.across import across_data
from mnistlab.comparison.compare import compare, compare_by_data
from mnistlab.comparison.fairness import fairness
from mnistlab.comparison.records import RunRecord
from mnistlab.comparison.results import AcrossData, Comparison, to_json
from mnistlab.comparison.terminal import print_summary, terminal_summary

__all__ = [
    "AcrossData",
    "Comparison",
    "RunRecord",
    "across_data",
    "compare",
    "compare_by_data",
    "fairness",
    "print_summary",
    "terminal_summary",
    "to_json",
]
