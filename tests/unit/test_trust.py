"""Which pseudo-labels self-training trusts: limits, ranks, masks, and the signs of drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crossmod_self_training import SelfTraining, SelfTrainingOptions
from crossmod_self_training.drift import other_side_mm3, signs

from crossmod import Cohort, Context, History, LabelArray, Pair, Prediction, Volume
from crossmod.data.cohorts import CohortWriter

SHAPE = (20, 12, 8)
CLASSES = {"tumor": 1, "cochlea": 2}
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
NOTHING = History()


def lump(size: int = 4, at: int = 2) -> LabelArray:
    """A cube with this edge, and a cochlea of 2 voxels."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[at : at + size, 2 : 2 + size, 1 : 1 + size] = 1
    labels[18, 10, 6:8] = 2
    return labels


def prediction(
    case: str, labels: LabelArray, folds: Sequence[LabelArray] = (), certainty: float = 0.9
) -> Prediction:
    shares = np.full((3, *SHAPE), (1 - certainty) / 2, np.float32)
    np.put_along_axis(shares, labels[None].astype(int), certainty, axis=0)
    image = Volume.of(np.zeros((1, *SHAPE), np.float32), AFFINE, case=case, center="ldn")
    return Prediction(image, shares, (lambda: np.stack(folds)) if folds else None)


def three(shift: int) -> list[LabelArray]:
    """Two folds that agree, and one that is some voxels off."""
    return [lump(), lump(), lump(at=2 + shift)]


def cohort(folder: Path, **labels: LabelArray) -> Cohort:
    writer = CohortWriter(folder, CLASSES)
    for case, values in labels.items():
        image = Volume.of(np.zeros((1, *SHAPE), np.float32), AFFINE, case=case)
        writer.add(image, labels=values)
    return writer.close()


class Selected:
    """What a selection gave: pairs by case, the ledger by case, the log."""

    def __init__(self, given: Sequence[Prediction], history: History, **options: Any) -> None:
        self.ledger: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []
        ctx = Context(Path(), classes=CLASSES, log=self.log.append, metric=self._note)
        options = {"structure": "tumor", "largest_component": ("tumor",), **options}
        self.stage = SelfTraining(SelfTrainingOptions(**options))
        found = self.stage.select(iter(given), history, ctx)
        self.pairs: dict[str, Pair] = {pair.case: pair for pair in found}

    def _note(self, **row: Any) -> None:
        self.ledger[row["case"]] = row

    @property
    def why(self) -> dict[str, str]:
        return {case: row["why"] for case, row in self.ledger.items() if row["kept"] == "no"}


def test_by_default_nothing_is_asked_of_the_core_and_nothing_noted() -> None:
    found = Selected([prediction("a", lump(), three(4))], NOTHING)
    stage = found.stage
    assert (stage.reads_folds, stage.reads_source, stage.gives_weights) == (False, False, False)
    assert found.ledger == {}
    assert (found.pairs["a"].weight, found.pairs["a"].ignore) == (1.0, None)


@pytest.mark.parametrize(
    "options",
    [
        {"min_agreement": 0.5},
        {"volume_window": (0.2, 1.8)},
        {"max_entropy": 0.3},
        {"max_change": 0.5},
        {"mask_below": 1.0},
        {"lowest_weight": 0.5},
        {"shares": (0.5,)},
        {"ledger": True},
    ],
)
def test_every_option_asks_for_what_it_needs(options: dict[str, Any]) -> None:
    stage = SelfTraining(SelfTrainingOptions(**options))
    assert stage.reads_folds
    assert stage.gives_weights == (not {"mask_below", "lowest_weight"}.isdisjoint(options))


def test_cases_about_which_folds_disagree_are_dropped() -> None:
    given = [prediction("sure", lump(), three(0)), prediction("torn", lump(), three(2))]
    found = Selected(given, NOTHING, min_agreement=0.9)
    assert list(found.pairs) == ["sure"]
    # Of cubes of 4 voxels, two that are 2 voxels off share one half: (1 + 1/2 + 1/2) / 3.
    assert found.ledger["torn"]["agreement_tumor"] == pytest.approx(2 / 3)
    assert found.why == {"torn": "agreement 0.67"}
    assert found.log == ["torn: dropped, agreement 0.67"]
    assert list(Selected(given, NOTHING, min_agreement=0.6).pairs) == ["sure", "torn"]


def test_only_what_touches_the_pseudo_label_is_compared() -> None:
    stray = lump()
    stray[15:17, 2:4, 1:3] = 1
    found = Selected([prediction("a", lump(), [lump(), stray])], NOTHING, ledger=True)
    assert found.ledger["a"]["agreement_tumor"] == 1


