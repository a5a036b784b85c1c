"""Find, load and explain plugins. Every plugin, built-in or not, comes through an entry point."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.metadata import Distribution, EntryPoint, distributions, version
from inspect import isabstract
from typing import Any, NoReturn, cast

import pluggy
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from crossmod.errors import PluginError
from crossmod.options import Options
from crossmod.stages import hooks
from crossmod.stages.base import Augmenter, PseudoLabeler, Segmenter, Stage, Translator
from crossmod.stages.code import code_digest
from crossmod.stages.guard import described

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
        """A digest of all code that decides what the plugin computes.

        Raises:
            PluginError: the stage declares code that is not there.
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
    def who(self) -> str:
        """How messages name the plugin."""
        identity = self.plugin.identity
        return f"plugin '{identity['name']}' ({identity['distribution']} {identity['version']})"


def _is_alone(entry: EntryPoint) -> bool:
    """Whether a distribution has one plugin."""
    return entry.dist is not None and len(_entries_of(entry.dist)) == 1


def distribution_of(entry: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that brings a plugin; "?" where it does not say."""
    return (_field(entry.dist, "Name"), _field(entry.dist, "Version")) if entry.dist else ("?", "?")


def _field(distribution: Distribution, name: str) -> str:
    try:
        return distribution.metadata[name] or "?"
    except Exception:  # metadata that is not text, or none at all
        return "?"


def available() -> dict[str, EntryPoint]:
    """All plugins by name, from installed metadata; nothing is imported.

    It holds broken ones, too; `load` says what is wrong with them.
    """
    return {name: entries[0] for name, entries in _offers().items()}


@lru_cache(maxsize=1)
def _offers() -> dict[str, list[EntryPoint]]:
    """Name -> entry points; several where more than one distribution offers it."""
    found: dict[str, dict[str, EntryPoint]] = {}
    owners = set()
    for distribution in distributions():
        entries = _entries_of(distribution)
        owner = canonicalize_name(_field(distribution, "Name")) if entries else ""
        if owner in owners:
            continue  # further down the path: Python would import the other one
        owners |= {owner} - {"", "?"}
        for entry in entries:
            found.setdefault(entry.name, {}).setdefault(entry.value, entry)
    return {name: list(found[name].values()) for name in sorted(found)}


UNREADABLE = "?"
"""Stands for the module of a plugin whose distribution has a broken list of entry points."""


def _entries_of(distribution: Distribution) -> list[EntryPoint]:
    """The plugins of a distribution; a list that is broken counts as one of its name."""
    try:
        return list(distribution.entry_points.select(group=hooks.GROUP))
    except Exception:  # no text, or no entry points
        with suppress(Exception):
            if hooks.GROUP in (distribution.read_text("entry_points.txt") or ""):
                entry = EntryPoint(_field(distribution, "Name"), UNREADABLE, hooks.GROUP)
                vars(entry).update(dist=distribution)
                return [entry]
    return []


@cache
def load(name: str) -> Plugin:
    """Import the plugin that is called ``name`` and ask it for its stage.

    Raises:
        PluginError: unknown name, a name taken twice, another version of crossmod needed, failing
            import, or a hook that is not what it should be.
    """
    known = available()
    if name not in known:
        raise PluginError(f"no plugin is called '{name}'", allowed=", ".join(known))
    _require_one(name)
    entry = known[name]
    where = f"plugin '{name}' ({' '.join(distribution_of(entry))})"
    _require_fitting(entry, where)
    with _explained("cannot be imported", where), _contained():
        module = entry.load()
    return Plugin(name, entry, _stage_of(name, module, where))


def _require_one(name: str) -> None:
    rivals = _offers().get(name, [])
    if len(rivals) > 1:
        named = " and ".join(" ".join(distribution_of(entry)) for entry in rivals)
        raise PluginError(
            f"{len(rivals)} plugins are called '{name}': {named}", fix="uninstall one of them"
        )


def _require_fitting(entry: EntryPoint, where: str) -> None:
    """The distribution of a plugin says which versions of crossmod it works with."""
    if entry.value == UNREADABLE:
        raise PluginError("its entry_points.txt cannot be read", where=where, fix="install it anew")
    wanted = []
    with suppress(Exception):  # metadata that is not text
        wanted = (entry.dist.requires if entry.dist else None) or []
    for line in wanted:
        with suppress(InvalidRequirement):
            needed, own = Requirement(line), version("crossmod")
            concerned = canonicalize_name(needed.name) == "crossmod" and _applies(needed)
            if concerned and not needed.specifier.contains(own, prereleases=True):
                raise PluginError(
                    f"needs crossmod{needed.specifier}, this is {own}",
                    where=where,
                    fix="install a version of it for this crossmod",
                )


def _applies(needed: Requirement) -> bool:
    return needed.marker is None or needed.marker.evaluate({"extra": ""})


@contextmanager
def _explained(what: str, where: str) -> Iterator[None]:
    """Whatever the code of a plugin raises is an error that names it."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit is none of `Exception`
        text = " ".join(f"{what}: {described(error)}".split())
        raise PluginError(text, where=where) from error


@contextmanager
def _contained() -> Iterator[None]:
    """What a plugin prints goes to stderr, its ends are errors, and the streams stay ours."""
    leave, process, thread = os._exit, os.getpid(), threading.get_ident()

    def refuse(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) != (process, thread):
            leave(status)  # a process that the plugin began, or another thread of the program
        raise PluginError(f"ends the program by os._exit({status})")

    os._exit = refuse
    try:
        with redirect_stderr(sys.stderr), redirect_stdout(sys.stderr):
            yield
    finally:
        os._exit = leave


def _stage_of(name: str, module: object, where: str) -> type[Stage[Any]]:
    manager = pluggy.PluginManager("crossmod")
    manager.add_hookspecs(hooks)
    with _explained("its hook is wrong", where), _contained():
        manager.register(module, name)
        manager.check_pending()
        offered: list[Any] = manager.hook.crossmod_stage()
    if len(offered) != 1:
        raise PluginError("does not implement the hook crossmod_stage", where=where)
    return _checked(offered[0], where)


def _checked(stage: Any, where: str) -> type[Stage[Any]]:
    """A stage class that can be used."""
    bases = [base.__name__ for base in KINDS.values() if _is(stage, base)]
    if len(bases) != 1:
        raise PluginError(
            f"crossmod_stage returned {stage!r}",
            where=where,
            allowed=f"a subclass of one of {', '.join(base.__name__ for base in KINDS.values())}",
        )
    if isabstract(stage):
        missing = ", ".join(sorted(getattr(stage, "__abstractmethods__", ())))
        raise PluginError(f"{stage.__name__} does not implement {missing}", where=where)
    if not _is(stage.options_type, Options):
        text = f"{stage.__name__} has options of type {stage.options_type!r}"
        raise PluginError(text, where=where, allowed="a subclass of Options")
    if not isinstance(stage.code_of, tuple) or not all(isinstance(n, str) for n in stage.code_of):
        text = f"{stage.__name__}.code_of is {stage.code_of!r}"
        raise PluginError(text, where=where, allowed='a tuple of names, as ("helpers",)')
    return cast("type[Stage[Any]]", stage)


def _is(offered: object, base: type) -> bool:
    return isinstance(offered, type) and issubclass(offered, base)
