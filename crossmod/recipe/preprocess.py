"""The table [preprocess]: what both domains share, and what each does differently."""

from __future__ import annotations

from pydantic import model_validator

from crossmod.data.grids import Preprocess
from crossmod.data.interpolation import Interpolation
from crossmod.data.outline import Center
from crossmod.options import Fraction, Options, Window


class DomainChanges(Options):
    """What one domain does differently; it shares the grid with the other."""

    center: Center | None = None
    """Center of the crop."""
    interpolation: Interpolation | None = None
    """How images are resampled."""
    clip_fractions: tuple[Fraction, Fraction] | None = None
    """Quantiles that are mapped to 0 and 1; a window of [preprocess] does not apply then."""
    window: Window | None = None
    """Intensities that are mapped to 0 and 1; clip_fractions of [preprocess] do not apply then."""

    @model_validator(mode="after")
    def _one_range(self) -> DomainChanges:
        if self.window is not None and self.clip_fractions is not None:
            raise ValueError("either window or clip_fractions sets the range")
        return self


class PreprocessTable(Preprocess):
    """The common grid and intensity range of both domains."""

    source: DomainChanges = DomainChanges()
    """Keys that change for source scans."""
    target: DomainChanges = DomainChanges()
    """Keys that change for target and validation scans."""

    def of(self, split: str) -> Preprocess:
        """How the scans of a split are preprocessed; all but "source" are of the target domain."""
        usual = Preprocess.model_validate(self.model_dump(exclude={"source", "target"}))
        changed = self.source if split == "source" else self.target
        changes = changed.model_dump(exclude_none=True)
        return Preprocess.model_validate(usual.with_changes(changes))
