"""Every command of the pages is executed, page by page, in a folder as the page assumes it.

Recipes are tiny there, whatever their names; test_questions.py runs those that pages show.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from desk import RECIPE, case_of, furnish, target_scans, validation_scans
from program import Program
from scaffolds import registered
from test_snippets import PAGES, ROOT, blocks, commands

WITH_COMMANDS = {page.relative_to(ROOT).as_posix(): page for page in PAGES if commands(page)}
LINES = {" ".join(line.split()) for page in WITH_COMMANDS.values() for line in commands(page)}

ELSEWHERE = {
    "run recipes/crossmoda2022.toml --profile ~/cloud.toml --data /shared/crossmoda "
    "--out /shared/runs/first": "needs a Ray cluster; tests/ray runs a recipe on one",
    "run recipes/crossmoda2022.toml --data /scratch/me/crossmoda --out /scratch/me/runs/first":
        "needs a Slurm cluster; tests/slurm runs a recipe on one",
    "run recipes/quickstart.toml --set translate.gan.use=cut":
        "trains for days on a CPU; the tests of the plugin train a few steps",
    "run recipes/quickstart.toml --set segment.use=nnunet":
        "needs nnU-Net and days; the slow test of the plugin trains a few steps",
}  # fmt: skip
"""Commands that are not executed here, and why."""

OTHER_PROGRAMS = {
    "cd": "INSIDE says which command it is for",
    "diff": "not ours",
    "docker": "not installed everywhere; test_predict.py runs what the Dockerfile enters",
    "export": "variables of clusters, and of a profile that another line names",
    "itksnap": "not ours",
    "pip": "test_scaffold.py installs what `crossmod new` writes, test_release.py the wheel",
    "pytest": "test_scaffold.py runs the tests of what `crossmod new` writes",
    "python3": "makes an environment",
    "ray": "starts a cluster; tests/ray does so",
    "rm": "BEFORE does it",
    "tensorboard": "not ours, and serves until it is ended",
    "tmux": "not ours",
}
"""First words of lines that do not call crossmod, and why they are left out."""

WORDS = {"RUN": "runs/quickstart", "NAME": "dilated"}
"""What a user writes in their place; DIR and others are in the folder under these names."""

INSIDE = {"run recipe.toml": "gray-levels"}
"""Commands that follow a `cd`."""

PROMISED = {
    "run recipes/quickstart.toml": "runs/quickstart/report.html",
    "run mine.toml --data DIR": "runs/mine/metrics.csv",
    "run recipe.toml": "gray-levels/runs/recipe/report.html",
    "run recipes/quickstart.toml --set augment=false --out runs/without-augmentation":
        "runs/without-augmentation/report.html",
    "run mine.toml --data DIR --set segment.epochs=1000 --out runs/longer":
        "runs/longer/report.html",
    "package runs/quickstart model": "model/model.json",
    "package runs/mine model --calibrate": "model/README.md",
    "predict model scans outlines": "outlines/confidence.csv",
    "predict model patient-1/ patient-2/ outlines --series \"*T2*\"": "outlines/patient-2.nii.gz",
    "predict model patient-1/ segmentations --series \"*T2*\" --format dicom-seg":
        "segmentations/patient-1.dcm",
    "data import hospital/ DIR --format dicom --series \"*T2*\"":
        "DIR/target/images/patient-3.nii.gz",
    "data check mine.toml --data DIR --fix NEW": "NEW/crossmoda2022_training",
    "data import nnUNet_raw/Dataset003_VST2test DIR --as validation": "DIR/data.toml",
    "data export runs/quickstart/*-translate-sharpen runs/quickstart/*-augment-tumors "
    "nnUNet_raw --dataset 501 --name FakeT2":
        "nnUNet_raw/Dataset501_FakeT2/dataset.json",
    "evaluate PREDICTIONS REFERENCES": "scores-summary.tex",
    "compare runs/quickstart runs/mine --out comparison": "comparison/differences.csv",
    "view RUN CASE --data DIR --out page.html": "page.html",
    "new recipe mine --from quickstart": "mine.toml",
    "new translator gray-levels": "gray-levels/recipe.toml",
    "schema --out recipe.schema.json": "recipe.schema.json",
}  # fmt: skip
"""What a command leaves behind, as its page says."""

SAID = {
    "check mine.toml --data DIR": "mine.toml is valid",
    "run mine.toml --data DIR --dry-run": "Steps:",
    "doctor --json": '"python"',
    "gc --dry-run": "runs/mine is gone",
    "runs": "runs/mine",
    "plugins histogram": "levels",
    "rank SCORES.csv": "2 teams, 3 cases",
    "watch runs/quickstart": "finished",
}
"""What a command prints, as its page says."""


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted; each page gets a copy."""
    folder = tmp_path_factory.mktemp("furnished")
    furnish(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_the_commands_of_a_page_do_what_it_says(
    name: str, furnished: Path, tmp_path: Path, install: Callable[..., None]
) -> None:
    desk = tmp_path / "desk"
    shutil.copytree(furnished, desk)
    (desk / "site").mkdir()
    if prepare := PAGE_NEEDS.get(name):
        prepare(desk, WITH_COMMANDS[name], install)
    for line in map(" ".join, map(str.split, commands(WITH_COMMANDS[name]))):
        if line not in ELSEWHERE:
            execute(line, desk)


def execute(line: str, desk: Path) -> None:
    """Execute a command as the shell would, and look at what its page promises."""
    if line.startswith("package "):  # pages show several ways to the same folder
        shutil.rmtree(desk / "model", ignore_errors=True)
    if prepare := BEFORE.get(line):
        prepare(desk)
    program = Program(desk / INSIDE.get(line, ""))
    if "--watch" in line:
        serve(program, words_of(line, desk))
        return
    done = program(*words_of(line, desk), path=desk / "site")
    assert SAID.get(line, "") in done.stdout
    assert (desk / PROMISED.get(line, "")).exists()


def words_of(line: str, desk: Path) -> list[str]:
    """The words of a line, with names in place of placeholders and of patterns of files."""
    case = case_of(validation_scans(desk)[0])
    words = [{**WORDS, "CASE": case}.get(word, word) for word in shlex.split(line)]
    found = [sorted(map(str, Path(desk).glob(word))) if "/*" in word else [] for word in words]
    return [one for word, files in zip(words, found, strict=True) for one in files or [word]]


def serve(program: Program, words: list[str]) -> None:
    """Start a command that watches a folder, let it outline what lies there, and press Ctrl-C."""
    process = program.start(*words)
    expected = [program.folder / "outlines" / f"{case_of(scan)}*.nii.gz"
                for scan in target_scans(program.folder)]  # fmt: skip
    until = time.monotonic() + 600
    while not all([*one.parent.glob(one.name)] for one in expected):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed = process.communicate()
    assert process.returncode == 5, printed


# What must be there before a page, or before a command of it.


def write_the_recipe(desk: Path, page: Path, install: Callable[..., None]) -> None:
    """The first recipe of the page is mine.toml."""
    (desk / "mine.toml").write_text(blocks(page, "toml")[0], encoding="utf-8")


def write_other_scans(desk: Path, page: Path, install: Callable[..., None]) -> None:
    """Scans where the recipe of the page has them, with all of its classes."""
    write_the_recipe(desk, page, install)
    data = desk / "DIR" / "crossmoda2022_training"
    for folder, files in {
        "ct": "training_source/*_ceT1.nii.gz",
        "ct-labels": "training_source/*_Label.nii.gz",
        "mr": "training_target/*.nii.gz",
    }.items():
        (desk / "DIR" / folder).mkdir()
        for file in data.glob(files):
            shutil.copyfile(file, desk / "DIR" / folder / f"{case_of(file)}.nii.gz")
    for file in (desk / "DIR" / "ct-labels").iterdir():
        labels = nibabel.load(file)
        values = np.array(labels.dataobj)
        values[tuple(np.argwhere(values == 1)[0])] = 4
        nibabel.save(nibabel.Nifti1Image(values, labels.affine), file)


def write_the_profile(desk: Path, page: Path, install: Callable[..., None]) -> None:
    (desk / "my-machine.toml").write_text(blocks(page, "toml")[0], encoding="utf-8")


def install_the_plugin(desk: Path, page: Path, install: Callable[..., None]) -> None:
    """The plugin that the page has its readers write and install."""
    entries = "[crossmod.plugins]\nhistogram = crossmod_histogram\n"
    install(desk / "site", "crossmod_histogram", blocks(page, "python")[0], entries)


def install_the_distribution(desk: Path, page: Path, install: Callable[..., None]) -> None:
    entries = "[crossmod.plugins]\nhistogram = crossmod_histogram\n"
    install(desk / "site", "its_metadata", "", entries)
    package = page.parent / "crossmod_histogram"
    shutil.copytree(package, desk / "site" / package.name)


PAGE_NEEDS = {
    "docs/how-to/machines.md": write_the_profile,
    "docs/how-to/own-classes.md": write_other_scans,
    "docs/how-to/variants.md": write_the_recipe,
    "docs/tutorials/write-a-translator.md": install_the_plugin,
    "plugins/crossmod-histogram/README.md": install_the_distribution,
}


def install_what_was_written(desk: Path) -> None:
    """As pip does, in a folder where the recipe that it extends is tiny."""
    project = registered(desk / "gray-levels")
    (project / "smoke.toml").write_text(RECIPE, encoding="utf-8")
    (desk / "site").rmdir()
    (desk / "site").symlink_to(project)


def rename_a_run(desk: Path) -> None:
    shutil.move(desk / "runs" / "quickstart", desk / "runs" / "crossmoda2022")


BEFORE: dict[str, Callable[[Path], None]] = {
    "new recipe mine --from quickstart": lambda desk: (desk / "mine.toml").unlink(),
    "gc --dry-run": lambda desk: shutil.rmtree(desk / "runs" / "mine"),
    "package runs/crossmoda2022 model": rename_a_run,
    "run quickstart": lambda desk: shutil.rmtree(desk / "runs" / "quickstart"),  # of another file
    "run recipe.toml": install_what_was_written,
}


def test_no_table_speaks_of_a_line_or_page_that_is_gone() -> None:
    tables = (ELSEWHERE, INSIDE, PROMISED, SAID, BEFORE)
    assert {line for table in tables for line in table} <= LINES
    assert {*PAGE_NEEDS} <= {*WITH_COMMANDS}
    assert {*WORDS} <= {word for line in LINES for word in line.split()}


def test_every_other_line_has_its_reason() -> None:
    lines = "\n".join(text for page in PAGES for text in blocks(page, "sh"))
    lines = lines.replace("\\\n", " ")
    words = {line.split()[0] for line in lines.splitlines() if line.strip()}
    assert words - {"crossmod"} == {*OTHER_PROGRAMS}
