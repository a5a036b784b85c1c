"""What the commands do, called from Python: whoever calls hands in who watches; nothing prints."""

from __future__ import annotations

import builtins
import importlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import pytest
from program import SMOKE, Program, Result
from tiny import Tiny, begun

import crossmod
from crossmod.cost.preview import Preview
from crossmod.engines.local import Local, LocalOptions
from crossmod.engines.profile import Profile
from crossmod.errors import DataError, Interrupted
from crossmod.files.outputs import Outputs
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
    note = "note: confidence.csv has no expected Dice: the model was packaged without --calibrate"
    assert (done.scans, watcher.items, told) == (3, 3, [note])
    names = sorted(path.name for path in out.glob("[!.]*"))
    assert names[:-2] == ["confidence.csv"]
    assert len({row.case for row in done.confidence}) == 2
    with pytest.raises(DataError, match="1 scan could not be outlined:\nbad: "):
        done.require()
    for name in ("label", "../{case}", "{case}/{case}"):
        with pytest.raises(DataError, match=r"is not a file name with \{case\} in it"):
            predict_files(model, [scans], tmp_path / "other", name=name)


@pytest.fixture(scope="module")
def opened(smoke: Result) -> crossmod.OpenRun:
    return crossmod.open_run(smoke.folder)


@pytest.fixture(scope="module")
def model(opened: crossmod.OpenRun) -> crossmod.Model:
    return opened.model()


