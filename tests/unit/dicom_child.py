"""What the child that parses DICOM does, done in the process of a test."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from crossmod.intake.dicom import child, process
from crossmod.intake.options import Limits


@pytest.fixture
def a_child() -> None:
    """Files that may exhaust or end the process that reads them are left to a child."""


@pytest.fixture(autouse=True)
def no_child(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no other child: it takes far longer to start than for all it does."""
    if "a_child" not in request.fixturenames:
        monkeypatch.setattr(process, "_run", _run)


def _run(arguments: list[str], folder: Path, limits: Limits) -> int:
    task, room = arguments[0], Path(arguments[1])
    request = json.loads((room / process.REQUEST).read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nobody hears those of the child
        answer = child.answered(task, {**request, "may_take_bytes": request["memory_bytes"]}, room)
    (room / process.ANSWER).write_text(json.dumps(answer), encoding="utf-8")
    return 0
