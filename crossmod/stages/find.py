"""Find, load and explain plugins. Every plugin, built-in or not, comes through an entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoint
from typing import Any, cast

import pluggy

from crossmod.errors import PluginError
from crossmod.options import Options
from crossmod.stages import hooks
from crossmod.stages.base import Augmenter, PseudoLabeler, Segmenter, Stage, Translator
from crossmod.stages.code import code_digest
from crossmod.stages.entry_points import (
    contained,
    distribution_of,
    entries_of,
    explained,
    imported,
    is_class,
    offers,
    require_usable,
    summary,
)
from crossmod.stages.tables import require_free_names

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
        return summary(self.stage)

    @cached_property
    def code_digest(self) -> str:
        """A digest of all code that decides what the plugin computes.

        Raises:
            PluginError: the stage declares code that does not exist.
        """
        try:
            return code_digest(self.entry, self.stage, self.stage.code_of, _is_alone(self.entry))
        except LookupError as error:
            raise PluginError(
                f"{self.stage.__name__}.code_of names {error}, which is not installed",
                where=f"plugin '{self.name}' ({' '.join(distribution_of(self.entry))})",
                allowed="modules that can be imported, distributions that list their files,"
                " files and folders beside the module",
            ) from error

    @property
    def content(self) -> dict[str, str]:
        """What a content key holds of a plugin: which one it is and its code, not its version."""
        return {"name": self.name, "code": self.code_digest}

    @property
    def identity(self) -> dict[str, str]:
        """What people and models are told of a plugin: name, version, code."""
        distribution, version = distribution_of(self.entry)
        return {
            "name": self.name,
            "distribution": distribution,
            "version": version,
            "code": self.code_digest,
        }


@dataclass(frozen=True)
class StageUse:
    """A plugin with its validated options, under the name it has in the recipe."""

    name: str
    plugin: Plugin
    options: Options

    def stage(self) -> Stage[Any]:
        """The stage, ready to work."""
        return self.plugin.stage(self.options)

    @property
    def package(self) -> str:
        """The package that the code of the plugin is in."""
        return self.plugin.stage.__module__.partition(".")[0]

    @property
    def who(self) -> str:
        """How messages name the plugin."""
        return f"plugin '{self.plugin.name}' ({' '.join(distribution_of(self.plugin.entry))})"


def _is_alone(entry: EntryPoint) -> bool:
    """Whether a plugin is the only one of its distribution."""
    return entry.dist is not None and len(entries_of(entry.dist, hooks.GROUP)) == 1


def available() -> dict[str, EntryPoint]:
    """All plugins by name, from installed metadata; nothing is imported.

    Broken ones are included; `load` reports what is wrong with them.
    """
    return {name: entries[0] for name, entries in offers(hooks.GROUP).items()}


@cache
def load(name: str) -> Plugin:
    """Import the plugin that is called ``name`` and ask it for its stage.

    Raises:
        PluginError: unknown name, a name taken twice, another version of crossmod needed, failing
            import, or a hook that is not what it should be.
    """
    known = available()
    module, where = imported(hooks.GROUP, "plugin", name, known)
    return Plugin(name, known[name], _stage_of(known[name], module, where))


def _stage_of(entry: EntryPoint, module: object, where: str) -> type[Stage[Any]]:
    manager = pluggy.PluginManager("crossmod")
    manager.add_hookspecs(hooks)
    with explained("its hook is wrong", where, entry.module), contained():
        manager.register(module, entry.name)
        manager.check_pending()
        offered: list[Any] = manager.hook.crossmod_stage()
    if len(offered) != 1:
        raise PluginError("does not implement the hook crossmod_stage", where=where)
    return _checked(offered[0], where)


def _checked(stage: Any, where: str) -> type[Stage[Any]]:
    """A stage class that can be used."""
    kinds = [kind for kind, base in KINDS.items() if is_class(stage, base)]
    if len(kinds) != 1:
        raise PluginError(
            f"crossmod_stage returned {stage!r}",
            where=where,
            allowed=f"a subclass of one of {', '.join(base.__name__ for base in KINDS.values())}",
        )
    require_usable(stage, where)
    require_free_names(kinds[0], stage.options_type, where)
    if not isinstance(stage.code_of, tuple) or not all(isinstance(n, str) for n in stage.code_of):
        text = f"{stage.__name__}.code_of is {stage.code_of!r}"
        raise PluginError(text, where=where, allowed='a tuple of names, as ("helpers",)')
    return cast("type[Stage[Any]]", stage)