def test_volumes_are_compared_with_those_of_the_source(tmp_path: Path) -> None:
    history = History((), cohort(tmp_path, s=lump(4), t=lump(4)))
    given = [prediction(str(size), lump(size)) for size in (2, 4, 5)]
    found = Selected(given, history, volume_window=(0.2, 1.8))
    assert list(found.pairs) == ["4"]
    assert found.ledger["4"]["volume_mm3_tumor"] == 4**3 * 2
    assert found.ledger["5"]["volume_ratio_tumor"] == pytest.approx(125 / 64)
    assert found.why["2"] == "tumor of 0.12 times the mean volume of the source"
    without = lump()
    without[without == 2] = 0
    lost = Selected([prediction("a", without)], history, volume_window=(0.2, 1.8))
    assert lost.why == {"a": "cochlea of 0.00 times the mean volume of the source"}


def test_the_window_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="volume_window"):
        SelfTrainingOptions(volume_window=(1.8, 0.2))


def test_entropy_is_that_inside_the_structure() -> None:
    given = [prediction("sure", lump()), prediction("unsure", lump(), certainty=0.5)]
    found = Selected(given, NOTHING, max_entropy=0.3)
    assert found.ledger["unsure"]["entropy"] == pytest.approx(-0.5 * math.log(0.5))
    assert list(found.pairs) == ["sure"]


def test_cases_without_the_structure_that_are_wanted_pass_every_limit_but_the_window() -> None:
    nothing = np.zeros(SHAPE, np.uint8)
    limits = {"min_agreement": 0.9, "max_entropy": 0.1, "max_change": 0.1, "shares": (1.0,)}
    given = [prediction("a", nothing, [nothing, nothing])]
    found = Selected(given, NOTHING, keep_empty=True, mask_below=1.0, **limits)
    assert list(found.pairs) == ["a"]
    assert "entropy" not in found.ledger["a"]


def test_cases_that_change_much_between_rounds_are_dropped(tmp_path: Path) -> None:
    history = History((cohort(tmp_path, still=lump(), moved=lump(at=5)),))
    given = [prediction(case, lump()) for case in ("still", "moved", "new")]
    found = Selected(given, history, max_change=0.5)
    assert list(found.pairs) == ["still", "new"]
    assert found.ledger["moved"]["change"] == pytest.approx(1 - 2 * 16 / 128)
    assert "change" not in found.ledger["new"]


def test_voxels_about_which_folds_disagree_are_masked() -> None:
    given = [prediction("a", lump(), three(1))]
    ignore = Selected(given, NOTHING, mask_below=1.0).pairs["a"].ignore
    expected = np.zeros(SHAPE, bool)
    expected[[2, 6], 2:6, 1:5] = True
    np.testing.assert_array_equal(ignore, expected)
    most = Selected(given, NOTHING, mask_below=0.6).pairs["a"].ignore  # two of three are enough
    assert most is not None
    assert not most.any()


def test_components_that_cleaning_removed_stay_background() -> None:
    stray = lump()
    stray[15:17, 2:4, 1:3] = 1
    found = Selected([prediction("a", stray, [stray, lump()])], NOTHING, mask_below=1.0)
    pair = found.pairs["a"]
    assert pair.ignore is not None
    assert not pair.ignore[15:17].any()
    assert not pair.labels[15:17].any()


def torn(*shifts: int) -> list[Prediction]:
    """Cases about which folds disagree by so much."""
    return [prediction(f"c{shift}", lump(), three(shift)) for shift in shifts]


def test_the_least_trusted_count_least() -> None:
    found = Selected(torn(2, 0, 1), NOTHING, lowest_weight=0.2)
    weights = {case: pair.weight for case, pair in found.pairs.items()}
    assert weights == pytest.approx({"c2": 0.2, "c0": 1.0, "c1": 0.6})
    np.testing.assert_array_equal(found.pairs["c1"].labels, lump())
    [alone] = Selected(torn(2), NOTHING, lowest_weight=0.2).pairs.values()
    assert alone.weight == 1


def test_the_share_that_is_kept_grows_over_the_rounds(tmp_path: Path) -> None:
    rounds = tuple(cohort(tmp_path / str(n), a=lump()) for n in range(3))
    kept = [
        list(Selected(torn(2, 0, 1, 3), History(rounds[:n]), shares=(0.5, 0.75, 1.0)).pairs)
        for n in range(4)
    ]
    assert kept == [["c0", "c1"], ["c2", "c0", "c1"], *2 * [["c2", "c0", "c1", "c3"]]]
    found = Selected(torn(2, 0, 1, 3), NOTHING, shares=(0.5,))
    assert found.why["c3"] == "among the least trusted, 50% are kept"


