"""Repaint: give structures of the source another intensity before they are translated.

A translator that learns from images alone tends to give every lesion one gray, and to draw healthy
tissue over it. Where it is shown lesions of several intensities, it makes lesions of several
intensities. After the method that won CrossMoDA 2023 (Vandy365); nothing is learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from crossmod import (
    ClassName,
    Context,
    Fraction,
    Options,
    Pair,
    PairTranslator,
    State,
    hookimpl,
    label_of,
)


class Structure(Options):
    """A structure and what it is made to look like."""

    structure: ClassName = ""
    """Name of the class; by default `evaluate.structure`."""
    means: Annotated[tuple[Fraction, ...], Field(min_length=1, max_length=100)]
    """Mean intensity of the structure away from its border, in [0, 1]. Several values make several
    translations of a case, one with each."""
    texture: Fraction = 1.0
    """Share of the differences inside the structure that is kept, relative to its mean."""


def _distinct(structures: tuple[Structure, ...]) -> tuple[Structure, ...]:
    if len({one.structure for one in structures}) < len(structures):
        raise ValueError("list each structure once")
    return structures


class RepaintOptions(Options):
    """Options of repaint."""

    structures: Annotated[
        tuple[Structure, ...], Field(min_length=1, max_length=100), AfterValidator(_distinct)
    ]
    """What is repainted, one structure after the other. If their `means` differ in number, the
    shorter lists start again from their beginning."""

    @property
    def count(self) -> int:
        """Translations of a case."""
        return max(len(one.means) for one in self.structures)


class Repaint(PairTranslator[RepaintOptions]):
    """Sets the mean intensity of labeled structures."""

    def translate_pairs(self, pairs: Iterable[Pair], state: State, ctx: Context) -> Iterator[Pair]:
        """Yield each pair with its first intensities, then one copy for each further one."""
        del state
        labels = [label_of(one.structure, ctx.classes) for one in self.options.structures]
        for pair in pairs:
            for number in range(self.options.count):
                changed = self._repainted(pair, labels, number)
                if number:
                    changed = pair.copy_as(f"paint-{number + 1}", changed.image.data)
                yield changed

    def _repainted(self, pair: Pair, labels: list[int], number: int) -> Pair:
        from crossmod_repaint.painting import painted

        for one, label in zip(self.options.structures, labels, strict=True):
            if (pair.labels == label).any():
                wanted = one.means[number % len(one.means)]
                pair = pair.with_data(painted(pair, label, wanted, one.texture))
        return pair


@hookimpl
def crossmod_stage() -> type[Repaint]:
    """Offer the stage."""
    return Repaint
