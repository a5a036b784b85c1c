"""The folder of a run that people look at: results under readable names, linked from the store."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crossmod.errors import DataError, MachineError, writing
from crossmod.faults import point
from crossmod.files.atomic import MANIFEST, draft_of, drafted, read_manifest
from crossmod.files.copies import link_or_copy
from crossmod.files.digests import digest_on_disk
from crossmod.files.figures import require_figures
from crossmod.files.outputs import Inputs, Outputs
from crossmod.recipe.names import shipped
from crossmod.run.steps.lottery import TRIES
from crossmod.store.store import require_store

EVENTS = "events.jsonl"
"""The log of all runs in a folder."""

LOCKED = "recipe.lock.toml"
"""The recipe as it ran."""

LEDGER = "ledger.csv"
"""What is known of every pseudo-labeled case in every round, where a recipe asks for it."""

FILES = ("metrics.csv", "survival.csv", TRIES, LEDGER, "run.json", LOCKED, "report.html",
         ".report-key", "comparison.csv", "comparison.md", "comparison.tex",
         "differences.csv")  # fmt: skip
"""What a run writes besides results and the log."""

NUMBERED = re.compile(r"\d{2,}-.+")
"""What the folder of a step is called: its number and its name."""

DRAFT = re.compile(r"\.\d{2,}-.+\.\d+\.[0-9a-f]{8}")

NO_ROOM = "free up disk space or choose another folder with --out, then rerun to resume"

MOVE = "move them away, or choose another folder with --out"

ANOTHER = (
    "name another folder with --out; if this is the folder of the same recipe, which was moved,"
    " remove it: the store keeps all results"
)


def step_name(folder: Path) -> str:
    """The name of the step whose result a folder shows."""
    return folder.name.partition("-")[2]


def step_folders(run: Path) -> list[Path]:
    """The folders of steps in a run folder, in the order of their numbers."""
    found = (path for path in run.iterdir() if NUMBERED.fullmatch(path.name) and path.is_dir())
    return sorted(found, key=lambda path: int(path.name.partition("-")[0]))


class Places(NamedTuple):
    """Where a run writes.

    Attributes:
        outputs: into the run folder.
        store: the folder of results.
    """

    outputs: Outputs
    store: Path


def choose_places(recipe: Path, out: Path | None, store: Path | None, inputs: Inputs) -> Places:
    """The run folder and the store; what stands in the way is said before any work.

    Args:
        recipe: the file of the recipe.
        out: the run folder; by default ``runs/`` and the recipe's name.
        store: where results are kept; by default ``store/`` beside the run folder.
        inputs: what the run reads.

    Raises:
        DataError: they hold something that is not a run of this recipe or not a store, or they
            would mix with what is read.
        MachineError: one is a file, or they are the same or one lies in the other.
    """
    folder = out or Path("runs") / recipe.stem
    kept = (store or folder.parent / "store").absolute()
    for place, option in ((folder, "--out"), (kept, "--store")):
        if place.exists() and not place.is_dir():
            raise MachineError("is a file", where=str(place), fix=f"name a folder with {option}")
    _require_apart(folder, kept)
    outputs = Outputs(folder, f"the run of {_known_as(recipe, folder)}", inputs)
    RunFolder(outputs).require_own()
    require_store(kept, inputs)
    return Places(outputs, kept)


@dataclass(frozen=True)
class RunFolder:
    """A run folder.

    Attributes:
        outputs: who writes what there.
    """

    outputs: Outputs

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.outputs.folder

    def require_own(self) -> None:
        """Refuse a folder that is not the run's own, and files there that it did not write.

        Raises:
            DataError: names them.
        """
        self.outputs.require_claim(fix=ANOTHER)
        self.outputs.require(FILES, fix=MOVE)
        require_figures(self.outputs)

    def require(self, keys: Mapping[str, str]) -> None:
        """Refuse, before any work, what would destroy files of somebody else.

        Args:
            keys: name of a step folder -> the key of the result it will show.

        Raises:
            DataError: the folder is not the run's own; or names all files that it did not write.
        """
        self.require_own()
        there = [self.folder / name for name in keys if os.path.lexists(self.folder / name)]
        others = [
            path
            for path in sorted({*self._shown(), *there})
            if not _shows(path, keys.get(path.name, ""))
        ]
        _refuse([str(file) for path in others for file in self._foreign(path)])
        log = self.folder / EVENTS
        _refuse([str(log)] if log.is_symlink() else [])

    def show(self, name: str, key: str, result: Path) -> None:
        """Link the files of a stored result into the folder ``name``.

        Raises:
            DataError: there is a folder of this name with files of somebody else.
            MachineError: the disk is full, for instance.
        """
        shown = self.folder / name
        if _shows(shown, key):
            return
        with writing(shown, "cannot write the run folder", NO_ROOM), drafted(shown) as draft:
            point("show")
            shutil.copytree(result, draft, copy_function=link_or_copy, dirs_exist_ok=True)
            self._remove(shown)
            self.outputs.note(f"{name}/{MANIFEST}", digest_on_disk(draft / MANIFEST))
            draft.rename(shown)

    def keep(self, names: Collection[str]) -> None:
        """Remove the results that earlier runs left here and this one does not have.

        Raises:
            DataError: there are files of somebody else in one of them.
        """
        for path in self.folder.iterdir():
            if DRAFT.fullmatch(path.name):  # of a run that was killed
                shutil.rmtree(path)
        for path in self._shown():
            if path.name not in names:
                self._remove(path)

    def _shown(self) -> list[Path]:
        """The folders of results that `show` made."""
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        return [path for path in paths if NUMBERED.fullmatch(path.name) and self._made(path)]

    def _made(self, path: Path) -> bool:
        return not path.is_symlink() and self.outputs.owns(f"{path.name}/{MANIFEST}")

    def _remove(self, shown: Path) -> None:
        if os.path.lexists(shown):
            _refuse([str(file) for file in self._foreign(shown)])
            gone = draft_of(shown)  # half a folder would count as somebody else's
            shown.rename(gone)
            shutil.rmtree(gone)

    def _foreign(self, folder: Path) -> Iterator[Path]:
        """The files of a folder that are not those of the result it shows.

        A file with another hard link is not read: removing this name loses no content.
        """
        if folder.is_symlink() or not folder.is_dir():
            yield folder
            return
        files: dict[str, Any] = {}
        if self._made(folder):
            files = read_manifest(folder)["files"]
            files[MANIFEST] = {"sha256": digest_on_disk(folder / MANIFEST)}
        for path in sorted(folder.rglob("*")):
            known = files.get(path.relative_to(folder).as_posix(), {}).get("sha256")
            if path.is_symlink() or not (path.is_dir() or _is(path, known) or _of_system(path)):
                yield path


def _require_apart(folder: Path, store: Path) -> None:
    one, other = folder.resolve(), store.resolve()
    fix = "name another folder with --out or --store"
    if one == other:
        raise MachineError("is both the run folder and the store", where=str(folder), fix=fix)
    if one.is_relative_to(other):
        raise MachineError(f"the run folder lies in the store {store}", where=str(folder), fix=fix)
    if other.is_relative_to(one):
        raise MachineError(f"the store lies in the run folder {folder}", where=str(store), fix=fix)


def _known_as(recipe: Path, folder: Path) -> str:
    """What a run folder calls its recipe: its path from there, so that both may move together.

    One that came with crossmod has a name that does not depend on where crossmod is installed.
    """
    own = shipped().get(recipe.stem)
    if own is not None and own.samefile(recipe):
        return recipe.stem
    return os.path.relpath(recipe.resolve(), folder.resolve())


def _refuse(files: list[str]) -> None:
    if files:
        what = "the run would delete files that it did not write or that have changed since:"
        raise DataError("\n".join([what, *files]), fix=MOVE)


def _shows(folder: Path, key: str) -> bool:
    """Whether a folder holds the result with this key."""
    return read_manifest(folder).get("key") == key


def _is(path: Path, digest: str | None) -> bool:
    """Whether a file has the content that was published."""
    if digest is None or not path.is_file():
        return False
    return path.stat().st_nlink > 1 or digest_on_disk(path) == digest


def _of_system(path: Path) -> bool:
    """Whether a Mac or NFS put a file there."""
    return path.name == ".DS_Store" or path.name.startswith(".nfs")
