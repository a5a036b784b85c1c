"""Van Cittert deconvolution: sharpens images that a translator has blurred."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from crossmod import Context, Options, Size, Spacing, State, Translator, Volume, hookimpl


class VanCittertOptions(Options):
    """Options of the `van-cittert` translator."""

    psf_mm: Spacing = (1.0, 1.0, 2.5)
    """Standard deviation in mm, along I, J, K, of the Gaussian blur to undo (point spread
    function). The paper says "scale"; that this is the standard deviation is assumed."""
    iterations: Size = 15
    """How often the result is corrected; each time sharpens, and amplifies noise, a little more."""
    relaxation: Annotated[float, Field(strict=True, gt=0.0, lt=2.0)] = 1.0
    """Part of the remaining difference that one iteration corrects; converges below 2. The paper
    gives no value; 1 is Van Cittert's own."""
    nonnegative: bool = True
    """Set negative values to 0 after each iteration; not in the paper."""


class VanCittert(Translator[VanCittertOptions]):
    """Van Cittert 1931; nothing to learn."""

    def translate(self, volumes: Iterable[Volume], state: State, ctx: Context) -> Iterator[Volume]:
        """Sharpen each volume at its own voxel size; results are clipped to [0, 1]."""
        del state, ctx
        from crossmod_van_cittert.deconvolve import deconvolve

        options = self.options
        for volume in volumes:
            sigma = np.array(options.psf_mm) / volume.spacing_mm
            channels = [
                deconvolve(
                    channel,
                    sigma,
                    iterations=options.iterations,
                    relaxation=options.relaxation,
                    nonnegative=options.nonnegative,
                )
                for channel in volume.data
            ]
            yield volume.with_data(np.clip(channels, 0, 1))


@hookimpl
def crossmod_stage() -> type[Translator[VanCittertOptions]]:
    """Offer the translator."""
    return VanCittert
