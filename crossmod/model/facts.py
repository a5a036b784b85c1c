"""What is written about a model: by the run that trained it (run.json), in its folder (model.json).

Nothing in these files says where data or results lie, or which case is whose.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, model_validator

from crossmod.data.grids import Preprocess
from crossmod.errors import DataError
from crossmod.intake.options import Intake
from crossmod.model.calibration import Calibration, Curve
from crossmod.options import Average, FileValue, Name, Options, problems_in

FORMAT = 1
"""Raised when a reader of one version cannot read the files of another."""

SPACING_MM = 0.05, 50.0
"""The least and the largest voxels of a model: smaller ones take hours of any scan of a head."""

RUN_FILE, MODEL_FILE, LOCK_FILE = "run.json", "model.json", "recipe.lock.toml"


class Identity(Options):
    """Which code a plugin is; the fields of `Plugin.identity`."""

    name: str
    distribution: str
    version: str
    code: str
    """Digest of its Python files."""


class Setup(Options):
    """All that prediction needs besides weights.

    Folds agree in all of it.
    """

    classes: dict[Name, Annotated[tuple[FileValue, ...], Field(min_length=1)]] = Field(min_length=1)
    """Class -> its values in label files; predictions have the first."""
    intake: Intake = Intake()
    """How scans are read that are not as they should be."""
    preprocess: Preprocess
    segmenter: Identity
    options: dict[str, Any]
    """Options of the segmenter."""
    average: Average
    largest_component: tuple[str, ...]

    @model_validator(mode="after")
    def _names_its_classes(self) -> Self:
        if unknown := set(self.largest_component) - set(self.classes):
            raise ValueError(f"largest_component names no class: {', '.join(sorted(unknown))}")
        return self


class Split(Options):
    """The scans of one split."""

    centers: dict[str, int]
    """Center -> number of scans."""
    digest: str
    """sha256 over the sorted sha256 of every scan and label map, one a line."""


class Origin(Options):
    """What a run learned from, and with what."""

    embedded: bool
    """Whether the scans were the embedded cohort, made by crossmod itself."""
    data: dict[str, Split]
    """Source, target and, where there are any, validation scans."""
    crossmod: str
    libraries: dict[str, str]


FolderName = Annotated[str, StringConstraints(pattern=r"^[^./\\][^/\\]*$")]
"""A name, so that no run can point outside its folder."""


class Fold(Options):
    """Where a run folder keeps the model of one fold."""

    folder: FolderName
    key: str


class HeldOut(Options):
    """Labeled source scans with the look of the target, from which single folds did not learn."""

    step: str
    folder: FolderName
    key: str
    cases: tuple[tuple[str, ...], ...]
    """Of each fold, in their order."""


class Stage(Setup):
    """One segmenter of a run."""

    folds: tuple[Fold, ...] = Field(min_length=1)
    trained_on: dict[str, int]
    """Step -> labeled pairs it gave; an ensemble splits them into folds."""
    held_out: HeldOut | None = None
    """None with a single fold, and where it did not learn from the source."""


class RunFacts(Options):
    """The content of run.json."""

    origin: Origin
    stages: dict[str, Stage]
    """In the order they were trained."""
    references: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Split -> case -> sha256 of the label map that its scores are against. Empty where runs of
    before did not note it."""


class Scores(Options):
    """How well one structure was outlined, over the scans of a center or all of them.

    The means and standard deviations of metrics that other packages add are further fields, named
    alike.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    split: str
    center: str
    structure: str
    cases: int
    penalized: int
    """How many of them carry the penalty for a missed structure."""
    dice_mean: float | None
    dice_sd: float | None
    assd_mean_mm: float | None
    assd_sd_mm: float | None


WeightsFile = Annotated[str, StringConstraints(pattern=r"^fold-\d+\.safetensors$")]
"""A name, so that no model can point outside its folder."""


class Weights(Options):
    """One file of weights."""

    sha256: str
    notes: dict[str, Any]
    """Its notes, see `State`, for people: prediction reads those in the file."""


class ModelFacts(Setup):
    """The content of model.json."""

    title: str
    seed: int
    stage: str
    origin: Origin
    trained_on: dict[str, int]
    scores: tuple[Scores, ...]
    """Against label maps that the method has not seen; empty where there were none."""
    weights: dict[WeightsFile, Weights] = Field(min_length=1)
    """File -> what it is, one for each fold."""
    calibration: Calibration | None = None
    """What Dice to expect; None where the package was made without."""

    @property
    def curves(self) -> Mapping[str, Curve]:
        """Class -> how its Dice follows from the agreement of the folds, where that is known."""
        return self.calibration.curves if self.calibration else {}


FactsT = TypeVar("FactsT", RunFacts, ModelFacts)


def write_facts(path: Path, facts: RunFacts | ModelFacts) -> None:
    """Write one of the two files."""
    content = {"format": FORMAT, **facts.model_dump(mode="json")}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_facts(path: Path, kind: type[FactsT]) -> FactsT:
    """Read one of the two files.

    Raises:
        DataError: it is not JSON, has another format version, or its content is not as described.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error
    found = content.pop("format", None) if isinstance(content, dict) else None
    if found != FORMAT:
        raise DataError(
            f"has format {found}",
            where=str(path),
            allowed=str(FORMAT),
            fix="use the version of crossmod it was written with, or one that knows both",
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise DataError(problems_in(error), where=str(path)) from error


def require_usual_spacing(facts: Setup, where: Path) -> None:
    """Refuse a common grid that no scan of a head is brought onto in reasonable time.

    Raises:
        DataError: its voxels are too small or too large.
    """
    least, most = SPACING_MM
    if not all(least <= size <= most for size in facts.preprocess.spacing_mm):
        found = f"preprocess.spacing_mm is {list(facts.preprocess.spacing_mm)}"
        raise DataError(found, where=str(where), allowed=f"{least:g} to {most:g} mm")
