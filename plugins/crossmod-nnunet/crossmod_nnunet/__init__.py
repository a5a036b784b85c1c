"""nnU-Net v2 as a segmenter: it plans, preprocesses, trains and predicts by its own programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from crossmod import (
    Cohort,
    Context,
    Count,
    Options,
    Positive,
    Prediction,
    Segmenter,
    State,
    Volume,
    hookimpl,
)

ClassOfNNUNet = Annotated[str, Field(pattern=r"[A-Za-z_]\w{0,99}")]
"""A name of a class in nnU-Net."""


class NNUNetOptions(Options):
    """Options of the `nnunet` segmenter; the defaults are those of nnU-Net."""

    configuration: Literal["3d_fullres", "3d_lowres", "2d"] = "3d_fullres"
    """Which network of its plan; "3d_lowres" exists for large images only."""
    planner: ClassOfNNUNet = "ExperimentPlanner"
    """What decides on patch, batch and network: "ExperimentPlanner", or for larger networks
    "nnUNetPlannerResEncM", "nnUNetPlannerResEncL" or "nnUNetPlannerResEncXL"."""
    memory_gb: Positive | None = None
    """Memory of the GPU that it plans for; by default what the planner aims at, 8 for the first."""
    trainer: ClassOfNNUNet = "nnUNetTrainer"
    """The class that trains: one of nnU-Net, or one in a folder that `nnUNet_extTrainer` names."""
    epochs: Count | None = None
    """Length of the training; by default that of the trainer, 1000."""
    iterations: Count | None = None
    """Steps per epoch; by default those of the trainer, 250. A fifth of them watch the validation
    cases."""
    mirror_predictions: bool = True
    """Average predictions over the mirror images that the trainer allows: eight times the work."""
    step_size: Annotated[float, Field(strict=True, gt=0.0, le=1.0)] = 0.5
    """Distance of the windows of a prediction, as a share of the patch."""


class NNUNet(Segmenter[NNUNetOptions]):
    """Isensee et al. 2021, by the authors' own package."""

    probes = False
    code_of = ("nnunetv2",)

    def fit(self, train: Cohort, validation: Cohort, ctx: Context) -> State:
        """Export, plan, preprocess and train one fold; what was done is not done again."""
        from crossmod_nnunet.programs import Training

        return Training(self.options, ctx).learn(train, validation)

    def predict(
        self, volumes: Iterable[Volume], state: State, ctx: Context
    ) -> Iterator[Prediction]:
        """Let nnU-Net predict some volumes at a time."""
        from crossmod_nnunet.programs import predict

        yield from predict(volumes, state, self.options, ctx)


@hookimpl
def crossmod_stage() -> type[NNUNet]:
    """Offer the segmenter."""
    return NNUNet
