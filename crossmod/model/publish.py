"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from crossmod.errors import MachineError


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write into; it becomes ``target``, absent or empty, when the block ends well.

    Raises:
        MachineError: something cannot be written.
    """
    draft = _draft(target)
    with _explained(target):
        try:
            draft.mkdir(parents=True)
            yield draft
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A file to write; it replaces ``target`` when the block ends well.

    Raises:
        MachineError: it cannot be written.
    """
    draft = _draft(target)
    with _explained(target):
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def _draft(target: Path) -> Path:
    # Beside the target, so that renaming stays on one disk; the ending tells writers the format.
    return target.with_name(f".{os.getpid()}-{uuid4().hex[:8]}.{target.name}")


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"cannot be written: {error.strerror or error}",
            where=str(target),
            fix="free space or name another place",
        ) from error
