"""What a recipe may say: the tables, their keys, types, ranges and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import AfterValidator, Field

from crossmod.data.classes import Classes
from crossmod.data.crossmoda import DEFAULT_STRUCTURE, SIZE_LIMITS_MM3
from crossmod.data.grids import Preprocess
from crossmod.intake.options import Intake
from crossmod.options import (
    Determinism,
    FileValue,
    Fraction,
    Name,
    Options,
    Positive,
    Seed,
    model_in,
)
from crossmod.stages import find
from crossmod.stages.tables import (
    AugmentTable,
    LearningTable,
    PseudoLabelTable,
    SegmentTable,
    StageTable,
)

MAX_PARTS = 30
"""Folders inside each other that a pattern may name."""

MAX_PART_BYTES = 255
"""Bytes of one name on any file system."""

Split = Literal["target", "validation"]
Level = Literal["oracle", "no-adaptation", "translated"]
ScanCount = Annotated[int, Field(strict=True, ge=1, le=10_000)]
StepName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]
"""Becomes part of the name of a folder."""


def _stays_below(pattern: str) -> str:
    """Refuse what could lead out of the data folder, or is no pattern at all."""
    parts = pattern.split("/")
    if "\\" in pattern or not pattern.isprintable():
        raise ValueError("parts of a pattern are separated by /, and nothing else is special")
    if not parts[0] or parts[0][0] == "~" or parts[0][1:2] == ":" or ".." in parts:
        raise ValueError("a pattern stays below the data folder: no .., ~, drive or leading /")
    if "{case}" not in pattern:
        raise ValueError("{case} stands where the case id is")
    return pattern


def _names_files(pattern: str) -> str:
    """Refuse what no file system can hold, and what no file can be called."""
    parts = pattern.split("/")
    if {"", "."} & set(parts):
        raise ValueError("a pattern names something between two /, and no .")
    if "{case}{case}" in pattern:
        raise ValueError("something stands between {case} and {case}")
    longest = max(len(part.replace("{case}", "").encode()) for part in parts)
    if longest > MAX_PART_BYTES or len(parts) > MAX_PARTS:
        raise ValueError(f"at most {MAX_PARTS} names of {MAX_PART_BYTES} bytes make a pattern")
    return pattern


def _names_a_patient(pattern: str) -> str:
    if pattern.count("{patient}") != 1:
        raise ValueError("{patient} stands here once, as in {patient}_ses-*")
    if len(pattern) > MAX_PART_BYTES:
        raise ValueError(f"a pattern of case ids has at most {MAX_PART_BYTES} characters")
    return pattern


def _says_something(title: str) -> str:
    if not title.strip():
        raise ValueError("a title says what this experiment is")
    return title


def _differ(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("the same seed gives the same run: each stands here once")
    return seeds


def _ascends(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the second limit is at least the first")
    return limits


FilePattern = Annotated[str, AfterValidator(_stays_below), AfterValidator(_names_files)]
Title = Annotated[str, AfterValidator(_says_something)]
Seeds = Annotated[tuple[Seed, ...], Field(max_length=100), AfterValidator(_differ)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$")]
SizeLimits = Annotated[tuple[Positive, Positive], AfterValidator(_ascends)]
PatientPattern = Annotated[str, AfterValidator(_names_a_patient)]


class LabeledFiles(Options):
    """Where labeled scans lie, relative to the data root; `{case}` stands for the case id."""

    images: FilePattern
    """Pattern of the images."""
    labels: FilePattern
    """Pattern of the label maps."""


class Files(Options):
    """Where unlabeled scans lie, relative to the data root; `{case}` stands for the case id."""

    images: FilePattern
    """Pattern of the images."""
    series: str = ""
    """If images are folders of DICOM files: the SeriesInstanceUID or a pattern of
    SeriesDescription; required if a folder holds several series."""


class EmbeddedCohort(Options):
    """Size of the embedded cohort, generated if no data folder is given."""

    source: ScanCount
    """Labeled source scans, half from each center."""
    target: ScanCount
    """Unlabeled target scans."""
    validation: ScanCount
    """Target scans kept for scoring."""
    seed: Seed = 2022
    """Another seed generates other patients."""


class Data(Options):
    """Which scans take part."""

    source: LabeledFiles
    """Labeled scans of the source modality."""
    target: Files
    """Unlabeled scans of the target modality."""
    validation: Files | None = None
    """Scans of the target modality that no stage sees, for scoring."""
    centers: dict[Name, str]
    """Center -> pattern of its case ids, with `*`; the first match decides."""
    patients: PatientPattern | None = None
    """Pattern of case ids with `{patient}`, such as `{patient}_ses-*`: scans of one patient stay in
    one fold; without it, every case counts as another patient."""
    classes: dict[Name, FileValue | Annotated[tuple[FileValue, ...], Field(min_length=1)]]
    """Class -> its value in label files, or several values that form one class. 0 is
    background."""
    ignore_values: tuple[FileValue, ...] = ()
    """Values in label files that are background on purpose; any other value that belongs to no
    class is an error."""
    phantom: EmbeddedCohort | None = None
    """Size of the embedded cohort that is used without a data folder."""

    @property
    def class_table(self) -> Classes:
        """The classes with their file values."""
        return Classes({n: (v,) if isinstance(v, int) else v for n, v in self.classes.items()})


class Evaluate(Options):
    """What is scored, and what the method is compared with."""

    labels: FilePattern | None = None
    """Pattern of reference label maps of target scans, used for scoring only."""
    splits: tuple[Split, ...] = ("target", "validation")
    """Splits that every stage is applied to; without "target", stages are applied to target scans
    only if self-training learns from them."""
    compare: tuple[Level, ...] = ("oracle", "no-adaptation", "translated")
    """Segmenters trained for comparison only."""
    structure: str = DEFAULT_STRUCTURE
    """The class whose appearance the report follows."""
    size_limits_mm3: SizeLimits = SIZE_LIMITS_MM3
    """In comparisons of variants, structures below the first volume are small and those above the
    second are large; the groups of the paper's augmentation have these limits."""
    continue_above: Fraction | None = None
    """Stop after the first segmentation with translated images if the mean Dice of `structure` on
    validation scans is below this, since the translation has failed. This uses reference labels:
    set it in ablations that do not pursue failures, as the paper's, not in a recipe whose result
    you report. It has no effect without reference labels."""


