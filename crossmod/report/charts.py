"""The charts: scores per stage, intensities per center, lesions before and after augmentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossmod.report.content import spread
from crossmod.report.drawing import (
    INK,
    MUTED,
    RULE,
    Chart,
    Key,
    center_colors,
    chart,
    new_figure,
)
from crossmod.report.survey import AIR, BINS, Sighting
from crossmod.scores.metrics import Score, known
from crossmod.scores.table import Metric, penalties, reported

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 10.8
"""Inches; fills the text column of the page."""

FLOOR = 0.05
"""Smaller values, as of distances, are drawn here, since a logarithmic axis has no zero."""

MAX_POINTS = 150
"""Points drawn per box; the box is made from all."""

TRANSLATED_COLOR = "#8a63d2"


def score_chart(scores: Sequence[Score], centers: Sequence[str], part: str, name: str) -> Chart:
    """Boxes of every metric that reports show, a row per stage, a color per center."""
    stages = list(dict.fromkeys(item.stage for item in scores))
    rows = len(stages) * len(centers)
    metrics = reported()
    figure, panels = new_figure(WIDTH, 1.0 + 0.3 * len(stages) + 0.16 * rows, len(metrics))
    for column, (center, color) in enumerate(center_colors(centers).items()):
        kept = [s for s in scores if s.center == center]
        offset = 0.76 * ((column + 0.5) / len(centers) - 0.5)
        for axes, metric in zip(panels, metrics, strict=True):
            low = FLOOR if metric.limits is None else -np.inf
            of_stages = [known((s for s in kept if s.stage == stage), metric) for stage in stages]
            drawn = [[max(value, low) for value in values] for values in of_stages]
            _boxes(axes, drawn, offset, 0.6 / len(centers), color)
    panels[0].set(ylim=(len(stages) - 0.5, -0.5))
    panels[0].set_yticks(range(len(stages)), stages, color=INK)
    for axes, metric in zip(panels, metrics, strict=True):
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        for line in range(1, len(stages)):
            axes.axhline(line - 0.5, color=RULE, linewidth=0.6)
        _score_axis(axes, metric, known(scores, metric))
    most = max(Counter((s.stage, s.center) for s in scores).values(), default=0)
    shown = f", {MAX_POINTS} for a box at most" if most > MAX_POINTS else ""
    caption = (
        f"Each point is a case{shown}; boxes span the quartiles, the bar is the median, whiskers"
        f" reach 1.5 times the box. {_directions(metrics)}A structure that only one mask has counts"
        f" as {penalties(metrics)} (dotted)."
    )
    keys = [Key(center, color, "dot") for center, color in center_colors(centers).items()]
    return chart(figure, part, name, keys, caption)


def _directions(metrics: Sequence[Metric]) -> str:
    """Where better values lie, as a sentence."""
    sides = {"right": "higher", "left": "lower"}
    labels = {side: [m.label for m in metrics if m.better == way] for side, way in sides.items()}
    parts = [f"{side} for {' and '.join(named)}" for side, named in labels.items() if named]
    return f"Better is {' and '.join(parts)}. " if parts else ""


def _boxes(
    axes: Axes, rows: Sequence[Sequence[float]], offset: float, height: float, color: str
) -> None:
    filled = {row: values for row, values in enumerate(rows) if values}
    if not filled:  # a center may have scans in other splits only
        return
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


def _score_axis(axes: Axes, metric: Metric, values: Sequence[float]) -> None:
    """Name and limits of the axis of a metric; a dotted line for missing structures."""
    if metric.limits is not None:
        low, high = metric.limits
        margin = 0.02 * (high - low)
        axes.set(xlabel=metric.title, xlim=(low - margin, high + margin))
        return
    _logarithmic(axes)
    axes.set_xlim(0.8 * FLOOR, 1.5 * max([1.0, *values]))
    axes.set_xlabel(f"{metric.label} ({', '.join(filter(None, [metric.unit, 'logarithmic']))})")
    if metric.missing is not None and metric.missing in values:
        axes.axvline(metric.missing, color=MUTED, linewidth=0.8, linestyle=":")


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
    return chart(figure, "intensity", "intensity", keys, caption)


def lesion_chart(
    structure: str,
    before: Sequence[Sighting],
    added: Sequence[Sighting],
    pseudo: Sequence[Sighting],
    centers: Sequence[str],
    distances: Sequence[float] = (),
) -> Chart:
    """Volume against mean intensity of lesions: training data over pseudo-labeled target.

    Args:
        structure: what the lesions are called.
        before: labeled images.
        added: their augmented copies.
        pseudo: pseudo-labeled target scans.
        centers: each has a color.
        distances: of the mean intensities, before and after augmentation, to the target.
    """
    colors = center_colors(centers)
    titles = ["before augmentation", "after augmentation"] if added else ["training data"]
    for n, distance in enumerate(distances[: len(titles)]):
        titles[n] += f": mean intensity {distance:.3f} from the target"
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
    if distances:
        caption += " Distances are Wasserstein-1, in the units of the axis."
    return chart(figure, "lesions", "lesions", keys, caption)


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
