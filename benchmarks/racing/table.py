"""The race as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from racing import machine
from racing.limits import BYTES, Limits
from racing.rounds import DISTURBED, Result
from racing.works import Work

PACKAGES = (
    "torch",
    "numpy",
    "nnunetv2",
    "batchgeneratorsv2",
    "MedPy",
    "SimpleITK",
    "nibabel",
)
"""Whose versions the page names, where they are installed."""

OURS, BEFORE = "crossmod", "before"


@dataclass(frozen=True)
class Raced:
    """A work and what its contestants did; `OURS` is among them."""

    work: Work
    threads: int
    results: Mapping[str, Result]


def page(raced: Sequence[Raced], limits: Limits, *, small: bool) -> Iterator[str]:
    """The lines: the machine, its limits, and the table.

    Args:
        raced: every work.
        limits: of the machine.
        small: whether sizes were those of a smoke run.
    """
    if small:
        yield "**A smoke run with tiny sizes: the figures say nothing.**\n"
    yield from _surroundings()
    yield ""
    if limits:
        yield from _limits(limits)
        yield ""
    yield from _table(raced, limits)
    yield ""
    yield _quietness(raced)


def _surroundings() -> Iterator[str]:
    cores, memory = machine.cores(), machine.memory_gb()
    yield f"{machine.processor()}, {cores} cores, {memory:.0f} GB of memory, no GPU used."
    yield ", ".join(_versions()) + "."


def _versions() -> Iterator[str]:
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def _limits(limits: Limits) -> Iterator[str]:
    yield from _heads("the machine's limits", "format", "threads", "reached")
    for one in limits:
        is_copy = one.precision == BYTES
        speed, unit = one.per_second / 1e9, "GB/s" if is_copy else "GFLOP/s"
        yield f"| {one.what} | {'' if is_copy else one.precision} | {one.threads} |" \
              f" {speed:.3g} {unit} |"  # fmt: skip


def _table(raced: Sequence[Raced], limits: Limits) -> Iterator[str]:
    with_before = any(BEFORE in one.results for one in raced)
    more = ("before", "ratio to before") if with_before else ()
    yield from _heads("work", "peer", "ours", "ratio", "of the limit", *more)
    for one in raced:
        ours = one.results[OURS]
        others = [name for name in one.results if name not in (OURS, BEFORE)]
        for name in others or [""]:
            peer = one.results.get(name)
            cells = [one.work.title, _named(name, peer), _time(ours), _ratio(ours, peer)]
            cells.append(share_of_limit(one, limits))
            if with_before:
                before = one.results.get(BEFORE)
                cells += [_time(before), _ratio(ours, before)]
            yield "| " + " | ".join(cells) + " |"


def share_of_limit(one: Raced, limits: Limits) -> str:
    """What crossmod reaches of what the machine can do; empty where that is not known."""
    ours, work = one.results[OURS], one.work
    if ours.trouble:
        return ""
    limit, done = 0.0, 0.0
    if work.limit == "network":
        limit, done = limits.of_networks(ours.precision, one.threads), ours.operations
    elif work.limit == "memory":
        limit, done = limits.of_memory(one.threads), work.moved_bytes
    return f"{done / ours.seconds / limit:.0%}" if limit and done else ""


def _heads(*names: str) -> Iterable[str]:
    return "| " + " | ".join(names) + " |", "|---" * len(names) + "|"


def _named(name: str, result: Result | None) -> str:
    return f"{name} {_time(result)}".strip()


def _time(result: Result | None) -> str:
    if result is None:
        return ""
    if result.trouble:
        return f"does not run: {' '.join(result.trouble.split())[:120]}"
    return duration(result.seconds)


def _ratio(ours: Result, other: Result | None) -> str:
    if other is None or ours.trouble or other.trouble:
        return ""
    ratios = sorted(ours.ratios_to(other))
    return f"{ratio_of(ratios):.3g} ({ratios[0]:.3g} to {ratios[-1]:.3g})"


def ratio_of(ratios: Sequence[float]) -> float:
    """The median of sorted ratios."""
    middle = len(ratios) // 2
    return (ratios[middle] + ratios[-middle - 1]) / 2


def duration(seconds: float) -> str:
    """Seconds with three digits.

    Example:
        >>> [duration(seconds) for seconds in (0.0123, 4.5678, 36000)]
        ['12.3 ms', '4.57 s', '10 h']
    """
    if seconds >= 3600:
        return f"{seconds / 3600:.3g} h"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _quietness(raced: Sequence[Raced]) -> str:
    samples = [s for one in raced for result in one.results.values() for s in result.samples]
    loud = sum(sample.disturbance > DISTURBED for sample in samples)
    worst = max((sample.disturbance for sample in samples), default=0)
    return (
        f"Other processes used more than {DISTURBED:.0%} of the machine during {loud} of"
        f" {len(samples)} samples, {worst:.0%} at most."
    )
