"""What a profile says about Ray."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from crossmod import Options, Positive, Size


class RayOptions(Options):
    """Options of the Ray engine."""

    address: Annotated[str, Field(pattern=r"^(auto|[^/]+:\d+)$")] | None = None
    """The running cluster to use, `host:port`, or "auto" for the one of this machine. By default a
    cluster of your own is started on this machine and ends with the run."""
    cpus_per_task: Size = 1
    """Cores of each step, and its threads. With `determinism = "exact"` a step on a CPU uses one
    thread."""
    gpus_per_task: Annotated[float, Field(strict=True, ge=0.0, le=64.0)] | None = None
    """GPUs of each step; 0.5 lets two share one. By default 1 where there are GPUs and the recipe
    does not ask for the CPU."""
    memory_gb: Positive | None = None
    """Memory set aside for each step, GB; by default what the step is known to need."""
    max_tasks: Size | None = None
    """Steps handed to the cluster at the same time. By default all that can be made, so that a
    cluster that grows on demand does; a cluster of your own gets what it has room for."""
    retries: Annotated[int, Field(strict=True, ge=0, le=100)] = 3
    """How often a step is restarted after its machine or process was lost."""
