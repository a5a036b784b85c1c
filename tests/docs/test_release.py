"""What would be released: built, checked, and used from an empty folder without the checkout."""

from __future__ import annotations

import email
import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TABLES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = TABLES["project"]
PACKAGES = TABLES["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
OWN = sorted(ROOT.glob("plugins/crossmod-*"))


class Own(NamedTuple):
    """A plugin that is a distribution of its own, and what was built of it."""

    folder: Path
    unpacked: Path
    sdist: Path
    wheel: Path


def called(*words: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
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
    plugins = {Path(one).name for one in PACKAGES if one != "crossmod"}
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


def dependencies(name: str) -> set[str]:
    """The installed distributions that one needs, with those that they need, and itself."""
    found, open_ends = set[str](), {name}
    while open_ends:
        found |= (now := open_ends)
        needed = (Requirement(line) for one in now for line in distribution(one).requires or ())
        here = {canonicalize_name(one.name) for one in needed
                if one.marker is None or one.marker.evaluate({"extra": ""})}  # fmt: skip
        open_ends = {one for one in here if is_installed(one)} - found
    return found


def is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def environment(place: Path, *names: str) -> list[str | Path]:
    """An environment with what distributions need and nothing else; how to call pip for it."""
    called(sys.executable, "-m", "venv", "--without-pip", place)
    [site] = place.glob("lib/python*/site-packages")
    for name in set[str]().union(*map(dependencies, names)) - {"crossmod"}:
        one = distribution(name)
        tops = {
            file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "__pycache__")
        }
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(one.locate_file(top))))
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python"]
    return [*pip, "install", "--no-deps", "--no-index"]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, its dependencies and nothing else."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    called(*environment(place, "crossmod"), wheel)
    return place / "bin"


@pytest.mark.slow
def test_it_runs_from_an_empty_folder_without_extras(installed: Path, tmp_path: Path) -> None:
    def crossmod(*words: str) -> str:
        return called(installed / "crossmod", *words, cwd=tmp_path)

    found = json.loads(crossmod("doctor", "--json"))
    assert Path(found["facts"]["crossmod"]["folder"]).is_relative_to(installed.parent)
    assert all(text.startswith("lacks") for text in found["facts"]["extras"].values())
    assert not found["problems"]
    assert "is valid" in crossmod("check", "quickstart")
    crossmod("new", "recipe", "mine", "--from", "smoke")
    assert "Report:" in crossmod("run", "mine.toml", "--workers", "1")
    [run] = tmp_path.glob("runs/mine")
    [case, *_] = sorted(path.stem for path in run.glob("*-prepare-target/images/*.nii"))
    crossmod("view", "runs/mine", case, "--out", "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000


@pytest.fixture(scope="module", params=OWN, ids=lambda folder: folder.name)
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Own:
    """A plugin that is a distribution of its own: its sdist, unpacked, and what was built."""
    pytest.importorskip("build")
    folder: Path = request.param
    place = tmp_path_factory.mktemp("own")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir"]
    called(*build, place / "dist", folder)
    [sdist], [wheel] = (place.glob(f"dist/*{ending}") for ending in (".tar.gz", ".whl"))
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    [unpacked] = place.glob("crossmod_*")
    return Own(folder, unpacked, sdist, wheel)


@pytest.mark.slow
def test_a_plugin_of_its_own_is_complete(own: Own) -> None:
    module = own.folder.name.replace("-", "_")
    files = {*zipfile.ZipFile(own.wheel).namelist()}
    assert {name.partition("/")[0] for name in files} == {module, f"{own.unpacked.name}.dist-info"}
    assert f"{own.unpacked.name}.dist-info/licenses/LICENSE" in files
    for path in (own.folder / module).rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(own.folder).as_posix() in files
    for name in ("LICENSE", "README.md", "tests"):
        assert (own.unpacked / name).exists()
    pytest.importorskip("twine")
    called(sys.executable, "-m", "twine", "check", "--strict", own.sdist, own.wheel)


@pytest.mark.slow
def test_a_plugin_of_its_own_is_tested_beside_the_wheel(
    own: Own, wheel: Path, tmp_path: Path
) -> None:
    """Its wheel is what its tests import, not the folder that they are started from."""
    install = environment(tmp_path / "venv", "crossmod", "pytest")
    called(*install, wheel, own.wheel)
    programs = tmp_path / "venv" / "bin"
    assert own.folder.name in plugins_of(programs, tmp_path)
    called(programs / "python", "-P", "-m", "pytest", "-o", "pythonpath=", cwd=own.unpacked)


@pytest.mark.slow
@pytest.mark.parametrize("folder", OWN, ids=lambda folder: folder.name)
def test_a_plugin_of_its_own_is_installed_from_a_checkout(
    folder: Path, wheel: Path, tmp_path: Path
) -> None:
    install = environment(tmp_path / "venv", "crossmod", "hatchling")
    called(*install, wheel)
    called(*install, "--no-build-isolation", f"./plugins/{folder.name}")
    assert folder.name in plugins_of(tmp_path / "venv" / "bin", tmp_path)


def plugins_of(programs: Path, folder: Path) -> set[str]:
    """The distributions whose plugins an environment offers."""
    rows = json.loads(called(programs / "crossmod", "plugins", "--json", cwd=folder))
    return {row["distribution"] for row in rows}
