"""One run of a plan: what is stored, what can be made now, and the run folder people look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from crossmod.errors import writing
from crossmod.faults import point
from crossmod.files.atomic import append_line
from crossmod.files.outputs import Outputs
from crossmod.files.tables import write_records
from crossmod.model.facts import RUN_FILE
from crossmod.run.folder import EVENTS, LEDGER, RunFolder
from crossmod.run.ledger import Row, read_round, write_ledger
from crossmod.run.plan import Plan
from crossmod.run.record import write_record
from crossmod.run.steps import Step
from crossmod.run.steps.lottery import COLUMNS, TRIES, read_tries
from crossmod.run.task import WARNING, Machine, Task
from crossmod.scores.metrics import Score, read_scores, write_scores
from crossmod.scores.survival import TABLE, read_survival, write_survival
from crossmod.scores.survival import Row as SurvivalRow
from crossmod.store.store import Store


@dataclass
class Run:
    """One run of a plan in a folder.

    Attributes:
        plan: what to do.
        store: where results are kept.
        outputs: writes into the run folder people look at.
        machine: how to compute.
        memory_bytes: key -> what the step may take, where that is known.
        gpu_bytes: key -> what it may take of a GPU, where that is known.
        reached: the steps the run came to, in order. It may end early, and the store may hold
            results of later steps from another run.
        ended: the step that ended the run early.
    """

    plan: Plan
    store: Store
    outputs: Outputs
    machine: Machine
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    gpu_bytes: Mapping[str, int] = field(default_factory=dict)
    reached: list[Step] = field(default_factory=list, init=False)
    ended: Step | None = field(default=None, init=False)
    _whole: set[str] = field(default_factory=set, init=False)
    _shown: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def label(self) -> str:
        """The variant and seed; empty for the only run of a recipe."""
        return self.plan.checked.label

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.outputs.folder

    def claim(self) -> None:
        """Make the run folder this run's own.

        Raises:
            DataError: something is there that the run did not write and would remove or replace.
        """
        keys = {self._name(step): step.key for step in self.plan.steps}
        RunFolder(self.outputs).require(keys)
        self.outputs.claim()

    def survey(self) -> list[Step]:
        """Look at what is stored; returns the steps that can be made now, in order.

        A step that may end the run holds back what comes after it.
        """
        self.reached, ready = [], []
        for step in self.plan.steps:
            if self._has(step):
                self._show(step)
                self.reached.append(step)
                if step.may_end and step.ends_run(self.store):
                    self.ended = step
                    break
            else:
                if all(self._has(needed) for needed in step.inputs):
                    ready.append(step)
                if step.may_end:
                    break
        return ready

    @cached_property
    def urgency(self) -> dict[str, int]:
        """Key -> how many steps follow one after the other once this one is there."""
        lengths: dict[str, int] = {step.key: 0 for step in self.plan.steps}
        for step in reversed(self.plan.steps):
            for needed in step.inputs:
                lengths[needed.key] = max(lengths.get(needed.key, 0), lengths[step.key] + 1)
        return lengths

    def forget(self, key: str) -> None:
        """A stored result turned out to be damaged."""
        self._whole.discard(key)

    def task(self, step: Step) -> Task:
        """A step as a task for an engine."""
        classes = self.plan.source.classes.labels
        return Task(
            step.key,
            step,
            self.store.folder,
            classes,
            self.machine,
            self.memory_bytes.get(step.key, 0),
            self.gpu_bytes.get(step.key, None if step.who else 0),
            shared=self.store.shared,
        )

    def finish(self) -> None:
        """Write scores and facts together, once every step is there.

        Raises:
            MachineError: the disk is full, for instance.
        """
        RunFolder(self.outputs).keep(self._shown.values())
        point("scores")
        with self.outputs.file("metrics.csv") as file:
            write_scores(file, self.scores())
        rows, tries, looks = self.ledger(), self.tries(), self.survival()
        self._table(LEDGER, partial(write_ledger, rows=rows) if rows else None)
        columns = ("translator", *COLUMNS)
        written = partial(write_records, rows=tries, first=columns) if tries else None
        self._table(TRIES, written)
        self._table(TABLE, partial(write_survival, rows=looks) if looks else None)
        point("record")
        with self.outputs.file(RUN_FILE) as file:
            write_record(file, self.plan, self._shown, self.store)

    def _table(self, name: str, write: Callable[[Path], object] | None) -> None:
        """Write a table; without anything to write, remove that of an earlier recipe."""
        if write:
            with self.outputs.file(name) as file:
                write(file)
        elif self.outputs.owns(name):
            (self.folder / name).unlink()

    def scores(self) -> list[Score]:
        """The scores of every stage and split that ran."""
        folders = [one.folder(self.store) for one in self.plan.scores if one in self.reached]
        return [row for folder in folders for row in read_scores(folder / "metrics.csv")]

    def ledger(self) -> list[Row]:
        """What was noted of every target case in every round."""
        rounds = [one for one in self.plan.rounds if one in self.reached]
        return [
            row
            for number, step in enumerate(rounds, start=1)
            for row in read_round(number, step.folder(self.store))
        ]

    def tries(self) -> list[Row]:
        """What is known of every try of every translator that was trained several times."""
        return [
            {"translator": step.name, **row}
            for step in self.plan.choices
            if step in self.reached
            for row in read_tries(step.folder(self.store))
        ]

    def survival(self) -> list[SurvivalRow]:
        """What translation made of labeled structures, and how real ones look in the last round."""
        step, rounds = self.plan.survival, [one for one in self.plan.rounds if one in self.reached]
        if step is None or step not in self.reached:
            return []
        return [
            row
            for one in (step, *rounds[-1:])
            for row in read_survival(one.folder(self.store) / TABLE)
        ]

    def seconds(self) -> list[tuple[str, float]]:
        """How long each stored step took when it was made."""
        manifests = [(step.name, self.store.manifest(step.key)) for step in self.reached]
        return [(name, content["seconds"]) for name, content in manifests if content]

    def warnings(self) -> list[str]:
        """What was not as it should be while these results were made."""
        log = self.folder / EVENTS
        rows = map(json.loads, log.read_text(encoding="utf-8").splitlines() if log.exists() else [])
        keys = {step.key for step in self.reached}
        told = [r["text"] for r in rows if r["event"] == "warning" and r["key"] in keys]
        said = [
            f"{name}: {line.removeprefix(WARNING)}"
            for name, lines in self._said().items()
            for line in lines
            if line.startswith(WARNING)
        ]
        return list(dict.fromkeys(told + said))

    def notes(self) -> list[tuple[str, list[str]]]:
        """What the plugins say of their results, warnings apart: step, lines."""
        plain = {
            name: [line for line in lines if not line.startswith(WARNING)]
            for name, lines in self._said().items()
        }
        return [(name, lines) for name, lines in plain.items() if lines]

    def _said(self) -> dict[str, list[str]]:
        """Step -> the lines that its plugin logged, whichever run made it."""
        manifests = {step.name: self.store.manifest(step.key) for step in self.reached}
        return {name: (content or {}).get("log", []) for name, content in manifests.items()}

    def number_of(self, step: Step) -> str:
        """The place of a step in the plan, e.g. "7/37"."""
        return f"{self.plan.steps.index(step) + 1}/{len(self.plan.steps)}"

    def event(self, name: str, step: Step, **values: Any) -> None:
        """Add a line to events.jsonl."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = {"time": now, "event": name, "step": step.name, "key": step.key, **values}
        log = self.folder / EVENTS
        with writing(log, "cannot write the log", "free up disk space, then rerun to resume"):
            append_line(log, row)

    def _has(self, step: Step) -> bool:
        if not step.stored or step.key in self._whole:
            return True
        if self.store.manifest(step.key) is None:
            return False
        self._whole.add(step.key)
        return True

    def _show(self, step: Step) -> None:
        """Link the stored files into the run folder under a name people can read."""
        if step.name not in self._shown:
            name = self._name(step)
            RunFolder(self.outputs).show(name, step.key, step.folder(self.store))
            self._shown[step.name] = name

    def _name(self, step: Step) -> str:
        return f"{self.plan.steps.index(step) + 1:02d}-{step.name}"
