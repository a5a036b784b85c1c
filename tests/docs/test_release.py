"""What would be released: built, checked, and used from an empty folder without the checkout."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def called(*words: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env={**os.environ, **variables}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    called(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [found] = built.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_what_runs_need_and_nothing_else(wheel: Path) -> None:
    names = {*zipfile.ZipFile(wheel).namelist()}
    tops = {name.partition("/")[0] for name in names}
    plugins = {
        path.name for path in ROOT.glob("plugins/crossmod_*") if (path / "__init__.py").exists()
    }
    assert tops == {"crossmod", f"crossmod-{PROJECT['version']}.dist-info", *plugins}
    for path in (ROOT / "crossmod").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    assert {f"crossmod/_recipes/{path.name}" for path in ROOT.glob("recipes/*.toml")} <= names


@pytest.mark.slow
def test_the_sdist_holds_the_sources_and_nothing_of_the_machine(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "constraints.txt", "LICENSE", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "runs", "dist", "shared"))]


@pytest.mark.slow
def test_twine_accepts_both(built: Path) -> None:
    pytest.importorskip("twine")
    called(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())


@pytest.mark.slow
def test_the_wheel_says_what_the_project_says(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [name] = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
    about = email.message_from_bytes(archive.read(name))
    assert about["Requires-Python"] == PROJECT["requires-python"]
    assert {*about.get_all("Provides-Extra")} == {*PROJECT["optional-dependencies"]}
    assert about.get_all("Classifier") == PROJECT["classifiers"]


EXTRAS = ("highdicom", "pydicom", "pylibjpeg", "gdcm", "ray", "submitit", "monai", "medpy",
          "torchio", "pandas", "pytest", "hypothesis", "jsonschema")  # fmt: skip
"""Packages that runs must do without."""

HIDE = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


@pytest.mark.slow
def test_it_runs_from_an_empty_folder_without_extras(wheel: Path, tmp_path: Path) -> None:
    """The wheel unpacked, with its dependencies, in a Python that knows no checkout."""
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    (site / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
    others = [path for path in sys.path if path.endswith("site-packages")]
    variables = {"PYTHONPATH": os.pathsep.join([str(site), *others])}

    def python(code: str, *words: str) -> str:
        return called(sys.executable, "-P", "-c", code, *words, cwd=work, **variables)

    def crossmod(*words: str) -> str:
        return python("from crossmod.cli import main; main()", *words)

    home = python("import crossmod; print(crossmod.__file__)")
    assert Path(home.strip()).is_relative_to(tmp_path)
    assert "is valid" in crossmod("check", "quickstart")
    assert "unet3d" in crossmod("plugins")
    crossmod("new", "recipe", "mine", "--from", "smoke")
    assert "Report:" in crossmod("run", "mine.toml", "--workers", "1")
    [run] = work.glob("runs/mine")
    [case, *_] = sorted(path.stem for path in run.glob("*-prepare-target/images/*.nii"))
    crossmod("view", "runs/mine", case, "--out", "page.html")
    assert (work / "page.html").stat().st_size > 10_000
