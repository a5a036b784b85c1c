"""The parent's side: start the child that parses DICOM, hold its limits, take its answer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from crossmod.data.volumes import LabelArray
from crossmod.errors import CrossmodError, DataError, MachineError, with_extra
from crossmod.intake.options import Limits

CHILD = "crossmod.intake.dicom.child"
REQUEST, LABELS, ANSWER = "request.json", "labels.npy", "answer.json"
"""The files by which parent and child talk."""

QUIET = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"), "1"
)
"""A thread reserves address space, which is limited."""

FULL_BYTES = 1 << 16
"""With less than this on the disk, an answer may not fit."""


@contextmanager
def run_child(
    task: Literal["read", "seg"],
    folder: Path,
    request: Mapping[str, Any],
    limits: Limits,
    labels: LabelArray | None = None,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Let the child do a task, and yield the folder with the arrays it wrote, and its answer.

    Args:
        task: what to do.
        folder: where the series lies.
        request: what the task needs to know.
        limits: what the child may take.
        labels: an array for the task.

    Raises:
        DataError: the child refuses the files, exceeds a limit or dies.
        MachineError: the extra is not installed, or there is no room for temporary files.
    """
    require_extra(task)
    with TemporaryDirectory(prefix="crossmod-dicom-") as name:
        room = Path(name)
        memory = int(limits.dicom_memory_gb * 1e9)
        content = {"folder": str(folder.absolute()), "memory_bytes": memory,
                   "seconds": limits.dicom_seconds, **request}  # fmt: skip
        with temporary(room / REQUEST) as path:
            path.write_text(json.dumps(content), encoding="utf-8")
        if labels is not None:
            with temporary(room / LABELS) as path:
                np.save(path, labels, allow_pickle=False)
        code = _run([task, str(room)], folder, limits)
        yield room, _answer(room, code, folder, limits)


def require_extra(task: Literal["read", "seg"]) -> None:
    """Raise a MachineError unless what a task needs is installed."""
    needed = ("pydicom", "highdicom") if task == "seg" else ("pydicom",)
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise MachineError(
            f"DICOM needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'}"
            " not installed",
            fix=with_extra("dicom"),
        )


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Write a temporary file, which is removed where it does not fit.

    Raises:
        MachineError: it cannot be written; names the folder.
    """
    try:
        yield path
    except OSError as error:
        path.unlink(missing_ok=True)  # so that there is room for an answer
        raise _no_room(path.parent, error.strerror or "no space left") from error


def _no_room(room: Path, reason: str) -> MachineError:
    return MachineError(
        f"temporary files cannot be written: {reason}",
        where=str(room),
        fix="free up space there, or set TMPDIR to another folder",
    )


def more_by(limit: str) -> str:
    """What to do where a limit is exceeded."""
    return f"look for damaged files; if all are intact, raise intake.limits.{limit} in the recipe"


def _run(arguments: list[str], folder: Path, limits: Limits) -> int:
    """The exit code of the child; negative, the signal that ended it."""
    heard, held = os.pipe()  # closed by the system when this process ends, which ends the child
    try:
        done = subprocess.run(
            # -P: a module that lies beside the scans must not be taken for one of ours.
            [sys.executable, "-P", "-m", CHILD, *arguments],
            env={**os.environ, **QUIET},
            stdin=heard,
            stdout=subprocess.DEVNULL,  # what parsers print may quote patients
            stderr=subprocess.DEVNULL,
            timeout=limits.dicom_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"reading it as DICOM took longer than {limits.dicom_seconds:g} s",
            where=str(folder),
            fix=more_by("dicom_seconds"),
        ) from error
    finally:
        os.close(heard)
        os.close(held)
    return done.returncode


def _answer(room: Path, code: int, folder: Path, limits: Limits) -> dict[str, Any]:
    path = room / ANSWER
    if not path.is_file():
        if shutil.disk_usage(room).free < FULL_BYTES:
            raise _no_room(room, "no space left")
        ended = f"ended with exit code {code}"
        if code < 0:
            ended = f"was ended by {signal.Signals(-code).name}"
        raise DataError(
            f"the process that reads DICOM {ended}; its limit is {limits.dicom_memory_gb:g} GB",
            where=str(folder),
            fix=more_by("dicom_memory_gb"),
        )
    answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "error" in answer:
        raise _error(answer["error"], folder)
    return answer


def _error(told: dict[str, str], folder: Path) -> CrossmodError:
    """The child's error; where it names a file, the file lies in the folder."""
    kind = MachineError if told["kind"] == MachineError.__name__ else DataError
    return kind(
        told["what"],
        where=str(folder / told["where"]),
        allowed=told["allowed"],
        fix=told["fix"],
    )
