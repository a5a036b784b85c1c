"""What extras bring, with the packages themselves: elsewhere they are replaced or left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import torchio
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crossmod import Volume
from crossmod.data.cohorts import CohortWriter
from crossmod.notebook.steps import OpenStep
from crossmod.notebook.tables import table
from crossmod.progress.board import Board


@dataclass(frozen=True)
class Noted:
    """A step of another run, and a run, as far as a board looks at them."""

    folder_: Path
    name: str = "train"
    key: str = "0123456789ab"

    def folder(self, store: Path) -> Path:
        return self.folder_

    @property
    def store(self) -> Path:
        return self.folder_


@dataclass(frozen=True)
class Shown:
    """The run that shows it."""

    folder: Path
    store: Path = Path()


def test_tensorboard_reads_the_curves_that_are_written(tmp_path: Path) -> None:
    (stored := tmp_path / "stored").mkdir()
    rows = [{"step": step, "loss": 1 / step} for step in (1, 2, 4)]
    (stored / "training.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    with Board() as board:
        board.found(Shown(tmp_path / "run"), Noted(stored))  # type: ignore[arg-type]
    [file] = (tmp_path / "run").rglob("events.out.tfevents.*")
    found = EventAccumulator(str(file.parent))
    found.Reload()
    points = [(point.step, point.value) for point in found.Scalars("loss")]
    assert points == [(1, 1.0), (2, 0.5), (4, 0.25)]


def test_tables_are_data_frames() -> None:
    frame = table([{"case": "a", "dice": 0.5}, {"case": "b", "dice": 0.7}])
    assert isinstance(frame, pandas.DataFrame)
    assert frame.set_index("case").dice.to_dict() == {"a": 0.5, "b": 0.7}


def test_subjects_are_those_of_torchio(tmp_path: Path) -> None:
    affine = np.diag([1.5, 2.0, 2.5, 1.0])
    image = np.random.default_rng(0).random((1, 4, 5, 6)).astype(np.float32)
    labels = (image[0] > 0.5).astype(np.uint8)
    writer = CohortWriter(tmp_path, {"tumor": 1})
    writer.add(Volume.of(image, affine, case="a"), patient="p", labels=labels)
    writer.close().save(tmp_path)
    [subject] = OpenStep("prepare", tmp_path).subjects()
    assert isinstance(subject, torchio.Subject)
    assert subject.patient == "p"
    assert "<img" in subject._repr_html_()  # its colors come with the extra `notebook`
    np.testing.assert_allclose(subject.image.data.numpy(), image, atol=1e-3)
    np.testing.assert_array_equal(subject.labels.data.numpy()[0], labels)
    np.testing.assert_allclose(subject.image.affine, affine)
