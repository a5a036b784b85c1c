"""The child process that parses DICOM: ``python -m crossmod.intake.dicom.child TASK FOLDER``.

It reads the request in FOLDER and leaves arrays and an answer there. Nothing it prints is shown:
exceptions and warnings of parsers quote values of tags.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crossmod.errors import CrossmodError, DataError
from crossmod.intake.dicom.process import ANSWER, LABELS, REQUEST


def main(task: str, room: Path) -> None:
    """Do a task and write its answer."""
    request = json.loads((room / REQUEST).read_text(encoding="utf-8"))
    memory = request["memory_bytes"]
    _limit_memory(memory)
    try:
        answer = TASKS[task](request, room)
    except CrossmodError as error:
        answer = _told(error)
    except (MemoryError, RecursionError) as error:
        answer = _told(_too_much(error, memory))
    except OSError as error:  # its text is the system's
        answer = _told(DataError(f"cannot be read: {error.strerror}"))
    except Exception as error:  # its text may quote values of tags
        answer = _told(DataError(f"cannot be read as DICOM ({type(error).__name__})"))
    draft = room / f".{ANSWER}"
    draft.write_text(json.dumps(answer), encoding="utf-8")
    draft.replace(room / ANSWER)


def _limit_memory(size: int) -> None:
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the scan


def _too_much(error: MemoryError | RecursionError, memory: int) -> DataError:
    if isinstance(error, RecursionError):
        return DataError("its tags are nested too deeply")
    return DataError(
        f"needs more than {memory / 1e9:g} GB to read",
        fix="look for damaged files, or raise limits.dicom_memory_gb",
    )


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
