"""The table of metrics: one entry for each.

Columns of files, tables, charts, comparisons and rankings are made from it. A package adds a metric
by an entry point of its name, which leads to a `Metric`:

    [project.entry-points."crossmod.metrics"]
    hd95_twice = "my_package:HD95_TWICE"
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Literal

import numpy as np

from crossmod.data.crossmoda import EMPTY_PREDICTION_MM
from crossmod.data.overlap import dice
from crossmod.errors import PluginError
from crossmod.scores.surfaces import (
    BoolArray,
    Definition,
    Distances,
    Spacing,
    surface_distances,
)

GROUP = "crossmod.metrics"
"""The entry-point group."""

TOLERANCE_MM = 1.0
"""Surfaces this close count as one for the normalized surface Dice, unless told otherwise."""

ROUNDING = 1e-6
"""A value this little outside the range of its metric was rounded by whoever wrote it."""

KEYS = ("split", "stage", "case", "center", "class")
"""The columns of a score file that are of no metric."""


@dataclass(frozen=True, eq=False)
class Masks:
    """A prediction and its reference on one grid, and what several metrics read from them.

    Attributes:
        prediction: ``(I, J, K)``, what was outlined.
        reference: ``(I, J, K)``, what should have been.
        spacing_mm: voxel size along I, J, K.
        voxel_mm3: volume of a voxel.
        tolerance_mm: surfaces this close count as one.
        definition: which mean the average symmetric surface distance is.
    """

    prediction: BoolArray
    reference: BoolArray
    spacing_mm: Spacing
    voxel_mm3: float
    tolerance_mm: float = TOLERANCE_MM
    definition: Definition = "pooled"

    @cached_property
    def predicted(self) -> int:
        """Voxels of the prediction."""
        return int(np.count_nonzero(self.prediction))

    @cached_property
    def expected(self) -> int:
        """Voxels of the reference."""
        return int(np.count_nonzero(self.reference))

    @cached_property
    def distances(self) -> Distances:
        """Between the two surfaces, measured once for all metrics; both masks have voxels."""
        return surface_distances(self.prediction, self.reference, self.spacing_mm)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to say how well a prediction matches its reference.

    Attributes:
        name: lower case, as "hd95"; the unit is added in columns.
        label: what tables and charts call it, as "HD95".
        meaning: its definition in a few words.
        function: computes it. It is asked where both masks have voxels; without `missing`, in any
            case.
        unit: "mm" and "mm3" end the names of columns; a share in "%" is shown times 100.
        better: which values are good. None: it has no worst end, hence no percentiles and no rank.
        missing: its value where only one of the masks has voxels; NaN where neither has.
        digits: decimal places in tables.
        limits: its range: the axis in charts, and for a metric with a better end the values that
            `crossmod rank` and `compare` accept. None: from 0 up, on a logarithmic axis.
        shown: how far it gets: to the files with a row for each case ("cases"), also to the means
            that `crossmod evaluate` prints ("summary"), or also to the reports, comparisons and
            model cards of runs ("report").

    Raises:
        ValueError: the name or the label cannot be a column, or a metric with a better end has no
            value for a missing structure.

    >>> voxels = Metric(
    ...     name="false_voxels",
    ...     label="false voxels",
    ...     meaning="voxels that only one mask has",
    ...     function=lambda masks: float(np.count_nonzero(masks.prediction ^ masks.reference)),
    ... )
    >>> first, second = np.array([[[True, True, False]], [[False, True, False]]])[:, :, :, None]
    >>> voxels.measure(Masks(first, second, (1.0, 1.0, 1.0), voxel_mm3=1.0))
    1.0
    """

    name: str
    label: str
    meaning: str
    function: Callable[[Masks], float]
    unit: Literal["", "mm", "mm3", "%"] = ""
    better: Literal["higher", "lower"] | None = None
    missing: float | None = None
    digits: int = 3
    limits: tuple[float, float] | None = None
    shown: Literal["cases", "summary", "report"] = "report"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", self.name) or self.column in KEYS:
            raise ValueError(f"a metric cannot be called '{self.name}'")
        if not self.label.isprintable() or not 0 < len(self.label) <= 40:
            raise ValueError("a label has 1 to 40 characters that can be printed")
        if self.better and (self.missing is None or not math.isfinite(self.missing)):
            raise ValueError("a metric that ranks has a finite value for a missing structure")

    def named(self, statistic: str = "") -> str:
        """The column of the metric, or of a statistic of it: "assd_mm", "assd_mean_mm"."""
        return "_".join(filter(None, (self.name, statistic, self.unit.replace("%", ""))))

    @property
    def column(self) -> str:
        """Its column in files with a row for each case."""
        return self.named()

    @property
    def heading(self) -> str:
        """Label and unit, for tables in a terminal."""
        return f"{self.label} {self.unit}".strip()

    @property
    def title(self) -> str:
        """Label and unit, for pages."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def measure(self, masks: Masks) -> float:
        """Its value for two masks; NaN where it is not defined."""
        if self.missing is None or (masks.predicted and masks.expected):
            return self.function(masks)
        return self.missing if masks.predicted or masks.expected else math.nan

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest value that is possible."""
        if not self.better:
            return -math.inf, math.inf
        return self.limits or (0.0, math.inf)

    def fault(self, value: float) -> str:
        """Why a value is impossible; empty for NaN and for a possible value.

        >>> DICE.fault(90.0)
        'outside 0 to 1; a percentage? Divide it by 100'
        >>> ASSD.fault(-1.0)
        'below 0'
        >>> DICE.fault(0.9)
        ''
        """
        low, high = self.range
        if math.isnan(value) or low - ROUNDING <= value <= high + ROUNDING:
            return ""
        if math.isinf(high):
            return f"below {low:g}"
        percent = (low, high) == (0.0, 1.0) and 2 <= value <= 100
        hint = "; a percentage? Divide it by 100" if percent else ""
        return f"outside {low:g} to {high:g}{hint}"

    def text(self, value: float) -> str:
        """A value as tables show it."""
        if math.isnan(value):
            return "n/a"
        return f"{100 * value if self.unit == '%' else value:.{self.digits}f}"


