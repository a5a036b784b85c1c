"""What TensorBoard gets of a run: each curve once, and none of another training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from crossmod.errors import MachineError
from crossmod.progress import board
from crossmod.progress.board import Board
from crossmod.run.task import Advance

KEY, OTHER = "0123456789ab", "ba9876543210"


@dataclass(frozen=True)
class FakeStep:
    """As much of a step as a board looks at."""

    name: str
    key: str = KEY

    def folder(self, store: Path) -> Path:
        return store / self.name / self.key


@dataclass
class FakeRun:
    """As much of a run as a board looks at."""

    store: Path

    @property
    def folder(self) -> Path:
        return self.store / "run"

    def stored(self, step: FakeStep, *rows: dict[str, object]) -> None:
        """Put what a step noted into the store."""
        step.folder(self.store).mkdir(parents=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (step.folder(self.store) / "training.jsonl").write_text(lines, encoding="utf-8")


class Writer:
    """Keeps what TensorBoard would get."""

    written: dict[str, list[tuple[str, float, int]]] = {}  # noqa: RUF012

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.rows = self.written.setdefault(folder, [])

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.rows.append((name, value, step))

    def close(self) -> None:
        self.rows.append(("closed", 0, 0))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    monkeypatch.setattr(Writer, "written", {})
    monkeypatch.setattr(board, "_writer", lambda: Writer)
    return FakeRun(tmp_path)


def written(run: FakeRun) -> dict[str, list[tuple[str, float, int]]]:
    place = run.folder / "tensorboard"
    return {str(Path(name).relative_to(place)): rows for name, rows in Writer.written.items()}


def test_a_board_gets_what_steps_note(run: FakeRun) -> None:
    stored, trained, silent = FakeStep("fit"), FakeStep("train"), FakeStep("score", OTHER)
    run.stored(
        stored, {"scale": 0, "step": 0, "loss": 1}, {"scale": 0, "step": 9, "loss": 2},
        {"scale": 1, "step": 4, "loss": 3}, {"case": "a", "dark": 1},
    )  # fmt: skip
    with Board() as one:
        one.found(run, stored)
        one.started(run, trained)
        one.started(run, silent)
        one.advanced(Advance(KEY, 0, None, "", "", 0, {"step": 5.0, "loss": 0.5}))
        one.advanced(Advance(KEY, 6, 10, "train", "", 0))
        one.finished(run, silent, 1.0)
    assert written(run) == {
        "fit/01234567": [
            ("loss", 1, 0), ("scale", 0, 0), ("loss", 2, 9), ("scale", 0, 9), ("loss", 3, 13),
            ("scale", 1, 13), ("closed", 0, 0),
        ],
        "train/01234567": [("loss", 0.5, 5), ("closed", 0, 0)],
    }  # fmt: skip


def test_a_changed_recipe_has_curves_of_its_own(run: FakeRun) -> None:
    """One that trains anew, then the first again, whose result is stored."""
    before, changed = FakeStep("train"), FakeStep("train", OTHER)
    run.stored(before, {"step": 1, "loss": 1.0})
    for _ in range(2):  # it is written once
        with Board() as one:
            one.found(run, before)
    with Board() as one:
        one.started(run, changed)
        one.advanced(Advance(OTHER, 0, None, "", "", 0, {"step": 1.0, "loss": 7.0}))
    third = FakeStep("train", "third")
    run.stored(third, {"step": 1, "loss": 3.0})
    with Board() as one:
        one.found(run, third)
    assert written(run) == {
        "train/01234567": [("loss", 1.0, 1), ("closed", 0, 0)],
        "train/ba987654": [("loss", 7.0, 1), ("closed", 0, 0)],
        "train/third": [("loss", 3.0, 1), ("closed", 0, 0)],
    }


def test_a_board_without_a_package_for_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(board, "import_module", missing)
    with pytest.raises(MachineError, match="pip install tensorboard"):
        Board()
