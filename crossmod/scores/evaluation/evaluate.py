"""Score one folder of label maps against another, and write what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossmod.files.outputs import Inputs, Outputs
from crossmod.scores.evaluation.folders import compare_all, label_pairs
from crossmod.scores.evaluation.summary import Group, summarize, write_summary
from crossmod.scores.metrics import write_scores
from crossmod.scores.table import TOLERANCE_MM
from crossmod.stages.base import Progress, silent_progress

COLUMNS = ("case", "center", "class")
"""What a row is about; the metrics follow."""


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        cases: how many were scored.
        groups: means, spread and percentiles.
        remarks: oddities of the files.
    """

    cases: int
    groups: Sequence[Group]
    remarks: Sequence[str]


def evaluate(
    predictions: Path,
    references: Path,
    classes: Mapping[str, int],
    centers: Mapping[str, str],
    *,
    scores: Path,
    summary: Path | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    challenge: bool = False,
    progress: Progress = silent_progress,
) -> Evaluation:
    """Score every case of two folders.

    Args:
        predictions: folder of predicted label maps.
        references: folder of true label maps.
        classes: class name -> label; cases are also grouped by the size of the first.
        centers: center -> pattern of case ids; the first match counts.
        scores: the CSV file to write, a row for each case and class.
        summary: the CSV file for means and percentiles; None: not written.
        tolerance_mm: surfaces this close agree, for the NSD.
        challenge: measure distances as CrossMoDA 2022 did.
        progress: wraps the iteration over cases.

    Raises:
        DataError: lists every case that cannot be scored, or an output file that belongs to others.
        MachineError: a file cannot be written.
    """
    pairs = label_pairs(predictions, references, centers)
    inputs = Inputs(tuple(file for pair in pairs for file in (pair.prediction, pair.reference)))
    files = {
        file: Outputs(file.parent, "crossmod evaluate", inputs)
        for file in (scores, summary)
        if file
    }
    for file, outputs in files.items():
        outputs.require([file.name], fix="name another file")
    outcomes, remarks = compare_all(
        progress(pairs, total=len(pairs)), classes, tolerance_mm=tolerance_mm, challenge=challenge
    )
    groups = summarize(outcomes, next(iter(classes)))
    with files[scores].file(scores.name) as draft:
        write_scores(draft, outcomes, keys=COLUMNS)
    if summary is not None:
        with files[summary].file(summary.name) as draft:
            write_summary(draft, groups)
    return Evaluation(len(pairs), groups, remarks)
