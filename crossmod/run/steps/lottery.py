"""Steps that judge several tries of a translator without labels of the target, and choose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crossmod.data.cohorts import Cohort
from crossmod.files.tables import read_csv, write_records
from crossmod.run.steps.appearance import Translate, with_copies
from crossmod.run.steps.base import Step
from crossmod.run.steps.extents import Extent, Extents
from crossmod.run.steps.failures import failure_in
from crossmod.run.steps.scans import Prepare
from crossmod.run.steps.taken import taken
from crossmod.scores.tickets import FIGURES, Judgment, Ticket, compared, judge
from crossmod.stages.context import Context
from crossmod.store.store import Store

JUDGMENT = "judgment.json"
OUTLINES = "outlines.npz"
TRIES = "tries.csv"

COLUMNS = ("try", "seed", "used", "why", "score", *FIGURES)
"""The first columns of that file; details by structure follow."""

WORDS = ("used", "why")
"""The columns of that file that hold no numbers."""

SEEDS_APART = 1000
"""Between the seeds of two tries: seeds of folds and of repeated runs differ by one."""


@dataclass(frozen=True, kw_only=True)
class Judge(Step):
    """Judge one try: what its translations keep, and what they teach about real target scans."""

    code_version = 2
    source: Prepare
    translated: Translate
    target: Prepare

    @property
    def settings(self) -> Mapping[str, Any]:
        return {}

    def make(self, store: Store, ctx: Context) -> None:
        if why := failure_in(self.translated.folder(store)):
            found = Ticket(Judgment({}, {}, f"diverged: {why}"), None)
        else:
            source, translated, target = (
                Cohort.load(step.folder(store))
                for step in (self.source, self.translated, self.target)
            )
            found = judge(source, translated, target, ctx.progress)
        text = json.dumps(vars(found.judgment), indent=1)
        (ctx.folder / JUDGMENT).write_text(text + "\n", encoding="utf-8")
        if found.outlines is not None:
            np.savez_compressed(ctx.folder / OUTLINES, outlines=found.outlines)


def ticket_of(folder: Path) -> Ticket:
    """What a Judge step has written."""
    judgment = Judgment(**json.loads((folder / JUDGMENT).read_text(encoding="utf-8")))
    if not (folder / OUTLINES).exists():
        return Ticket(judgment, None)
    with np.load(folder / OUTLINES) as arrays:
        return Ticket(judgment, arrays["outlines"])


@dataclass(frozen=True, kw_only=True)
class Choose(Step):
    """Keep the translations of the best try, or of all that are sound."""

    code_version = 2
    may_end = True
    ending = "no try of the translator is sound"

    judged: tuple[Judge, ...]
    use_tries: Literal["best", "all"]

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"use_tries": self.use_tries}

    @property
    def tries(self) -> tuple[Translate, ...]:
        """The translations to choose from."""
        return tuple(step.translated for step in self.judged)

    @property
    def inputs(self) -> tuple[Step, ...]:
        return (*self.judged, *self.tries, self.judged[0].source)

    def make(self, store: Store, ctx: Context) -> None:
        judged = compared([ticket_of(step.folder(store)) for step in self.judged])
        sound = [n for n, one in enumerate(judged) if not one.fault]
        used = sound
        if self.use_tries == "best" and sound:
            used = [max(sound, key=lambda n: judged[n].score)]  # the first of equals
        rows = [
            {
                "try": n + 1,
                "seed": step.seed,
                "used": "yes" if n in used else "no",
                "why": one.fault,
                "score": one.score,
                **one.figures,
                **one.details,
            }
            for n, (step, one) in enumerate(zip(self.tries, judged, strict=True))
        ]
        write_records(ctx.folder / TRIES, rows, COLUMNS)
        ctx.log(told(judged, used))
        cohorts = [Cohort.load(self.tries[n].folder(store)) for n in used]
        cases = [
            taken(case, ctx.folder, "" if n == used[0] else f"+try-{n + 1}")
            for n, cohort in zip(used, cohorts, strict=True)
            for case in cohort.cases
        ]
        classes = Cohort.load(self.judged[0].source.folder(store)).classes
        Cohort(tuple(ctx.progress(cases)), classes).save(ctx.folder)

    def ends_run(self, store: Store) -> bool:
        return not any(row["used"] == "yes" for row in read_tries(self.folder(store)))

    def extent(self, extents: Extents) -> Extent | None:
        copies = len(self.tries) if self.use_tries == "all" else 1
        return with_copies(extents.of(self.tries[0]), copies)

    def disk_bytes(self, extents: Extents) -> int:
        del extents
        return 0  # links to what the tries have made


def read_tries(folder: Path) -> list[dict[str, str | float]]:
    """The rows that a Choose step has written: column -> cell, where there is one."""
    (_, names), *lines = read_csv(folder / TRIES)
    rows = [dict(zip(names, line, strict=True)) for _, line in lines]
    return [
        {name: cell if name in WORDS else _number(cell) for name, cell in row.items() if cell}
        for row in rows
    ]


def _number(cell: str) -> float:
    return int(cell) if cell.isdecimal() else float(cell)


def told(judged: list[Judgment], used: list[int]) -> str:
    """Which tries are used, in one line."""
    scores = ", ".join(f"{n + 1}: {words}" for n, words in enumerate(map(_words, judged)))
    if not used:
        return f"warning: none of {len(judged)} tries is sound ({scores})"
    which = ", ".join(str(n + 1) for n in used)
    return f"{'try' if len(used) == 1 else 'tries'} {which} of {len(judged)} used, scores {scores}"


def _words(one: Judgment) -> str:
    return f"not used, {one.fault}" if one.fault else f"{one.score:.2f}"
