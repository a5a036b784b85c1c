"""A plugin called odd, and the step it works in."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmod import (
    FitOn,
    PluginError,
)
from crossmod.engines import door
from crossmod.errors import NotFinite
from crossmod.run.execute import Maker
from crossmod.run.steps import Fit, Step, Translate
from crossmod.run.task import Event, Outcome, Remark, Task
from crossmod.stages import code, entry_points, find
from crossmod.stages.find import StageUse
from crossmod.store.store import Store
from crossmod.testing import small_cohort

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
IMPORTS = (
    "import os, random, signal, sys, threading\nfrom pathlib import Path\nimport numpy as np\n"
)
HEAD = IMPORTS + "from crossmod import *\n"
HOOK = """
@hookimpl
def crossmod_stage():
    return Odd
"""
ODD = """
class Odd(Translator):
    \"\"\"Odd.\"\"\"
    def translate(self, volumes, state, ctx):
        yield from volumes
"""
WHO = r"plugin 'odd' \(odd 1\.2\)"


Install = Callable[..., None]


def forget() -> None:
    """Let plugins be looked for anew."""
    entry_points.offers.cache_clear()
    find.load.cache_clear()
    door.load.cache_clear()
    code._owners.cache_clear()
    importlib.invalidate_caches()


@dataclass(frozen=True, kw_only=True)
class Given(Step):
    """A small cohort."""

    labeled: bool

    @property
    def inputs(self) -> tuple[Step, ...]:
        return ()

    @property
    def settings(self) -> dict[str, Any]:
        return {"labeled": self.labeled}

    def make(self, store: Any, ctx: Any) -> None:
        small_cohort(ctx.folder, labeled=self.labeled)


class Bench:
    """A translator and the store it works for; temporary files have a folder of their own."""

    def __init__(self, folder: Path, site: Path, install: Install) -> None:
        self.folder, self.site, self.install = folder, site, install
        self.store = Store(folder / "store")
        self.told: list[Event] = []
        self.fit: Fit
        self.translate: Translate

    def offer(self, body: str, fit: str = "return {}") -> None:
        """Install a translator with the lines of its two methods."""
        source = (
            f"{HEAD}OUT = Path({str(self.folder)!r})\nclass Odd(Translator):\n"
            f"    def fit(self, source, target, ctx):\n        {fit}\n"
            "    def translate(self, volumes, state, ctx):\n"
            + "".join(f"        {line}\n" for line in body.splitlines())
        )
        self.install(self.site, "odd", source + HOOK)
        plugin = find.load("odd")
        use = StageUse("translate-odd", plugin, plugin.stage.options_type())
        source, target = Given(name="source", labeled=True), Given(name="target", labeled=False)
        self.fit = Fit(
            name="fit-odd", seed=5, use=use, labeled=(source,), target=target, fit_on=FitOn()
        )
        self.translate = Translate(name="odd", seed=5, use=use, fit=self.fit, images=source)
        for step in (source, target):
            assert self.make(step).error is None

    def make(self, step: Step) -> Outcome:
        task = Task(step.key, step, self.store.folder, {"tumor": 1, "cochlea": 2})
        return Maker(task, self.told.append).outcome()

    def run(self) -> Outcome:
        """Make both steps; the outcome of the first that fails, else of the last."""
        done = self.make(self.fit)
        return done if done.error else self.make(self.translate)

    def refused(self) -> str:
        """Run, and return the message; nothing may be published."""
        done = self.run()
        assert isinstance(done.error, PluginError), done
        assert "plugin 'odd' (odd 1.2)" in str(done.error)
        assert type(done.error) in (PluginError, NotFinite)
        assert str(pickle.loads(pickle.dumps(done.error))) == str(done.error)
        assert self.store.manifest(done.key) is None
        assert not list(self.store.path(done.key).parent.glob(f"*{done.key}*"))
        return str(done.error)

    def warnings(self) -> list[str]:
        return [one.text for one in self.told if isinstance(one, Remark) and one.warning]
