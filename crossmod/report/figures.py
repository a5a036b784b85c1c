"""The charts of a page as files for a paper: SVG and PDF, with their legend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from crossmod.files.figures import FIGURES, FORMATS, figures_in
from crossmod.files.outputs import Outputs
from crossmod.report.drawing import MUTED, PAGE_COLORS, UNDATED, Chart, Key, drawing

if TYPE_CHECKING:
    from matplotlib.artist import Artist

LEGEND_COLUMNS = 6


def write_figures(outputs: Outputs, charts: Sequence[Chart]) -> None:
    """Write each chart as SVG and PDF, and remove the figures of charts that were dropped.

    Args:
        outputs: of the page.
        charts: those of the page.

    Raises:
        DataError: a file of such a name is somebody else's.
        MachineError: a file cannot be written.
    """
    figures = outputs.below(FIGURES)
    names = list(_file_names([chart.name for chart in charts]))
    for name, chart in zip(names, charts, strict=True):
        with drawing(), _with_legend(chart):
            for ending in FORMATS:
                with figures.file(f"{name}.{ending}") as file:
                    chart.figure.savefig(file, format=ending, metadata=UNDATED[ending])
    for path in figures_in(figures.folder):
        if path.stem not in names and figures.owns(path.name):
            path.unlink()


def _file_names(titles: Sequence[str]) -> Iterator[str]:
    """Names for files, each different on any file system: classes may be called anything.

    >>> list(_file_names(["scores-a b", "scores-a/b", "scores-A-B"]))
    ['scores-a-b', 'scores-a-b-2', 'scores-A-B-3']
    """
    used: list[str] = []
    for title in titles:
        name = re.sub(r"[^\w.-]+", "-", title).strip("-.")
        used.append(name.casefold())
        count = used.count(name.casefold())
        yield name if count == 1 else f"{name}-{count}"


@contextmanager
def _with_legend(chart: Chart) -> Iterator[None]:
    """Draw the legend, which the page writes in HTML, into the figure."""
    if not chart.keys:
        yield
        return
    columns = min(len(chart.keys), LEGEND_COLUMNS)
    legend = chart.figure.legend(
        handles=[_handle(key) for key in chart.keys],
        loc="outside upper left",
        ncols=columns,
        frameon=False,
    )
    try:
        yield
    finally:
        legend.remove()


def _handle(key: Key) -> Artist:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    paper = {page: ink for ink, page in PAGE_COLORS.items()}
    color = paper.get(key.color, key.color)
    if key.mark == "area":
        return Patch(facecolor=MUTED, alpha=0.28, label=key.label)
    if key.mark in ("line", "dashed"):
        return Line2D(
            [], [], color=color, ls="--" if key.mark == "dashed" else "-", label=key.label
        )
    marker = {"dot": "o", "ring": "D", "triangle": "^"}[key.mark]
    face = "none" if key.mark == "ring" else color
    return Line2D(
        [], [], color="none", marker=marker, markerfacecolor=face, markeredgecolor=color,
        label=key.label,
    )  # fmt: skip
