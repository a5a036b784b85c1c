"""What a run tells of itself while it works, in a file of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from crossmod.errors import DataError
from crossmod.files.atomic import write_file
from crossmod.options import Options

FILE = ".progress.json"
"""The file in the run folder; that of several variants or seeds has one for all."""

RunEnd = Literal["working", "finished", "failed", "interrupted"]


class StepState(Options):
    """A step at work."""

    name: str
    """With the variant and seed before it, where there are several."""
    number: str
    """Its place in the plan, e.g. "7/38"."""
    began: float
    """When it was handed out, in seconds since 1970."""
    done: int = 0
    """Items of the loop at work."""
    total: int | None = None
    loop: str = ""
    """What the loop does."""
    item: str = ""
    """What it is at, a case for instance."""
    speed: float | None = None
    """Items a second."""
    left_s: float | None = None
    """Until the step is done, where that is known."""
    values: dict[str, float] = Field(default_factory=dict)
    """The newest numbers that it noted."""
    curve: tuple[float, ...] = ()
    """The first of these numbers, as it went on, thinned."""


class RunState(Options):
    """How far a run is."""

    format: Literal[1] = 1
    """Raised when a reader of one version cannot read the files of another."""
    title: str
    state: RunEnd
    host: str
    process: int
    began: float
    """When this run of the program began, in seconds since 1970."""
    told: float
    """When this was written."""
    done: int
    """Steps that are stored."""
    steps: int
    """Of them all, each once; a run may end early."""
    left_s: float | None = None
    """Until the run ends, as far as it is known."""
    unknown: int = 0
    """Steps to come of which nobody knows how long they take."""
    working: tuple[StepState, ...] = ()
    notes: tuple[str, ...] = ()
    """The last lines that the run told its user."""
    error: str = ""
    """Why it failed; empty where it did not."""


def write_state(folder: Path, state: RunState) -> None:
    """Put a state into a run folder.

    Raises:
        MachineError: the disk is full, for instance.
    """
    write_file(folder / FILE, state.model_dump_json() + "\n")


def read_state(folder: Path) -> RunState:
    """What the run in a folder told last.

    Raises:
        DataError: it tells nothing, or in another format.
    """
    file = folder / FILE
    try:
        return RunState.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _tells_nothing(folder) from error
    except (OSError, ValidationError) as error:
        raise DataError(
            "cannot be read", where=str(file), fix="watch it with the version of crossmod it runs"
        ) from error


def _tells_nothing(folder: Path) -> DataError:
    """The error for a folder without a state; that of a variant or a step names its run."""
    what = "tells no progress: it is not a run folder, or its run has not begun its first step"
    fix = (
        "try again in a moment if you have just started the run;"
        " otherwise name the folder that `crossmod run` writes"
    )
    around = folder.absolute().parents[:2] if folder.is_dir() else ()
    for run in around:
        if (run / FILE).is_file():
            what = "is part of a run, which tells its progress as a whole"
            fix = f"name the folder of the run: {run}"
    return DataError(what, where=str(folder), fix=fix)
