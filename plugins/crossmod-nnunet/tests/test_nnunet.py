"""nnU-Net gets what it needs, and what it has learned comes back; the slow test runs it."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from crossmod_nnunet import NNUNet, NNUNetOptions
from crossmod_nnunet.programs import (
    MARK,
    PLANS,
    TRAINER,
    TRAINERS,
    Training,
    device_of,
    write_model,
)
from crossmod_nnunet.raw import DATASET, write_raw

from crossmod import Context, PluginError, State
from crossmod.testing import small_cohort

PLANNED = {"configurations": {}}
LOGGED = {"train_losses": [0.5, 0.25], "val_losses": [0.75, 0.5], "ema_fg_dice": [0.1, 0.2]}
TOLD = [
    {"step": 1, "loss": 0.5, "validation_loss": 0.75, "dice": 0.1},
    {"step": 2, "loss": 0.25, "validation_loss": 0.5, "dice": 0.2},
]


@dataclass(frozen=True)
class Recorded(Context):
    """Writes what nnU-Net would leave behind, and notes how it was called."""

    calls: list[tuple[list[str], Mapping[str, str]]] = field(default_factory=list)

    @property
    def keep(self) -> Path:
        return self.folder / "keep"

    def run(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        words = [str(word) for word in command]
        self.calls.append((words, env or {}))
        if words[0] == "nnUNetv2_plan_and_preprocess":
            (self.keep / "preprocessed" / DATASET).mkdir(parents=True)
        elif words[0] == "nnUNetv2_train":
            self._train(words[3])
        else:
            for scan in (self.keep / "given").iterdir():
                shape = nibabel.load(scan).shape[::-1]
                shares = np.zeros((3, *shape), np.float16)
                shares[1, 0, 1, 2] = 1
                shares[0] = 1 - shares[1]
                file = self.keep / "found" / scan.name.replace("_0000.nii", ".npz")
                np.savez_compressed(file, probabilities=shares)

    def _train(self, fold: str) -> None:
        self.log("nnUNetv2_train: Epoch 0")
        for row in TOLD:
            self.log(f"nnUNetv2_train: {MARK}{json.dumps(row)}")
        results = self.keep / "results" / DATASET / f"{TRAINER}__{PLANS}__3d_fullres"
        (results / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        (results / "plans.json").write_text(json.dumps(PLANNED))
        (results / "dataset.json").write_text("{}")
        checkpoint = {
            "network_weights": {"stem.weight": torch.arange(4.0)},
            "optimizer_state": {},
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(checkpoint, results / f"fold_{fold}" / "checkpoint_final.pth")


def test_a_fold_is_exported_planned_and_trained(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path / "cohort", labeled=True)
    rows: list[dict[str, float]] = []
    said: list[str] = []
    ctx = Recorded(
        tmp_path, 2**40, metric=lambda **row: rows.append(row), cores=lambda: 3, log=said.append
    )
    stage = NNUNet(NNUNetOptions(epochs=2, iterations=5, memory_gb=11.0))
    [(train, validation), *_] = cohort.folds(3, 0)
    state = stage.fit(train, validation, ctx)
    (planning, _), (training, env) = ctx.calls
    assert planning[:5] == ["nnUNetv2_plan_and_preprocess", "-d", "1", "-c", "3d_fullres"]
    assert " ".join(planning[5:]) == (
        "-pl ExperimentPlanner -overwrite_plans_name crossmod -gpu_memory_target 11.0"
        " -np 3 -npfp 3 --no_pbar"
    )
    assert " ".join(training) == (
        "nnUNetv2_train 1 3d_fullres 0 -tr CrossmodTrainer -p crossmod -device cpu --c"
    )
    assert env["CROSSMOD_NNUNET_EPOCHS"] == "2"
    assert env["nnUNet_n_proc_DA"] == "2"
    assert int(env["CROSSMOD_NNUNET_SEED"]) < 2**32
    assert (Path(env["nnUNet_extTrainer"]) / "crossmod_trainer.py").exists()
    splits = json.loads((ctx.keep / "preprocessed" / DATASET / "splits_final.json").read_text())
    assert splits == [{"train": ["case00000", "case00001"], "val": ["case00002"]}]
    assert [*state] == ["weight.stem.weight"]
    assert state.notes["mirrored_axes"] == [0, 1, 2]
    assert rows == TOLD
    assert said == ["nnUNetv2_train: Epoch 0"]


class Trainer:
    """As much of nnU-Net's own trainer as tells how it goes."""

    def __init__(self, *unused: object) -> None:
        self.current_epoch = 0
        self.logger = SimpleNamespace(get_checkpoint=lambda: LOGGED)

    def on_train_start(self) -> None:
        print("Epoch")  # noqa: T201

    def on_epoch_end(self) -> None:
        self.current_epoch += 1


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trainer:
    """The trainer of the plugin, made as nnU-Net makes it, derived from the one above."""
    found = SimpleNamespace(recursive_find_trainer_class_by_name=lambda name: Trainer)
    for name in ("nnunetv2", "nnunetv2.utilities", "nnunetv2.utilities.find_objects"):
        monkeypatch.setitem(sys.modules, name, found)
    for name, value in Training(NNUNetOptions(), Context(tmp_path))._environment().items():
        monkeypatch.setenv(name, value)
    made = runpy.run_path(str(TRAINERS / "crossmod_trainer.py"))[TRAINER]({}, "2d", 0, {})
    assert isinstance(made, Trainer)
    return made


