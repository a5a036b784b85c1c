"""The command line: help, errors, plugins, data."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import forked
import pytest
from processor import children_seconds
from program import SMOKE, Program, Result

import crossmod


def test_help_is_quick(program: Program) -> None:
    """It loads nothing that takes long to load, and takes little more than what prints it."""
    begin = children_seconds()
    for _ in range(3):
        assert "Teach a segmentation model" in program.as_installed("--help").stdout
    helped = children_seconds()
    printer = "import typer.rich_utils, rich.panel, rich.table, rich.markdown"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", printer], check=True)
    assert helped - begin < 3 * (children_seconds() - helped)
    loaded = "import sys, crossmod.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True)
    heavy = {"matplotlib", "monai", "nibabel", "numpy", "pydantic", "scipy", "SimpleITK", "torch"}
    assert not heavy & set(done.stdout.decode().split())


def unread(folder: Path, *arguments: str | Path) -> tuple[int, str]:
    """The exit code of `crossmod` whose reader is gone, as behind `| head`, and its errors."""
    read, written = os.pipe()
    os.close(read)
    command = [Path(sys.executable).parent / "crossmod", *arguments]
    done = subprocess.run(command, stdout=written, stderr=subprocess.PIPE, text=True, cwd=folder)
    os.close(written)
    return done.returncode, done.stderr


def test_commands_go_on_when_nobody_reads_what_they_print(program: Program, tmp_path: Path) -> None:
    assert unread(tmp_path, "plugins") == (0, "")
    assert unread(tmp_path, "schema") == (0, "")
    assert unread(tmp_path, "new", "translator", "gray") == (0, "")
    assert (tmp_path / "gray" / "pyproject.toml").exists()


def test_a_run_goes_on_when_nobody_reads_what_it_prints(
    after_smoke: Program, smoke: Result
) -> None:
    assert unread(after_smoke.folder, "run", SMOKE, "--out", smoke.folder) == (0, "")
    assert smoke.events()[-1]["event"] != "started"
    assert after_smoke("watch", smoke.folder).stdout.startswith("Smoke test  finished")
    code, errors = unread(after_smoke.folder, "watch", smoke.folder)  # it would never end
    assert (code, errors) == (1, "")


@pytest.mark.parametrize("command", [[], ["run"], ["data"], ["data", "import"], ["evaluate"]])
def test_help_cuts_nothing_in_a_narrow_terminal(command: list[str], program: Program) -> None:
    narrow = program(*command, "--help", COLUMNS="60", FORCE_COLOR="1").stdout
    wide = program(*command, "--help", COLUMNS="200").stdout
    assert narrow.count("…") == wide.count("…")
    assert narrow.count("...") == wide.count("...")
    assert {word for word in wide.split() if word.startswith("--")} <= {*narrow.split()}


def test_check_reports_every_problem_and_runs_nothing(program: Program) -> None:
    assert "is valid" in program.as_installed("check", SMOKE).stdout
    failed = program("check", SMOKE, "--set", "seed=x", "--set", "segment.fold=2", code=2)
    assert "2 problems" in failed.stderr
    assert "did you mean 'folds'?" in failed.stderr


def test_a_shipped_recipe_is_found_by_name(program: Program) -> None:
    assert "smoke.toml) is valid" in program("check", "smoke").stdout  # and which file that is
    assert "quickstart" in program("check", "smok", code=2).stderr


def test_a_recipe_that_lies_here_comes_before_a_shipped_one(
    program: Program, tmp_path: Path
) -> None:
    here = Program(tmp_path)
    (tmp_path / "smoke.toml").write_text('extends = "smoke"\ntitle = "Mine"\n', encoding="utf-8")
    for name in ("smoke", "smoke.toml"):
        assert "smoke.toml is valid: Mine" in here("check", name).stdout.replace(")", "")
    assert "Mine" not in here("check", "recipes/smoke.toml").stdout


def test_the_version_is_told(program: Program) -> None:
    assert program.as_installed("--version").stdout == f"crossmod {version('crossmod')}\n"
    assert crossmod.__version__ == version("crossmod")
    assert dir(crossmod) == crossmod.__all__
    assert all(getattr(crossmod, name) for name in dir(crossmod))
    assert not hasattr(crossmod, "nothing_of_this_name")
    code = "import sys, crossmod; dir(crossmod); print('importlib.metadata' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_wrong_data_folder_is_said_before_anything_runs(program: Program, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    failed = program("run", SMOKE, "--data", data, "--out", tmp_path / "run", code=3)
    assert "no scan matches" in failed.stderr
    assert not (tmp_path / "run" / "events.jsonl").exists()


def test_plugins_are_listed_and_explained(program: Program) -> None:
    listed = program.as_installed("plugins").stdout
    assert "cyclegan" in listed
    assert "pseudo_label" in listed
    assert {"local", "ray", "slurm"} <= {row.split()[0] for row in listed.splitlines()}
    explained = program("plugins", "van-cittert").stdout
    assert "psf_mm" in explained
    assert "time_minutes" in program("plugins", "slurm").stdout
    unknown = program("plugins", "van-citert", code=4).stderr
    assert "unknown plugin or engine" in unknown
    assert "slurm" in unknown


def test_the_embedded_cohort_can_be_written(program: Program, tmp_path: Path) -> None:
    counts = ["--source", "2", "--target", "2", "--validation", "2"]
    program("data", "phantom", tmp_path / "c", *counts, "--seed", "9")
    assert len(list((tmp_path / "c" / "hidden").glob("*_Label.nii.gz"))) == 4
    assert "is not empty" in program("data", "phantom", tmp_path / "c", code=3).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--traceback", "check", "nowhere.toml"],
        ["check", "--traceback", "nowhere.toml"],
        ["check", "nowhere.toml", "--set", "seed=1", "--traceback"],
        ["data", "check", "nowhere.toml", "--traceback"],
    ],
)
def test_a_traceback_may_be_asked_for_anywhere(arguments: list[str], program: Program) -> None:
    assert "Traceback (most recent call last)" in program(*arguments, code=1).stderr
    quiet = [one for one in arguments if one != "--traceback"]
    assert "Traceback" not in program(*quiet, code=2).stderr
    after = program("check", "--", "--traceback", code=2).stderr  # the name of a recipe
    assert "--traceback" in after
    assert "Traceback" not in after


LONG = "a" * 300


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check", LONG], 2),
        (["check", SMOKE, "--data", LONG], 3),
        (["run", SMOKE, "--out", LONG], 4),
        (["run", SMOKE, "--store", LONG], 4),
        (["runs", "--store", LONG], 4),
        (["gc", "--store", LONG], 4),
        (["package", LONG, "model"], 4),
    ],
)
def test_a_name_that_no_file_can_have_is_said(
    arguments: list[str | Path], code: int, program: Program
) -> None:
    failed = program(*arguments, code=code).stderr
    assert LONG in failed.replace("\n", "")
    assert "Traceback" not in failed


def test_a_run_goes_into_two_folders_of_its_own(program: Program, tmp_path: Path) -> None:
    text = f'extends = "{SMOKE}"\n'
    (recipe := tmp_path / "store.toml").write_text(text, encoding="utf-8")
    assert "both the run folder and the store" in program("run", recipe, code=4).stderr
    for option in ("--out", "--store"):
        failed = program("run", recipe, option, recipe, code=4).stderr
        assert f"{recipe}: is a file" in failed
        assert option in failed


def test_what_tests_load_ahead_is_there() -> None:
    """A module of another name would be passed over, and every fork would load it."""
    assert all(find_spec(name) for name in (*forked.LOADED, *forked.MODULES))
