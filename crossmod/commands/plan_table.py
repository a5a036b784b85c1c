"""The table of a plan: what would run, why, and at what cost."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from crossmod.cost.estimates import Estimate, Estimates
from crossmod.cost.fits import Room, problems, said_once, size
from crossmod.cost.preview import PlannedStep

MARKS = {"earlier": "e", "probe": "p", "": ""}
UNKNOWN = "?"


def plan_table(label: str, rows: Sequence[PlannedStep], estimates: Estimates) -> Table:
    """One row for each step of a run."""
    table = Table(box=None, pad_edge=False, title=escape(label))
    table.padding = (0, 1, 0, 0)
    for heading in ("", "step"):
        table.add_column(heading, no_wrap=True)
    table.add_column("")
    for heading in ("time", "memory", "disk"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        state = f"{row.state}: {row.why}" if row.why else row.state
        cost = _cost(estimates.of[row.step.key]) if row.state == "to run" else [""] * 4
        style = "dim" if row.state == "stored" else ""
        table.add_row(str(row.number), row.step.name, escape(state), *cost, style=style)
    return table


def closing_lines(
    rows: Sequence[PlannedStep], estimates: Estimates, room: Room, workers: int
) -> list[str]:
    """Counts, totals, and what does not fit."""
    found = list(estimates.of.values())
    lines = [_count([row.state for row in rows])]
    if found:
        lines += [_time(estimates, workers), _memory(estimates, room), _disk(estimates, room)]
    used = {estimate.source for estimate in found}
    legend = {
        "earlier": "e: from an earlier result",
        "probe": "p: from a probe of its first steps",
    }
    known = [text for source, text in legend.items() if source in used]
    if any(estimate.seconds is None for estimate in found):
        known.append(f"{UNKNOWN}: unknown")
    lines += ["; ".join(known)] if known else []
    lines += said_once(estimates, lambda one: "" if one.too_large else one.problem)
    return lines + [f"Does not fit: {text}" for text in problems(estimates, room)]


def _cost(estimate: Estimate) -> list[str]:
    return [
        UNKNOWN if estimate.seconds is None else duration(estimate.seconds),
        UNKNOWN if estimate.memory_bytes is None else size(estimate.memory_bytes),
        UNKNOWN if estimate.disk_bytes is None else size(estimate.disk_bytes),
        MARKS[estimate.source],
    ]


def _count(states: Sequence[str]) -> str:
    run, stored = states.count("to run"), states.count("stored")
    shared = len(states) - run - stored
    return f"Steps: {run} to run, {stored} stored, {shared} shared by variants"


def _time(estimates: Estimates, workers: int) -> str:
    text = f"Time: {duration(estimates.seconds(1))} with 1 worker"
    if workers > 1:
        text += f", {duration(estimates.seconds(workers))} with {workers} workers"
    unknown = sum(one.seconds is None for one in estimates.of.values())
    return text + (f", not counting {unknown} unknown" if unknown else "")


def _memory(estimates: Estimates, room: Room) -> str:
    needed = estimates.memory_bytes
    if not needed:
        return "Memory: unknown"
    key = max(needed, key=lambda one: needed[one])
    text = f"Memory: up to {size(needed[key])} ({estimates.steps[key].name})"
    return text + (f", of {size(room.memory_bytes)}" if room.memory_bytes else "")


def _disk(estimates: Estimates, room: Room) -> str:
    free = min(room.disks.values())
    return f"Disk: {size(estimates.disk_bytes)} needed, {size(free)} free"


def duration(seconds: float) -> str:
    """A time in the unit that fits it."""
    for limit, unit, name in ((99.5, 1, "s"), (5970, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{int(seconds / unit < 9.95)}f} {name}"
    return f"{seconds / 86_400:.1f} days"