def without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As if a package was not installed."""
    real = importlib.import_module

    def import_module(wanted: str, *arguments: str) -> object:
        if wanted == name:
            raise ImportError(name)
        return real(wanted, *arguments)

    for user in ("crossmod.notebook.tables", "crossmod.notebook.steps"):
        monkeypatch.setattr(f"{user}.import_module", import_module)


def test_a_recipe_runs_from_python(
    after_smoke: Program, smoke: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = crossmod.run(SMOKE, out="mine", store=after_smoke.folder / "store", workers=1, quiet=True,
                       set={"title": "It's \"mine\""})  # fmt: skip
    assert (run.title, run.finished) == ('It\'s "mine"', True)
    assert run.folder.joinpath("metrics.csv").read_bytes() == (
        smoke.folder.joinpath("metrics.csv").read_bytes()
    )
    with pytest.raises(crossmod.RecipeError, match=r"segment\.iteration"):
        crossmod.run(SMOKE, set={"segment": {"iteration": 3}}, quiet=True)
    with pytest.raises(crossmod.RecipeError, match=r"segment\.folds: a recipe cannot hold None"):
        crossmod.run(SMOKE, set={"segment.folds": None}, quiet=True)


def test_an_opened_run_gives_its_tables(
    opened: crossmod.OpenRun, smoke: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "pandas")
    rows = opened.scores()
    assert [row["case"] for row in rows] == [row["case"] for row in smoke.scores()]
    assert [f"{row['volume_mm3']}" for row in rows] == [r["volume_mm3"] for r in smoke.scores()]
    assert {type(row["dice"]) for row in rows} == {float}
    assert "recovery" in opened.table("survival")[0]
    with pytest.raises(DataError, match="has no table 'ledger'\n  allowed: metrics, survival"):
        opened.table("ledger")


def test_an_opened_run_gives_data_frames_where_pandas_is_installed(
    opened: crossmod.OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pandas:
        DataFrame = builtins.tuple

    monkeypatch.setattr("crossmod.notebook.tables.import_module", lambda name: Pandas)
    assert isinstance(opened.scores(), tuple)


def test_an_opened_run_gives_its_steps(
    opened: crossmod.OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened.steps[:2] == ["phantom", "prepare-source"]
    step = opened.step("gan")
    assert step.name == "translate-gan"
    assert step.seconds > 0
    assert len(step.cohort()) == 4
    without(monkeypatch, "pandas")
    assert {"step", "cycle"} <= opened.step("gan-fit").metrics()[0].keys()
    assert len(opened.step("predict-translated-validation").label_maps()) == 2
    for name, found in (("validation", "fits several steps"), ("sharp", "is not a step")):
        with pytest.raises(DataError, match=found):
            opened.step(name)
    scores = opened.step("score-translated-target")
    for ask in (scores.cohort, scores.label_maps):
        with pytest.raises(DataError, match="score-translated-target"):
            ask()
    without(monkeypatch, "torchio")
    with pytest.raises(crossmod.MachineError, match="need TorchIO"):
        step.subjects()


def test_an_opened_run_is_shown_in_notebooks(opened: crossmod.OpenRun) -> None:
    text = opened._repr_html_()
    assert "Smoke test" in text
    assert "round-1" in text
    chart = opened.figure("intensity")
    assert chart._repr_svg_().endswith("</svg>\n")
    assert chart.pdf == chart.svg.with_suffix(".pdf")
    with pytest.raises(DataError, match="no figure 'x'\n  allowed: intensity"):
        opened.figure("x")


def test_other_folders_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        crossmod.open_run(tmp_path)


def test_several_runs_in_a_folder_are_opened_by_name(
    opened: crossmod.OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "pandas")
    Outputs(tmp_path, "the run of mine.toml").claim()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file in ("events.jsonl", "metrics.csv", "run.json"):
            shutil.copy(opened.folder / file, tmp_path / name)
    both = crossmod.open_run(str(tmp_path))
    assert [*both.runs] == ["one", "two"]
    assert both.finished
    assert [row["run"] for row in both.scores()[:1]] == ["one"]
    assert len(both.scores()) == 2 * len(opened.scores())
    with pytest.raises(DataError, match=r"holds several runs\n  allowed: one, two"):
        both.step("gan")


def test_a_model_outlines_arrays_and_files_alike(
    opened: crossmod.OpenRun, model: crossmod.Model, tmp_path: Path
) -> None:
    [scan, _] = sorted(opened.step("phantom").folder.glob("*/validation/*_hrT2.nii.gz"))
    image = nibabel.load(scan)
    done = model.predict_files(scan, tmp_path / "out", device="cpu")
    done.require()
    [written] = (tmp_path / "out").glob("*.nii.gz")
    expected = np.asarray(nibabel.load(written).dataobj)
    array = np.asarray(image.dataobj)
    from_array = model.predict(array, affine=image.affine, device="cpu")
    assert np.array_equal(from_array.labels, expected)
    assert np.array_equal(model.predict(str(scan), device="cpu").labels, expected)
    assert [row.structure for row in from_array.confidence] == ["tumor", "cochlea"]
    assert np.array_equal(array, image.dataobj)  # what was given stays as it was
    straight = model.predict(array, spacing_mm=(0.6, 0.6, 1.5), device="cpu")
    assert straight.grid.spacing_mm == (0.6, 0.6, 1.5)


def code_of(page: Path) -> str:
    """What a page tells readers to run, or what the cells of a notebook do."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
        return "\n".join("".join(cell["source"]) for cell in cells)
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def test_the_pages_about_python_run(
    after_smoke: Program, smoke: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(after_smoke.folder / "store", tmp_path / "runs" / "store")
    monkeypatch.chdir(tmp_path)
    for page in ("how-to/python.md", "tutorials/explore-a-run.ipynb"):
        code = code_of(SMOKE.parents[1] / "docs" / page).replace("quickstart", "smoke")
        assert "crossmod.animate" in code
        exec(compile(code, page, "exec"), {})
    assert (tmp_path / "slices.gif").is_file()


@pytest.mark.parametrize(
    ("scan", "geometry", "what"),
    [
        (np.zeros((4, 4, 4)), {"spacing_mm": (1, 1, 1)}, "all have the value 0"),
        (np.arange(16.0).reshape(4, 4), {"spacing_mm": (1, 1, 1)}, r"shape \(4, 4\)"),
        (np.full((4, 4, 4), "a"), {"spacing_mm": (1, 1, 1)}, "real numbers"),
        (np.arange(64.0).reshape(4, 4, 4), {}, "needs spacing_mm or affine"),
        (np.arange(64.0).reshape(4, 4, 4), {"spacing_mm": (1, 1, 0)}, "three sizes above 0"),
        (np.arange(64.0).reshape(4, 4, 4), {"affine": np.zeros((4, 4))}, "no usable affine"),
        ("scan.nii.gz", {"spacing_mm": (1, 1, 1)}, "a file says itself"),
    ],
)
def test_what_is_no_scan_is_refused(
    model: crossmod.Model, scan: object, geometry: dict[str, object], what: str
) -> None:
    with pytest.raises(DataError, match=what):
        model.predict(scan, **geometry)
