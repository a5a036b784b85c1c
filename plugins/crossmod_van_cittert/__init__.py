"""Van Cittert deconvolution: sharpens images that a translator has blurred."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from crossmod import Context, Options, Size, Spacing, State, Translator, Volume, hookimpl

SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
"""Standard deviation of a Gaussian whose full width at half maximum is 1."""

WARN_ABOVE = 0.02
"""Share of a head's voxels driven to 0 or 1 above which there is a warning. A few percent are
usual with the paper's numbers; a quarter is the sign of a width given as the wrong kind."""


class VanCittertOptions(Options):
    """Options of the `van-cittert` translator."""

    psf_mm: Spacing = (1.0, 1.0, 2.5)
    """Width in mm, along I, J, K, of the Gaussian blur to undo (point spread function)."""
    psf_is: Literal["fwhm", "sigma"] = "fwhm"
    """What `psf_mm` gives: the full width at half maximum, or the standard deviation, with which
    the same numbers blur 2.355 times as widely. The paper says "scale"; that this is the full
    width is assumed, because as standard deviations its numbers drive a quarter of a head to
    black or white."""
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
        """Sharpen each volume at its own voxel size; results are clipped to [0, 1].

        Of each case, the share of the head's voxels that this drove to 0 or 1 is noted.
        """
        del state
        from crossmod_van_cittert.deconvolve import deconvolve, driven_to_ends

        options, shares = self.options, dict[str, float]()
        for volume in volumes:
            sigma = self._sigma_mm / volume.spacing_mm
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
            sharp = np.clip(channels, 0, 1)
            shares[volume.case] = share = driven_to_ends(volume.data, sharp)
            ctx.metric(case=volume.case, driven_to_ends=share)
            yield volume.with_data(sharp)
        for line in self._remarks(shares):
            ctx.log(line)

    @property
    def _sigma_mm(self) -> NDArray[np.float64]:
        factor = SIGMA_PER_FWHM if self.options.psf_is == "fwhm" else 1.0
        return factor * np.array(self.options.psf_mm)

    def _remarks(self, shares: Mapping[str, float]) -> Iterator[str]:
        """What the report says of the shares, case -> part of 1."""
        if not shares:
            return
        worst = max(shares, key=lambda case: shares[case])
        most = f"{shares[worst]:.1%} in {worst}"
        yield (
            "voxels of the head driven to 0 or 1 by sharpening: "
            f"median {median(shares.values()):.1%} over {len(shares)} cases, at most {most}"
        )
        above = sum(share > WARN_ABOVE for share in shares.values())
        if above:
            other = ', or psf_is = "fwhm"' if self.options.psf_is == "sigma" else ""
            yield (
                f"warning: sharpening drove more than {WARN_ABOVE:.0%} of the head's voxels to 0 "
                f"or 1 in {above} of {len(shares)} cases ({most}); use a smaller psf_mm or fewer "
                f"iterations{other}"
            )


@hookimpl
def crossmod_stage() -> type[VanCittert]:
    """Offer the translator."""
    return VanCittert