@pytest.mark.parametrize("saved", [0, 1, 2])
def test_each_epoch_is_told_once_while_it_trains(
    saved: int, trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a restart, those before the checkpoint come first; it begins a new list of numbers."""
    rows: list[dict[str, float]] = []
    ctx = Context(tmp_path, metric=lambda **row: rows.append(row))

    def hear() -> None:
        for line in capsys.readouterr().out.splitlines():
            Training(NNUNetOptions(), ctx)._hear(f"nnUNetv2_train: {line}")

    trainer.current_epoch = saved
    trainer.on_train_start()
    for epoch in range(saved, 2):
        hear()
        assert rows == TOLD[:epoch]
        trainer.on_epoch_end()
    hear()
    assert rows == TOLD


def test_what_was_planned_is_not_planned_again(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path / "cohort", labeled=True)
    ctx, stage = Recorded(tmp_path), NNUNet()
    for _ in range(2):
        stage.fit(cohort, cohort.only(lambda case: False), ctx)
    assert [words[0] for words, _ in ctx.calls].count("nnUNetv2_plan_and_preprocess") == 1
    assert {words[3] for words, _ in ctx.calls if words[0] == "nnUNetv2_train"} == {"all"}
    (ctx.keep / "planned").unlink()  # it was stopped while it was planning
    stage.fit(cohort, cohort.only(lambda case: False), ctx)
    assert [words[0] for words, _ in ctx.calls].count("nnUNetv2_plan_and_preprocess") == 2


def test_the_raw_folder_is_that_of_nnunet(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path / "cohort", labeled=True, cases=2)
    first, second = cohort.cases
    mask = nibabel.load(second.labels).get_fdata() == 0
    image = nibabel.Nifti1Image(mask.astype(np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "ignore.nii")
    masked = replace(cohort, cases=(first, replace(second, ignore=tmp_path / "ignore.nii")))
    write_raw(tmp_path / "raw", cohort)
    write_raw(tmp_path / "raw", masked)
    content = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "1 tumor": 1, "2 cochlea": 2, "ignore": 3}
    assert content["numTraining"] == 2
    names = sorted(path.name for path in (tmp_path / "raw" / "imagesTr").iterdir())
    assert names == ["case00000_0000.nii", "case00001_0000.nii"]
    labels = [nibabel.load(path) for path in sorted((tmp_path / "raw" / "labelsTr").iterdir())]
    assert np.unique(labels[0].get_fdata()).max() <= 2
    assert (labels[1].get_fdata()[mask] == 3).all()
    np.testing.assert_array_equal(labels[1].affine, nibabel.load(second.image).affine)


STATE = State(
    {"weight.stem.weight": np.arange(4, dtype=np.float32)},
    {"plans": PLANNED, "dataset": {}, "configuration": "2d", "trainer": "T", "mirrored_axes": [1]},
)


def test_a_model_for_nnunet_is_read_without_running_code(tmp_path: Path) -> None:
    write_model(tmp_path, STATE)
    checkpoint = torch.load(tmp_path / "fold_all" / "checkpoint_final.pth", weights_only=True)
    assert checkpoint["network_weights"]["stem.weight"].tolist() == [0, 1, 2, 3]
    assert checkpoint["trainer_name"] == "T"
    assert checkpoint["init_args"] == {"configuration": "2d"}
    assert checkpoint["inference_allowed_mirroring_axes"] == (1,)
    assert json.loads((tmp_path / "plans.json").read_text()) == PLANNED


def test_predictions_come_back_in_order_on_their_grids(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path / "cohort", labeled=False, cases=17)
    ctx = Recorded(tmp_path)
    found = [*NNUNet(NNUNetOptions(mirror_predictions=False)).predict(cohort.volumes(), STATE, ctx)]
    assert [one.case for one in found] == [case.case for case in cohort.cases]
    assert len(ctx.calls) == 2
    assert "--disable_tta" in ctx.calls[0][0]
    for one in found:
        assert one.probabilities.shape == (3, *one.image.grid)
        assert one.labels[2, 1, 0] == 1
        assert one.labels.sum() == 1


def test_one_gpu_is_shown_to_nnunet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_of(Context(tmp_path)) == ("cpu", {})
    gpu = Context(tmp_path, device="cuda:1")
    assert device_of(gpu) == ("cuda", {"CUDA_VISIBLE_DEVICES": "1"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert device_of(gpu) == ("cuda", {"CUDA_VISIBLE_DEVICES": "6"})


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nnunetv2") is None, reason="nnunetv2 is not installed")
def test_nnunet_itself_trains_resumes_and_predicts(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path / "cohort", labeled=True, cases=4)
    [(train, validation), *_] = cohort.folds(4, 0)
    said: list[str] = []
    rows: list[dict[str, float]] = []
    ctx = Context(tmp_path, log=said.append, metric=lambda **row: rows.append(row))
    stage = NNUNet(NNUNetOptions(epochs=1, iterations=2, mirror_predictions=False))
    first = stage.fit(train, validation, ctx)
    assert [row["step"] for row in rows] == [1]
    before = [*rows]
    said.clear()
    rows.clear()
    longer = NNUNet(NNUNetOptions(epochs=2, iterations=2, mirror_predictions=False))
    second = longer.fit(train, validation, ctx)
    epochs = [line for line in said if line.startswith("nnUNetv2_train: ") and "Epoch " in line]
    assert any(line.endswith("Epoch 1") for line in epochs)
    assert not any(line.endswith("Epoch 0") for line in epochs)
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[:1] == before
    assert {*rows[1]} == {"step", "loss", "validation_loss", "dice"}
    assert any(not np.array_equal(first[name], second[name]) for name in first)
    volumes = [*validation.volumes()]
    [found] = longer.predict(volumes, second, Context(tmp_path))  # another folder: State suffices
    assert found.probabilities.shape == (3, *volumes[0].grid)
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-3)
    with pytest.raises(PluginError, match="nnUNetv2_train ended with exit code 1"):
        NNUNet(NNUNetOptions(trainer="NoSuchTrainer")).fit(train, validation, ctx)
