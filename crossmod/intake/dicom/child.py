"""The child process that parses DICOM: ``python -m crossmod.intake.dicom.child TASK FOLDER``.

It reads the request in FOLDER and leaves arrays and an answer there. Nothing it prints is shown:
exceptions and warnings of parsers quote values of tags.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crossmod.errors import CrossmodError, DataError, MachineError, reading
from crossmod.intake.dicom.bounds import end_with_parent, limit
from crossmod.intake.dicom.process import ANSWER, LABELS, REQUEST, more_by


def main(task: str, room: Path) -> None:
    """Do a task and write its answer."""
    end_with_parent(room)
    request = json.loads((room / REQUEST).read_text(encoding="utf-8"))
    memory = limit(request["memory_bytes"], request["seconds"])
    answer = answered(task, {**request, "may_take_bytes": memory}, room)
    draft = room / f".{ANSWER}"
    draft.write_text(json.dumps(answer), encoding="utf-8")
    draft.replace(room / ANSWER)


def answered(task: str, request: dict[str, Any], room: Path) -> dict[str, Any]:
    """Do a task; what is wrong is an answer as well."""
    try:
        with reading(""):
            return TASKS[task](request, room)
    except CrossmodError as error:
        return _told(error)
    except RecursionError:
        return _told(DataError("its tags are nested too deeply"))
    except MemoryError:
        return _told(_too_much(request["memory_bytes"], request["may_take_bytes"]))
    except Exception as error:  # its text may quote values of tags
        return _told(DataError(f"cannot be read as DICOM ({type(error).__name__})"))


def _too_much(wanted: int, memory: int) -> CrossmodError:
    what = f"needs more than {memory / 1e9:g} GB to read"
    if memory < wanted:
        return MachineError(f"{what}, and the system allows no more", fix="raise ulimit -v")
    return DataError(what, fix=more_by("dicom_memory_gb"))


def _told(error: CrossmodError) -> dict[str, Any]:
    kind = type(error).__name__
    parts = {"what": error.what, "where": error.where, "allowed": error.allowed, "fix": error.fix}
    return {"error": {"kind": kind, **parts}}


def _read(request: dict[str, Any], room: Path) -> dict[str, Any]:
    from crossmod.intake.dicom.read import read

    return read(Path(request["folder"]), request["series"], request["max_voxels"], room)


def _seg(request: dict[str, Any], room: Path) -> dict[str, Any]:
    import numpy as np

    from crossmod.intake.dicom.seg import write

    labels = np.load(room / LABELS, allow_pickle=False)
    write(Path(request["folder"]), labels, request)
    return {}


TASKS: dict[str, Callable[[dict[str, Any], Path], dict[str, Any]]] = {"read": _read, "seg": _seg}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
