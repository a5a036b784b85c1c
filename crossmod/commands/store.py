"""`crossmod runs` and `crossmod gc`: list and clean a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmod.errors import MachineError

if TYPE_CHECKING:
    from rich.table import Table

    from crossmod.store.collect import Contents, Removed
    from crossmod.store.runs import KnownRun
    from crossmod.store.store import Store

StoreFolder = Annotated[Path, typer.Option("--store", help="Where results are kept for reuse.")]
USUAL = Path("runs") / "store"
"""The store of `crossmod run` without --out and --store."""


def runs(store: StoreFolder = USUAL) -> None:
    """List the runs of a store, with their state and size."""
    from crossmod import console
    from crossmod.store.collect import Contents
    from crossmod.store.runs import known_runs

    opened = _opened(store)
    known, unreadable = known_runs(opened)
    found = Contents(opened)
    users = Counter(key for run in known if run.state != "gone" for key in run.keys)
    if known:
        console.show(_run_table(known, found.sizes, users))
    else:
        console.out.print(f"No runs are recorded in {store}.", markup=False)
    console.show(_space_table(found, users))
    for file in unreadable:
        text = f"warning: {file} cannot be read; crossmod gc removes nothing until it can"
        console.out.print(text, style="yellow", markup=False, soft_wrap=True)


def gc(
    store: StoreFolder = USUAL,
    dry_run: Annotated[
        bool, typer.Option(help="Show what would be removed, without removing it.")
    ] = False,
    quarantine: Annotated[
        bool, typer.Option(help="Also remove damaged results that were set aside.")
    ] = False,
) -> None:
    """Remove from a store what no run refers to.

    A run refers to all its steps as long as its run folder exists: remove the folders of runs you
    no longer need, then call this. Run folders keep their files, whatever is removed here; a file
    in both takes up space until it is removed from both.
    """
    from crossmod import console
    from crossmod.store.collect import Collector

    opened = _opened(store)
    if opened.shared:
        console.out.print("Waiting up to 90 s for other machines to renew their locks", style="dim")
    removed = Collector(opened, quarantine=quarantine, dry_run=dry_run).collect()
    for line in _lines(removed, "would be removed" if dry_run else "removed"):
        console.out.print(line, markup=False, soft_wrap=True)


def _opened(folder: Path) -> Store:
    from crossmod.store.store import Store, is_store

    if not folder.is_dir():
        raise MachineError("does not exist", where=str(folder), fix="choose a store with --store")
    if not is_store(folder):
        raise MachineError("is not a store", where=str(folder), fix="choose a store with --store")
    return Store(folder)


def _run_table(known: Sequence[KnownRun], sizes: dict[str, int], users: Counter[str]) -> Table:
    """One row for each run."""
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    table.add_column("run folder", no_wrap=True)
    table.add_column("title")
    table.add_column("state", no_wrap=True)
    for heading in ("steps", "size", "only here"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in known:
        stored = [key for key in run.keys if key in sizes]
        itself = run.state != "gone"
        only = sum(sizes[key] for key in stored if users[key] == itself)
        table.add_row(
            escape(_shown(run.folder)),
            escape(run.record.title),
            run.state,
            f"{len(stored)}/{len(run.keys)}",
            decimal(sum(sizes[key] for key in stored)),
            decimal(only),
        )
    return table


def _space_table(found: Contents, users: Counter[str]) -> Table:
    """What takes up space in a store."""
    from rich.filesize import decimal
    from rich.table import Table

    from crossmod.store.collect import bytes_in

    unused = found.unused(users)
    drafts = [path for paths in found.drafts.values() for path in paths]
    folders = {
        "checkpoints": list(found.checkpoints.values()),
        "drafts": drafts,
        "in quarantine": found.quarantine,
    }
    kinds = {
        "results": (len(found.results), sum(found.sizes.values())),
        "  unused": (len(unused), sum(found.sizes[key] for key in unused)),
        **{kind: (len(paths), sum(map(bytes_in, paths))) for kind, paths in folders.items()},
    }
    table = Table("in the store", box=None)
    for heading in ("number", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for kind, (number, size) in kinds.items():
        table.add_row(kind, str(number), decimal(size))
    return table


def _lines(removed: Removed, word: str) -> list[str]:
    from rich.filesize import decimal

    lines = [f"{_shown(folder)} is gone: record {word}" for folder in removed.gone]
    for kind, count in removed.counts.items():
        lines.append(f"{kind}: {count} {word}, {decimal(removed.sizes[kind])}")
    if removed.busy:
        lines.append(f"kept: {len(removed.busy)} that a run may be using")
    lines += [f"could not remove {text}" for text in removed.refused]
    return lines or ["Nothing to remove"]


def _shown(folder: Path) -> str:
    """A folder, relative to the current one if it lies below."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
