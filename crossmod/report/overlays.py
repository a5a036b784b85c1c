"""Predictions over real target scans: the best, the median, the worst, and others per center."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crossmod.data.grids import Grid
from crossmod.data.slices import Upright, window
from crossmod.intake import load_labels, load_scan, on_grid
from crossmod.report.content import NO_ADAPTATION, ReportContent, spread
from crossmod.report.drawing import Key
from crossmod.report.galleries import Gallery, Strip
from crossmod.report.slices import CLOSE_UP_MM, REFERENCE_COLOR, Outline, Tile, box_around, picture
from crossmod.scores.metrics import Score
from crossmod.scores.table import DICE

MAX_OVERLAYS = 8
ADAPTED_COLOR, PLAIN_COLOR = "#45c4ff", "#ff7ac8"


def overlays(content: ReportContent) -> Gallery:
    """Close-ups of validation scans, plain and with the outlines of predictions and references."""
    stage = content.adapted
    files = dict(content.predictions)
    if stage is None or stage not in files:
        return Gallery((), "")
    dice = _dice(content, stage)
    cases = [case for case in files[stage] if case in content.images]
    tags = _ranked(content, dice, cases) or dict.fromkeys(spread(cases, MAX_OVERLAYS), "")
    strips = [_overlay(content, case, tag, stage) for case, tag in tags.items()]
    keys = [Key("reference", REFERENCE_COLOR, "line")] if content.references else []
    keys.append(Key(stage, ADAPTED_COLOR, "line"))
    keys += [Key(NO_ADAPTATION, PLAIN_COLOR, "dashed")] if NO_ADAPTATION in files else []
    caption = (
        f"Close-ups of {CLOSE_UP_MM:g} mm through the {content.structure} on real target scans of"
        " the validation split: the scan, and the outlines over it."
    )
    return Gallery(strips, caption, keys)


def _dice(content: ReportContent, stage: str) -> dict[str, Score]:
    return {
        item.case: item
        for item in content.scores
        if (item.split, item.stage, item.structure) == ("validation", stage, content.structure)
        and not math.isnan(item.of(DICE))
    }


def _ranked(content: ReportContent, dice: Mapping[str, Score], cases: list[str]) -> dict[str, str]:
    """Case -> "best", "median", "worst" or "", sorted by Dice; all centers have a share."""
    ranked = sorted((c for c in cases if c in dice), key=lambda case: -dice[case].of(DICE))
    if not ranked:
        return {}
    tags = {ranked[len(ranked) // 2]: "median", ranked[-1]: "worst", ranked[0]: "best"}
    share = max(1, (MAX_OVERLAYS - len(tags)) // max(1, len(content.centers)))
    for center in content.centers:
        rest = [case for case in ranked if dice[case].center == center and case not in tags]
        tags |= dict.fromkeys(spread(rest, share), "")
    rest = [case for case in ranked if case not in tags]
    tags |= dict.fromkeys(spread(rest, max(0, MAX_OVERLAYS - len(tags))), "")
    return {case: tags[case] for case in ranked if case in tags}


def _overlay(content: ReportContent, case: str, tag: str, stage: str) -> Strip:
    path = content.images[case]
    found = load_scan(path, content.intake, content.series)
    scan = Upright.of(found.data, found.affine)
    masks = _masks(content, case, stage, Grid(found.data.shape, found.affine))
    guide = next((m for _, m in masks if m.data.any()), masks[0][1])
    level = guide.fullest_level()
    box = box_around(guide.plane(level), scan.pixel_mm, CLOSE_UP_MM)
    plane = scan.plane(level)[box]
    outlines = [
        Outline(mask.plane(level)[box], color, dashed=color == PLAIN_COLOR) for color, mask in masks
    ]
    # The reference is drawn last, on top.
    texts = {"scan": [], _dice_line(content, case, stage): outlines[::-1]}
    tiles = [
        Tile(picture(plane, scan.pixel_mm, window(plane), lines), text)
        for text, lines in texts.items()
    ]
    score = _dice(content, stage).get(case)
    center = score.center if score else ""
    return Strip(case, tiles, f"{center}, {tag}" if tag else center)


def _masks(content: ReportContent, case: str, stage: str, grid: Grid) -> list[tuple[str, Upright]]:
    """Lesion masks and their colors; the first that is not empty decides what is shown."""
    files = dict(content.predictions)
    found = [
        (REFERENCE_COLOR, content.references.get(case)),
        (ADAPTED_COLOR, files[stage].get(case)),
        (PLAIN_COLOR, files.get(NO_ADAPTATION, {}).get(case)),
    ]
    return [(color, _mask(path, content, grid)) for color, path in found if path is not None]


def _mask(path: Path, content: ReportContent, grid: Grid) -> Upright:
    found = load_labels(path, content.intake)
    labels, affine = found.labels, found.affine
    if labels.shape != grid.shape:  # it covers a part of the scan
        (labels, _), affine = on_grid(found, grid, True), grid.affine
    return Upright.of(np.isin(labels, content.file_values[content.structure]), affine)


def _dice_line(content: ReportContent, case: str, stage: str) -> str:
    found = {name: _dice(content, name).get(case) for name in (stage, NO_ADAPTATION)}
    parts = [f"{name} {score.of(DICE):.2f}" for name, score in found.items() if score]
    return "Dice: " + ", ".join(parts) if parts else "outlines"
