"""One step to be made somewhere: what an engine is given, and what comes back.

Tasks and outcomes cross process and machine borders. Results do not: they are in the store.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from crossmod.errors import CrossmodError
from crossmod.options import Determinism
from crossmod.run.steps import Step
from crossmod.run.steps.base import library_versions

WARNING = "warning: "
"""How a line begins that a plugin logs for the user to see."""


def versions() -> dict[str, str]:
    """Name -> version of everything whose version changes numbers."""
    own = {"crossmod": version("crossmod"), "Python": platform.python_version()}
    return {**own, **library_versions()}


@dataclass(frozen=True)
class Machine:
    """How to compute, wherever that is.

    Attributes:
        device: "auto", "cpu", "cuda" or "cuda:n".
        precision: "auto", "fp32", "bf16" or "fp16".
        determinism: what is promised about the numbers.
        checkpoint_minutes: time between two checkpoints of a training.
        cores: cores of the CPU that a step may use; an engine may tell it of more as it works.
    """

    device: str = "auto"
    precision: str = "auto"
    determinism: Determinism = "seeded"
    checkpoint_minutes: float = 5.0
    cores: int = 1

    def seen_by_worker(self) -> Machine:
        """The same for a process that sees its own GPUs only: "cuda:1" is "cuda" there."""
        return replace(self, device=self.device.partition(":")[0])


@dataclass(frozen=True)
class Task:
    """Make a step and publish it in the store; made twice, it is there once.

    Attributes:
        key: the content key.
        step: what to make, with all it depends on.
        store: the folder of the store.
        classes: class name -> label.
        machine: how to compute.
        memory_bytes: what it may take; 0 is unknown.
        gpu_bytes: what it may take of a GPU; None is unknown.
        shared: whether other machines work in the store.
        versions: what the plan was made with.
    """

    key: str
    step: Step
    store: Path
    classes: Mapping[str, int]
    machine: Machine = Machine()
    memory_bytes: int = 0
    gpu_bytes: int | None = None
    shared: bool = False
    versions: Mapping[str, str] = field(default_factory=versions)

    @property
    def name(self) -> str:
        """The name of the step."""
        return self.step.name


@dataclass(frozen=True)
class Outcome:
    """How a task ended. Whether its result is there, only the store says.

    Attributes:
        key: of the task.
        made: whether it was made now; another run may have been faster.
        seconds: the work took, earlier pieces of an interrupted training included.
        error: why it failed; None if it did not.
        traceback: where in the code it failed.
        damaged: keys of inputs that were found damaged and set aside; the task was not begun.
        resident_bytes: memory the worker still holds.
    """

    key: str
    made: bool = False
    seconds: float = 0.0
    error: CrossmodError | None = None
    traceback: str = ""
    damaged: tuple[str, ...] = ()
    resident_bytes: int = 0


@dataclass(frozen=True)
class Advance:
    """How far a task is.

    Attributes:
        key: of the task.
        done: items of the loop at work.
        total: of them, where known.
        label: what the loop does.
        item: what it is at, a case identifier for instance.
        resident_bytes: memory of the worker.
        values: numbers that it has just noted, and texts that say of what; none if it got on.
    """

    key: str
    done: int
    total: int | None
    label: str
    item: str
    resident_bytes: int
    values: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Remark:
    """A line about a task; a warning is shown to the user, the rest is for the log."""

    key: str
    text: str
    warning: bool = False


Event = Outcome | Advance | Remark
