"""What stages get to run other programs: `ctx.run`, `ctx.keep`, and their results as files."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_plugin import WHO, Bench

from crossmod import Context, MachineError, PluginError, Prediction, State, Volume
from crossmod.cost.probe import FirstSteps
from crossmod.errors import Interrupted
from crossmod.run.execute import Maker
from crossmod.run.task import Advance, Machine, Remark, Task
from crossmod.stages import running
from crossmod.stages.contract import learned
from crossmod.stages.guard import programs
from crossmod.store.checkpoints import Checkpoints


def python(*lines: str) -> list[str]:
    return ["python", "-c", "\n".join(lines)]


def heard(folder: Path, *lines: str, env: Mapping[str, str] | None = None) -> list[str]:
    """What a Python program prints, as it is logged."""
    said: list[str] = []
    Context(folder, log=said.append).run(python(*lines), env=env)
    return said


# ctx.run


def test_every_line_is_logged_in_order(tmp_path: Path) -> None:
    said = heard(
        tmp_path,
        "import sys",
        "print('one', flush=True)",
        r"print('\x1b[31mtwo\x1b[0m  ', file=sys.stderr, flush=True)",
        "print()",
        r"print('  three', file=sys.stderr, flush=True)",
        r"sys.stdout.buffer.write(b'10%\r50%\rwarning: \xff 100%\n')",
        "sys.stdout.write('no newline')",
    )
    assert said == [
        "python: one", "python: two", "python:   three",
        "python: warning: \N{REPLACEMENT CHARACTER} 100%", "python: no newline",
    ]  # fmt: skip


def test_lines_are_logged_while_the_program_works(tmp_path: Path) -> None:
    go = tmp_path / "go"
    ctx = Context(tmp_path, log=lambda line: go.touch())
    ctx.run(python("import os, time", "print('begun')",
                   "while not os.path.exists('go'): time.sleep(0.02)"))  # fmt: skip


def test_its_last_line_is_told_as_its_progress_and_nothing_is_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "TELL_S", 0.15)
    (bench.folder / "train.py").write_text("import time; print('  Epoch 1'); time.sleep(1)")
    train = f"ctx.run(['python', {str(bench.folder / 'train.py')!r}]); return {{}}"
    bench.offer("yield from volumes", train)
    assert bench.make(bench.fit).error is None
    told = [one for one in bench.told if isinstance(one, Advance) and "train.py" in one.label]
    assert {one.label for one in told} <= {"train.py", "train.py: Epoch 1"}
    assert told[-1].label == "train.py: Epoch 1"
    assert {(one.done, one.total) for one in told} == {(0, None)}


def test_for_how_long_it_has_been_silent_is_told(tmp_path: Path) -> None:
    heard = running.Heard(Context(tmp_path), "train")
    heard._log(b"loss  0.5\n")
    assert heard.label == "train: loss 0.5"
    heard._heard_at -= 200
    assert heard.label == "train (silent for 3 min): loss 0.5"


def test_it_has_a_folder_variables_and_no_input(tmp_path: Path) -> None:
    tell = (
        "import os, sys; "
        "print(os.getcwd(), os.environ['ONE'], 'HOME' in os.environ, repr(sys.stdin.read()))"
    )
    [line] = heard(tmp_path, tell, env={"ONE": "1"})
    assert line == f"python: {tmp_path} 1 True ''"
    (tmp_path / "in").mkdir()
    said: list[str] = []
    Context(tmp_path, log=said.append).run(python(tell), cwd=tmp_path / "in", env={"ONE": "2"})
    assert said[0].startswith(f"python: {tmp_path / 'in'} 2 ")
    assert "ONE" not in os.environ


def test_a_name_is_looked_up_beside_this_python(tmp_path: Path) -> None:
    said = heard(tmp_path, "import sys; print(sys.prefix)", env={"PATH": "/nowhere"})
    assert said == [f"python: {sys.prefix}"]


def test_a_script_is_called_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('begun')", encoding="utf-8")
    said: list[str] = []
    Context(tmp_path, log=said.append).run([sys.executable, tmp_path / "train.py", "fast"])
    assert said == ["train.py: begun"]


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="python cannot be started there: no such folder") as it:
        Context(tmp_path).run(python("pass"), cwd=tmp_path / "none")
    assert it.value.where == str(tmp_path / "none")


def test_a_program_that_fails_is_an_error_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(PluginError) as caught:
        heard(tmp_path, "for n in range(50): print('line', n)", "raise SystemExit(3)")
    first, *lines = caught.value.what.splitlines()
    assert first == "python ended with exit code 3; its last lines:"
    assert [line.strip() for line in lines] == [f"line {n}" for n in range(30, 50)]


def test_a_program_that_is_killed_names_the_signal(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"was killed by SIGKILL.*\n.*printed nothing") as caught:
        heard(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert "memory" in caught.value.fix


def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="the program nnUNetv3_train was not found"):
        Context(tmp_path).run(["nnUNetv3_train", "1"])
    text = tmp_path / "text"
    text.write_text("not a program")
    text.chmod(0o755)
    with pytest.raises(MachineError, match="text cannot be started: Exec format error"):
        Context(tmp_path).run([text])


@pytest.mark.parametrize(
    "command",
    ["echo hi", "", [], [""], ["echo", 3], [None], b"echo", Path("echo"), None, 3],
    ids=repr,
)
def test_a_command_that_is_no_list_of_texts_is_refused(tmp_path: Path, command: Any) -> None:
    with pytest.raises(PluginError, match=r"calls ctx\.run with the command") as caught:
        Context(tmp_path).run(command)
    assert 'as in ["train", "--folds", "5"]' in caught.value.allowed


@pytest.mark.parametrize("env", [{"A": 1}, {"A": None}, {1: "A"}])
def test_a_variable_that_is_no_text_is_refused(tmp_path: Path, env: Any) -> None:
    with pytest.raises(PluginError, match=r"calls ctx\.run with the variable"):
        Context(tmp_path).run(python("open('begun', 'w')"), env=env)
    assert not (tmp_path / "begun").exists()


def test_a_command_may_be_any_series_and_a_folder_a_text(tmp_path: Path) -> None:
    command: Any = (word for word in python("open('begun', 'w')"))
    folder: Any = str(tmp_path)
    Context(tmp_path).run(command, cwd=folder, env={"HERE": tmp_path})  # type: ignore[dict-item]
    assert (tmp_path / "begun").exists()


TREE = "import subprocess, sys, time; subprocess.Popen(['sleep', '300'], start_new_session=True)"
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps orphans in sight")


@linux
def test_what_a_program_leaves_running_ends_with_it(tmp_path: Path) -> None:
    before = programs.children()
    said = heard(tmp_path, TREE)
    assert said == ["warning: python left programs running: sleep; crossmod ended them"]
    assert programs.children() <= before


def stopped(bench: Bench) -> BaseException | None:
    """How a step ends that runs a tree of programs and is told to stop while they work."""
    command = [
        sys.executable,
        "-c",
        f"{TREE}; open('begun', 'w'); print('at work'); time.sleep(300)",
    ]
    bench.offer(f"ctx.run({command!r}, cwd=OUT)\nyield")
    assert bench.make(bench.fit).error is None
    step = bench.translate
    task = Task(step.key, step, bench.store.folder, {"tumor": 1, "cochlea": 2}, Machine("cpu"))
    return Maker(task, bench.told.append, (bench.folder / "begun").exists).outcome().error


@linux
def test_a_run_that_is_stopped_stops_the_program_and_all_below_it(bench: Bench) -> None:
    before = programs.children()
    assert isinstance(stopped(bench), Interrupted)
    assert programs.children() <= before
    assert ": at work" in "\n".join(t.text for t in bench.told if isinstance(t, Remark))
    assert bench.warnings() == []


def test_a_step_whose_cost_is_estimated_starts_no_program(tmp_path: Path) -> None:
    ctx = Context(tmp_path, checkpoints=FirstSteps(tmp_path, lambda: None))
    with pytest.raises(PluginError, match="starts python, which has no first steps") as caught:
        ctx.run(python("open('started', 'w')"))
    assert "probes = False" in caught.value.fix
    assert not (tmp_path / "started").exists()


# ctx.keep


def test_what_is_kept_survives_a_failure_and_is_gone_when_the_step_is_done(bench: Bench) -> None:
    bench.offer(
        "tries = ctx.keep / 'data' / 'tries'\n"
        "tries.parent.mkdir(exist_ok=True)\n"
        "tries.write_text((tries.read_text() if tries.exists() else '') + 'x')\n"
        "if tries.read_text() != 'xxx': raise ValueError(tries.read_text())\n"
        "yield from volumes"
    )
    place = bench.store.checkpoints(bench.translate.key)
    for tries in ("x", "xx"):
        assert f"ValueError: {tries}" in bench.refused()
        assert (place / "keep" / "data" / "tries").read_text() == tries
    done = bench.run()
    assert done.error is None, done.traceback
    assert not place.exists()
    assert not list(bench.store.path(done.key).rglob("tries"))


def test_what_is_kept_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    ctx = Context(
        tmp_path / "work", checkpoints=Checkpoints(tmp_path / "c", tmp_path / "work", minutes=1)
    )
    (ctx.keep / "file").touch()
    assert ctx.checkpoints is not None
    assert ctx.checkpoints.newest() is None
    ctx.checkpoints.save(1, lambda folder: None)
    ctx.checkpoints.save(2, lambda folder: None)
    assert (ctx.keep / "file").exists()
    ctx.checkpoints.clear()
    assert not (tmp_path / "c").exists()


def test_without_a_run_the_folder_is_temporary(tmp_path: Path) -> None:
    ctx = Context(tmp_path)
    kept = ctx.keep
    assert kept.is_dir()
    assert ctx.keep == kept
    del ctx
    gc.collect()
    assert not kept.exists()


# State.from_folder, State.to_folder


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,4}(/[A-Z]{1,4}\.pth)?", fullmatch=True), st.binary())
)
def test_a_folder_comes_back_as_it_was(contents: dict[str, bytes]) -> None:
    import tempfile

    names = {n for n in contents if not any(o.startswith(f"{n}/") for o in contents)} | {"a.json"}
    wanted = {name: contents.get(name, b"{}") for name in names}
    with tempfile.TemporaryDirectory() as place:
        for name, content in wanted.items():
            path = Path(place, "given", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        state = learned(State.from_folder(Path(place, "given"), {"epochs": 3}), "stage")
        state.to_folder(Path(place, "found"))
        files = [path for path in Path(place, "found").rglob("*") if path.is_file()]
        found = {p.relative_to(Path(place, "found")).as_posix(): p.read_bytes() for p in files}
    assert found == wanted
    assert state.notes == {"epochs": 3}


def test_a_folder_may_be_a_text(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a.pth").write_bytes(b"a")
    State.from_folder(str(tmp_path / "given")).to_folder(str(tmp_path / "found"))
    assert (tmp_path / "found" / "a.pth").read_bytes() == b"a"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="holds no file"):
        State.from_folder(tmp_path)


def test_a_program_that_leaves_no_file_fails_its_step_as_the_plugin_does(bench: Bench) -> None:
    bench.offer("yield from volumes", "return State.from_folder(ctx.keep / 'model')")
    message = bench.refused()
    assert re.match(rf"step fit-odd, {WHO}, \S+/keep/model: holds no file\n", message)
    assert "odd.py:8: return State.from_folder(ctx.keep / 'model')" in message


def test_a_folder_where_no_program_can_work_is_told_with_step_and_plugin(bench: Bench) -> None:
    bench.offer("yield from volumes", "ctx.run(['python'], cwd=ctx.keep / 'none')")
    error = bench.run().error
    assert isinstance(error, MachineError)
    assert re.match(rf"step fit-odd, {WHO}, \S+/keep/none: python cannot be started", str(error))


@pytest.mark.parametrize(
    "name", ["../out", "/out", "a/../../out", "c:out", "a\\..\\out", "", "a\0b"]
)
def test_a_name_does_not_leave_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="cannot name a file"):
        State({name: np.zeros(3, np.uint8)}).to_folder(tmp_path / "in")
    assert not list(tmp_path.rglob("*out*"))


def test_an_array_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="'weight' is not the content of a file"):
        State({"weight": np.zeros(3, np.float32)}).to_folder(tmp_path)


# Prediction.of_labels

SCAN = Volume.of(np.zeros((1, 2, 2, 1), np.float32), np.eye(4), case="ldn_1")


def test_labels_become_certain_probabilities() -> None:
    labels = np.array([[[0], [2]], [[1], [2]]])
    found = Prediction.of_labels(SCAN, labels, {"tumor": 1, "cochlea": 2})
    assert found.labels.tolist() == labels.tolist()
    assert found.probabilities.dtype == np.float32
    assert found.probabilities.sum(axis=0).tolist() == np.ones((2, 2, 1)).tolist()
    assert found.case == "ldn_1"


@pytest.mark.parametrize("labels", [np.full((2, 2, 1), 3), np.zeros((2, 1, 2), int)])
def test_labels_of_no_class_or_another_shape_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(PluginError, match="gives ldn_1 labels"):
        Prediction.of_labels(SCAN, labels, {"tumor": 1, "cochlea": 2})
