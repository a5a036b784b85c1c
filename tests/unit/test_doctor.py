"""`crossmod doctor` says what is there, what is missing and what a run would use."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from crossmod import cli, doctor
from crossmod.lanes import cores


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["crossmod", "doctor", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(str(stopped.value.code or 0)), capsys.readouterr().out


def test_it_tells_what_is_installed_and_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code, text = call(monkeypatch, capsys, "--json", str(tmp_path))
    found = json.loads(text)
    facts = found["facts"]
    assert (code, found["problems"]) == (0, [])
    assert facts["packages"]["torch"] == version("torch")
    assert {*facts["extras"]} == {"dicom", "notebook", "ray", "slurm", "tensorboard"}
    assert facts["extras"]["dicom"] == "installed"
    assert facts["plugins"]["unet3d"] == f"segment, crossmod {version('crossmod')}"
    assert facts["machine"]["cores"] == cores()
    assert facts["disks"]["work"]["folder"] == str(tmp_path)
    assert facts["environment"]["OMP_NUM_THREADS"] == "1"
    assert facts["run"]["engine"] == "local"
    assert facts["run"]["device"] in {"cpu", "cuda"}
    assert facts["run"]["threads"] == 1
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = doctor._version
    versions = {"torch": "1.0", "highdicom": "", "ray": ""}
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, real(name)))
    monkeypatch.setattr(
        doctor, "plugin_rows", lambda: [("mine", "broken", "my", "1", "no module x")]
    )
    found = doctor.examine(tmp_path)
    assert found.problems[0].startswith("torch>=")
    assert "1.0 installed" in found.problems[0]
    assert "plugin 'mine' of my: no module x" in found.problems
    assert found.facts["extras"]["dicom"].startswith("lacks highdicom>=")
    assert ".[ray]" in found.facts["extras"]["ray"]


def test_a_profile_that_cannot_be_used_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "profile.toml").write_text('engine = "nowhere"\n', encoding="utf-8")
    code, text = call(
        monkeypatch, capsys, str(tmp_path), "--profile", str(tmp_path / "profile.toml")
    )
    assert code == 4
    assert "problem: " in text
    assert "no engine is called 'nowhere'" in text
    assert "run:" not in text.splitlines()
