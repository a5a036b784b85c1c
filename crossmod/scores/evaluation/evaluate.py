"""Score one folder of label maps against another, and write what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossmod.data.classes import Classes
from crossmod.files.outputs import Inputs, Outputs, takes_all
from crossmod.scores.evaluation.folders import compare_all, label_pairs
from crossmod.scores.evaluation.sheets import percentile_sheet, summary_sheet
from crossmod.scores.evaluation.summary import Group, summarize, write_summary
from crossmod.scores.metrics import CASE_KEYS, write_scores
from crossmod.scores.sheets import FORMATS, Sheet, write_sheets
from crossmod.scores.table import TOLERANCE_MM
from crossmod.stages.context import Progress, silent_progress


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        cases: how many were scored.
        groups: means, spread and percentiles.
        sheets: the same as tables for people: means of each class, then percentiles of each.
        remarks: oddities of the files.
    """

    cases: int
    groups: Sequence[Group]
    sheets: Sequence[Sheet]
    remarks: Sequence[str]


def evaluate(
    predictions: Path,
    references: Path,
    classes: Classes,
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
        classes: the values of each; cases are also grouped by the size of the first.
        centers: center -> pattern of case ids; the first match counts.
        scores: the CSV file to write, a row for each case and class.
        summary: the CSV file for means and percentiles; tables as Markdown and LaTeX are
            written beside it. None: not written.
        tolerance_mm: surfaces this close agree, for the NSD.
        challenge: measure distances as CrossMoDA 2022 did.
        progress: wraps the iteration over cases.

    Raises:
        DataError: lists every case that cannot be scored, or an output file that belongs to others.
        MachineError: a file cannot be written.
    """
    pairs = label_pairs(predictions, references, centers)
    inputs = Inputs(tuple(file for pair in pairs for file in (pair.prediction, pair.reference)))
    for file in (scores, summary, *tables_beside(summary)):
        if file is not None:
            _outputs(file, inputs).require([file.name], fix="name another file")
    outcomes, remarks = compare_all(
        progress(pairs, total=len(pairs)), classes, tolerance_mm=tolerance_mm, challenge=challenge
    )
    groups = summarize(outcomes, next(iter(classes.values)))
    sheets = [
        make(groups, name) for make in (summary_sheet, percentile_sheet) for name in classes.values
    ]
    with _outputs(scores, inputs).file(scores.name) as draft:
        write_scores(draft, outcomes, keys=CASE_KEYS)
    if summary is not None:
        with _outputs(summary, inputs).file(summary.name) as draft:
            write_summary(draft, groups)
        if tables_beside(summary):
            write_sheets(_outputs(summary, inputs), summary.stem, sheets)
    return Evaluation(len(pairs), groups, sheets, remarks)


def tables_beside(summary: Path | None) -> list[Path]:
    """The files for people that are written with a summary; none where that is a device."""
    if summary is None or takes_all(summary):
        return []
    return [summary.with_suffix(ending) for ending in FORMATS]


def _outputs(file: Path, inputs: Inputs) -> Outputs:
    return Outputs(file.parent, "crossmod evaluate", inputs)
