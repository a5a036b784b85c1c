"""Which runs a store serves, so that nothing a run refers to is ever removed.

Each run keeps a record in its store. It names the run folder relative to the store, so that both
can move together, and the keys of all steps, made or not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from crossmod.errors import Interrupted, MachineError
from crossmod.files.atomic import write_file
from crossmod.files.digests import digest_of_bytes
from crossmod.options import Options
from crossmod.store.store import Store

LOCK = "registry"
"""Held by a run while it enters itself, and by a collector from reading records to removing."""

Ending = Literal["unfinished", "finished", "failed", "interrupted"]
RunState = Literal["running", "gone"] | Ending

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Record(Options):
    """What a store keeps of a run, all its variants and seeds together."""

    format: Literal[1] = 1
    """Raised when a reader of one version cannot read the records of another."""
    folder: str
    """The run folder, relative to the store."""
    title: str
    """The title of the recipe."""
    outcome: Ending = "unfinished"
    """How it ended; unfinished where it had no time to say so."""
    steps: dict[str, dict[str, Key]]
    """Label of a variant and seed -> step -> key."""


@dataclass(frozen=True)
class KnownRun:
    """A run that has a record.

    Attributes:
        file: the record's file.
        folder: the run folder.
        record: what it says.
        state: how the run is doing; gone if the user removed its folder.
    """

    file: Path
    folder: Path
    record: Record
    state: RunState

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of all steps."""
        return frozenset(key for steps in self.record.steps.values() for key in steps.values())


def name_of(store: Store, folder: Path) -> str:
    """The name of a run in its store: of its record, and of the lock it holds while it works."""
    return _name(_relative(store, folder))


@contextmanager
def recorded(
    store: Store, folder: Path, title: str, steps: Mapping[str, Mapping[str, str]]
) -> Iterator[None]:
    """Keep a record of a run, and of how it ended; a run in the same folder replaces it.

    The run holds the lock `name_of` by then, and looks into the store inside this block only: from
    here on nothing it refers to is removed. A store that is only read has no record of it.

    Args:
        store: where its results are kept.
        folder: the run folder.
        title: of the recipe.
        steps: label of a variant and seed -> step -> key.

    Raises:
        MachineError: the disk is full, for instance.
    """
    if not store.writable:
        yield
        return
    record = Record(
        folder=_relative(store, folder),
        title=title,
        steps={label: dict(keys) for label, keys in steps.items()},
    )
    _write(store, record, "unfinished")
    try:
        yield
    except BaseException as error:
        with suppress(MachineError, OSError):  # a full disk; the first error is the one to show
            _write(store, record, "interrupted" if isinstance(error, Interrupted) else "failed")
        raise
    _write(store, record, "finished")


def known_runs(store: Store) -> tuple[list[KnownRun], list[Path]]:
    """The runs of a store by folder, and the records that cannot be read."""
    known, unreadable = [], []
    for file in records_folder(store).glob("[!.]*.json"):
        try:
            known.append(_known(store, file))
        except FileNotFoundError:  # a collector was faster
            continue
        except (OSError, ValueError):
            unreadable.append(file)
    return sorted(known, key=lambda run: run.folder), sorted(unreadable)


def records_folder(store: Store) -> Path:
    """Where the records lie."""
    return store.folder / "runs"


def _known(store: Store, file: Path) -> KnownRun:
    record = Record.model_validate_json(file.read_bytes())
    if file.stem != _name(record.folder):
        raise ValueError(f"{file.name} was renamed")
    folder = Path(os.path.normpath(store.folder.resolve() / record.folder))
    state: RunState = record.outcome
    if store.writable and store.busy(file.stem):
        state = "running"
    elif _is_gone(folder):
        state = "gone"
    return KnownRun(file, folder, record, state)


def _write(store: Store, record: Record, outcome: Ending) -> None:
    with store.lock(LOCK):
        folder = records_folder(store)
        folder.mkdir(exist_ok=True)
        text = record.model_copy(update={"outcome": outcome}).model_dump_json(indent=1)
        write_file(folder / f"{_name(record.folder)}.json", text + "\n")


def _is_gone(folder: Path) -> bool:
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # another user's folder, for instance
        return False
    return False


def _relative(store: Store, folder: Path) -> str:
    return os.path.relpath(folder.resolve(), store.folder.resolve())


def _name(relative: str) -> str:
    return f"run-{digest_of_bytes(relative)[:16]}"
