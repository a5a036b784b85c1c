"""What a recipe may say: the tables, their keys, types, ranges and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import Field

from crossmod.data.choice import Cases, Choice
from crossmod.data.classes import Classes
from crossmod.data.crossmoda import DEFAULT_STRUCTURE, SIZE_LIMITS_MM3
from crossmod.intake.options import Intake
from crossmod.options import (
    ClassName,
    Determinism,
    FileValue,
    Fraction,
    Name,
    Options,
    Precision,
    Seed,
    model_in,
)
from crossmod.recipe.preprocess import PreprocessTable
from crossmod.recipe.values import Device, FilePattern, PatientPattern, Seeds, SizeLimits, Title
from crossmod.stages import find
from crossmod.stages.tables import (
    AugmentTable,
    PseudoLabelTable,
    SegmentTable,
    StageTable,
    TranslateTable,
)

Split = Literal["target", "validation"]
Level = Literal["oracle", "no-adaptation", "translated"]
ScanCount = Annotated[int, Field(strict=True, ge=1, le=10_000)]
StepName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]
"""It becomes part of a folder name."""


class AnyFiles(Options):
    """Where scans lie, relative to the data root; `{case}` stands for the case id."""

    images: FilePattern
    """Pattern of the images."""
    cases: Cases | None = None
    """Cases that take part, of those that the pattern matches; without it, all do. A list of ids,
    the name of a file that lists them, or a table such as `source.cases`. Each must be there."""
    exclude: Cases | None = None
    """Cases that do not take part, written as `source.cases` is."""

    @property
    def choice(self) -> Choice:
        """Which cases of the pattern take part."""
        return Choice(self.cases, self.exclude)


class LabeledFiles(AnyFiles):
    """Where labeled scans lie."""

    labels: FilePattern
    """Pattern of the label maps."""


class Files(AnyFiles):
    """Where unlabeled scans lie."""

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
    def splits(self) -> dict[str, AnyFiles]:
        """Split -> its files; validation only where there is one."""
        splits = {"source": self.source, "target": self.target, "validation": self.validation}
        return {name: files for name, files in splits.items() if files}

    @property
    def lists(self) -> list[str]:
        """The files below the data folder that list cases."""
        lists = [one for files in self.splits.values() for one in (files.cases, files.exclude)]
        return [one.file for one in lists if one and one.file]

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
    structure: ClassName = DEFAULT_STRUCTURE
    """The class whose appearance the report follows; options of stages that name a class mean this
    one by default."""
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
    precision: Precision = "auto"
    """"auto" is bf16 if the device supports it natively, fp16 on older GPUs with tensor cores, and
    fp32 otherwise."""
    determinism: Determinism = "seeded"
    """"exact": the same bits on the same kind of machine, whatever the number of workers and
    however often the run was interrupted. "seeded": the same random numbers; sums may round
    differently. "free": the fastest kernels."""
    data: Data
    intake: Intake = Intake()
    preprocess: PreprocessTable
    translate: dict[StepName, TranslateTable] = Field(default_factory=dict)
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
        return first_stage(self.translate, self.augment)


def first_stage(translate: object, augment: object) -> str:
    """The segmentation that self-training starts from, by the tables of a recipe."""
    if augment:
        return "augmented"
    return "translated" if translate else "no-adaptation"


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
