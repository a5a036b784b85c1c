"""Charts, as notebooks show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crossmod.data.curves import Curve


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


@dataclass(frozen=True)
class Curves:
    """What a step noted while it trained.

    Attributes:
        step: the name of the step.
        curves: name of a number -> steps and values.
    """

    step: str
    curves: Mapping[str, Curve] = field(repr=False)

    def _repr_html_(self) -> str:
        from crossmod.report.training import trainings_of

        [training] = trainings_of([(self.step, self.curves)])
        return f"<div>{''.join(training.pictures)}</div>"