def _volume_error(masks: Masks) -> float:
    missing = masks.predicted - masks.expected
    return missing / masks.expected if masks.expected else math.nan


DICE = Metric(
    name="dice",
    label="Dice",
    meaning="twice the overlap over the sum of sizes",
    function=lambda masks: dice(masks.prediction, masks.reference),
    better="higher",
    missing=0.0,
    limits=(0.0, 1.0),
)
ASSD = Metric(
    name="assd",
    label="ASSD",
    meaning="average symmetric surface distance, the mean of all distances in both directions",
    function=lambda masks: masks.distances.assd_mm(masks.definition),
    unit="mm",
    better="lower",
    missing=EMPTY_PREDICTION_MM,
    digits=2,
)
HD95 = Metric(
    name="hd95",
    label="HD95",
    meaning="95th percentile of these distances, interpolated linearly",
    function=lambda masks: masks.distances.hd95_mm(),
    unit="mm",
    better="lower",
    missing=EMPTY_PREDICTION_MM,
    digits=2,
    shown="summary",
)
NSD = Metric(
    name="nsd",
    label="NSD",
    meaning="normalized surface Dice, the share of these distances within the tolerance",
    function=lambda masks: masks.distances.nsd(masks.tolerance_mm),
    better="higher",
    missing=0.0,
    limits=(0.0, 1.0),
    shown="summary",
)
VOLUME_ERROR = Metric(
    name="volume_error",
    label="volume error",
    meaning="(prediction - reference) / reference; tables show percent",
    function=_volume_error,
    unit="%",
    digits=1,
    shown="summary",
)
VOLUME = Metric(
    name="volume",
    label="volume",
    meaning="volume of the reference",
    function=lambda masks: masks.expected * masks.voxel_mm3,
    unit="mm3",
    digits=0,
    shown="cases",
)
BUILT_IN = (DICE, ASSD, HD95, NSD, VOLUME_ERROR, VOLUME)
"""In the order of their columns."""


def metrics() -> tuple[Metric, ...]:
    """Every metric: those of crossmod, then those of other packages by name.

    Raises:
        PluginError: one of another package cannot be used.
    """
    return (*BUILT_IN, *(metric for metric, _ in _further()))


def code_of_further() -> dict[str, str]:
    """Name -> digest of the code, for the metrics of other packages; it is part of content keys."""
    return {metric.name: digest for metric, digest in _further()}


def reported() -> tuple[Metric, ...]:
    """The metrics in reports, comparisons and model cards."""
    return tuple(metric for metric in metrics() if metric.shown == "report")


def summarized() -> tuple[Metric, ...]:
    """The metrics in the means over a folder."""
    return tuple(metric for metric in metrics() if metric.shown != "cases")


def penalties(chosen: Iterable[Metric]) -> str:
    """What a structure that only one mask has counts as.

    >>> penalties([DICE, ASSD])
    'Dice 0 and ASSD 350 mm'
    """
    texts = [f"{m.label} {m.missing:g} {m.unit}".strip() for m in chosen if m.missing is not None]
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


@cache
def _further() -> tuple[tuple[Metric, str], ...]:
    from crossmod.stages.entry_points import offers

    found: list[tuple[Metric, str]] = []
    for name in offers(GROUP):
        metric, where, digest = _loaded(name)
        if metric.column in {other.column for other in (*BUILT_IN, *(one for one, _ in found))}:
            raise PluginError(f"the column '{metric.column}' is taken", where=where, fix=WAY_OUT)
        found.append((metric, digest))
    return tuple(found)


WAY_OUT = "mend or uninstall it: what is installed counts in every score"


def _loaded(name: str) -> tuple[Metric, str, str]:
    """A metric of another package, how messages name it, and the digest of its code."""
    from crossmod.stages.code import code_digest
    from crossmod.stages.entry_points import imported, offers
    from crossmod.stages.guard import told

    known = {one: entries[0] for one, entries in offers(GROUP).items()}
    metric, where = imported(GROUP, "metric", name, known)
    if not isinstance(metric, Metric) or metric.name != name:
        raise PluginError(
            f"leads to {metric!r}", where=where, allowed=f"a Metric called '{name}'", fix=WAY_OUT
        )
    function = metric.function

    def checked(masks: Masks) -> float:
        try:
            value = float(function(masks))
        except Exception as error:  # whatever somebody else's code raises
            text = f"cannot be computed: {told(error, known[name].module)}"
            raise PluginError(text, where=where, fix=WAY_OUT) from error
        if math.isinf(value):
            raise PluginError(f"gives {value}", where=where, allowed="finite numbers and NaN")
        return value

    digest = code_digest(known[name], Metric, (), alone=True)
    return replace(metric, function=checked), where, digest
