"""What installed packages offer crossmod: found by entry-point group, checked, imported."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, distributions, version
from inspect import isabstract
from typing import Any, NoReturn

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from crossmod.errors import PluginError
from crossmod.options import Options
from crossmod.stages.guard import described, line_in

UNREADABLE = "?"
"""Stands for the module of an entry whose distribution has an unreadable list of entry points."""


def distribution_of(entry: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that brings an entry; "?" where it does not say."""
    return (_field(entry.dist, "Name"), _field(entry.dist, "Version")) if entry.dist else ("?", "?")


def _field(distribution: Distribution, name: str) -> str:
    try:
        return distribution.metadata[name] or "?"
    except Exception:  # metadata that is not text, or none at all
        return "?"


@lru_cache(maxsize=8)
def offers(group: str) -> dict[str, list[EntryPoint]]:
    """Name -> entry points of a group; several where more than one distribution offers it."""
    found: dict[str, dict[str, EntryPoint]] = {}
    owners = set()
    for distribution in distributions():
        entries = entries_of(distribution, group)
        owner = canonicalize_name(_field(distribution, "Name")) if entries else ""
        if owner in owners:
            continue  # further down the path: Python would import the other one
        owners |= {owner} - {"", "?"}
        for entry in entries:
            found.setdefault(entry.name, {}).setdefault(entry.value, entry)
    return {name: list(found[name].values()) for name in sorted(found)}


def entries_of(distribution: Distribution, group: str) -> list[EntryPoint]:
    """What a distribution offers in a group; a list that is broken counts as one of its name."""
    try:
        return list(distribution.entry_points.select(group=group))
    except Exception:  # no text, or no entry points
        with suppress(Exception):
            if group in (distribution.read_text("entry_points.txt") or ""):
                entry = EntryPoint(_field(distribution, "Name"), UNREADABLE, group)
                vars(entry).update(dist=distribution)
                return [entry]
    return []


def imported(group: str, kind: str, name: str, known: Mapping[str, EntryPoint]) -> tuple[Any, str]:
    """Import what is offered in a group under a name.

    Args:
        group: the entry-point group.
        kind: what messages call one of them, e.g. "plugin".
        name: which one.
        known: those there are, by name.

    Returns:
        What the entry point leads to, and how messages name it.

    Raises:
        PluginError: unknown name, a name taken twice, another version of crossmod needed, or
            failing import.
    """
    if name not in known:
        raise PluginError(f"no {kind} is called '{name}'", allowed=", ".join(known))
    rivals = offers(group).get(name, [])
    if len(rivals) > 1:
        named = " and ".join(" ".join(distribution_of(entry)) for entry in rivals)
        raise PluginError(
            f"{len(rivals)} {kind}s are called '{name}': {named}", fix="uninstall one of them"
        )
    entry = known[name]
    where = f"{kind} '{name}' ({' '.join(distribution_of(entry))})"
    _require_fitting(entry, where)
    with explained("cannot be imported", where, entry.module), contained():
        return entry.load(), where


def _require_fitting(entry: EntryPoint, where: str) -> None:
    """Refuse a distribution that requires another version of crossmod."""
    if entry.value == UNREADABLE:
        raise PluginError("its entry_points.txt cannot be read", where=where, fix="reinstall it")
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
                    fix="install a version of it that supports this crossmod",
                )


def _applies(needed: Requirement) -> bool:
    return needed.marker is None or needed.marker.evaluate({"extra": ""})


def rows(
    found: Mapping[str, EntryPoint], told: Callable[[str], tuple[str, type]]
) -> list[tuple[str, str, str, str, str]]:
    """Name, kind, distribution, version and summary of each; broken ones say why.

    Args:
        found: what is available, by name.
        told: loads one by its name and tells its kind and its class.
    """
    listed = []
    for name, entry in found.items():
        try:
            kind, offered = told(name)
            text = summary(offered)
        except PluginError as error:
            kind, text = (
                "broken",
                "; ".join(filter(None, [" ".join(error.what.split()), error.fix])),
            )
        listed.append((name, kind, *distribution_of(entry), text))
    return listed


def summary(offered: type) -> str:
    """The first line of a class's docstring."""
    return (offered.__doc__ or "").strip().split("\n")[0]


@contextmanager
def explained(what: str, where: str, module: str) -> Iterator[None]:
    """Turn whatever the code of a plugin raises into an error that names the plugin."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit is none of `Exception`
        text, line = " ".join(f"{what}: {described(error)}".split()), line_in(error, module)
        raise PluginError("\n  ".join(filter(None, [text, line])), where=where) from error


@contextmanager
def contained() -> Iterator[None]:
    """Send what a plugin prints to stderr, and turn its attempts to exit into errors."""
    leave, process, thread = os._exit, os.getpid(), threading.get_ident()

    def refuse(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) != (process, thread):
            leave(status)  # a process that the plugin began, or another thread of the program
        raise PluginError(f"ends the program with os._exit({status})")

    os._exit = refuse
    try:
        with redirect_stderr(sys.stderr), redirect_stdout(sys.stderr):
            yield
    finally:
        os._exit = leave


def is_class(offered: object, base: type) -> bool:
    """Whether what a plugin offers is a class that is derived from ``base``."""
    return isinstance(offered, type) and issubclass(offered, base)


def require_usable(offered: Any, where: str) -> None:
    """Refuse a class that lacks a method, or whose options are something else.

    Raises:
        PluginError: which method, or which options.
    """
    if isabstract(offered):
        missing = ", ".join(sorted(getattr(offered, "__abstractmethods__", ())))
        raise PluginError(f"{offered.__name__} does not implement {missing}", where=where)
    if not is_class(offered.options_type, Options):
        text = f"{offered.__name__} has options of type {offered.options_type!r}"
        raise PluginError(text, where=where, allowed="a subclass of Options")
