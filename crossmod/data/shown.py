"""How volumes and cohorts look in a notebook: a slice through the middle, and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from markupsafe import Markup

from crossmod.data.cohorts import Cohort
from crossmod.data.slices import Upright, png_of, window
from crossmod.data.volumes import Volume

SIDE_PX = 200
"""The longer side of a slice."""

MOST_SHOWN = 4
"""Cases of a cohort whose slices are shown; the first are."""


def html_of(shown: Volume | Cohort) -> str:
    """What a notebook shows."""
    return _volume_html(shown) if isinstance(shown, Volume) else _cohort_html(shown)


def _volume_html(volume: Volume) -> str:
    """The axial slice in the middle of a volume, and what is known of it."""
    data = volume.data
    facts = {
        "case": volume.case,
        "center": volume.center,
        "voxels": " x ".join(map(str, volume.grid)),
        "spacing": " x ".join(f"{size:.3g}" for size in volume.spacing_mm) + " mm",
        "intensity": f"{data.min():.4g} to {data.max():.4g}",
    }
    return _beside(_middle(volume), facts_html(facts))


def _cohort_html(cohort: Cohort) -> str:
    """The axial slices in the middle of the first cases, and what the cohort holds."""
    centers = Counter(case.center for case in cohort.cases)
    labeled = sum(case.labels is not None for case in cohort.cases)
    facts = {
        "cases": str(len(cohort)),
        "patients": str(len({case.patient for case in cohort.cases})),
        "centers": ", ".join(f"{name} {count}" for name, count in sorted(centers.items())),
        "labeled": f"{labeled} of {len(cohort)}",
        "classes": ", ".join(f"{name} {label}" for name, label in cohort.classes.items()),
    }
    shown = Markup("").join(
        Markup('<figure style="margin:0">{}<figcaption>{}</figcaption></figure>').format(
            _middle(case.volume()), case.case
        )
        for case in cohort.cases[:MOST_SHOWN]
    )
    return _beside(shown, facts_html(facts))


def facts_html(facts: Mapping[str, str]) -> Markup:
    """Names and values as a table; those without a value are left out."""
    rows = Markup("").join(
        Markup('<tr><th style="text-align:left">{}</th>'
               '<td style="text-align:left">{}</td></tr>').format(name, value)
        for name, value in facts.items()
        if value
    )  # fmt: skip
    return Markup("<table>{}</table>").format(rows)


def _beside(*parts: Markup) -> str:
    style = "display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start"
    return str(Markup('<div style="{}">{}</div>').format(style, Markup("").join(parts)))


def _middle(volume: Volume) -> Markup:
    upright = Upright.of(volume.data[0], volume.affine)
    plane = upright.plane(upright.levels // 2)
    sides = [count * size for count, size in zip(plane.shape, upright.pixel_mm, strict=True)]
    height, width = (round(SIDE_PX * side / max(sides)) for side in sides)
    return Markup('<img src="{}" width="{}" height="{}" alt="axial slice">').format(
        png_of(plane, window(plane)), width, height
    )
