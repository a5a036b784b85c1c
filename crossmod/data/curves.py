"""The numbers that a step notes while it works, ``training.jsonl``, and the curves in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

LOG = "training.jsonl"
"""The file in the folder of a step; `Context.metric` adds a line."""

STEP, SCALE = "step", "scale"
"""What says where a row belongs; all other numbers are measured."""


class Curve(NamedTuple):
    """One number over the steps of a training."""

    steps: list[float]
    values: list[float]


class Counter:
    """Counts steps over a whole training: those of a scale begin at 0 again."""

    def __init__(self) -> None:
        self._before, self._last = 0.0, 0.0

    def __call__(self, step: float) -> float:
        """The step counted from the start of the training."""
        if step < self._last:
            self._before += self._last
        self._last = step
        return self._before + step


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """What a step noted, in order; empty where it noted nothing.

    A last line that is still being written is left out.
    """
    file = folder / LOG
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def measured(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row, without those that say where it belongs."""
    return {
        name: value
        for name, value in row.items()
        if name not in (STEP, SCALE) and isinstance(value, int | float)
    }


def curves_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Name -> curve, of the rows that belong to a step of a training.

    Example:
        >>> rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"case": "a", "dark": 0.1}]
        >>> curves_of(rows)
        {'loss': Curve(steps=[1.0, 2.0], values=[2.0, 1.0])}
    """
    found: dict[str, Curve] = {}
    count = Counter()
    for row in rows:
        if STEP not in row:
            continue
        step = count(float(row[STEP]))
        for name, value in measured(row).items():
            curve = found.setdefault(name, Curve([], []))
            curve.steps.append(step)
            curve.values.append(float(value))
    return found
