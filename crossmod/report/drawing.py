"""Charts: as SVG that takes its ink from the page, light or dark, and as files for a paper."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#1a1c1f", "#62666c", "#dcdee1"
"""On paper; `to_svg` replaces them by the colors of the page."""

PAGE_COLORS = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)"}

# Okabe and Ito's hues, told apart by color-blind readers, moved to where both pages carry them.
PALETTE = ("#2f86c8", "#e2762b", "#2a9d76", "#c46fa6", "#b59a1e", "#7a6fd0")

FONT_POINTS = 9


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a mark ("dot", "line", "dashed", "area", "ring", "triangle")."""

    label: str
    color: str
    mark: str


@dataclass(frozen=True)
class Chart:
    """A figure, what its colors mean, and what to see in it.

    Attributes:
        name: of its files.
        figure: what was drawn.
        svg: the same for the page.
        keys: its legend.
        caption: what to see.
    """

    name: str
    figure: Figure
    svg: Markup
    keys: Sequence[Key]
    caption: str


def center_colors(centers: Sequence[str]) -> dict[str, str]:
    """A color for each center."""
    return {center: PALETTE[i % len(PALETTE)] for i, center in enumerate(centers)}


UNDATED: Mapping[str, dict[str, Any]] = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
}
"""Files tell neither when nor by what they were written: the same figure has the same bytes."""


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with our style; what others draw in this process keeps theirs."""
    import matplotlib

    style: dict[Any, Any] = {
        "font.size": FONT_POINTS,
        "axes.titlesize": FONT_POINTS,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": MUTED,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "text.parse_math": False,  # a center may be called "$"
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "pdf.fonttype": 42,  # fonts as fonts: publishers refuse the default
        "svg.fonttype": "none",
        "svg.hashsalt": "crossmod",
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # Text is drawn by the browser, which has glyphs that our measuring font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def new_figure(
    width: float, height: float, columns: int, *, share_y: bool = True
) -> tuple[Figure, list[Axes]]:
    """A row of axes; width and height in inches, 96 pixels each on the page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, columns, squeeze=False, sharey=share_y)
    return figure, list(grid[0])


def to_svg(figure: Figure, name: str) -> Markup:
    """Inline SVG with ids that start with ``name`` and colors of the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=UNDATED["svg"])
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for stand_in, color in PAGE_COLORS.items():
        text = text.replace(stand_in, color)
    return Markup(text)


def chart(figure: Figure, part: str, name: str, keys: Sequence[Key], caption: str) -> Chart:
    """A chart of a figure.

    Args:
        figure: what was drawn.
        part: what its ids start with on the page.
        name: of its files.
        keys: its legend.
        caption: what to see.
    """
    return Chart(name, figure, to_svg(figure, part), keys, caption)
