"""What the commands do, called from Python: whoever calls hands in who watches; nothing prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from program import SMOKE, Result
from tiny import Tiny, begun

from crossmod.cost.preview import Preview
from crossmod.engines.local import Local, LocalOptions
from crossmod.engines.profile import Profile
from crossmod.errors import DataError, Interrupted
from crossmod.intake import Intake, survey_folder
from crossmod.model.label_files import predict_files
from crossmod.model.package import package
from crossmod.recipe.load import load
from crossmod.run import api
from crossmod.run.data import check_data, survey_data
from crossmod.run.run import Run
from crossmod.run.schedule import StopSign
from crossmod.run.steps import Step
from crossmod.run.task import Advance


@pytest.fixture(autouse=True)
def _silent(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert capsys.readouterr() == ("", "")


@dataclass
class Watcher:
    """Observes runs, and the loop of a command."""

    stored: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    items: int = 0

    def found(self, run: Run, step: Step) -> None:
        self.stored.append(step.name)

    def started(self, run: Run, step: Step) -> None: ...

    def advanced(self, advance: Advance) -> None: ...

    def finished(self, run: Run, step: Step, seconds: float) -> None:
        self.made.append(step.name)

    def left(self, step: Step) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, items, *, total=None, label=""):
        count = 0
        for count, item in enumerate(items, start=1):  # noqa: B007
            yield item
        assert total in (None, count)
        self.items = max(self.items, count)  # a second look takes a part of the files


@pytest.fixture
def unscored(undisturbed: Tiny, tmp_path: Path) -> api.Experiment:
    """The tiny recipe, all of it made but for its scores."""
    tiny = begun(undisturbed, tmp_path / "tiny")
    tiny.forget(*(step for step in undisturbed.made() if step.startswith("score-")))
    return api.plan(tiny.folder / "tiny.toml", out=tmp_path / "run", store=tiny.store)


def scores_of(experiment: api.Experiment) -> list[str]:
    return [step.name for step in experiment.plans[0].scores]


def test_a_run_is_planned_previewed_and_executed(
    unscored: api.Experiment, undisturbed: Tiny
) -> None:
    preview = Preview(unscored, Profile())
    states = {one.step.name: one.state for one in preview.steps()}
    scores = scores_of(unscored)
    assert [name for name, state in states.items() if state == "to run"] == scores
    probed: list[str] = []
    assert list(preview.require_room(probed.append).of) == [step.key for step in preview.to_run]
    assert probed == []
    watcher = Watcher()
    engine = Local(LocalOptions(workers=1), unscored.store, unscored.machine())
    done = api.execute(unscored, preview.machine, engine, watcher)
    assert watcher.made == scores
    assert set(watcher.stored) == states.keys() - set(scores)
    [run] = done.runs
    assert done.comparison is None
    assert done.report == run.folder / "report.html"
    assert done.report.is_file()
    assert len(run.scores()) == len(undisturbed.result.scores())
    assert run.folder.joinpath("metrics.csv").read_bytes() == (
        undisturbed.result.folder.joinpath("metrics.csv").read_bytes()
    )


def test_a_run_ends_where_its_sign_is_raised(unscored: api.Experiment) -> None:
    """It is raised by what the run tells, as by a signal: later than it was handed in."""
    sign = StopSign()

    class Stopping(Watcher):
        def started(self, run: Run, step: Step) -> None:
            sign.raised = True

    watcher = Stopping()
    engine = Local(LocalOptions(workers=1), unscored.store, unscored.machine())
    with pytest.raises(Interrupted):
        api.execute(unscored, unscored.machine(), engine, watcher, stop_sign=sign)
    assert not (unscored.outputs.folder / "metrics.csv").exists()
    assert any("stopping" in text for text in watcher.notes)


def test_a_wrong_data_folder_leaves_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        api.plan(SMOKE, tmp_path / "none", out=tmp_path / "run", store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_data_folder_is_checked(smoke: Result) -> None:
    root = smoke.folder / "01-phantom"
    recipe, watcher = load(SMOKE).recipe, Watcher()
    inventory = check_data(recipe, root)
    assert {split: len(scans) for split, scans in inventory.splits.items()} == {
        "source": 4,
        "target": 4,
        "validation": 2,
    }
    survey = survey_data(recipe, root, inventory, progress=watcher.progress)
    survey.require()
    alone = survey_folder(root, Intake(), Watcher().progress)
    assert alone.facts.keys() == survey.facts.keys()
    assert watcher.items == len(survey.facts) == 20


def test_a_model_is_packaged_and_outlines_scans(smoke: Result, tmp_path: Path) -> None:
    model, out, watcher = tmp_path / "model", tmp_path / "out", Watcher()
    facts = package(smoke.folder, model)
    assert facts.stage == "round-1"
    scans = smoke.folder / "01-phantom" / "crossmoda2022_validation" / "validation"
    bad = tmp_path / "bad_hrT2.nii.gz"
    bad.write_bytes(b"no scan")
    told: list[str] = []
    done = predict_files(model, [scans, bad], out, ending="_hrT2", device="cpu",
                         progress=watcher.progress, tell=told.append)  # fmt: skip
    assert (done.scans, watcher.items, told) == (3, 3, [])
    names = sorted(path.name for path in out.glob("[!.]*"))
    assert names[:-2] == ["confidence.csv"]
    assert len({row.case for row in done.confidence}) == 2
    with pytest.raises(DataError, match="1 scan could not be outlined:\nbad: "):
        done.require()
    for name in ("label", "../{case}", "{case}/{case}"):
        with pytest.raises(DataError, match=r"is not a file name with \{case\} in it"):
            predict_files(model, [scans], tmp_path / "other", name=name)
