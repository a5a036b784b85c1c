"""Split patients into folds that resemble each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossmod.errors import DataError

if TYPE_CHECKING:
    from crossmod.data.cohorts import Case


def held_out(
    cases: Sequence[Case], count: int, seed: int, origins: Mapping[str, int]
) -> list[set[str]]:
    """The patients that each of ``count`` folds validates with; see `Cohort.folds`.

    Raises:
        DataError: fewer patients than folds.
    """
    strata = _strata(cases, origins)
    patients = sum(map(len, strata))
    if patients < count:
        raise DataError(
            f"{patients} patients cannot be split into {count} folds",
            fix="use fewer folds or more cases",
        )
    rng = np.random.default_rng([seed, count])
    order = [stratum[p] for stratum in strata for p in rng.permutation(len(stratum))]
    return [set(order[fold::count]) for fold in range(count)]


def _strata(cases: Sequence[Case], origins: Mapping[str, int]) -> list[list[str]]:
    """The patients of every origin and center, each in the stratum of the first case."""
    first = {case.patient: case.center for case in reversed(cases)}
    stratum_of = {patient: (origins.get(patient, 0), first[patient]) for patient in first}
    return [
        sorted(patient for patient in first if stratum_of[patient] == stratum)
        for stratum in sorted(set(stratum_of.values()))
    ]
