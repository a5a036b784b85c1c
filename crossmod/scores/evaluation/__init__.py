"""Score a folder of label maps against another, and summarize the scores."""

from crossmod.scores.evaluation.evaluate import Evaluation, evaluate
from crossmod.scores.evaluation.folders import (
    COLUMNS,
    Compared,
    LabelPair,
    Outcome,
    compare_all,
    label_pairs,
    write_outcomes,
)
from crossmod.scores.evaluation.summary import (
    BETTER,
    LARGE_MM3,
    RUNGS,
    SMALL_MM3,
    Group,
    Spread,
    summarize,
    write_summary,
)

__all__ = [
    "BETTER",
    "COLUMNS",
    "LARGE_MM3",
    "RUNGS",
    "SMALL_MM3",
    "Compared",
    "Evaluation",
    "Group",
    "LabelPair",
    "Outcome",
    "Spread",
    "compare_all",
    "evaluate",
    "label_pairs",
    "summarize",
    "write_outcomes",
    "write_summary",
]
