"""`crossmod new` writes projects that install, run and test themselves."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from program import Program
from scaffolds import KINDS, passed, registered, written
from tiny import Tiny

from crossmod import scaffold

BIN = Path(sys.executable).parent
LINT = ["--isolated", "--line-length", "100"]
RULES = "E,F,W,I,B,UP,SIM,C4,PT,RUF,D,T20,ERA,C90"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of stage."""
    return str(request.param)


def test_a_project_passes_its_own_test(kind: str, tmp_path: Path) -> None:
    code, printed = passed(registered(written(kind, tmp_path)))
    assert code == 0, printed
    assert re.search(r"\b[34] passed", printed)


def test_a_recipe_uses_the_plugin_where_it_is_installed(kind: str, tmp_path: Path) -> None:
    project = registered(written(kind, tmp_path))
    program = Program(project)
    program("check", "recipe.toml", path=project)
    listed = program("plugins", KINDS[kind], "--json", path=project).stdout
    assert listed.count('"key"') == 2


def test_the_readme_has_every_option_and_the_code_is_clean(kind: str, tmp_path: Path) -> None:
    project = written(kind, tmp_path)
    readme = (project / "README.md").read_text("utf-8")
    [package] = project.glob("crossmod_*")
    code = (package / "__init__.py").read_text("utf-8")
    options = re.findall(r"^    (\w+): \w+ = (.*)$", code, re.MULTILINE)
    assert len(options) == 2
    for name, default in options:
        assert f"| `{name}` | `{default}` |" in readme
    checks = [
        ["ruff", "format", "--check", *LINT],
        ["ruff", "check", *LINT, "--select", RULES, "--ignore", "D10"],
    ]
    rule = ["--config", 'lint.pydocstyle.convention="google"']
    for words, more in zip(checks, ([], rule), strict=True):
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:], *more, "."],
            cwd=project, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Gray", "cannot be the name of a plugin"),
        ("gray_levels", "did you mean 'gray-levels'?"),
        ("Gray  Levels.py", "did you mean 'gray-levels-py'?"),
        ("../gray", "change to the folder .. first, then name it gray"),
        ("", "cannot be the name of a plugin"),
        ("gray-", "cannot be the name of a plugin"),
        ("2d", "cannot be the name of a plugin"),
        ("a" * 41, "cannot be the name of a plugin"),
        ("crossmod-gray", "leave it out: gray"),
        ("cyclegan", "a plugin of this name is installed"),
        ("ray", "a package crossmod_ray is installed"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, told: str, tmp_path: Path) -> None:
    done = Program(tmp_path)("new", "translator", name, code=2)
    assert told in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_stays_as_it_is(tmp_path: Path) -> None:
    program, note = Program(tmp_path), tmp_path / "gray" / "note.txt"
    note.parent.mkdir()
    note.write_text("mine", encoding="utf-8")
    assert "not empty" in program("new", "augmenter", "gray", code=3).stderr
    assert [*note.parent.iterdir()] == [note]
    note.unlink()
    said = program("new", "augmenter", "gray").stdout
    assert "gray/crossmod_gray/__init__.py" in said
    assert "pip install -e" in said


def test_names_of_classes_are_never_those_that_the_code_imports() -> None:
    for kind, base in scaffold.BASES.items():
        for name in ("none", "options", "translator", "state", base.lower()):
            names = scaffold.names_of(name, kind)
            assert names.stage not in (base, "None", "State")
            assert names.stage.endswith(base)


def test_the_metadata_has_the_entry_point_that_shipped_plugins_have(tmp_path: Path) -> None:
    project = written("segmenter", tmp_path)
    metadata = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata["entry-points"] == {"crossmod.plugins": {"dilated": "crossmod_dilated"}}
    assert metadata["name"] == "crossmod-dilated"


def environment_of_its_own(place: Path) -> Path:
    """A Python with all that this one has, in which something may be installed."""
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    [site] = place.glob("lib/python*/site-packages")
    ours = (path for path in sys.path if path.endswith("site-packages"))
    lines = (f"import site; site.addsitedir({path!r})\n" for path in ours)
    (site / "inherited.pth").write_text("".join(lines), encoding="utf-8")
    return place / "bin" / "python"


@pytest.mark.slow
def test_all_four_install_with_pip_and_a_recipe_runs_with_them(tmp_path: Path) -> None:
    python = str(environment_of_its_own(tmp_path / "environment"))
    projects = [written(kind, tmp_path) for kind in KINDS]
    crossmod = [python, "-c", "from crossmod.cli import main; main()"]

    def run(*words: str, folder: Path) -> None:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    stages = ""
    for project in projects:
        run(python, "-m", "pip", "install", "--no-deps", "-e", ".", folder=project)
        run(python, "-m", "pytest", folder=project)
        run(*crossmod, "check", "recipe.toml", folder=project)
        recipe = (project / "recipe.toml").read_text("utf-8")
        stages += re.sub(r"(?m)^(extends|title).*\n", "", recipe)
    tiny = Tiny(tmp_path / "work")
    (tiny.folder / "all.toml").write_text(f'extends = "tiny.toml"\n{stages}', encoding="utf-8")
    run(*crossmod, "run", "all.toml", "--workers", "1", folder=tiny.folder)
    assert (tiny.folder / "runs" / "all" / "report.html").is_file()
