"""The step that looks at what translation makes of labeled structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossmod.data.cohorts import Cohort
from crossmod.run.steps.appearance import Translate
from crossmod.run.steps.base import Step
from crossmod.run.steps.lottery import Choose
from crossmod.run.steps.scans import Prepare
from crossmod.scores.survival import TABLE, Row, findings, summary, survivals, write_survival
from crossmod.stages.context import Context
from crossmod.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Survive(Step):
    """Compare each translation with its source, structure by structure."""

    code_version = 2
    source: Prepare
    translated: Translate | Choose

    @property
    def settings(self) -> Mapping[str, Any]:
        return {}

    def make(self, store: Store, ctx: Context) -> None:
        source, translated = (
            Cohort.load(step.folder(store)) for step in (self.source, self.translated)
        )
        rows = survivals(source, translated, ctx.progress)
        write_survival(ctx.folder / TABLE, map(Row.of, rows))
        if rows:
            ctx.log(summary(rows))
        for text in findings(rows):
            ctx.log(f"warning: {text}")
