"""Probes: the first steps of each training, run once in a separate process, and kept."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crossmod.cost.measured import Conditions, Measured, work_of
from crossmod.cost.probe import ProbeRequest
from crossmod.errors import MachineError
from crossmod.files.atomic import write_file
from crossmod.files.digests import digest_of_bytes
from crossmod.machine import THREAD_VARIABLES, available_memory, memory_limit
from crossmod.run.steps import Step
from crossmod.run.steps.base import library_versions
from crossmod.run.steps.extents import Extent, Extents
from crossmod.run.task import Machine
from crossmod.stages.guard import programs
from crossmod.store.store import Store

VERSION = 1
"""Raise it when what a probe does changes."""

PATIENCE_S = 300.0
"""Limit for one probe; once the probes of a plan took this long together, no more are started."""

FREE = 0.9
"""Share of the free memory that a probe may take; others use this machine, too."""

NOT_REACHED = "the probe of its training failed"

PATCH = "three numbers"

LEAST = 2**30
"""Bytes that any probe may take: with less, libraries may hang while they load."""

VALUE_BYTES = 64
"""A training keeps about 16 maps of 4 bytes for each value of the finest one."""


@dataclass
class Prober:
    """Measures steps that need a plugin.

    Attributes:
        store: where results are kept, below ``probes``.
        extents: the cohorts of the plan.
        conditions: how steps would be made.
        machine: the same for those who make them.
        gpu: what CUDA_VISIBLE_DEVICES shall name; empty without one.
        classes: class name -> label.
        notify: takes the name of the step that is measured.
    """

    store: Store
    extents: Extents
    conditions: Conditions
    machine: Machine
    classes: Mapping[str, int]
    gpu: str = ""
    notify: Callable[[str], None] = lambda name: None
    _spent_s: float = field(default=0.0, init=False)
    _known: dict[str, Measured] = field(default_factory=dict, init=False)
    _too_large: dict[str, Measured] = field(default_factory=dict, init=False)

    def kept(self, step: Step) -> Measured | None:
        """The measurement of an earlier plan, if there is one."""
        name = self._digest(step)
        if name not in self._known:
            with suppress(OSError, ValueError, TypeError):
                content = json.loads(self._file(name).read_text("utf-8"))
                self._known[name] = Measured(**content)
        return self._known.get(name)

    def measure(self, step: Step, users: Sequence[Step]) -> Measured:
        """Measure a step, and in the same process those that use what it has learned.

        Args:
            step: what to measure.
            users: steps of the plan that read its result and are to run, too.
        """
        learner = next((one for one in step.inputs if one.is_learner), None)
        if step.is_learner:
            new = [one for one in users if not one.is_learner and not self.kept(one)]
            steps = [step, *{self._digest(one): one for one in new}.values()]
        else:
            steps = [learner, step] if learner else [step]
        work = _kind(step)
        if work in self._too_large:
            return self._too_large[work]
        if self._spent_s > PATIENCE_S:
            return Measured(
                "probe", problem="not measured: the probes of other steps took too long"
            )
        self.notify(step.name)
        began = time.monotonic()
        measured = dict(zip(map(self._digest, steps), self._run(steps), strict=True))
        self._spent_s += time.monotonic() - began
        self._known |= measured
        for name, one in measured.items():
            if not one.problem and self.store.writable:
                self._keep(name, one)
        found = measured[self._digest(step)]
        if found.too_large:
            self._too_large[work] = found
        return found

    def _run(self, steps: Sequence[Step]) -> list[Measured]:
        """Measure steps in a separate process, which may die."""
        extents = {n: e for step in steps for n, e in self.extents.read_by(step).items()}
        limit = 0 if self.gpu else max(int(FREE * available_memory()), LEAST)
        alone = tuple(step.alone() for step in steps)
        machine = self.machine.seen_by_worker() if self.gpu else self.machine
        request = ProbeRequest(alone, extents, self.classes, machine, limit)
        with tempfile.TemporaryDirectory(prefix="crossmod-probe-") as place:
            given, results = Path(place, "request"), Path(place, "results")
            given.write_bytes(pickle.dumps(request))
            try:
                ended = _death(self._make([str(given), str(results)]))
            except subprocess.TimeoutExpired:
                ended = Measured("probe", problem=f"its probe took over {PATIENCE_S:.0f} s")
            lines = results.read_text("utf-8").splitlines() if results.exists() else []
        found = [Measured(**json.loads(line)) for line in lines]
        if len(found) < len(steps) and not (found and found[-1].problem):
            found.append(ended)
        after = Measured("probe", problem=NOT_REACHED)
        return found + [after] * (len(steps) - len(found))

    def _make(self, arguments: list[str]) -> int:
        """The exit code of a probe, which ends its own programs, and ends with this process."""
        line, held = os.pipe()  # closed by the system when this process ends
        try:
            with programs.ended("a probe", lambda text: None):
                return subprocess.run(
                    [sys.executable, "-P", "-m", "crossmod.cost.probe", *arguments, str(line)],
                    env=self._environment(),
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[line],
                    start_new_session=True,  # Ctrl-C in a terminal is not for it
                    timeout=PATIENCE_S,
                ).returncode
        finally:
            os.close(line)
            os.close(held)

    def _environment(self) -> dict[str, str]:
        threads = dict.fromkeys(THREAD_VARIABLES, str(self.conditions.threads))
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else {}
        return {**os.environ, **threads, **gpu}

    def _digest(self, step: Step) -> str:
        """What decides the outcome; names of cases and their images do not."""
        read, learns = self.extents.read_by(step).values(), step.is_learner
        facts = {
            "probe": VERSION,
            "step": type(step).__name__,
            "work": work_of(step.content),
            "inputs": len(step.inputs) if step.predicted else 0,
            "cohorts": [[one.lattice, one.count if learns else one.native] for one in read],
            "conditions": asdict(self.conditions),
            "libraries": library_versions(),
        }
        return digest_of_bytes(json.dumps(facts, sort_keys=True))[:32]

    def _file(self, name: str) -> Path:
        return self.store.folder / "probes" / f"{name}.json"

    def _keep(self, name: str, measured: Measured) -> None:
        with suppress(OSError, MachineError):  # a full disk; the next plan measures it again
            self._file(name).parent.mkdir(exist_ok=True)
            write_file(self._file(name), json.dumps(asdict(measured)) + "\n")


def _kind(step: Step) -> str:
    """The same for all that differ in cases alone."""
    return json.dumps([type(step).__name__, work_of(step.content)], sort_keys=True)


def may_be_large(step: Step, extent: Extent | None) -> bool:
    """Whether a step might need more than a quarter of this machine's memory.

    A bound from names alone: voxels of the grid or of a patch, times a batch, times channels.
    """
    if extent is None:
        return False
    numbers = list(_numbers(step.settings["options"]))
    batch = max([1, *(n for name, n in numbers if "batch" in name)])
    channels = max([1, *(n for name, n in numbers if "channels" in name or "width" in name)])
    voxels = max([extent.lattice.voxels, *(n for name, n in numbers if name == PATCH)])
    return voxels * batch * channels * VALUE_BYTES > memory_limit() / 4


def _numbers(options: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The whole numbers of options by name, and the products of threes, as of a patch."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif type(value) is int and not name.startswith("max"):
            yield name, value
        elif isinstance(value, list) and [type(n) for n in value] == [int] * 3:
            yield PATCH, math.prod(value)


def _death(code: int) -> Measured:
    """What is known about a step whose probe died."""
    if -code == signal.SIGKILL:
        text = "its probe was killed, most likely for lack of memory"
        return Measured("probe", problem=text, too_large=True)
    return Measured("probe", problem=f"its probe died (exit code {code})")
