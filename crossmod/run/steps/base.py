"""What every step is: plain data with a content key.

The key is a digest of the step's settings, its code, its seed and the keys of its inputs.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from crossmod.data.cohorts import Cohort
from crossmod.files.atomic import read_manifest
from crossmod.files.digests import digest_of_bytes
from crossmod.options import Determinism
from crossmod.stages.context import Context
from crossmod.stages.find import StageUse
from crossmod.store.store import Store

if TYPE_CHECKING:
    from crossmod.run.steps.extents import Extent, Extents

LIBRARIES = ("numpy", "scipy", "SimpleITK", "torch")
"""Libraries whose version changes numbers."""


@cache
def library_versions() -> dict[str, str]:
    """Name -> version of the libraries that change numbers."""
    return {name: version(name) for name in LIBRARIES}


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """One unit of work.

    Attributes:
        name: name of its folder in a run.
        seed: what its random numbers derive from.
    """

    name: str
    seed: int = 0

    code_version: ClassVar[int] = 1  # raise it when a change of `make` changes results
    stored: ClassVar[bool] = True  # whether its result is made, and kept in the store
    is_learner: ClassVar[bool] = False  # whether it is a training; others go case by case
    may_end: ClassVar[bool] = False  # whether `ends_run` may be true
    ending: ClassVar[str] = ""  # why, in words

    @property
    def inputs(self) -> tuple[Step, ...]:
        """The steps whose results it reads: those among its fields, in the same order."""
        values = (getattr(self, field.name) for field in fields(self))
        each = (value if isinstance(value, tuple) else (value,) for value in values)
        return tuple(one for several in each for one in several if isinstance(one, Step))

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Everything else its result depends on, as JSON."""

    @abstractmethod
    def make(self, store: Store, ctx: Context) -> None:
        """Write the result into ``ctx.folder``; those of its inputs lie in the store."""

    def folder(self, store: Store) -> Path:
        """Where its result lies."""
        return store.path(self.key)

    def file_digests(self, store: Store) -> Mapping[str, str]:
        """Name -> sha256 of the files of its result."""
        files = read_manifest(self.folder(store))["files"]
        return {name: file["sha256"] for name, file in files.items()}

    def ends_run(self, store: Store) -> bool:
        """Whether its result ends the run early."""
        del store
        return False

    @property
    def who(self) -> str:
        """The plugin that does the work, as messages name it; empty where the core does it."""
        return ""

    @property
    def package(self) -> str:
        """The package that the code of its plugin is in; empty where the core does the work."""
        return ""

    @property
    def may_be_probed(self) -> bool:
        """Whether its plugin may be tried on stand-ins."""
        return False

    @property
    def predicted(self) -> Step | None:
        """The images whose class probabilities its result holds, if it holds any."""
        return None

    def alone(self) -> Self:
        """The same work without what another training has learned."""
        return self

    def extent(self, extents: Extents) -> Extent | None:
        """The cohort that it gives, before it is made; None if it gives none."""
        del extents
        return None

    def disk_bytes(self, extents: Extents) -> int | None:
        """What its result takes, by arithmetic; None where that is not known."""
        extent = extents.of(self)
        return extent.count * extent.volume_bytes if extent else 0

    def cases_of(self, settings: Mapping[str, Any]) -> int:
        """How many cases it makes with these settings, if those decide it."""
        del settings
        return 0

    @cached_property
    def content(self) -> dict[str, Any]:
        """All that its result depends on, as JSON."""
        return {
            "step": type(self).__name__,
            "code": self.code_version,
            "seed": self.seed,
            "settings": self.settings,
            "inputs": {step.name: step.key for step in self.inputs},
            "libraries": library_versions(),
        }

    @cached_property
    def key(self) -> str:
        """The content key."""
        inputs = list(self.content["inputs"].values())  # whatever they are called
        text = json.dumps({**self.content, "inputs": inputs}, sort_keys=True)
        return digest_of_bytes(text)[:40]

    def __getstate__(self) -> dict[str, Any]:
        # Another process computes the key anew, from what is installed there.
        return {n: v for n, v in self.__dict__.items() if n not in ("content", "key")}


@dataclass(frozen=True, kw_only=True)
class PluginStep(Step):
    """A step whose work a plugin does."""

    use: StageUse
    determinism: Determinism = "seeded"
    precision: str = "auto"

    @property
    def settings(self) -> Mapping[str, Any]:
        options = self.use.options.model_dump(mode="json")
        settings = {
            "plugin": self.use.plugin.content,
            "options": options,
            "determinism": self.determinism,
        }
        # "auto" leaves the choice to each machine, as `device` does; a recipe that asks gets it.
        return settings if self.precision == "auto" else {**settings, "precision": self.precision}

    @property
    def who(self) -> str:
        return self.use.who

    @property
    def package(self) -> str:
        return self.use.package

    @property
    def may_be_probed(self) -> bool:
        return self.use.plugin.stage.probes


def load_cohorts(steps: tuple[Step, ...], store: Store) -> Cohort:
    """The cohorts of several steps as one."""
    first, *others = (Cohort.load(step.folder(store)) for step in steps)
    for other in others:
        first = first + other
    return first
