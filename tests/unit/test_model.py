"""Model folders: written from a run, verified when read, used scan by scan."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, version
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest

from crossmod import (
    DataError,
    MachineError,
    Options,
    PluginError,
    Prediction,
    Segmenter,
    Translator,
    Volume,
    hookimpl,
)
from crossmod.data.classes import Classes
from crossmod.data.grids import Grid, Preprocess
from crossmod.data.state import State, save_state
from crossmod.intake import Intake, Limits, ScanFile
from crossmod.model import label_maps, queue
from crossmod.model import predict as prediction
from crossmod.model.confidence import (
    AGREEING,
    Confidence,
    confidence,
    read_confidence,
    write_confidence,
)
from crossmod.model.confidence import COLUMNS as CONFIDENCE_COLUMNS
from crossmod.model.ensemble import Ensemble, Outline
from crossmod.model.facts import (
    MODEL_FILE,
    RUN_FILE,
    Fold,
    Identity,
    Origin,
    RunFacts,
    Split,
    Stage,
    write_facts,
)
from crossmod.model.label_files import predict_files
from crossmod.model.load import load_model
from crossmod.model.package import package
from crossmod.model.predict import Found, Outlined, outlined, predict
from crossmod.model.queue import Failed, Listed, Queue
from crossmod.scores.metrics import COLUMNS, Score, write_scores
from crossmod.stages import find
from crossmod.stages.context import Context
from crossmod.stages.find import StageUse

LOCK = 'title = "Made by hand"\nseed = 3\n'
HEAD = (",".join(COLUMNS) + "\nvalidation,round-1,c1,a,tumor,").encode()


class LevelOptions(Options):
    """How to find tumors."""

    ahead: int = 0
    """Scans read before the first is outlined."""


class Level(Segmenter[LevelOptions]):
    """Voxels above a level that differs between folds are tumor."""

    def fit(self, train: Any, validation: Any, ctx: Any) -> Any:
        return {}

    def predict(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Prediction]:
        given = iter(volumes)
        waiting = []
        for volume in given:
            waiting.append(volume)
            if len(waiting) <= self.options.ahead:
                continue
            yield self._one(waiting.pop(0), float(state["level"][0]))
        for volume in waiting:
            yield self._one(volume, float(state["level"][0]))

    def _one(self, volume: Volume, level: float) -> Prediction:
        if volume.case.startswith("boom"):
            raise RuntimeError("out of luck")
        if volume.case.startswith("odd"):
            return Prediction(volume, np.zeros((1, 1, 1, 1), np.float32))
        tumor = (volume.data[0] > level).astype(np.float32)
        return Prediction(volume, np.stack([1 - tumor, tumor]))


class Nothing(Translator[Options]):
    """Not a segmenter."""

    def translate(self, volumes: Any, state: Any, ctx: Any) -> Any:
        yield from volumes


def offer(monkeypatch: pytest.MonkeyPatch, stage: type, name: str = "level") -> None:
    """Make a stage the only plugin."""
    module = ModuleType(f"fake_{name}")
    module.crossmod_stage = hookimpl(lambda: stage, specname="crossmod_stage")  # type: ignore[attr-defined]
    module.__spec__ = ModuleSpec(module.__name__, None)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    point = EntryPoint(name, f"fake_{name}", "crossmod.plugins")
    monkeypatch.setattr(find, "available", lambda: {name: point})
    find.load.cache_clear()


@pytest.fixture(autouse=True)
def _level(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    offer(monkeypatch, Level)
    yield
    find.load.cache_clear()


def a_stage(folds: list[Fold], **changes: Any) -> Stage:
    content = {
        "classes": {"tumor": (4, 5)},
        "preprocess": Preprocess(spacing_mm=(2.0, 2.0, 2.0)),
        "segmenter": Identity(**find.load("level").identity),
        "options": {"ahead": 0},
        "average": "probabilities",
        "largest_component": (),
        "folds": tuple(folds),
        "trained_on": {"translate-gan": 4},
    }
    return Stage(**{**content, **changes})


def a_run(folder: Path, levels: tuple[float, ...] = (0.5, 0.6), **changes: Any) -> Path:
    """A run folder with three stages, as a run leaves it."""
    core = changes.pop("core", version("crossmod"))
    stages = {}
    for name in ("oracle", "augmented", "round-1"):
        folds = []
        for number, level in enumerate(levels):
            step = folder / f"{name}-{number}"
            step.mkdir(parents=True)
            save_state(step, State({"level": np.array([level])}, {"plan": {"patch": [1, 2]}}))
            digest = hashlib.sha256((step / "state.safetensors").read_bytes()).hexdigest()
            files = {"state.safetensors": {"bytes": 1, "sha256": digest}}
            manifest = {"key": f"{name}{number}", "files": files}
            (step / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
            folds.append(Fold(folder=step.name, key=f"{name}{number}"))
        stages[name] = a_stage(folds, **changes)
    data = {"source": Split(centers={"a": 2}, digest="0"), "target": Split(centers={}, digest="1")}
    origin = Origin(embedded=False, data=data, crossmod=core, libraries={"numpy": "2"})
    write_facts(folder / RUN_FILE, RunFacts(origin=origin, stages=stages))
    (folder / "recipe.lock.toml").write_text(LOCK, encoding="utf-8")
    measures = dict.fromkeys(COLUMNS[5:], 0.5)
    scores = [Score("validation", name, "c1", "a", "tumor", measures) for name in stages]
    write_scores(folder / "metrics.csv", scores)
    return folder


def a_scan(folder: Path, case: str, data: np.ndarray | None = None) -> ScanFile:
    """A scan of 2 mm voxels with a bright box of 2 x 3 x 4 voxels."""
    if data is None:
        data = np.zeros((12, 14, 10), np.float32)
        data[3:5, 4:7, 2:6] = 100
        data[0, 0, 0] = 55  # bright for one fold only
    path = folder / f"{case}.nii.gz"
    folder.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-2.0, -2.0, 2.0, 1.0])), path)
    return ScanFile(case, path)


def a_context(folder: Path) -> Context:
    return Context(folder=folder, classes={"tumor": 1})


def outline(model: Path, scans: list[ScanFile], folder: Path) -> list[Outlined | Failed]:
    return [
        found if isinstance(found, Failed) else outlined(load_model(model), found)
        for found in found_in(model, scans, folder)
    ]


def found_in(model: Path, scans: list[ScanFile], folder: Path) -> Iterator[Found | Failed]:
    """What the folds say of scans."""
    loaded = load_model(model)
    with Queue(Listed(scans), loaded.facts.intake, loaded.facts.preprocess) as queue:
        yield from predict(loaded, queue, a_context(folder))


def test_a_package_holds_what_prediction_needs_and_says_what_it_is(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    facts = package(run, tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "README.md", "fold-1.safetensors", "fold-2.safetensors", "model.json", "recipe.lock.toml",
    ]  # fmt: skip
    assert facts.stage == "round-1"
    content = json.loads((tmp_path / "model" / MODEL_FILE).read_text(encoding="utf-8"))
    assert content["format"] == 1
    assert content["title"] == "Made by hand"
    assert content["weights"]["fold-1.safetensors"]["notes"] == {"plan": {"patch": [1, 2]}}
    assert [row["center"] for row in content["scores"]] == ["a", "overall"]
    assert content["scores"][0]["dice_sd"] is None
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "Not a medical device" in card
    assert "| validation | a | tumor | 1 | 0 | 0.500 ± n/a |" in card
    assert "tumor (value 4)" in card
    assert "embedded" not in card


def test_packages_of_one_run_are_equal_byte_for_byte(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    contents = []
    for name in ("one", "two"):
        package(run, tmp_path / name)
        contents.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "run", "two"]


def test_another_stage_can_be_packaged(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    assert package(run, tmp_path / "a", "augmented").stage == "augmented"
    package(run, tmp_path / "o", "oracle")
    assert "did learn from outlines" in (tmp_path / "o" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(DataError) as caught:
        package(run, tmp_path / "b", "round-9")
    assert caught.value.allowed == "oracle, augmented, round-1"


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(DataError, match="is not a folder"):
        package(tmp_path / "nowhere", target)
    with pytest.raises(DataError, match=r"has no run\.json"):
        package(tmp_path, target)
    for variant in ("naive", "full"):
        a_run(tmp_path / "variants" / variant)
    with pytest.raises(DataError, match="holds several runs") as caught:
        package(tmp_path / "variants", target)
    assert caught.value.allowed.count("variants/") == 2
    assert not target.exists()


def test_a_target_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="exists already"):
        package(run, tmp_path / "taken")
    (tmp_path / "empty").mkdir()
    assert package(run, tmp_path / "empty")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(MachineError, match="cannot be written"):
        package(run, tmp_path / "file" / "model")


def test_every_damaged_fold_of_a_run_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", (0.1, 0.2, 0.3))
    (run / "round-1-0" / "state.safetensors").write_bytes(b"x")
    (run / "round-1-1" / "state.safetensors").unlink()
    manifest = run / "round-1-2" / "manifest.json"
    manifest.write_text(manifest.read_text("utf-8").replace("round-12", "other"), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        package(run, tmp_path / "model")
    message = str(caught.value)
    for part in ("round-1-0: state.safetensors is damaged", "round-1-1: ", "No such file",
                 "round-1-2: holds the result of another run"):  # fmt: skip
        assert part in message
    (run / "recipe.lock.toml").unlink()
    with pytest.raises(DataError, match=r"recipe\.lock\.toml: cannot be read"):
        package(run, tmp_path / "model", "augmented")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("recipe.lock.toml", b"", "title: Field required"),
        ("recipe.lock.toml", b"seed = 3", "title: Field required"),
        ("recipe.lock.toml", b"title = 5\nseed = 3", "title: Input should be a valid string"),
        ("recipe.lock.toml", b"title = '\xff'", "is not TOML"),
        ("recipe.lock.toml", b"title", "is not TOML"),
        ("recipe.lock.toml", b"a = " + b"[" * 100_000, "is not TOML"),
        ("metrics.csv", b"\xff", "is not UTF-8"),
        ("metrics.csv", b"a" * 200_000, "is not CSV"),
        ("metrics.csv", HEAD + b"inf,1,1,1,1,1\n", "holds an infinite number"),
        ("run.json", b"[" * 100_000, "cannot be read"),
    ],
)
def test_damaged_files_of_a_run_are_named(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    run = a_run(tmp_path / "run")
    (run / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}(:\d+)?: .*{said}"):
        package(run, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_scores_may_begin_with_the_mark_of_spreadsheets(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    file = run / "metrics.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(package(run, tmp_path / "model").scores) == 2


@pytest.mark.parametrize("folder", ["../../etc", "/etc", "..", "a/../../b", ".", ""])
def test_a_run_cannot_point_outside_its_folder(tmp_path: Path, folder: str) -> None:
    run = a_run(tmp_path / "run")
    file = run / RUN_FILE
    text = file.read_text("utf-8").replace('"round-1-0"', json.dumps(folder))
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"run\.json: stages\.round-1\.folds\.0\.folder"):
        package(run, tmp_path / "model")


def test_a_run_on_voxels_of_no_scan_is_not_packaged(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", preprocess=Preprocess(spacing_mm=(0.001, 0.6, 0.6)))
    with pytest.raises(DataError, match=r"run\.json: preprocess\.spacing_mm is \[0\.001"):
        package(run, tmp_path / "model")


def test_a_run_without_folds_is_refused(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    content = json.loads((run / RUN_FILE).read_text("utf-8"))
    content["stages"]["round-1"]["folds"] = []
    (run / RUN_FILE).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=r"round-1\.folds"):
        package(run, tmp_path / "model")


def safetensors_of(kind: str) -> bytes:
    """A file with two numbers of a type of two bytes."""
    entry = {"dtype": kind, "shape": [2], "data_offsets": [0, 4]}
    head = json.dumps({"level": entry}).encode()
    return len(head).to_bytes(8, "little") + head + bytes(4)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not weights", "not a safetensors file"), (safetensors_of("BF16"), "BF16")],
)
def test_weights_that_nothing_can_read_are_refused(
    tmp_path: Path, content: bytes, said: str
) -> None:
    run = a_run(tmp_path / "run")
    package(run, tmp_path / "model")
    digest = hashlib.sha256(content).hexdigest()
    file = tmp_path / "model" / MODEL_FILE
    facts = json.loads(file.read_text("utf-8"))
    facts["weights"]["fold-2.safetensors"]["sha256"] = digest
    file.write_text(json.dumps(facts), encoding="utf-8")
    (tmp_path / "model" / "fold-2.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=rf"fold-2\.safetensors: .*{said}"):
        load_model(tmp_path / "model")
    (run / "round-1-1" / "state.safetensors").write_bytes(content)
    manifest = {"key": "round-11", "files": {"state.safetensors": {"sha256": digest}}}
    (run / "round-1-1" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DataError, match=f"round-1-1: .*{said}"):
        package(run, tmp_path / "again")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"largest_component": ["nerve"]}, "largest_component names no class: nerve"),
        ({"classes": {"tumor": []}}, "classes.tumor"),
        ({"classes": {"tumor": [300]}}, "classes.tumor"),
        ({"classes": {}}, "classes"),
        ({"preprocess": {"spacing_mm": [1e-9] * 3}}, "preprocess.spacing_mm"),
        ({"preprocess": {"spacing_mm": [0.6, 0.6, 0.001]}}, "spacing_mm is [0.6, 0.6, 0.001]"),
    ],
)
def test_models_that_could_not_end_well_are_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    package(a_run(tmp_path / "run"), tmp_path / "model")
    file = tmp_path / "model" / MODEL_FILE
    facts = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**facts, **change}), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_model(tmp_path / "model")
    assert said in str(caught.value)


def test_a_model_is_shown_in_short_and_never_its_weights(tmp_path: Path) -> None:
    package(a_run(tmp_path / "run"), tmp_path / "model")
    model = load_model(tmp_path / "model")
    assert repr(model) == f"<Model {model.facts.title!r}, stage round-1, 2 folds: tumor>"
    html = model._repr_html_()
    assert str(tmp_path / "model") in html
    assert len(html) < 1500


def test_a_file_of_a_model_folder_leads_to_the_folder(tmp_path: Path) -> None:
    package(a_run(tmp_path / "run"), tmp_path / "model")
    with pytest.raises(DataError, match="is a file of a model folder") as caught:
        load_model(tmp_path / "model" / MODEL_FILE)
    assert caught.value.fix == f"name {tmp_path / 'model'}"
    with pytest.raises(DataError, match="None is not a path"):
        load_model(None)  # type: ignore[arg-type]


def test_what_is_no_model_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a model folder"):
        load_model(tmp_path)
    file = tmp_path / MODEL_FILE
    for text, said in [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "has format None"),
        ('{"format": 2}', "has format 2"),
        ('{"format": 1, "stage": "x"}', "classes: Field required"),
    ]:
        file.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            load_model(tmp_path)


def test_a_model_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    package(a_run(tmp_path / "run"), tmp_path / "model")
    file = tmp_path / "model" / MODEL_FILE
    text = file.read_text("utf-8").replace("fold-1.safe", "../fold-1.safe")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="weights"):
        load_model(tmp_path / "model")


def test_every_damaged_weights_file_is_named(tmp_path: Path) -> None:
    package(a_run(tmp_path / "run"), tmp_path / "model")
    victim = tmp_path / "model" / "fold-1.safetensors"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(bytes(content))
    (tmp_path / "model" / "fold-2.safetensors").unlink()
    with pytest.raises(DataError) as caught:
        load_model(tmp_path / "model")
    assert "fold-1.safetensors: is damaged" in str(caught.value)
    assert "fold-2.safetensors: cannot be read" in str(caught.value)


def test_the_plugin_must_be_there_and_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"distribution": "crossmod-level", "version": "0.7", "name": "level", "code": "abc"}
    run = a_run(tmp_path / "run", segmenter=Identity(**changed))
    package(run, tmp_path / "model")
    remarks = load_model(tmp_path / "model").remarks
    assert remarks == (
        "trained with plugin 'level' of crossmod-level 0.7, installed is 'level' of ? ?",
    )

    offer(monkeypatch, Nothing)
    with pytest.raises(PluginError, match=r"for \[translate\]"):
        load_model(tmp_path / "model")
    offer(monkeypatch, Level, "other")
    with pytest.raises(PluginError) as caught:
        load_model(tmp_path / "model")
    assert "'level' of crossmod-level 0.7, which is not installed" in str(caught.value)
    assert caught.value.fix == "install crossmod-level 0.7"


def test_options_of_another_version_of_the_plugin_are_refused(tmp_path: Path) -> None:
    package(a_run(tmp_path / "run", options={"behind": 1}), tmp_path / "model")
    with pytest.raises(PluginError, match="behind: Extra inputs"):
        load_model(tmp_path / "model")


def test_changed_code_is_remarked(tmp_path: Path) -> None:
    same = find.load("level").identity
    package(a_run(tmp_path / "same"), tmp_path / "a")
    assert load_model(tmp_path / "a").remarks == ()
    changed = Identity(**{**same, "code": "other"})
    package(a_run(tmp_path / "changed", segmenter=changed), tmp_path / "b")
    assert "has changed since training" in load_model(tmp_path / "b").remarks[0]
    package(a_run(tmp_path / "older", core="0.0.1"), tmp_path / "c")
    assert "trained with crossmod 0.0.1, installed is" in load_model(tmp_path / "c").remarks[0]


def test_a_scan_is_outlined_on_its_own_grid_with_file_values(tmp_path: Path) -> None:
    package(a_run(tmp_path / "run"), tmp_path / "model")
    scan = a_scan(tmp_path / "scans", "one")
    [result] = outline(tmp_path / "model", [scan], tmp_path)
    assert isinstance(result, Outlined)
    expected = np.zeros((12, 14, 10), np.uint8)
    expected[3:5, 4:7, 2:6] = 4
    np.testing.assert_array_equal(result.labels, expected)
    [row] = result.confidence
    assert row.volume_mm3 == 24 * 8
    assert row.agreement == pytest.approx(2 * 24 / (24 + 25))
    assert row.probability == 1
    assert row.flag == ""


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_a_scan_that_fails_does_not_stop_the_others(ahead: int, tmp_path: Path) -> None:
    package(a_run(tmp_path / "run", options={"ahead": ahead}), tmp_path / "model")
    names = ["boom-1", "a", "flat-1", "b", "boom-2", "odd", "flat-2", "c", "boom-3"]
    flat = np.ones((4, 4, 4), np.float32)
    scans = [
        a_scan(tmp_path / "scans", name, flat if name.startswith("flat") else None)
        for name in names
    ]
    results = outline(tmp_path / "model", scans, tmp_path)
    outlined = [one.scan.case for one in results if isinstance(one, Outlined)]
    failed = {one.scan.case: one.error for one in results if isinstance(one, Failed)}
    assert outlined == ["a", "b", "c"]
    assert sorted(failed) == ["boom-1", "boom-2", "boom-3", "flat-1", "flat-2", "odd"]
    assert isinstance(failed["flat-1"], DataError)
    assert "RuntimeError: out of luck" in str(failed["boom-2"])
    assert "shape" in str(failed["odd"])


def test_scans_are_read_as_the_recipe_of_the_model_said(tmp_path: Path) -> None:
    scan = a_scan(tmp_path / "scans", "one")
    data = np.asarray(nibabel.load(scan.path).dataobj).copy()
    data[-1, -1, -1] = np.nan
    a_scan(tmp_path / "scans", "one", data)
    package(a_run(tmp_path / "strict"), tmp_path / "a")
    [failed] = outline(tmp_path / "a", [scan], tmp_path)
    assert isinstance(failed, Failed)
    assert 'intake.nonfinite = "zero" in model.json' in str(failed.error)
    package(a_run(tmp_path / "lenient", intake=Intake(nonfinite="zero")), tmp_path / "b")
    [result] = outline(tmp_path / "b", [scan], tmp_path)
    assert isinstance(result, Outlined)
    [remark] = result.remarks
    assert "1 of 1680 are NaN or infinite" in remark


def test_models_of_before_read_scans_by_default(tmp_path: Path) -> None:
    package(a_run(tmp_path / "run"), tmp_path / "model")
    file = tmp_path / "model" / MODEL_FILE
    facts = json.loads(file.read_text("utf-8"))
    del facts["intake"]
    file.write_text(json.dumps(facts), encoding="utf-8")
    assert load_model(tmp_path / "model").facts.intake == Intake()


@pytest.mark.parametrize(("module", "step"), [(queue, "to_common"), (prediction, "confidence")])
@pytest.mark.parametrize(
    ("error", "kind"), [(MemoryError(), MachineError), (RuntimeError("from ITK"), DataError)]
)
def test_a_scan_that_is_too_much_does_not_stop_the_others(
    module: ModuleType,
    step: str,
    error: Exception,
    kind: type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package(a_run(tmp_path / "run"), tmp_path / "model")
    scans = [a_scan(tmp_path / "scans", name) for name in ("large", "small")]
    errors = [error]
    usual = getattr(module, step)

    def too_much(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return usual(*arguments)

    monkeypatch.setattr(module, step, too_much)
    failed, result = outline(tmp_path / "model", scans, tmp_path)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, kind)
    assert "large.nii.gz" in str(failed.error)
    assert isinstance(result, Outlined)


def test_a_model_cannot_ask_for_more_voxels_than_there_is_room_for(tmp_path: Path) -> None:
    fine = Preprocess(spacing_mm=(1.0, 1.0, 1.0))
    strict = Intake(limits=Limits(max_voxels=2000))
    package(a_run(tmp_path / "run", preprocess=fine, intake=strict), tmp_path / "model")
    [failed] = outline(tmp_path / "model", [a_scan(tmp_path / "scans", "a")], tmp_path)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, DataError)
    assert "2000 voxels on the common grid" in str(failed.error)


def test_a_plugin_that_fails_before_it_reads_is_not_a_fault_of_scans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hasty(Level):
        """Fails at once."""

        def predict(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Prediction]:
            raise RuntimeError("no network")

    offer(monkeypatch, Hasty)
    package(a_run(tmp_path / "run"), tmp_path / "model")
    with pytest.raises(PluginError, match="no network"):
        outline(tmp_path / "model", [a_scan(tmp_path / "scans", "a")], tmp_path)


def members(*masks: np.ndarray) -> list[Prediction]:
    volume = Volume.of(np.zeros((1, *masks[0].shape), np.float32), np.eye(4), case="a")
    shares = [np.where(mask, 0.75, 0.1).astype(np.float32) for mask in masks]
    return [Prediction(volume, np.stack([1 - share, share])) for share in shares]


def box(*corner: int) -> np.ndarray:
    mask = np.zeros((9, 9, 9), bool)
    mask[tuple(slice(start, start + 3) for start in corner)] = True
    return mask


def judged(mask: np.ndarray, *folds: np.ndarray, keep: tuple[str, ...] = ()) -> Any:
    predictions = members(*folds)
    use = StageUse("segment", find.load("level"), LevelOptions())
    ensemble = Ensemble(use, Classes({"tumor": (4,)}), "probabilities", keep)
    native = Grid((9, 9, 9), np.eye(4))
    outline = Outline(4 * mask.astype(np.uint8), dict.fromkeys(keep, 5.0))
    [row] = confidence(ensemble, predictions, predictions[0], outline, native, {})
    return row


def test_confidence_flags_what_a_person_should_look_at() -> None:
    sure = judged(box(3, 3, 3), box(3, 3, 3), box(3, 3, 3))
    assert (sure.agreement, sure.flag, sure.volume_mm3) == (1, "", 27)
    assert sure.probability == pytest.approx(0.75)
    apart = judged(box(3, 3, 3), box(3, 3, 3), box(4, 4, 4))
    assert apart.agreement < AGREEING
    assert apart.flag == "folds disagree"
    assert judged(box(0, 3, 3), box(0, 3, 3), box(0, 3, 3)).flag == "at the edge"
    nothing = np.zeros((9, 9, 9), bool)
    missed = judged(nothing, nothing, nothing)
    assert (missed.flag, missed.agreement, missed.volume_mm3) == ("not found", 1, 0)
    assert math.isnan(missed.probability)


def test_confidence_is_about_what_is_kept() -> None:
    ear = np.zeros((9, 9, 9), bool)
    ear[0, 0, :2] = True
    folds = box(3, 3, 3) | ear, box(3, 3, 3)
    row = judged(box(3, 3, 3), *folds)
    assert row.agreement < 1
    assert row.flag == "at the edge"
    kept = judged(box(3, 3, 3), *folds, keep=("tumor",))
    assert (kept.agreement, kept.flag) == (1, "")
    assert (row.removed_mm3, kept.removed_mm3) == (0, 5)


def test_a_fold_that_finds_more_elsewhere_still_agrees_about_the_lesion() -> None:
    elsewhere = np.zeros((9, 9, 9), bool)
    elsewhere[7:, 1:8, 1:8] = True  # larger than the lesion
    folds = box(3, 3, 3), box(3, 3, 3) | elsewhere
    assert judged(box(3, 3, 3), *folds, keep=("tumor",)).agreement == 1
    touching = np.zeros((9, 9, 9), bool)
    touching[6, 6, 6] = True  # over a corner: a part of the lesion, about which they disagree
    assert (
        judged(box(3, 3, 3), box(3, 3, 3), box(3, 3, 3) | touching, keep=("tumor",)).agreement < 1
    )
    missed = judged(box(3, 3, 3), box(3, 3, 3), elsewhere, keep=("tumor",))
    assert (missed.agreement, missed.flag) == (0, "folds disagree")


def test_one_fold_has_no_agreement(tmp_path: Path) -> None:
    row = judged(box(3, 3, 3), box(3, 3, 3))
    assert math.isnan(row.agreement)
    assert row.flag == ""
    write_confidence(tmp_path / "c.csv", [row])
    lines = (tmp_path / "c.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == (
        "case,class,agreement,probability,volume_mm3,flag,removed_mm3,"
        "expected_dice,lower_dice,upper_dice"
    )
    assert lines[1] == "a,tumor,,0.75,27.0,,0.0,,,"


def test_reading_predicting_and_writing_go_on_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the network has b, a is written, and c is read, but not d."""
    package(a_run(tmp_path / "run"), tmp_path / "model")
    folder, out = tmp_path / "scans", tmp_path / "out"
    scans = [a_scan(folder, case).path for case in "abcd"]
    read: list[str] = []
    usual = queue.load_scan

    def load(path: Path, *arguments: Any) -> Any:
        read.append(path.name[0])
        return usual(path, *arguments)

    def one(self: Level, volume: Volume, level: float) -> Prediction:
        until = time.monotonic() + 60
        while volume.case == "b" and not ((out / "a.nii.gz").exists() and "c" in read):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert volume.case != "b" or "d" not in read
        tumor = (volume.data[0] > level).astype(np.float32)
        return Prediction(volume, np.stack([1 - tumor, tumor]))

    monkeypatch.setattr(queue, "load_scan", load)
    monkeypatch.setattr(Level, "_one", one)
    done = predict_files(tmp_path / "model", scans, out)
    done.require()
    assert [row.case for row in done.confidence] == list("abcd")
    assert read == list("abcd")


