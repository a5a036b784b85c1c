"""The charts: scores per stage, intensities per center, lesions before and after augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossmod.report.content import spread
from crossmod.report.drawing import INK, MUTED, RULE, Chart, Key, center_colors, new_figure, to_svg
from crossmod.report.survey import AIR, BINS, Sighting
from crossmod.scores.metrics import EMPTY_PREDICTION_MM, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 10.8
"""Inches; fills the text column of the page."""

FLOOR_MM = 0.05
"""Smaller surface distances are drawn here, since a logarithmic axis has no zero."""

MAX_POINTS = 150
"""Points drawn per box; the box is made from all."""

TRANSLATED_COLOR = "#8a63d2"


def score_chart(scores: Sequence[Score], centers: Sequence[str], name: str) -> Chart:
    """Boxes of Dice and surface distance, a row per stage, a color per center."""
    stages = list(dict.fromkeys(item.stage for item in scores))
    rows = len(stages) * len(centers)
    figure, (left, right) = new_figure(WIDTH, 1.0 + 0.3 * len(stages) + 0.16 * rows, 2)
    for column, (center, color) in enumerate(center_colors(centers).items()):
        kept = [s for s in scores if s.center == center and not np.isnan(s.dice)]
        offset = 0.76 * ((column + 0.5) / len(centers) - 0.5)
        dice = {stage: [s.dice for s in kept if s.stage == stage] for stage in stages}
        far = {s: [max(k.assd_mm, FLOOR_MM) for k in kept if k.stage == s] for s in stages}
        _boxes(left, list(dice.values()), offset, 0.6 / len(centers), color)
        _boxes(right, list(far.values()), offset, 0.6 / len(centers), color)
    left.set(xlabel="Dice", xlim=(-0.02, 1.02), ylim=(len(stages) - 0.5, -0.5))
    left.set_yticks(range(len(stages)), stages, color=INK)
    for axes in (left, right):
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        for line in range(1, len(stages)):
            axes.axhline(line - 0.5, color=RULE, linewidth=0.6)
    _distance_axis(right, [s.assd_mm for s in scores])
    caption = (
        "Each point is a case; boxes span the quartiles, the bar is the median, whiskers reach"
        " 1.5 times the box. Better is right for Dice and left for the average symmetric surface"
        f" distance. Cases with only one empty mask count as {EMPTY_PREDICTION_MM:g} mm (dotted)."
    )
    keys = [Key(center, color, "dot") for center, color in center_colors(centers).items()]
    return Chart(to_svg(figure, name), keys, caption)


def _boxes(
    axes: Axes, rows: Sequence[Sequence[float]], offset: float, height: float, color: str
) -> None:
    filled = {row: values for row, values in enumerate(rows) if values}
    axes.boxplot(
        [list(values) for values in filled.values()],
        positions=[row + offset for row in filled],
        widths=height,
        orientation="horizontal",
        showfliers=False,
        showcaps=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": color + "38", "edgecolor": color},
        whiskerprops={"color": color},
        medianprops={"color": INK, "linewidth": 1.6},
    )
    for row, values in filled.items():
        drawn = spread(sorted(values), MAX_POINTS)
        jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(drawn)) * height
        places = row + offset + jitter
        axes.scatter(drawn, places, s=9, color=color, alpha=0.75, linewidths=0, zorder=3)


def _distance_axis(axes: Axes, distances: Sequence[float]) -> None:
    known = [value for value in distances if not np.isnan(value)]
    penalized = EMPTY_PREDICTION_MM in known
    _logarithmic(axes)
    axes.set_xlim(0.8 * FLOOR_MM, 1.5 * max([1.0, *known]))
    axes.set_xlabel("average symmetric surface distance (mm, logarithmic)")
    if penalized:
        axes.axvline(EMPTY_PREDICTION_MM, color=MUTED, linewidth=0.8, linestyle=":")


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def intensity_chart(
    groups: Sequence[tuple[str, str, Sequence[Sighting]]], centers: Sequence[str]
) -> Chart:
    """Intensity distributions, a panel per center.

    Args:
        groups: (label, mark, images); marks "dashed" source, "area" target, "line" translated.
        centers: one panel each.
    """
    figure, panels = new_figure(WIDTH, 2.9, len(centers))
    levels = AIR + (np.arange(BINS) + 0.5) * (1 - AIR) / BINS
    for axes, center in zip(panels, centers, strict=True):
        for _, mark, sightings in groups:
            densities = [item.density for item in sightings if item.center == center]
            if not densities:
                continue
            mean = np.mean(densities, axis=0)
            if mark == "area":
                axes.fill_between(levels, mean, color=MUTED, alpha=0.28, linewidth=0)
            color = TRANSLATED_COLOR if mark == "line" else MUTED
            style = "--" if mark == "dashed" else "-"
            axes.plot(levels, mean, color=color, linestyle=style, linewidth=1.6)
        axes.set_title(center, loc="left", fontweight="bold")
        axes.set(xlabel="intensity after preprocessing", xlim=(0, 1))
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("share of voxels (density)")
    keys = [
        Key(label, TRANSLATED_COLOR if mark == "line" else "var(--muted)", mark)
        for label, mark, _ in groups
    ]
    caption = (
        "Mean intensity distribution of each center. A good translation moves the source (dashed)"
        f" onto the real target (gray). Voxels below {AIR:g}, mostly air, are left out."
    )
    return Chart(to_svg(figure, "intensity"), keys, caption)


def lesion_chart(
    structure: str,
    before: Sequence[Sighting],
    added: Sequence[Sighting],
    pseudo: Sequence[Sighting],
    centers: Sequence[str],
) -> Chart:
    """Volume against mean intensity of lesions: training data over pseudo-labeled target."""
    colors = center_colors(centers)
    titles = ["before augmentation", "after augmentation"] if added else ["training data"]
    figure, panels = new_figure(WIDTH if added else WIDTH * 0.6, 3.7, len(titles))
    for axes, title in zip(panels, titles, strict=True):
        _points(axes, pseudo, colors, "D", filled=False)
        _points(axes, before, colors, "o", filled=True)
        axes.set_title(title, loc="left", fontweight="bold")
        _logarithmic(axes)
        axes.set_xlabel(f"{structure} volume (mm³, logarithmic)")
    if added:
        _points(panels[1], added, colors, "^", filled=True)
        panels[0].set_xlim(panels[1].get_xlim())
    panels[0].set_ylabel(f"mean {structure} intensity")
    keys = [Key(center, color, "dot") for center, color in colors.items()]
    keys.append(Key("labeled, in training", "var(--muted)", "dot"))
    keys += [Key("augmented copy", "var(--muted)", "triangle")] if added else []
    keys += [Key("pseudo-labeled target", "var(--muted)", "ring")] if pseudo else []
    caption = (
        f"Each mark is one {structure}. The training data should cover the sizes and brightnesses"
        " of the real target scans, for which pseudo-labels stand in."
    )
    return Chart(to_svg(figure, "lesions"), keys, caption)


def _points(
    axes: Axes, sightings: Sequence[Sighting], colors: dict[str, str], marker: str, *, filled: bool
) -> None:
    for center, color in colors.items():
        seen = [s for s in sightings if s.center == center and s.volume_mm3 > 0]
        axes.scatter(
            [s.volume_mm3 for s in seen],
            [s.mean for s in seen],
            s=22,
            marker=marker,
            facecolors=color if filled else "none",
            edgecolors="none" if filled else color,
            linewidths=0.9,
            alpha=0.75,
        )
