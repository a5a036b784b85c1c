"""A figure of a report, as notebooks show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A chart of the report of a run.

    Attributes:
        name: of its files.
        svg: its file as SVG; a PDF of the same name lies beside it.
    """

    name: str
    svg: Path

    @property
    def pdf(self) -> Path:
        """Its file as PDF."""
        return self.svg.with_suffix(".pdf")

    def _repr_svg_(self) -> str:
        return self.svg.read_text(encoding="utf-8")