def test_a_label_map_that_cannot_be_written_stops_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(a_run(tmp_path / "run"), tmp_path / "model")
    scans = [a_scan(tmp_path / "scans", case).path for case in "abc"]
    full = OSError(errno.ENOSPC, "No space left on device")
    written: list[Path] = []

    def write(path: Path, *unused: Any) -> None:
        written.append(path)
        raise full

    monkeypatch.setattr(label_maps, "write_outline", write)
    with pytest.raises(MachineError, match=r"a\.nii\.gz: cannot be written: No space left"):
        predict_files(tmp_path / "model", scans, tmp_path / "out")
    assert len(written) == 1
    assert not list((tmp_path / "out").glob("[!.]*"))


def test_the_table_of_confidences_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [
        Confidence("a", "tumor", math.nan, 0.1 + 0.2, 1e9, "at the edge, not found", 0.0),
        Confidence('b "c"', "cochlea", 1.0, math.nan, 0.0, "", 2.5, 0.8, 0.7, 0.9),
    ]
    write_confidence(tmp_path / "one.csv", rows)
    write_confidence(tmp_path / "two.csv", read_confidence(tmp_path / "one.csv"))
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    for wrong in ("a,b\n", ",".join(CONFIDENCE_COLUMNS) + "\na,tumor,x,,,,\n"):
        (tmp_path / "wrong.csv").write_text(wrong, encoding="utf-8")
        with pytest.raises(DataError, match=r"wrong\.csv:"):
            read_confidence(tmp_path / "wrong.csv")
