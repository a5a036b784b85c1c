"""Rows of pictures: translations, augmented lesions, what plugins drew."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from crossmod.data.cohorts import Case
from crossmod.data.nifti import read_affine, read_labels
from crossmod.data.slices import Upright, png_uri
from crossmod.report.content import ReportContent, spread
from crossmod.report.drawing import Key
from crossmod.report.slices import CLOSE_UP_MM, REFERENCE_COLOR, Outline, Tile, box_around, picture
from crossmod.report.survey import Sighting

MAX_ROWS = 6
MAX_COPIES = 5
MAX_AUGMENTED = 4
MAX_PANELS = 8
MAX_PANEL_PIXELS = 1600


@dataclass(frozen=True)
class Strip:
    """Pictures that belong together, with a heading."""

    title: str
    tiles: Sequence[Tile]
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Strips, what the line colors mean, and what to see."""

    strips: Sequence[Strip]
    caption: str
    keys: Sequence[Key] = field(default=())


def translations(content: ReportContent, seen: Sequence[Sighting]) -> Gallery:
    """The same slice of a few cases before and after every step, beside a real target slice."""
    source = {case.case: case for case in content.source.cases}
    strips: list[Strip] = []
    for name in _typical(seen, content.centers):
        if name in source:
            strips.append(_translation(content, source[name], len(strips)))
    caption = (
        f"Axial slices through the {content.structure} (outlined in the source). Anatomy must stay"
        " where it is from left to right while the appearance becomes that of the real target"
        " scan at the end, which shows another patient of the same center at a similar level."
    )
    return Gallery(strips, caption)


def _typical(seen: Sequence[Sighting], centers: Sequence[str]) -> list[str]:
    """For each center the cases with the largest and the median lesion, `MAX_ROWS` in all."""
    chosen: list[str] = []
    for center in centers:
        ranked = sorted((s for s in seen if s.center == center), key=lambda s: s.volume_mm3)
        chosen += dict.fromkeys(s.case for s in (ranked[-1:] + ranked[len(ranked) // 2 :][:1]))
    return spread(chosen, MAX_ROWS)


def _translation(content: ReportContent, case: Case, row: int) -> Strip:
    pair = case.pair()
    affine = pair.image.affine
    lesion = Upright.of(pair.labels == content.label, affine)
    level = lesion.fullest_level()
    outline = Outline(lesion.plane(level), REFERENCE_COLOR)
    tiles = [Tile(_level(case, level, [outline]), "source")]
    for step, cohort in content.translated:
        tiles += [Tile(_level(c, level), step) for c in cohort.cases if c.case == case.case]
    others = [c for c in content.target.cases if c.center == case.center]
    if others:
        other = others[row % len(others)]
        real = _similar_level(content, other, (level + 0.5) / lesion.levels)
        tiles.append(Tile(_level(other, real), f"real target: {other.case}"))
    return Strip(case.case, tiles, case.center)


def _similar_level(content: ReportContent, case: Case, height: float) -> int:
    """The slice through the pseudo-labeled lesion, or the one at a relative height in [0, 1]."""
    volume = case.volume()
    levels = Upright.of(volume.data[0], volume.affine).levels
    last = content.rounds[-1].cases if content.rounds else ()
    labels = next((c.labels for c in last if c.case == case.case), None)
    if labels is not None:
        found = Upright.of(read_labels(labels) == content.label, read_affine(labels))
        if found.data.any():
            # A round may be on a finer grid than the target cohort.
            height = (found.fullest_level() + 0.5) / found.levels
    return min(int(height * levels), levels - 1)


def _level(case: Case, level: int, outlines: Sequence[Outline] = ()) -> Markup:
    volume = case.volume()
    upright = Upright.of(volume.data[0], volume.affine)
    return picture(upright.plane(level), upright.pixel_mm, outlines=outlines)


def augmentations(content: ReportContent) -> Gallery:
    """Close-ups of a few lesions and of the copies made from them."""
    copies: dict[str, list[Case]] = {}
    for case in content.copies[-1].made.cases if content.copies else ():
        copies.setdefault(case.case.rsplit("+", 1)[0], []).append(case)
    originals = {case.case: case for case in content.training[1].cases}
    names = [name for name in copies if name in originals]
    strips = [
        _copies(content, originals[name], spread(copies[name], MAX_COPIES))
        for name in spread(names, MAX_AUGMENTED)
    ]
    caption = (
        f"Close-ups of {CLOSE_UP_MM:g} mm: a {content.structure} as training has it, then its"
        " augmented copies with the same label. Copies should differ in appearance, without a"
        " visible seam."
    )
    return Gallery(strips, caption)


def _copies(content: ReportContent, original: Case, copies: Sequence[Case]) -> Strip:
    pair = original.pair()
    lesion = Upright.of(pair.labels == content.label, pair.image.affine)
    level = lesion.fullest_level()
    box = box_around(lesion.plane(level), lesion.pixel_mm, CLOSE_UP_MM)
    tiles = []
    for case in (original, *copies):
        volume = case.volume()
        plane = Upright.of(volume.data[0], volume.affine).plane(level)[box]
        label = "original" if case is original else case.case.removeprefix(f"{original.case}+")
        tiles.append(Tile(picture(plane, lesion.pixel_mm), label))
    return Strip(original.case, tiles, original.center)


SECTIONS = {"translate": "translation", "augment": "augmentation"}
"""How the name of a step begins -> where its panels are shown; others are in "training"."""


def drawn_panels(content: ReportContent) -> dict[str, list[tuple[str, str]]]:
    """Section -> captions and data URIs of some of the PNG files that plugins saved."""
    steps: dict[Path, list[tuple[str, Path]]] = {}
    for caption, path in content.panels:
        steps.setdefault(path.parent, []).append((caption, path))
    # A training that draws a hundred leaves room for the steps that draw one.
    share = MAX_PANELS // min(MAX_PANELS, max(1, len(steps)))
    kept = [panel for panels in steps.values() for panel in spread(panels, share)]
    shown = [(caption, _shrunk(path)) for caption, path in spread(kept, MAX_PANELS)]
    for caption in (caption for caption, uri in shown if uri is None):
        warnings.warn(f"{caption}: no picture that can be shown; left out", stacklevel=2)
    names = (*SECTIONS.values(), "training")
    sections: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    for caption, uri in shown:
        if uri is not None:
            sections[SECTIONS.get(caption.partition("-")[0], "training")].append((caption, uri))
    return sections


def _shrunk(path: Path) -> str | None:
    """A picture as a data URI; None if the file is not a picture."""
    try:
        with Image.open(path) as image:
            image.thumbnail((MAX_PANEL_PIXELS, MAX_PANEL_PIXELS))
            return png_uri(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
