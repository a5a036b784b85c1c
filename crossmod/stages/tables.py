"""What the core reads in the table of a stage; all other keys are options of its plugin."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from crossmod.data.lesions import FitOn
from crossmod.errors import PluginError
from crossmod.options import Average, ClassName, Options


class StageTable(BaseModel):
    """One stage: `use` names the plugin, the core reads a few keys, the rest are its options."""

    model_config = ConfigDict(
        extra="allow", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    use: str
    """Name of the plugin, as `crossmod plugins` lists it."""


class LearningTable(StageTable):
    """A stage that may learn from a part of the cases only."""

    fit_on: FitOn = FitOn()
    """The cases it learns from; it is applied to all."""


class TranslateTable(LearningTable):
    """A stage that gives source images the look of the target."""

    tries: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    """Number of times it is trained, each with another seed. Each try is judged without labels of
    the target; one that has collapsed is not used."""
    use_tries: Literal["best", "all"] = "best"
    """"best" uses the translations of the best try; "all" uses those of all tries, as
    several translations of each case."""


class AugmentTable(LearningTable):
    """A stage that adds labeled pairs."""

    keep_originals: bool = True
    """Train on the originals too. Switch off if the translator gave these lesions a wrong
    appearance, which the originals would teach: copies then take the place of their originals, and
    images without a copy stay."""


class SegmentTable(StageTable):
    """The segmenter."""

    folds: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    """Number of models trained by cross-validation over patients and averaged; 1 trains one model
    on all cases. Each fold holds a share of every center, and of the source and the pseudo-labeled
    target."""
    average: Average = "probabilities"
    """What is averaged over the folds: softmax probabilities (nnU-Net v1, which the paper used), or
    logits (nnU-Net v2)."""
    largest_component: tuple[ClassName, ...] = ()
    """Classes of which only the largest connected component of a prediction is kept; voxels are
    connected if they share a face, an edge or a corner."""


class LastRound(Options):
    """What the last round of self-training does differently."""

    train_on: Literal["all", "target"] = "all"
    """"target" leaves out translated and augmented images: real scans only, with their latest
    pseudo-labels."""
    preprocess: dict[str, Any] = Field(default_factory=dict)
    """Keys of [preprocess] that change. Another grid needs `train_on = "target"`."""
    segment: dict[str, Any] = Field(default_factory=dict)
    """Keys of [segment] that change."""


class PseudoLabelTable(StageTable):
    """Self-training."""

    rounds: int = Field(default=1, strict=True, ge=1, le=100)
    """Number of times that target scans are labeled and the segmenter is trained again."""
    warm_start: bool = False
    """Start from the weights of the previous round instead of from scratch."""
    last: LastRound | None = None
    """What the last round does differently."""


TABLES: dict[str, type[StageTable]] = {
    "translate": TranslateTable,
    "augment": AugmentTable,
    "segment": SegmentTable,
    "pseudo_label": PseudoLabelTable,
}
"""Recipe table -> what the core reads in it."""

CORE_KEYS = {key for table in TABLES.values() for key in table.model_fields} - {"use"}
"""Keys that the core reads in the table of any stage; they are kept when `use` changes."""


def require_free_names(kind: str, options: type[Options], where: str) -> None:
    """Refuse options that a plugin would never get.

    Args:
        kind: the recipe table of the plugin.
        options: its options.
        where: how messages name it.

    Raises:
        PluginError: which options, and which names are taken.
    """
    fields = options.model_fields
    names = {*fields, *(field.alias for field in fields.values())}
    core = TABLES[kind].model_fields
    if taken := [name for name in core if name in names]:
        raise PluginError(
            f"{options.__name__} has {', '.join(taken)}, which crossmod reads from [{kind}] itself",
            where=where,
            allowed=f"any name but {', '.join(core)}",
            fix="give the option another name",
        )
