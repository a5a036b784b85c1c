"""No command writes over what it reads or did not write itself, whatever leads there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crossmod import DataError, MachineError, cli
from crossmod.data.nifti import write_nifti
from crossmod.files.ledger import LEDGER
from crossmod.files.outputs import Inputs, Outputs, new_folder
from crossmod.recipe.names import find_recipe
from crossmod.run.folder import choose_places

Tree = dict[str, bytes | str | None]


def tree(root: Path) -> Tree:
    """Every name below a folder, with the content of files and where links lead."""
    found: Tree = {}
    for place, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(place) / name
            content = None if path.is_dir() else path.read_bytes()
            found[str(path)] = str(path.readlink()) if path.is_symlink() else content
    return found


@pytest.fixture
def crossmod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[object, str]]:
    """The command line in this process, from a folder of a user."""

    def call(line: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["crossmod", *line.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out + shown.err

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.delenv("CROSSMOD_DATA", raising=False)
    return call


def put(path: str, content: str = "of the user") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


RECIPE = """\
extends = "smoke"
title = "t"
[data]
source = { images = "s/{case}.nii.gz", labels = "l/{case}.nii.gz" }
target = { images = "t/{case}" }
validation = false
centers = { ldn = "*", etz = false }
[evaluate]
labels = "hidden/{case}.nii.gz"
splits = ["target"]
compare = []
"""


@pytest.fixture
def world(crossmod: Callable[[str], tuple[object, str]], tmp_path: Path) -> Path:
    """What a user may have, and what crossmod has made of it, with names that lead back to it."""
    for name in ("a", "b"):
        for folder in ("scans", "pred", "ref", "D/s", "D/l", "D/hidden"):
            put(f"{folder}/{name}.nii.gz")
    put("D/t/p1/1.dcm")
    put("D/metrics.csv")
    put("D/report.html")
    put("series/p1/1.dcm")
    put("mine.toml", RECIPE)
    put("lab/mine.toml", RECIPE)
    put("model/model.json")
    put("checkpoints/best.pt")
    put("other/report.html")
    put("out/notes.txt")
    put("outlines/a.nii.gz")
    put("raw/dataset.json", '{"channel_names": {"0": "T2"}, "labels": {}}')
    put("raw/imagesTs/a_0000.nii.gz")
    put("step/manifest.json")
    put("step/cohort.json", '{"classes": {}, "cases": []}')
    Path("pred/a.nii.gz").unlink()
    with Outputs(Path("pred"), "crossmod predict").file("a.nii.gz") as file:
        file.write_text("an outline", encoding="utf-8")
    Path("link").symlink_to("scans")
    Path("pred-link").mkdir()
    Path("pred-link/s.csv").symlink_to("../ref/a.nii.gz")
    Path("hard").mkdir()
    Path("hard/s.csv").hardlink_to("pred/a.nii.gz")
    Outputs(Path("runs/theirs"), "the run of theirs").claim()
    put("runs/theirs/metrics.csv")
    Outputs(Path("store"), "a store of results").claim()
    put("store/checkpoints/x/state.pt")
    run = Outputs(Path("runs/mine"), "the run of ../../mine.toml")
    run.claim()
    put("runs/mine/metrics.csv", "edited")
    return tmp_path


REFUSED = [
    ("predict model scans scans", "what the command reads: scans"),
    ("predict model scans scans --overwrite", "what the command reads: scans"),
    ("predict model scans link --overwrite", "what the command reads: scans"),
    ("predict model link scans --overwrite", "what the command reads: link"),
    ("predict model scans scans --name {case}_seg", "what the command reads: scans"),
    ("predict model scans scans/../scans --overwrite", "what the command reads: scans"),
    ("predict model scans/a.nii.gz scans --overwrite", "a.nii.gz: the command reads it"),
    ("predict model scans/a.nii.gz link --overwrite", "a.nii.gz: the command reads it"),
    ("predict model pred pred --overwrite", "what the command reads: pred"),
    ("predict model pred/a.nii.gz pred --overwrite", "a.nii.gz: the command reads it"),
    ("predict model scans outlines", "a.nii.gz: was not written by crossmod predict"),
    ("predict model scans outlines --overwrite", "a.nii.gz: was not written by crossmod predict"),
    ("predict model scans/a.nii.gz pred.nii.gz", "pred.nii.gz: is named like a file"),
    ("predict model scans mine.toml", "mine.toml: is a file"),
    ("predict model scans model", "what the command reads: model"),
    ("predict model scans model/out", "what the command reads: model"),
    ("predict model series/p1 series/p1", "what the command reads: series/p1"),
    ("predict model series/p1 series/p1/out", "what the command reads: series/p1"),
    ("evaluate pred ref --out pred/a.nii.gz", "--out"),
    ("evaluate pred ref --out pred/new.nii.gz", "--out"),
    ("evaluate pred ref --summary ref/b.nii.gz", "--summary"),
    ("evaluate pred ref --out D/metrics.csv", "metrics.csv: was not written by crossmod evaluate"),
    ("evaluate pred ref --summary D/metrics.csv", "was not written by crossmod evaluate"),
    ("evaluate pred ref --out runs/mine/metrics.csv", "belongs to the run of ../../mine.toml"),
    ("evaluate pred ref --out pred-link/s.csv", "s.csv: the command reads it"),
    ("evaluate pred ref --out hard/s.csv", "s.csv: the command reads it"),
    (f"evaluate pred ref --out pred/{LEDGER}", "crossmod keeps its notes there"),
    ("run mine.toml --data D --out D", "what the command reads"),
    ("run mine.toml --data D --out D/s", "what the command reads"),
    ("run mine.toml --data D --out D/t/run", "what the command reads"),
    ("run mine.toml --data D --out D/t/p1/run", "what the command reads"),
    ("run mine.toml --data D --out D/run", "what the command reads"),
    ("run mine.toml --data D --out D/run --dry-run", "what the command reads"),
    ("run mine.toml --data D --out R --store D/store", "what the command reads"),
    ("run smoke --out R --store R/store", "the store lies in the run folder R"),
    ("run smoke --out S/R --store S", "the run folder lies in the store"),
    ("run mine.toml --data D --out other", "other: is not empty"),
    ("run mine.toml --data D --out runs/theirs", "belongs to the run of theirs"),
    (
        "run mine.toml --data D --out runs/mine",
        "metrics.csv: was not written by the run of ../../mine.toml",
    ),
    ("run lab/mine.toml --data D --out runs/mine", "belongs to the run of ../../mine.toml"),
    ("run mine.toml --data D --out store --store kept", "store: belongs to a store of results"),
    ("run mine.toml --data D --out new.csv", "new.csv: is named like a file"),
    ("run mine.toml --data D --out R --store D", "what the command reads"),
    ("run mine.toml --data D --out R --store .", "lies in the store"),
    ("run mine.toml --data D --out R --store D/t/store", "what the command reads"),
    ("run mine.toml --data D --out R --store runs/theirs", "belongs to the run of theirs"),
    ("run smoke --out other", "other: is not empty"),
    ("run smoke --out runs/theirs --dry-run", "belongs to the run of theirs"),
    ("package D model", "exists already"),
    ("package runs/mine out", "exists already"),
    ("package runs/mine model.zip.json", "is named like a file"),
    ("data phantom D", "exists already"),
    ("data phantom cohort.nii.gz", "is named like a file"),
    ("data check D --fix D", "exists already"),
    ("data check D --fix D/x", "what the command reads: D"),
    ("data check D --fix D/s/deep/x", "what the command reads: D"),
    ("data check mine.toml --data D --fix D/x", "what the command reads"),
    ("data import raw raw", "what the command reads: raw"),
    ("data import raw raw/in", "what the command reads: raw"),
    ("data import series series --format dicom", "what the command reads: series"),
    ("data import series series/in --format dicom", "what the command reads: series"),
    ("data import raw in.nii.gz", "is named like a file"),
    ("data export step step --dataset 1 --name x", "what the command reads: step"),
    ("data export step step/raw --dataset 1 --name x", "what the command reads: step"),
    ("predict model scans store/out", "lies in {}/store, which belongs to a store of results"),
    ("predict model scans runs/theirs/1-x/out", "which belongs to the run of theirs"),
    ("predict model scans runs/theirs", "runs/theirs: belongs to the run of theirs"),
    ("evaluate pred ref --out runs/theirs/s.csv", "belongs to the run of theirs"),
    ("package runs/mine runs/theirs/05-x", "which belongs to the run of theirs"),
    ("package runs/mine runs/mine/model", "which belongs to the run of ../../mine.toml"),
    ("data phantom runs/theirs/D", "which belongs to the run of theirs"),
    ("data import raw runs/theirs/D", "which belongs to the run of theirs"),
    ("data export step runs/theirs/x --dataset 1 --name x", "belongs to the run of theirs"),
    ("data check D --fix runs/theirs/D", "which belongs to the run of theirs"),
    ("run smoke --out runs/theirs/R", "which belongs to the run of theirs"),
    ("run smoke --out R --store runs/theirs/store", "which belongs to the run of theirs"),
    ("gc --store .", "is not a store"),
    ("gc --store D", "is not a store"),
    ("gc --store runs/theirs", "is not a store"),
    ("runs --store checkpoints", "is not a store"),
]


@pytest.mark.parametrize(("line", "told"), REFUSED, ids=[line for line, _ in REFUSED])
def test_nothing_that_was_there_is_changed(
    line: str, told: str, world: Path, crossmod: Callable[[str], tuple[object, str]]
) -> None:
    before = tree(world)
    code, shown = crossmod(line)
    assert code in (2, 3, 4), shown
    assert told.format(world) in shown.replace("\n", " ")
    assert "--overwrite" not in shown
    assert tree(world) == before


def test_a_recipe_in_the_run_folder_is_not_written_over(
    world: Path, crossmod: Callable[[str], tuple[object, str]]
) -> None:
    run = Outputs(Path("runs/again"), "the run of ../../again.toml")
    run.claim()
    with run.file("recipe.lock.toml") as file:
        file.write_text(RECIPE, encoding="utf-8")
    put("again.toml", 'extends = "runs/again/recipe.lock.toml"\ntitle = "t"\n')
    before = tree(world)
    code, shown = crossmod("run again.toml --data D --out runs/again")
    assert (code, "holds what the command reads" in shown) == (3, True), shown
    code, shown = crossmod("run runs/again/recipe.lock.toml --data D --out runs/again")
    assert (code, "belongs to the run of ../../again.toml" in shown) == (3, True), shown
    assert tree(world) == before


def test_a_run_folder_knows_its_recipe_where_the_project_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put("p/m.toml", RECIPE)
    place(Path("p/m.toml"), Path("p/runs/m")).claim()
    place(find_recipe(Path("smoke")), Path("p/runs/s")).claim()
    Path("p").rename("moved")
    Path("link").symlink_to("moved/m.toml")
    place(Path("moved/m.toml").absolute(), Path("moved/runs/m")).require_claim()
    place(Path("link"), Path("moved/runs/m")).require_claim()
    place(find_recipe(Path("recipes/smoke.toml")), Path("moved/runs/s")).require_claim()
    put("p/m.toml", RECIPE)
    put("smoke.toml", RECIPE)
    for other, run in (("p/m.toml", "m"), ("moved/m.toml", "s"), ("smoke.toml", "s")):
        with pytest.raises(DataError, match="belongs to the run of") as caught:
            place(Path(other), Path("moved/runs") / run)
        assert "--out" in caught.value.fix
        assert "was moved" in caught.value.fix


def place(recipe: Path, folder: Path) -> Outputs:
    return choose_places(recipe, folder, None, Inputs()).outputs


# The ledger.


def write(outputs: Outputs, name: str, text: str) -> None:
    with outputs.file(name) as file:
        file.write_text(text, encoding="utf-8")


def test_a_command_replaces_what_it_wrote_itself(tmp_path: Path) -> None:
    write(Outputs(tmp_path / "out", "crossmod evaluate"), "s.csv", "one")
    write(Outputs(tmp_path / "out", "crossmod evaluate"), "s.csv", "two")
    assert (tmp_path / "out" / "s.csv").read_text(encoding="utf-8") == "two"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"s.csv", LEDGER}
    with pytest.raises(DataError, match="was not written by crossmod predict"):
        write(Outputs(tmp_path / "out", "crossmod predict"), "s.csv", "three")
    assert (tmp_path / "out" / "s.csv").read_text(encoding="utf-8") == "two"


def test_a_file_that_comes_during_the_work_is_kept(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path, "crossmod predict")
    outputs.require(["a"])

    def work() -> None:
        with outputs.file("a") as file:
            file.write_text("ours", encoding="utf-8")
            (tmp_path / "a").write_text("theirs", encoding="utf-8")

    with pytest.raises(DataError, match="a: was not written by"):
        work()
    assert (tmp_path / "a").read_text(encoding="utf-8") == "theirs"
    assert {path.name for path in tmp_path.iterdir()} == {"a", LEDGER}


@pytest.mark.parametrize("replaced", [False, True])
def test_a_command_that_was_killed_knows_its_file(
    replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the line in the ledger and the file, or right after it."""
    write(Outputs(tmp_path, "x"), "a", "before")
    move = Path.replace

    def killed(draft: Path, target: Path) -> None:
        if replaced:
            move(draft, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(Outputs(tmp_path, "x"), "a", "after")
    monkeypatch.undo()
    assert (tmp_path / "a").read_text(encoding="utf-8") == ("after" if replaced else "before")
    write(Outputs(tmp_path, "x"), "a", "again")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "again"


@pytest.mark.parametrize("kind", ["symbolic", "dangling", "folder"])
def test_links_and_folders_are_not_replaced(kind: str, tmp_path: Path) -> None:
    if kind == "folder":
        (tmp_path / "a").mkdir()
    else:
        (tmp_path / "a").symlink_to("b")
    if kind == "symbolic":
        write(Outputs(tmp_path, "x"), "b", "own")
    with pytest.raises(DataError, match="is a folder" if kind == "folder" else "is a link"):
        write(Outputs(tmp_path, "x"), "a", "text")
    assert (tmp_path / "a").is_dir() or (tmp_path / "a").is_symlink()


def test_scores_for_a_device_leave_nothing_beside_it(
    tmp_path: Path, crossmod: Callable[[str], tuple[object, str]]
) -> None:
    for folder in ("pred", "ref"):
        labels = np.zeros((8, 8, 8), np.uint8)
        labels[2:6, 2:6, 2:6] = 1
        write_nifti(tmp_path / folder / "a.nii.gz", labels, np.eye(4))
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    line = "evaluate pred ref --classes x=1 --centers all=* --out pipe"
    code, shown = crossmod(line)
    assert code == 0, shown
    assert "means and percentiles" not in shown
    assert {path.name for path in tmp_path.iterdir()} == {"pred", "ref", "pipe"}
    assert b"a,all,x" in os.read(reader, 10_000)
    code, shown = crossmod(f"{line} --summary rest.csv")
    os.close(reader)
    assert code == 0, shown
    assert Path("rest.csv").exists()


def test_a_device_just_takes_it() -> None:
    outputs = Outputs(Path("/dev"), "x")
    outputs.require(["null"])
    write(outputs, "null", "text")
    assert not Path("/dev", LEDGER).exists()


def test_a_ledger_that_was_cut_or_rewritten_protects_everything(tmp_path: Path) -> None:
    write(Outputs(tmp_path, "x"), "a", "text")
    ledger = tmp_path / LEDGER
    line = ledger.read_text(encoding="utf-8")
    for text in (line[:-9], "", "[]\n", "\x00\n", '{"by": 1}\n'):
        ledger.write_text(text, encoding="utf-8")
        assert not Outputs(tmp_path, "x").owns("a")
    ledger.write_bytes(b"\xff\n" + line.encode())
    assert not Outputs(tmp_path, "x").owns("a")
    ledger.write_text("{\n" + line, encoding="utf-8")
    assert Outputs(tmp_path, "x").owns("a")


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
def test_only_a_file_is_a_ledger(kind: str, tmp_path: Path) -> None:
    """Nothing is appended to what a link leads to, and a pipe does not make anybody wait."""
    precious, ledger = tmp_path / "precious.txt", tmp_path / "out" / LEDGER
    ledger.parent.mkdir()
    if kind in ("link", "dangling"):
        ledger.symlink_to(precious)
    elif kind == "folder":
        ledger.mkdir()
    else:
        os.mkfifo(ledger)
    if kind == "link":
        precious.write_text("mine", encoding="utf-8")
    outputs = Outputs(ledger.parent, "x")
    told = "is a link" if kind in ("link", "dangling") else "is not a regular file"
    with pytest.raises(DataError, match=told):
        outputs.require(["a"])
    with pytest.raises(DataError, match=told):
        outputs.claim()
    if kind == "link":
        with pytest.raises(MachineError):
            write(outputs, "a", "text")  # a link that came during the work
        assert precious.read_text(encoding="utf-8") == "mine"
    assert precious.exists() == (kind == "link")
    assert [path.name for path in ledger.parent.iterdir()] == [LEDGER]


def test_the_ledger_has_each_line_once(tmp_path: Path) -> None:
    for text in ("one", "two", "one", "one"):
        write(Outputs(tmp_path, "x"), "a", text)
    assert len((tmp_path / LEDGER).read_text(encoding="utf-8").splitlines()) == 2


def test_of_two_runs_that_want_a_folder_the_first_has_it(tmp_path: Path) -> None:
    first, second = (Outputs(tmp_path / "out", name) for name in ("one", "two"))
    second.require_claim()
    first.claim()
    with pytest.raises(DataError, match="belongs to one"):
        second.claim()
    first.claim()


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new"

    def work(stage: Callable[[], None]) -> None:
        with new_folder(target) as draft:
            (draft / "a").touch()
            stage()

    def fail() -> None:
        raise OSError(28, "disk full")

    with pytest.raises(MachineError, match="disk full"):
        work(fail)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="exists already"):
        work(lambda: put(str(target / "theirs")) and None)
    assert [path.name for path in target.iterdir()] == ["theirs"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_appears_is_on_the_disk(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power failure right after the end of the block would find."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    target = tmp_path / "model"
    if kind == "folder":
        with new_folder(target) as draft:
            (draft / "inner").mkdir()
            for name in ("a", "inner/b"):
                (draft / name).write_text("text", encoding="utf-8")
        files = [target / "a", target / "inner/b"]
        assert synced[-1] == tmp_path.stat().st_ino  # after the move
    else:
        write(Outputs(target, "x"), "a", "text")
        files = [target / "a"]
    assert {path.stat().st_ino for path in files} <= set(synced)


def test_a_device_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("Linux has it")
    with pytest.raises(MachineError, match="full: cannot be written: No space left"):
        write(Outputs(Path("/dev"), "x"), "full", "text")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be written: Not a directory"):
        write(Outputs(tmp_path / "file" / "new", "x"), "a", "text")


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    write(Outputs(tmp_path, "x"), "a.txt", "old")

    def work() -> None:
        with Outputs(tmp_path, "x").file("a.txt") as draft:
            draft.write_text("half", encoding="utf-8")
            raise OSError(28, "disk full")

    with pytest.raises(MachineError, match="disk full"):
        work()
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", LEDGER}


def test_every_name_of_an_input_is_the_input(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.touch()
    (tmp_path / "hard").hardlink_to(scan)
    (tmp_path / "soft").symlink_to("scan.nii.gz")
    (tmp_path / "folder").symlink_to(tmp_path)
    inputs = Inputs(files=(scan, tmp_path / "missing"))
    for name in ("hard", "soft", "folder/scan.nii.gz", "folder/./hard"):
        assert tmp_path / name in inputs
    (tmp_path / "other").touch()
    for name in ("other", "missing", "nowhere/at/all"):
        assert tmp_path / name not in inputs
    upper = tmp_path / "SCAN.nii.gz"
    assert (upper in inputs) == upper.exists()  # where the disk does not tell letters apart


def test_a_command_with_many_inputs_looks_at_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    stat = Path.stat

    def counted(path: Path, **more: bool) -> os.stat_result:
        nonlocal looks
        looks += 1
        return stat(path, **more)

    files = tuple(tmp_path / f"{number}.nii" for number in range(200))
    for file in files:
        file.touch()
    monkeypatch.setattr(Path, "stat", counted)
    outputs = Outputs(tmp_path / "out", "x", Inputs(files=files))
    outputs.require([file.name for file in files])
    assert looks < 5 * len(files)
