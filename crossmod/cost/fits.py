"""Whether a plan fits this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from crossmod.cost.estimates import Estimate, Estimates
from crossmod.errors import MachineError, listed

NAMED = 3
"""Steps of one problem that are named."""

SMALLER = "use a smaller patch, batch or crop, or a lower memory_gb or cache_gb"


@dataclass(frozen=True)
class Room:
    """What there is.

    Attributes:
        memory_bytes: that a process may hold; None where steps are made on other machines.
        available_bytes: the part of it that is free now.
        disks: folder that results are written to -> bytes free there.
        device: what the recipe asks for.
        gpu_fault: why that GPU cannot be used here; empty if it can, or if none is asked for.
        gpu_bytes: memory of the smallest GPU that is used; 0 without one.
    """

    memory_bytes: int | None
    available_bytes: int
    disks: Mapping[str, int]
    device: str
    gpu_fault: str = ""
    gpu_bytes: int = 0


def problems(estimates: Estimates, room: Room) -> list[str]:
    """What does not fit, one paragraph each, with what to change."""
    memory = said_once(estimates, lambda estimate: _memory(estimate, room))
    found = [*lacking_gpu(room), *(f"{text}\n  {SMALLER}" for text in memory)]
    found += [
        f"{folder}: results take {size(estimates.disk_bytes)}, {size(free)} are free\n"
        "  free up disk space, or choose folders on another disk with --store and --out"
        for folder, free in room.disks.items()
        if estimates.disk_bytes > free
    ]
    return found


def require(found: list[str]) -> None:
    """Refuse a plan that does not fit.

    Raises:
        MachineError: all problems at once.
    """
    if found:
        raise MachineError(
            "\n".join(["the run does not fit this machine", *found]),
            fix="make these changes, or pass --force to run anyway",
        )


def lacking_gpu(room: Room) -> list[str]:
    """What is wrong with the device of a recipe on this machine, if anything is."""
    if not room.gpu_fault:
        return []
    return [
        f'device = "{room.device}": {room.gpu_fault}\n  use device = "auto", or another machine'
    ]


def _memory(estimate: Estimate, room: Room) -> str:
    """Why a step lacks memory; empty if there is enough."""
    whole, free = size(room.memory_bytes or 0), size(room.available_bytes)
    there = f"this machine has {whole}, {free} of it free"
    if room.gpu_bytes:
        there += f"; its GPU has {size(room.gpu_bytes)}"
    if estimate.too_large:
        return f"out of memory in a probe of its first steps: {estimate.problem}; {there}"
    if room.gpu_bytes and (estimate.gpu_bytes or 0) > room.gpu_bytes:
        needed_there = size(estimate.gpu_bytes or 0)
        return f"needs {needed_there} of the GPU by {SOURCES[estimate.source]}; {there}"
    needed = estimate.memory_bytes or 0
    if room.memory_bytes is None or needed <= room.memory_bytes:
        return ""
    return f"needs {size(needed)} of memory by {SOURCES[estimate.source]}; {there}"


def said_once(estimates: Estimates, say: Callable[[Estimate], str]) -> list[str]:
    """The messages about steps, each once, with the names of the steps it applies to."""
    found: dict[str, list[str]] = {}
    for key, step in estimates.steps.items():
        if text := say(estimates.of[key]):
            found.setdefault(text, []).append(step.name)
    return [f"{_named(names)}: {text}" for text, names in found.items()]


def _named(steps: list[str]) -> str:
    return f"step{'s' * (len(steps) > 1)} {listed(steps, NAMED)}"


SOURCES = {"earlier": "an earlier result", "probe": "a probe of its first steps"}


def size(count: float) -> str:
    """A number of bytes for people.

    Example:
        >>> [size(count) for count in (950, 1500, 2.5e9)]
        ['950 B', '1.5 KB', '2.5 GB']
    """
    for unit in ("B", "KB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if count >= 9.95 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
