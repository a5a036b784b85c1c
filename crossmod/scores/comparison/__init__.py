"""Variants and seeds of one recipe in one table, with paired statistics."""

from crossmod.scores.comparison.differences import Difference
from crossmod.scores.comparison.files import write_differences, write_rows
from crossmod.scores.comparison.sheets import difference_sheet, row_sheet
from crossmod.scores.comparison.trials import Comparison, Row, Trial, compare_trials
from crossmod.scores.sizes import Sizes

__all__ = [
    "Comparison",
    "Difference",
    "Row",
    "Sizes",
    "Trial",
    "compare_trials",
    "difference_sheet",
    "row_sheet",
    "write_differences",
    "write_rows",
]
