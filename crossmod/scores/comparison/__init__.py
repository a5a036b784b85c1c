"""Variants and seeds of one recipe in one table, with paired statistics."""

from crossmod.scores.comparison.differences import Difference
from crossmod.scores.comparison.files import write_differences, write_latex, write_rows
from crossmod.scores.comparison.trials import Comparison, Row, Trial, compare_trials
from crossmod.scores.sizes import Sizes

__all__ = [
    "Comparison",
    "Difference",
    "Row",
    "Sizes",
    "Trial",
    "compare_trials",
    "write_differences",
    "write_latex",
    "write_rows",
]
