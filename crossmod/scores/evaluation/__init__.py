"""Score a folder of label maps against another, and summarize the scores."""

from crossmod.scores.evaluation.evaluate import Evaluation, evaluate, tables_beside
from crossmod.scores.evaluation.folders import Compared, LabelPair, compare_all, label_pairs
from crossmod.scores.evaluation.summary import RUNGS, Group, Spread, summarize, write_summary

__all__ = [
    "RUNGS",
    "Compared",
    "Evaluation",
    "Group",
    "LabelPair",
    "Spread",
    "compare_all",
    "evaluate",
    "label_pairs",
    "summarize",
    "tables_beside",
    "write_summary",
]
