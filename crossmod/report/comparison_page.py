"""The page that shows all variants and seeds of a recipe side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from crossmod.report.drawing import (
    INK,
    MUTED,
    PALETTE,
    RULE,
    Chart,
    Key,
    chart,
    drawing,
    new_figure,
)
from crossmod.report.templates import render
from crossmod.scores.comparison import Comparison, Row
from crossmod.scores.statistics import difference_text, p_text
from crossmod.scores.table import DICE, reported

WIDTH = 10.8
"""Inches; fills the text column of the page."""

OF_A_RECIPE = "All variants and seeds of the recipe"


def write_comparison(
    path: Path,
    comparison: Comparison,
    title: str,
    links: Mapping[str, str],
    *,
    intro: str = OF_A_RECIPE,
    notes: Sequence[str] = (),
) -> list[Chart]:
    """Write one HTML file without external references; return its charts.

    Args:
        path: the file; its folder must exist.
        comparison: what to show.
        title: title of the recipe.
        links: name of a run -> its own report, relative to the file.
        intro: what is compared.
        notes: what a reader should know, a line each.
    """
    with drawing():
        charts = [
            (name, comparison_chart(comparison.of(name), name, f"comparison-{number}"))
            for number, name in enumerate(comparison.structures)
        ]
    variants = [row.label for row in comparison.rows if row.round is not None]
    page = render(
        "comparison.html.j2",
        comparison=comparison,
        metrics=reported(),
        title=title,
        charts=charts,
        links=links,
        intro=intro,
        notes=notes,
        tests=comparison.differences,
        first=variants[0] if variants else "",
        number=_number,
        difference_text=difference_text,
        p_text=p_text,
    )
    path.write_text(page, encoding="utf-8")
    return [chart for _, chart in charts]


def comparison_chart(rows: Sequence[Row], structure: str, part: str) -> Chart:
    """Mean Dice of every variant, a color for each round, with the spread over seeds."""
    labels = list(dict.fromkeys(row.label for row in rows))
    rounds = sorted({row.round for row in rows if row.round is not None})
    colors = {number: PALETTE[i % len(PALETTE)] for i, number in enumerate(rounds)}
    height = 0.8 + 0.22 * len(labels) + 0.1 * len(rows)
    figure, [axes] = new_figure(WIDTH, height, 1)
    for row in rows:
        share = 0.5 if row.round is None else (rounds.index(row.round) + 0.5) / len(rounds)
        place = labels.index(row.label) + 0.7 * (share - 0.5)
        color = MUTED if row.round is None else colors[row.round]
        mean, spread = row.spreads[DICE.column]
        error = 0.0 if math.isnan(spread) else spread
        axes.errorbar(mean, place, xerr=error, color=color, marker="o", markersize=5, linewidth=1.4)
        axes.scatter(row.dice_seeds, [place] * row.seeds, s=9, color=color, alpha=0.5, linewidths=0)
    axes.set(xlabel=f"{structure} Dice", xlim=(0, 1), ylim=(len(labels) - 0.5, -0.5))
    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    for line in range(1, len(labels)):
        axes.axhline(line - 0.5, color=RULE, linewidth=0.6)
    keys = [Key(f"round {number}", color, "dot") for number, color in colors.items()]
    caption = (
        "Large dots: mean over cases and seeds, with the standard deviation over seeds. Small dots:"
        " the mean of each seed."
    )
    return chart(figure, part, f"comparison-{structure}", keys, caption)


def _number(value: float | None) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{value:.3f}"
