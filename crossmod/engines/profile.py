"""The profile: what a user's machine or cluster is like. It is a file beside no recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError

from crossmod.engines import door
from crossmod.errors import PluginError, RecipeError
from crossmod.options import Location, Options
from crossmod.recipe.files import Document, merge, read_documents
from crossmod.recipe.problems import explain, nearest
from crossmod.run.engine import Engine
from crossmod.run.task import Machine
from crossmod.store.store import Store

VARIABLE = "CROSSMOD_PROFILE"
"""Names the profile where no option does."""

LOCAL = "local"
"""The default engine, by the name of its entry point."""

INSTALL = "install the package that brings the engine; `crossmod plugins` lists those installed"


class Log(Options):
    """What a run writes for other programs while it works."""

    tensorboard: bool = False
    """Write the numbers of every training as TensorBoard event files, into `tensorboard/` in the
    run folder; needs the package tensorboard or tensorboardX."""


class Profile(Options):
    """Where and how steps are made; it changes no result's meaning and no content key.

    Beside these keys it has a table for each engine, which is called as the engine is.
    """

    engine: str = LOCAL
    """Where steps are made."""
    checkpoint_minutes: Annotated[float, Field(strict=True, ge=0.0, le=100_000.0)] = 5.0
    """Time between two checkpoints of a training; 0 keeps one after every step."""
    log: Log = Log()
    """What a run writes for other programs while it works."""
    _tables: dict[str, Options] = PrivateAttr(default_factory=dict)

    def options(self, engine: str) -> Options:
        """The options of an engine: those of its table, else the defaults.

        Raises:
            PluginError: the engine is broken.
        """
        return self._tables.get(engine) or door.load(engine).options_type()

    @property
    def on_shared_disk(self) -> bool:
        """Whether other machines make the steps, on a disk that all of them see.

        Raises:
            PluginError: the engine is broken.
        """
        return door.load(self.engine).on_shared_disk


def read_profile(
    path: Path | None, *, engine: str | None = None, workers: int | None = None
) -> Profile:
    """The profile in a file, in the file that $CROSSMOD_PROFILE names, or the defaults.

    The table of a broken engine is checked only when that engine is used.

    Args:
        path: the file.
        engine: what the command line says of the engine.
        workers: what it says of the steps made at the same time on this machine.

    Raises:
        RecipeError: no such file, no such engine, or something that is not allowed; all at once.
    """
    named = path or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    document = _read(named) if named else Document(Path(), {}, {}, ())
    given = {("engine",): engine, (LOCAL, "workers"): workers}
    return _checked(_changed(document, {k: v for k, v in given.items() if v is not None}))


def _read(path: Path) -> Document:
    document = read_documents(path, ()).get("")
    if document is None:
        raise RecipeError("a profile has no variants", where=str(path))
    return document


def _changed(document: Document, given: Mapping[Location, Any]) -> Document:
    """A profile with what the command line says instead."""
    tables, origins = document.tables, dict(document.origins)
    for location, value in given.items():
        nested = value
        for part in reversed(location):
            nested = {part: nested}
        tables, origins[location] = merge(tables, nested), f"--{location[-1]}"
    return replace(document, tables=tables, origins=origins)


def _checked(document: Document) -> Profile:
    known, tables, problems = door.available(), dict[str, Options](), list[str]()
    named = known.keys() & document.tables.keys() - Profile.model_fields.keys()
    for name in sorted(named):
        try:
            kind = door.load(name).options_type
            tables[name] = kind.model_validate(document.tables[name])
        except PluginError:
            continue  # reported where the engine is used
        except ValidationError as error:
            problems += explain(error, (name,), kind, document)
    rest = {key: value for key, value in document.tables.items() if key not in named}
    profile = Profile()
    try:
        profile = Profile.model_validate(rest)
    except ValidationError as error:
        problems += explain(error, (), Profile, document, tuple(known))
    asked, fix = rest.get("engine", LOCAL), ""
    if isinstance(asked, str) and asked not in known:
        text, near = f"no engine is called '{asked}'", nearest(asked, known)
        problems.append(document.problem(("engine",), text, allowed=", ".join(known), near=near))
        fix = INSTALL
    if problems:
        raise RecipeError("\n".join(problems), fix=fix)
    profile._tables.update(tables)
    return profile


def open_engine(profile: Profile, store: Store, machine: Machine) -> Engine[Any]:
    """The engine that a profile asks for.

    Raises:
        MachineError: what it needs is not installed or not running.
        PluginError: it is broken.
    """
    return door.load(profile.engine)(profile.options(profile.engine), store, machine)
