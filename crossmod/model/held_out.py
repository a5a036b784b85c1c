"""Calibrate a model on source scans: each is outlined by the fold that did not learn from it.

The other folds did learn from it, so that a source scan shows how far one fold is off where it
differs from folds that know better. Of a new scan no fold does, and all may be wrong together. No
label of the target takes part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossmod.data.cohorts import Cohort
from crossmod.data.overlap import dice
from crossmod.data.state import State
from crossmod.data.volumes import LabelArray, Pair
from crossmod.errors import DataError
from crossmod.files.atomic import damaged_files, read_manifest
from crossmod.model.calibration import Calibration, fit_curve
from crossmod.model.ensemble import Ensemble
from crossmod.model.facts import HeldOut, Stage
from crossmod.stages.context import Context, Progress, silent_progress

AGAIN = "rerun the same recipe into the folder; finished steps are kept"


class Known(NamedTuple):
    """The outline of a structure by a fold that did not learn from the case.

    Attributes:
        patient: whom the case shows.
        structure: class name.
        agreement: mean Dice with what each of the other folds outlines.
        dice: Dice with the label map of the case; 0 where that does not have the structure.
    """

    patient: str
    structure: str
    agreement: float
    dice: float


def calibrate(known: Sequence[Known], step: str, classes: Iterable[str]) -> Calibration:
    """Learn what Dice to expect at which agreement, one curve for each class.

    Args:
        known: outlines whose Dice is known.
        step: whose cases they are of.
        classes: class names.
    """
    curves = {}
    for name in classes:
        own = [one for one in known if one.structure == name]
        columns = ([getattr(one, what) for one in own] for what in ("agreement", "dice", "patient"))
        curve = fit_curve(*columns)
        if curve:
            curves[name] = curve
    return Calibration(step=step, curves=curves)


def known_outlines(
    run: Path,
    held_out: HeldOut,
    ensemble: Ensemble,
    states: Sequence[State],
    ctx: Context,
    progress: Progress = silent_progress,
) -> list[Known]:
    """Outline every source scan by the fold that did not learn from it, and by the others.

    Args:
        run: a run folder.
        held_out: where the scans are.
        ensemble: the segmenter.
        states: what each fold has learned.
        ctx: seed, device and precision.
        progress: wraps the iteration over scans.

    Raises:
        DataError: the scans are missing or damaged.
    """
    cohort, count = _cohort(run, held_out), sum(map(len, held_out.cases))
    each = _known(cohort, held_out, ensemble, states, ctx)
    return [one for known in progress(each, total=count) for one in known]


def require_held_out(run: Path, stage: Stage) -> HeldOut:
    """What folds did not learn from.

    Raises:
        DataError: every fold learned from all scans, or the run does not say which it left out.
    """
    if stage.held_out:
        return stage.held_out
    if len(stage.folds) == 1:
        what = "cannot be calibrated: its only fold learned from every source scan"
        fix = "set folds in [segment] to 2 or more, or package without --calibrate"
    else:
        what = "cannot be calibrated: it does not say which source scans each fold left out"
        fix = f"{AGAIN}; a stage that learned from no source scan is packaged without --calibrate"
    raise DataError(what, where=str(run), fix=fix)


def _cohort(run: Path, held_out: HeldOut) -> Cohort:
    folder = run / held_out.folder
    if read_manifest(folder).get("key") != held_out.key:
        raise DataError("does not hold the scans of this run", where=str(folder), fix=AGAIN)
    if damaged := damaged_files(folder):
        raise DataError(f"is damaged: {', '.join(damaged)}", where=str(folder), fix=AGAIN)
    return Cohort.load(folder)


def _known(
    cohort: Cohort,
    held_out: HeldOut,
    ensemble: Ensemble,
    states: Sequence[State],
    ctx: Context,
) -> Iterator[list[Known]]:
    """What is known of each case."""
    for fold, cases in enumerate(held_out.cases):
        mine = set(cases)
        unseen = replace(cohort, cases=tuple(one for one in cohort.cases if one.case in mine))
        given = ensemble.members(unseen.volumes(), states, ctx)
        for members, case in zip(given, unseen.cases, strict=True):
            maps = [one.labels for one in members]
            yield _judged(ensemble, maps.pop(fold), maps, case.pair())


def _judged(
    ensemble: Ensemble, own: LabelArray, others: Sequence[LabelArray], given: Pair
) -> list[Known]:
    """What is known of the classes that a fold outlines."""
    outlined = ensemble.cleaned(own)
    agreed = [ensemble.agreement([own, other], outlined) for other in others]
    return [
        Known(
            given.patient,
            name,
            float(np.mean([one[name] for one in agreed])),
            dice(outlined == label, given.labels == label),
        )
        for name, label in ensemble.classes.labels.items()
        if (outlined == label).any()
    ]
