"""Find, load and explain plugins. Every plugin, built-in or not, comes through an entry point."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from pathlib import Path
from typing import Any, cast

import pluggy

from crossmod import hooks
from crossmod.errors import PluginError
from crossmod.stages import Augmenter, PseudoLabeler, Segmenter, Stage, Translator

KINDS: Mapping[str, type[Stage[Any]]] = {
    "translate": Translator,
    "augment": Augmenter,
    "segment": Segmenter,
    "pseudo_label": PseudoLabeler,
}
"""Recipe table -> the stage class its plugins subclass."""


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin."""

    name: str
    entry: EntryPoint
    stage: type[Stage[Any]]

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self.name,)  # another process uses what is installed there

    @property
    def kind(self) -> str:
        """The recipe table it belongs to: translate, augment, segment or pseudo_label."""
        return next(kind for kind, base in KINDS.items() if issubclass(self.stage, base))

    @property
    def summary(self) -> str:
        """The first line of the stage's docstring."""
        return (self.stage.__doc__ or "").strip().split("\n")[0]

    @cached_property
    def code_digest(self) -> str:
        """A digest of the Python files of the plugin, so that changed code recomputes."""
        spec = importlib.util.find_spec(self.entry.module)
        if spec is None or spec.origin is None:
            return ""
        origin = Path(spec.origin)
        files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        return digest_of_files(files)

    @property
    def identity(self) -> dict[str, str]:
        """What a content key holds of a plugin: name, version, code."""
        distribution, version = distribution_of(self.entry)
        return {
            "name": self.name,
            "distribution": distribution,
            "version": version,
            "code": self.code_digest,
        }


def digest_of_files(files: list[Path]) -> str:
    """One digest of the contents of files, in order."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def distribution_of(entry: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that brings a plugin."""
    return (entry.dist.name, entry.dist.version) if entry.dist else ("?", "?")


@lru_cache(maxsize=1)
def available() -> dict[str, EntryPoint]:
    """All plugins by name, from installed metadata; nothing is imported.

    Raises:
        PluginError: two distributions offer one name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=hooks.GROUP), key=lambda entry: entry.name):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise PluginError(
                f"two plugins are called '{entry.name}': "
                f"{' '.join(distribution_of(other))} and {' '.join(distribution_of(entry))}",
                fix="uninstall one of them",
            )
    return found


@cache
def load(name: str) -> Plugin:
    """Import the plugin that is called ``name`` and ask it for its stage.

    Raises:
        PluginError: unknown name, failing import, or a hook that is not what it should be.
    """
    known = available()
    if name not in known:
        raise PluginError(f"no plugin is called '{name}'", allowed=", ".join(known))
    entry = known[name]
    where = f"plugin '{name}' ({' '.join(distribution_of(entry))})"
    try:
        module = entry.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"cannot be imported: {type(error).__name__}: {error}", where=where
        ) from error
    return Plugin(name, entry, _stage_of(name, module, where))


def _stage_of(name: str, module: object, where: str) -> type[Stage[Any]]:
    manager = pluggy.PluginManager("crossmod")
    manager.add_hookspecs(hooks)
    try:
        manager.register(module, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(str(error), where=where) from error
    offered: list[Any] = manager.hook.crossmod_stage()
    if len(offered) != 1:
        raise PluginError("does not implement the hook crossmod_stage", where=where)
    stage = offered[0]
    if not _is_stage(stage):
        bases = ", ".join(base.__name__ for base in KINDS.values())
        raise PluginError(
            f"crossmod_stage returned {stage!r}", where=where, allowed=f"a subclass of {bases}"
        )
    if isabstract(stage):
        missing = ", ".join(sorted(getattr(stage, "__abstractmethods__", ())))
        raise PluginError(f"{stage.__name__} does not implement {missing}", where=where)
    return cast("type[Stage[Any]]", stage)


def _is_stage(offered: object) -> bool:
    return isinstance(offered, type) and issubclass(offered, tuple(KINDS.values()))
