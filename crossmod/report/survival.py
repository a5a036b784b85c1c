"""What translation makes of labeled structures: a table, and the worst cases as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from crossmod.data.cohorts import Case
from crossmod.data.slices import Upright
from crossmod.report.content import ReportContent
from crossmod.report.galleries import Gallery, Strip
from crossmod.report.slices import CLOSE_UP_MM, REFERENCE_COLOR, Outline, Tile, box_around, picture
from crossmod.scores.survival import LOOKS, TARGET, TRANSLATION, Row, origin

MAX_WORST = 6
SHIFTS = ("shift_right_mm", "shift_front_mm", "shift_up_mm")


def survival_rows(content: ReportContent) -> list[list[str]]:
    """For each structure source, translation and real target, as texts; none without rows."""
    found = []
    for name in content.classes:
        rows = [row for row in content.survival if row[2:4] == (name, TRANSLATION)]
        if not rows:
            continue
        found.append([name, "source", *_looks(rows, ""), _recovery(rows, "recovery"), ""])
        shift = ", ".join(f"{np.nanmedian(_of(rows, one)):+z.1f}" for one in SHIFTS)
        recovery = _recovery(rows, "recovery_translated")
        found.append([name, "translation", *_looks(rows, "_translated"), recovery, shift])
        if real := [row for row in content.survival if row[2:4] == (name, TARGET)]:
            found.append([name, "real target", *_looks(real, ""), "", ""])
    return found


def _looks(rows: Sequence[Row], ending: str) -> list[str]:
    return [str(len(rows)), *(_spread(_of(rows, f"{column}{ending}")) for column in LOOKS)]


def _recovery(rows: Sequence[Row], column: str) -> str:
    known = [v for v in _of(rows, column) if not math.isnan(v)]
    place = [v for v in _of(rows, "recovery_by_position") if not math.isnan(v)]
    return f"{np.mean(known):.2f} ({np.mean(place):.2f})" if known and place else ""


def _of(rows: Sequence[Row], column: str) -> list[float]:
    return [row.figures[column] for row in rows]


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} ± {np.std(values):.2f}"


def worst_survivals(content: ReportContent) -> Gallery:
    """Close-ups of the structures that are found least well: source and translation, outlined."""
    if not content.translated:
        return Gallery((), "")
    source = {case.case: case for case in content.source.cases}
    images = {case.case: case for case in content.training[1].cases}
    known = [
        row
        for row in content.survival
        if row.structure == content.structure
        and row.case in images
        and not math.isnan(row.figures["recovery_translated"])
    ]
    worst = sorted(known, key=lambda row: row.figures["recovery_translated"])[:MAX_WORST]
    strips = [_strip(content, row, origin(row.case, source), images[row.case]) for row in worst]
    caption = (
        f"Close-ups of {CLOSE_UP_MM:g} mm: the translations in which the {content.structure} is"
        " found least well, beside their sources, plain and with the outline of its label."
    )
    return Gallery(strips, caption)


def _strip(content: ReportContent, row: Row, source: Case, translated: Case) -> Strip:
    pair = source.pair()
    lesion = Upright.of(pair.labels == content.label, pair.image.affine)
    level = lesion.fullest_level()
    box = box_around(lesion.plane(level), lesion.pixel_mm, CLOSE_UP_MM)
    outline = Outline(lesion.plane(level)[box], REFERENCE_COLOR)
    tiles = []
    for case, name in ((source, "source"), (translated, "translation")):
        volume = case.volume()
        plane = Upright.of(volume.data[0], volume.affine).plane(level)[box]
        tiles.append(Tile(picture(plane, lesion.pixel_mm), name))
        tiles.append(Tile(picture(plane, lesion.pixel_mm, outlines=[outline]), ""))
    before, after = row.figures["recovery"], row.figures["recovery_translated"]
    return Strip(row.case, tiles, f"{row.center}, recovery {before:.2f} -> {after:.2f}")
