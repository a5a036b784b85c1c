"""A run folder, opened: its scores, steps, figures and models. It is read, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from crossmod.errors import DataError, listed
from crossmod.files.figures import FIGURES
from crossmod.files.ledger import owner_of
from crossmod.model.arguments import as_path
from crossmod.model.facts import LOCK_FILE, RUN_FILE
from crossmod.model.load import Model, load_model
from crossmod.model.package import package, read_lock
from crossmod.notebook.attempt import State, last_told, state_of
from crossmod.notebook.figure import Figure
from crossmod.notebook.finished import steps_of_finished
from crossmod.notebook.steps import OpenStep
from crossmod.notebook.tables import rows_of, table
from crossmod.run.folder import EVENTS, step_folders, step_name


@dataclass(frozen=True)
class OpenRun:
    """A run folder; that of several variants or seeds holds `runs`.

    Attributes:
        folder: the run folder.
    """

    folder: Path

    @cached_property
    def runs(self) -> dict[str, OpenRun]:
        """Name -> run, of the variants and seeds in the folder; empty of a single run."""
        if owner_of(self.folder) is None:  # others may lie there side by side
            return {}
        return {path.name: OpenRun(path) for path in _runs_in(self.folder)}

    @property
    def finished(self) -> bool:
        """Whether it holds the results of a run to its end; the last attempt may be a later one."""
        return all((one.folder / RUN_FILE).is_file() for one in self._each())

    @property
    def state(self) -> State:
        """How the last attempt is doing, or how it ended.

        "running", "finished", "failed", "interrupted", or "unfinished" where it was killed. As long
        as it has not ended, it takes some seconds to see whether it still works. Results of a run
        that `finished` stay in the folder until another one does.
        """
        found = state_of(self.folder)
        if self.finished:
            return found or "finished"
        return "unfinished" if found in (None, "finished") else found

    @property
    def error(self) -> str:
        """Why the last attempt failed; empty where it did not."""
        told = last_told(self.folder)
        return told.error if told else ""

    @property
    def title(self) -> str:
        """The title of the recipe that finished or, until one did, of the last attempt.

        Raises:
            DataError: the recipe in the folder is damaged.
        """
        lock = self._each()[0].folder / LOCK_FILE
        if lock.is_file():
            return read_lock(lock)[1].title
        told = last_told(self.folder)
        return told.title if told else self.folder.name

    @property
    def report(self) -> Path:
        """The page about it."""
        return self.folder / "report.html"

    def scores(self) -> Any:
        """One row for each split, stage, case and class: a pandas DataFrame.

        Without pandas, a list of dictionaries. The table of several runs begins with a column
        ``run``.

        Raises:
            DataError: the run has not ended.
        """
        return self.table("metrics")

    def table(self, name: str) -> Any:
        """A table of the folder, as `scores`.

        Args:
            name: of the CSV file: "metrics", "survival" or "ledger"; of several runs "comparison"
                or "differences".

        Raises:
            DataError: the folder has no such table, or it is damaged.
        """
        if (self.folder / f"{name}.csv").is_file() or not self.runs:
            return table(self._rows(name))
        rows = [
            {"run": label, **row} for label, run in self.runs.items() for row in run._rows(name)
        ]
        return table(rows)

    def _rows(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / f"{name}.csv"
        if not file.is_file():
            there = [path.stem for path in sorted(self.folder.glob("*.csv"))]
            raise self._missing(f"has no table '{name}'", there)
        return rows_of(file)

    @property
    def steps(self) -> list[str]:
        """The names of the steps that are there, in order; of a run that finished, its own."""
        return list(self._folders)

    def step(self, name: str) -> OpenStep:
        """A step by its name, or the end of one: "gan" is "translate-gan".

        Raises:
            DataError: no step, or several, are called so.
        """
        found = [one for one in self.steps if one == name] or [
            one for one in self.steps if one.endswith(f"-{name}")
        ]
        if len(found) != 1:
            if found:
                raise DataError(
                    f"'{name}' fits several steps",
                    where=str(self.folder),
                    allowed=", ".join(found),
                )
            raise self._missing(f"'{name}' is not a step of this run", self.steps)
        return OpenStep(found[0], self._folders[found[0]])

    @property
    def figures(self) -> list[str]:
        """The names of the charts of the report."""
        return [path.stem for path in sorted((self.folder / FIGURES).glob("*.svg"))]

    def figure(self, name: str) -> Figure:
        """A chart of the report, which a notebook shows.

        Raises:
            DataError: the report has no such chart.
        """
        if name not in self.figures:
            raise self._missing(f"has no figure '{name}'", self.figures)
        return Figure(name, self.folder / FIGURES / f"{name}.svg")

    def model(self, stage: str | None = None) -> Model:
        """The model that a segmenter of the run is; `crossmod package` writes it as a folder.

        Args:
            stage: which segmenter, e.g. "augmented"; by default the last of the method.

        Raises:
            DataError: the run has not ended, has no such stage or is damaged.
        """
        if self.runs:
            raise _several(self)
        if not self.finished:
            raise self._missing("has no model yet")
        with TemporaryDirectory() as folder:
            package(self.folder, Path(folder) / "model", stage)
            return replace(load_model(Path(folder) / "model"), folder=self.folder)

    @cached_property
    def _folders(self) -> dict[str, Path]:
        if self.runs:
            raise _several(self)
        found = step_folders(self.folder)
        told = last_told(self.folder)
        if self.finished and told and told.state != "finished":
            found = steps_of_finished(self.folder, found)
        return {step_name(path): path for path in found}

    def _missing(self, what: str, allowed: Sequence[str] = ()) -> DataError:
        why, _, _ = self.error.partition("\n")
        fixes: dict[State, str] = {
            "finished": "",
            "running": f"the run is at work; `crossmod watch {self.folder}` shows how far it is",
            "failed": f"the last attempt failed: {why}",
        }
        fix = fixes.get(self.state, "the run has not ended; rerun its recipe to resume it")
        return DataError(what, where=str(self.folder), allowed=", ".join(allowed), fix=fix)

    def _each(self) -> Sequence[OpenRun]:
        return list(self.runs.values()) or [self]

    def _repr_html_(self) -> str:
        from crossmod.notebook.shown import run_html

        return run_html(self)


def open_run(folder: str | Path) -> OpenRun:
    """Open a run folder; it may be unfinished.

    Args:
        folder: what `crossmod run` wrote.

    Raises:
        DataError: it is not a run folder.
    """
    opened = OpenRun(as_path(folder, "folder"))
    if (opened.folder / EVENTS).is_file() or opened.runs:
        return opened
    if others := _runs_in(opened.folder):
        raise DataError(
            "is not a run folder, but holds some",
            where=str(folder),
            allowed=listed([str(path) for path in others], most=20),
            fix="open one of these",
        )
    if opened.folder.is_file() and (opened.folder.parent / EVENTS).is_file():
        raise DataError(
            "is a file of a run folder", where=str(folder), fix=f"name {opened.folder.parent}"
        )
    raise DataError(
        f"is not a run folder: it has no {EVENTS}",
        where=str(folder),
        fix="name the folder that `crossmod run` wrote, such as runs/quickstart",
    )


def _runs_in(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{EVENTS}"))


def _several(run: OpenRun) -> DataError:
    return DataError(
        "holds several runs", where=str(run.folder), allowed=", ".join(run.runs),
        fix="choose one, as in run.runs[NAME]",
    )  # fmt: skip
