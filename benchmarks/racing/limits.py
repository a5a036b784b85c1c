"""What the machine can do at best: the denominator of every fraction in the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from racing.contestants import Contestant
from racing.rounds import race
from racing.turns import Turns

LAYERS = {
    "32 channels of 48 x 128 x 128": (2, 32, 48, 128, 128),
    "128 channels of 24 x 32 x 32": (2, 128, 24, 32, 32),
    "256 channels of 64 x 64": (1, 256, 64, 64),
}
"""Convolutions with kernels of 3 voxels along each axis, whose input is of this shape."""

MATRIX = 3072
"""Side of the square matrices that are multiplied."""

COPIED = 2**29
"""Bytes of the array that is copied: no cache holds them."""


BYTES = "bytes"


@dataclass(frozen=True)
class Limit:
    """What one kind of work reaches.

    Attributes:
        what: the work.
        precision: number format, or `BYTES`.
        threads: that it had.
        per_second: operations, or bytes that are read and written.
    """

    what: str
    precision: str
    threads: int
    per_second: float


class Limits(tuple[Limit, ...]):
    """All that was measured."""

    def of_networks(self, precision: str, threads: int) -> float:
        """Operations per second of the best kernel, or 0 if that was not measured."""
        return max(self._fitting(precision, threads), default=0.0)

    def of_memory(self, threads: int) -> float:
        """Bytes per second, read and written."""
        return max(self._fitting(BYTES, threads), default=0.0)

    def _fitting(self, precision: str, threads: int) -> Iterator[float]:
        wanted = precision, threads
        return (one.per_second for one in self if (one.precision, one.threads) == wanted)


def measure(
    scratch: Path, wanted: Iterable[tuple[str, int]], rounds: int, *, small: bool
) -> Limits:
    """Measure limits.

    Args:
        scratch: a new folder.
        wanted: "network" or "memory", and how many threads it may use.
        rounds: samples of each.
        small: use tiny arrays, which say nothing.
    """
    shrink = 16 if small else 1
    kernels = {"network": _networks, "memory": _memory}
    entries = [entry for kind, threads in wanted for entry in kernels[kind](threads)]
    if small:
        entries = [entry for entry in entries if "layer" not in entry[2]]
    found = []
    for number, (limit, call, settings) in enumerate(entries):
        given = {**settings, "shrink": shrink}
        contestant = Contestant(call, given, limit.threads, scratch / str(number))
        [result] = race({call: contestant}, rounds, 0 if small else 0.3, [call]).values()
        if result.samples:
            done = limit.per_second / shrink or result.operations
            found.append(replace(limit, per_second=done / result.seconds))
    return Limits(found)


Entry = tuple[Limit, str, dict[str, str]]
"""What is measured, with bytes in place of bytes per second; the contestant; its settings."""


def _networks(threads: int) -> Iterator[Entry]:
    for precision in ("fp32", "bf16"):
        given = {"precision": precision}
        name = f"matrices of {MATRIX} x {MATRIX}"
        yield Limit(name, precision, threads, 0.0), "racing.limits:matmul", given
        for layer in LAYERS:
            limit = Limit(f"convolution, {layer}", precision, threads, 0.0)
            yield limit, "racing.limits:convolution", given | {"layer": layer}


def _memory(threads: int) -> Iterator[Entry]:
    yield Limit("copy", BYTES, threads, 2.0 * COPIED), "racing.limits:copy", {}


def matmul(turns: Turns, precision: str, shrink: int) -> None:
    """Multiply square matrices."""
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    first, second = torch.randn(2, MATRIX // shrink, MATRIX // shrink).to(kind)
    for _ in turns:
        torch.mm(first, second)


def convolution(turns: Turns, precision: str, layer: str, shrink: int) -> None:
    """One convolution with channels last, which is the faster layout."""
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    batch, channels, *sides = LAYERS[layer]
    channels //= shrink
    images = torch.randn(batch, channels, *sides).to(kind)
    volume = len(sides) == 3
    layout = torch.channels_last_3d if volume else torch.channels_last
    module = torch.nn.Conv3d if volume else torch.nn.Conv2d
    network = module(channels, channels, 3, padding=1).to(kind)
    network.weight = torch.nn.Parameter(network.weight.contiguous(memory_format=layout))
    images = images.contiguous(memory_format=layout)
    with torch.inference_mode():
        for _ in turns:
            network(images)


def copy(turns: Turns, shrink: int) -> None:
    """Copy one array to another."""
    import torch

    there = torch.ones(COPIED // 4 // shrink)
    here = torch.empty_like(there)
    for _ in turns:
        here.copy_(there)
