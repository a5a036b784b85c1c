"""A small segmenter finds what images show, and not what they only have labels of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from heads import cohort, dark, moved, shown, tumor_erased

from crossmod.run.steps.crops import crops_that_differ
from crossmod.scores.recovery import recover
from crossmod.scores.survival import (
    COLUMNS,
    Row,
    findings,
    read_survival,
    summary,
    survivals,
    target_rows,
    write_survival,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return cohort(tmp_path_factory.mktemp("source"), shown)


def mean(found, structure, field="dice"):
    return np.mean([getattr(r, field) for (_, name), r in found.items() if name == structure])


def test_what_is_shown_is_found_and_what_is_erased_is_not(source, tmp_path):
    whole, erased = recover(source), recover(cohort(tmp_path, tumor_erased))
    assert mean(whole, "tumor") > 0.7
    assert mean(whole, "cochlea") > 0.5
    assert mean(erased, "tumor") < mean(whole, "tumor", "by_position") + 0.15
    assert mean(erased, "cochlea") > 0.5


def test_the_same_images_give_the_same_figures(source):
    assert recover(source) == recover(source)


def test_one_patient_cannot_be_held_out(tmp_path):
    assert recover(cohort(tmp_path, shown, count=1)) == {}
    assert len(recover(cohort(tmp_path, shown, names=("", "+1"), count=1))) == 0


def test_a_faithful_translation_raises_no_warning(source, tmp_path):
    """Whatever gray it gives to structures; several translations of a case are told apart."""
    rows = survivals(source, cohort(tmp_path, dark, names=("", "+1")))
    assert findings(rows) == []
    assert len(rows) == 2 * 2 * len(source)
    assert "tumor" in summary(rows)


def test_an_erased_structure_is_told(source, tmp_path):
    [said] = findings(survivals(source, cohort(tmp_path, tumor_erased)))
    assert said.startswith("translation erases 'tumor'")


def test_a_shift_is_told_with_its_direction(source, tmp_path):
    told = findings(survivals(source, cohort(tmp_path, moved)))
    assert any("center ldn lie 3.0 mm in front of" in text for text in told), told


def test_figures_come_back_from_the_file(source, tmp_path):
    rows = survivals(source, cohort(tmp_path / "dark", dark))
    pseudo = next(source.pairs())
    real = [*target_rows(pseudo, source.classes)]
    write_survival(tmp_path / "survival.csv", [*map(Row.of, rows), *real])
    found = read_survival(tmp_path / "survival.csv")
    *found, tumor, cochlea = found
    assert [(r.case, r.structure) for r in found] == [(r.case, r.structure) for r in rows]
    assert {r.image for r in found} == {"translation"}
    assert tumor[:4] == (pseudo.case, "ldn", "tumor", "target")
    assert tumor.figures["contrast"] == rows[0].before.contrast
    assert math.isnan(tumor.figures["contrast_translated"])
    assert cochlea.structure == "cochlea"
    assert tuple(found[0].figures) == COLUMNS[4:]
    assert found[0].figures["contrast_translated"] == rows[0].after.contrast
    assert found[0].figures["recovery"] == rows[0].recovery.dice


def test_crops_of_another_place_are_told_before_training(source, tmp_path):
    [said] = crops_that_differ(source, cohort(tmp_path / "moved", moved))
    assert "center ldn show heads 3.0 mm in front of" in said
    assert list(crops_that_differ(source, cohort(tmp_path / "dark", dark))) == []


@pytest.mark.parametrize("depth", [18, 20])
def test_they_are_told_whatever_centers_and_numbers_of_slices(depth, source, tmp_path):
    elsewhere = cohort(tmp_path / "moved", moved, depth=depth, center="etz")
    [said] = crops_that_differ(source, elsewhere)
    assert "scans show heads 3.0 mm in front of" in said


def test_a_blank_translation_hides_no_shift(source, tmp_path):
    def one_blank(head, labels):
        blank.append(0)
        return np.zeros_like(head) if len(blank) == 3 else moved(head, labels)

    blank = []
    rows = survivals(source, cohort(tmp_path, one_blank))
    assert any("3.0 mm in front of" in text for text in findings(rows))
    assert "+3.0 front" in summary(rows)


def test_blank_translations_have_no_shift(source, tmp_path):
    rows = survivals(source, cohort(tmp_path, lambda head, labels: np.zeros_like(head)))
    assert "shift" not in summary(rows)
    assert not any("lie" in text for text in findings(rows))
