"""What every step is: plain data with a content key.

The key is a digest of the step's settings, its code, its seed and the keys of its inputs.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from crossmod.stages.base import Context

Where = Callable[["Step"], Path]
"""Gives the folder of a finished step."""

LIBRARIES = ("numpy", "scipy", "SimpleITK", "torch", "monai")
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
    may_end: ClassVar[bool] = False  # whether `ends_run` may be true

    @property
    @abstractmethod
    def inputs(self) -> tuple[Step, ...]:
        """The steps whose results it reads."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Everything else its result depends on, as JSON."""

    @abstractmethod
    def make(self, folder_of: Where, ctx: Context) -> None:
        """Write the result into ``ctx.folder``."""

    def ends_run(self, folder: Path) -> bool:
        """Whether its result says that the steps after it are not worth making."""
        del folder
        return False

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
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    def __getstate__(self) -> dict[str, Any]:
        # Another process computes the key anew, from what is installed there.
        return {n: v for n, v in self.__dict__.items() if n not in ("content", "key")}
