"""The curves of every training: a small picture for each number it noted, a line for each fold.

They are drawn by hand: a run may train forty networks, and matplotlib takes half a second for each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from crossmod.data.curves import Curve
from crossmod.report.content import spread
from crossmod.report.drawing import PALETTE, Key

MAX_POINTS = 200
"""Points of a curve that are drawn, evenly spaced."""

WIDTH, HEIGHT = 300, 150
"""Of a picture, in pixels; its text has 11."""

LEFT, RIGHT, TOP, BOTTOM = 52, 8, 22, 20
"""Room around the lines."""

FOLD = re.compile(r"(.+)-(fold-\d+)")
"""The name of a step that trains one of several folds."""

MUTED, RULE = "var(--muted, #62666c)", "var(--rule, #dcdee1)"

Curves = Mapping[str, Curve]
Point = tuple[float, float]


@dataclass(frozen=True)
class Training:
    """What a training noted.

    Attributes:
        name: of the step, without the fold.
        keys: the colors of the folds; empty where there is one.
        pictures: inline SVG, one for each number.
    """

    name: str
    keys: Sequence[Key]
    pictures: Sequence[Markup]


def trainings_of(steps: Iterable[tuple[str, Curves]]) -> list[Training]:
    """The pictures of each training, with all its folds, in the order of the steps.

    Args:
        steps: (step, name of a number -> curve).
    """
    found: dict[str, dict[str, Curves]] = {}
    for step, curves in steps:
        match = FOLD.fullmatch(step)
        name, fold = match.groups() if match else (step, "")
        found.setdefault(name, {})[fold] = curves
    return [_training(name, folds) for name, folds in found.items()]


def _training(name: str, folds: Mapping[str, Curves]) -> Training:
    colors = {fold: PALETTE[place % len(PALETTE)] for place, fold in enumerate(folds)}
    noted = dict.fromkeys(number for curves in folds.values() for number in curves)
    pictures = [
        picture(
            number, [(colors[fold], one[number]) for fold, one in folds.items() if number in one]
        )
        for number in noted
    ]
    return Training(name, [Key(f, color, "line") for f, color in colors.items() if f], pictures)


def picture(name: str, lines: Sequence[tuple[str, Curve]]) -> Markup:
    """Inline SVG of curves over the steps of a training.

    Args:
        name: what they show.
        lines: (color, curve); numbers that are not finite leave a gap.
    """
    drawn = [(color, spread(list(zip(*curve, strict=True)), MAX_POINTS)) for color, curve in lines]
    points = [point for _, line in drawn for point in line if math.isfinite(point[1])]
    low, high = _span([value for _, value in points])
    last = max((step for step, _ in points), default=0.0) or 1.0

    def place(point: Point) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * point[0] / last
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - point[1]) / (high - low)
        return f"{x:.1f} {y:.1f}"

    paths = Markup("").join(
        Markup(
            '<path d="{}" fill="none" stroke="{}" stroke-width="{}" stroke-linecap="round"/>'
        ).format(_path(line, place), color, 1.5 if len(line) > 1 else 5)
        for color, line in drawn
    )
    return Markup(
        '<svg class="curve" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img"'
        ' font-size="11" font-family="sans-serif">'
        '<text x="{left}" y="12" fill="currentColor" font-weight="bold">{name}</text>'
        '<path d="M{left} {top}H{right}M{left} {bottom}H{right}" stroke="{rule}"/>'
        '<g fill="{muted}"><text x="{edge}" y="{top}" dy="4" text-anchor="end">{high}</text>'
        '<text x="{edge}" y="{bottom}" dy="4" text-anchor="end">{low}</text>'
        '<text x="{left}" y="{foot}">0</text>'
        '<text x="{right}" y="{foot}" text-anchor="end">{last} steps</text></g>{paths}</svg>'
    ).format(
        w=WIDTH, h=HEIGHT, left=LEFT, right=WIDTH - RIGHT, top=TOP, bottom=HEIGHT - BOTTOM,
        edge=LEFT - 6, foot=HEIGHT - 5, name=name.replace("_", " "), rule=RULE, muted=MUTED,
        low=f"{low:.3g}", high=f"{high:.3g}", last=f"{last:g}", paths=paths,
    )  # fmt: skip


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The least and the largest; a little apart where they are the same."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _path(line: Sequence[Point], place: Callable[[Point], str]) -> str:
    """Lines through the points that are finite; one without neighbors is a dot."""
    parts = []
    for finite, points in groupby(line, key=lambda point: math.isfinite(point[1])):
        if finite:
            places = [place(point) for point in points]
            parts.append("M" + "L".join(places) + "h0.1" * (len(places) == 1))
    return "".join(parts)
