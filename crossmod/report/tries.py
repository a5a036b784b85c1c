"""The tries of a translator: a table of their figures, and a case as each translates it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crossmod.data.cohorts import Case, Cohort
from crossmod.data.slices import Upright
from crossmod.report.content import ReportContent, Tried
from crossmod.report.galleries import Gallery, Strip
from crossmod.report.slices import REFERENCE_COLOR, Outline, Tile, picture
from crossmod.scores.tickets import FIGURES

MAX_TRIES = 12
"""Pictures in a row."""

WORDS = ("try", "seed", "used", "score", *FIGURES, "why")
"""Columns of the table; tries.csv has more."""


@dataclass(frozen=True)
class TriesPart:
    """What the page shows of a translator that was trained several times.

    Attributes:
        name: of its step.
        heads: columns of the table.
        rows: its cells, as text, and whether the try is used.
        gallery: pictures.
    """

    name: str
    heads: Sequence[str]
    rows: Sequence[tuple[Sequence[str], bool]]
    gallery: Gallery


def tries_parts(content: ReportContent) -> list[TriesPart]:
    """One for each translator that was trained several times."""
    return [
        TriesPart(
            tried.name,
            WORDS,
            [([_text(row, name) for name in WORDS], row["used"] == "yes") for row in tried.rows],
            _gallery(content, tried),
        )
        for tried in content.tries
    ]


def _text(row: Mapping[str, str | float], name: str) -> str:
    cell = row.get(name, "")
    if isinstance(cell, str):
        return cell
    return f"{cell:.0f}" if name in ("try", "seed") else f"{cell:.2f}"


def _gallery(content: ReportContent, tried: Tried) -> Gallery:
    caption = (
        "A source image with its labels outlined, and what each try makes of it. Scores lie in"
        " [0, 1]; no label of a target scan takes part in them."
    )
    return Gallery(list(_strips(content, tried)), caption)


def _strips(content: ReportContent, tried: Tried) -> Iterator[Strip]:
    """The case with the largest structure of those of the first center."""
    cases = [case for case in content.source.cases if case.center in content.centers[:1]]
    sized = [(int((case.pair().labels == content.label).sum()), case) for case in cases[:MAX_TRIES]]
    if not sized:
        return
    case = max(sized, key=lambda one: one[0])[1]
    pair = case.pair()
    labels = Upright.of(pair.labels == content.label, pair.image.affine)
    level = labels.fullest_level()
    outline = Outline(labels.plane(level), REFERENCE_COLOR)
    tiles = [_tile(case, level, "source", [outline])]
    for row, cohort in list(zip(tried.rows, tried.cohorts, strict=True))[:MAX_TRIES]:
        if made := _named(cohort, case.case):
            words = "used" if row["used"] == "yes" else "not used"
            label = f"try {_text(row, 'try')}: {_text(row, 'score')}, {words}"
            tiles.append(_tile(made, level, label, []))
    yield Strip(case.case, tiles, case.center)


def _named(cohort: Cohort | None, name: str) -> Case | None:
    """The translation of a case, or the first of several."""
    cases = cohort.cases if cohort else ()
    own = (case for case in cases if case.case == name or case.case.startswith(f"{name}+"))
    return next(own, None)


def _tile(case: Case, level: int, label: str, outlines: Sequence[Outline]) -> Tile:
    volume = case.volume()
    upright = Upright.of(volume.data[0], volume.affine)
    return Tile(picture(upright.plane(level), upright.pixel_mm, outlines=outlines), label)