class Recipe(Options):
    """The whole experiment."""

    title: Title
    """A description of the experiment."""
    seed: Seed = 2022
    """All random numbers derive from it."""
    seeds: Seeds = ()
    """Run everything once with each of these seeds instead, and report the spread."""
    device: Device = "auto"
    """"auto", "cpu", "cuda" or "cuda:n"."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """"auto" is bf16 if the device supports it natively, fp16 on older GPUs with tensor cores, and
    fp32 otherwise."""
    determinism: Determinism = "seeded"
    """"exact": the same bits on the same kind of machine, whatever the number of workers and
    however often the run was interrupted. "seeded": the same random numbers; sums may round
    differently. "free": the fastest kernels."""
    data: Data
    intake: Intake = Intake()
    preprocess: Preprocess
    translate: dict[StepName, LearningTable] = Field(default_factory=dict)
    augment: dict[StepName, AugmentTable] = Field(default_factory=dict)
    segment: SegmentTable
    pseudo_label: PseudoLabelTable | None = None
    evaluate: Evaluate = Evaluate()

    @property
    def patterns(self) -> list[str]:
        """The patterns of all files of a data folder that take part."""
        data = self.data
        validation = data.validation.images if data.validation else None
        named = [data.source.images, data.source.labels, data.target.images, validation]
        return [pattern for pattern in (*named, self.evaluate.labels) if pattern]

    @property
    def first_stage(self) -> str:
        """The segmentation that self-training starts from."""
        if self.augment:
            return "augmented"
        return "translated" if self.translate else "no-adaptation"


class Kind(NamedTuple):
    """How a recipe writes the stages of a kind.

    Attributes:
        table: what the core reads of one; all else are options of its plugin.
        named: whether there may be several, each a table with a name of its own.
        optional: whether there may be none.
    """

    table: type[StageTable]
    named: bool
    optional: bool

    def tables(self, found: object) -> list[tuple[str, Mapping[str, Any]]]:
        """Name and table of each, whatever was written; the name of an only one is empty."""
        each = found if self.named and isinstance(found, Mapping) else {"": found}
        return [(name, table) for name, table in each.items() if isinstance(table, Mapping)]


def _kind(name: str) -> Kind:
    field = Recipe.model_fields[name]
    table = cast("type[StageTable]", model_in(field.annotation))
    return Kind(table, str(field.annotation).startswith("dict["), not field.is_required())


KINDS = {name: _kind(name) for name in find.KINDS}
"""Recipe table -> how it is written."""
