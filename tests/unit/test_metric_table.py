"""The table of metrics: what an entry may say, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from crossmod.scores.table import (
    ASSD,
    BUILT_IN,
    DICE,
    HD95,
    NSD,
    VOLUME,
    VOLUME_ERROR,
    Masks,
    metrics,
    penalties,
    reported,
    summarized,
)


def masks(predicted: int, expected: int) -> Masks:
    """Two rows of voxels."""
    first, second = np.zeros((2, 4, 1, 1), bool)
    first[:predicted], second[:expected] = True, True
    return Masks(first, second, (1.0, 1.0, 2.0), voxel_mm3=2.0)


def test_without_other_packages_the_metrics_are_those_of_crossmod() -> None:
    assert metrics() == BUILT_IN
    assert reported() == (DICE, ASSD)
    assert summarized() == (DICE, ASSD, HD95, NSD, VOLUME_ERROR)


def test_names_of_columns_end_with_the_unit() -> None:
    assert [m.column for m in (DICE, ASSD, VOLUME)] == ["dice", "assd_mm", "volume_mm3"]
    assert ASSD.named("mean") == "assd_mean_mm"
    assert VOLUME_ERROR.column == "volume_error"
    assert (ASSD.heading, ASSD.title, DICE.title) == ("ASSD mm", "ASSD (mm)", "Dice")


def test_a_missing_structure_has_the_value_of_the_entry() -> None:
    for metric in (DICE, ASSD, HD95, NSD):
        assert metric.measure(masks(2, 0)) == metric.measure(masks(0, 2)) == metric.missing
        assert math.isnan(metric.measure(masks(0, 0)))
    assert VOLUME_ERROR.measure(masks(0, 2)) == -1
    assert math.isnan(VOLUME_ERROR.measure(masks(2, 0)))
    assert VOLUME.measure(masks(2, 0)) == 0
    assert penalties([DICE, VOLUME]) == "Dice 0"
    assert penalties([DICE, ASSD, NSD]) == "Dice 0, ASSD 350 mm and NSD 0"


def test_values_are_shown_with_their_digits() -> None:
    assert [DICE.text(0.5), ASSD.text(0.5), VOLUME_ERROR.text(-0.25)] == ["0.500", "0.50", "-25.0"]
    assert DICE.text(math.nan) == "n/a"


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": name} for name in ("", "HD", "a b", "9", "case", "x" * 41)),
        *({"label": label} for label in ("", "a\nb", "x" * 41)),
        *({"missing": missing} for missing in (None, math.nan, math.inf)),
    ],
    ids=str,
)
def test_an_entry_that_fits_no_table_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"metric|label"):
        replace(DICE, **changes)
