"""Copies of a lesion: rescaled, redrawn, blended in (Salle et al. 2024, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crossmod import Context, Pair, rescale
from crossmod_singan_gba.blend import SliceStack, weights_of
from crossmod_singan_gba.cascade import Cascade
from crossmod_singan_gba.harmonize import harmonize
from crossmod_singan_gba.panels import LesionView

if TYPE_CHECKING:
    from crossmod_singan_gba import BlendGroup, SinganGbaOptions

PANELS = 6


@dataclass
class Copier:
    """Makes the copies, and pictures of the first ones.

    Attributes:
        cascade: the trained SinGAN.
        label: the structure that is changed.
        options: what the recipe says.
        ctx: the run.
    """

    cascade: Cascade
    label: int
    options: SinganGbaOptions
    ctx: Context
    _shown: int = field(default=0, init=False)

    def copies(self, pair: Pair, group: BlendGroup, changes: Mapping[str, float]) -> Iterator[Pair]:
        """Yield a copy of a pair for every change (suffix -> factor) and every start scale."""
        mask = pair.labels == self.label
        stack, view = SliceStack(mask), LesionView(mask, pair.image.spacing_mm)
        options = self.options
        weights = weights_of(stack.masks, radius=options.mask_radius, sigma=options.mask_sigma)
        rows = []
        for change, factor in changes.items():
            naive = rescale(pair, self.label, factor, group.texture)  # equation (5)
            slices = stack.take(naive[0])
            row = [view(pair.image.data), view(naive)]
            for start in options.starts_of(group):
                suffix = f"{change}-s{start}"
                rng = self.ctx.rng(pair.case, suffix)
                redrawn = harmonize(self.cascade, slices, start, rng)  # equation (6)
                blended = weights * redrawn + (1 - weights) * slices  # equation (7)
                data = stack.put(naive[0], blended)[None]
                row.append(view(data))
                yield pair.copy_as(suffix, data)
            rows.append(row)
        if self._shown < PANELS:
            self.ctx.panel(f"augmented-{pair.case}-{group.name}", rows)
        self._shown += 1
