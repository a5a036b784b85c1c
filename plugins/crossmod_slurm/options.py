"""What a profile says about Slurm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from crossmod import Count, Options, Positive, Size


class SlurmOptions(Options):
    """Options of the Slurm engine."""

    partition: str | None = None
    """The partition; by default the cluster's own default."""
    account: str | None = None
    """The account that is charged."""
    qos: str | None = None
    """The quality of service."""
    time_minutes: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 240
    """Time limit of a job. A training that needs longer saves its state and continues in another
    job; every other step must fit in. Jobs with a shorter limit begin earlier."""
    memory_gb: Positive | None = None
    """Memory of a job; by default what the cluster gives for its cores."""
    cpus_per_task: Size = 4
    """Cores of a job. With `determinism = "exact"` a job without a GPU computes on one."""
    gpus_per_task: Annotated[int, Field(strict=True, ge=0, le=64)] | None = None
    """GPUs of a job; by default one, and none where the recipe says `device = "cpu"`."""
    max_jobs: Size = 100
    """Jobs in the queue at the same time."""
    setup: tuple[str, ...] = ()
    """Lines of shell that a job runs first, for instance `module load cuda`."""
    extra: Mapping[str, str | int | bool] = {}
    """More options of `sbatch` by their long names, for instance `{ constraint = "a100" }`."""
    signal_seconds: Count = 120
    """Time before the limit at which a training is told to save its state: longer than one of its
    steps, and at most half of the time limit."""

    @model_validator(mode="after")
    def _leaves_time(self) -> SlurmOptions:
        if 2 * self.signal_seconds > 60 * self.time_minutes:
            raise ValueError("signal_seconds is more than half of time_minutes")
        return self