def test_a_case_without_the_structure_is_the_least_trusted() -> None:
    nothing = np.zeros(SHAPE, np.uint8)
    given = [prediction("empty", nothing, [nothing] * 3), *torn(2)]
    found = Selected(given, NOTHING, keep_empty=True, lowest_weight=0.2)
    assert found.pairs["c2"].weight == 1
    assert found.pairs["empty"].weight == pytest.approx(0.2)


def test_a_share_is_of_what_other_options_leave() -> None:
    given = [*torn(0, 1, 2), prediction("empty", np.zeros(SHAPE, np.uint8))]
    found = Selected(given, NOTHING, shares=(0.34,), min_agreement=0.7)
    assert list(found.pairs) == ["c0"]
    assert found.why["empty"] == "no tumor found"


def test_masks_survive_the_ranking() -> None:
    found = Selected(torn(1, 0), NOTHING, lowest_weight=0.5, mask_below=1.0)
    ignore = found.pairs["c1"].ignore
    assert ignore is not None
    assert ignore.sum() == 2 * 16
    assert found.ledger["c1"]["masked_share"] == pytest.approx(32 / math.prod(SHAPE))


def test_folds_that_nobody_kept_are_no_reason_to_drop_a_case() -> None:
    found = Selected([prediction("a", lump())], NOTHING, min_agreement=0.9, mask_below=1.0)
    assert list(found.pairs) == ["a"]
    assert "agreement_tumor" not in found.ledger["a"]


def test_the_other_side_is_told_by_the_affine() -> None:
    labels = lump()
    assert other_side_mm3(labels, 1, AFFINE) == 0
    labels[15:17, 2:4, 1:3] = 1
    assert other_side_mm3(labels, 1, AFFINE) == 8 * 2
    turned = np.moveaxis(labels, 0, 1)
    assert other_side_mm3(np.ascontiguousarray(turned), 1, AFFINE[[1, 0, 2, 3]]) == 8 * 2
    assert other_side_mm3(np.zeros(SHAPE, np.uint8), 1, AFFINE) == 0


def figures(volume_mm3: float, stray: float = 0.0) -> dict[str, float]:
    return {"volume_mm3_tumor": volume_mm3, "other_side_mm3_tumor": stray}


def signs_of(tmp_path: Path, sizes_mm3: Sequence[float], strays: Sequence[float] = ()) -> list[str]:
    first = cohort(tmp_path, **{f"c{n}": lump(4) for n in range(len(sizes_mm3))})
    strays = strays or [0.0] * len(sizes_mm3)
    found = {f"c{n}": figures(*one) for n, one in enumerate(zip(sizes_mm3, strays, strict=True))}
    return list(signs(found, first, "tumor"))


@pytest.mark.parametrize(
    ("sizes_mm3", "words"),
    [
        ([170, 175, 180, 200, 120], "tumor grew in 4 of 5 cases, to 1.37 times"),
        ([60, 65, 70, 40, 200], "tumor shrank in 4 of 5 cases, to 0.51 times"),
        ([170, 200, 60, 50, 128], ""),  # in both directions
        ([130, 135, 140, 145, 140], ""),  # by little
        ([400, 400], ""),  # of which nothing can be said
    ],
)
def test_volumes_that_change_together_are_a_sign(
    tmp_path: Path, sizes_mm3: list[float], words: str
) -> None:
    found = signs_of(tmp_path, sizes_mm3)
    assert len(found) == bool(words)
    assert all(words in line for line in found)


def test_lesions_on_both_sides_are_a_sign(tmp_path: Path) -> None:
    assert signs_of(tmp_path, [128] * 4, [0, 0, 0, 5]) == []
    [line] = signs_of(tmp_path / "more", [128] * 4, [0, 0, 0, 20])
    assert "1 of 4 cases have tumor on the other side" in line


def test_a_round_that_trusts_nothing_says_so() -> None:
    found = Selected(torn(3, 4), NOTHING, min_agreement=0.9)
    assert found.log[-1] == "warning: none of 2 cases is trusted: nothing is learned"


def test_drift_is_told_during_the_run(tmp_path: Path) -> None:
    first = cohort(tmp_path, **{name: lump(3) for name in "abc"})
    found = Selected([prediction(name, lump(4)) for name in "abc"], History((first,)), ledger=True)
    assert len(found.log) == 1
    assert found.log[0].startswith("warning: since the first round the tumor grew in 3 of 3")
