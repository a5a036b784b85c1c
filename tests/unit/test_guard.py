"""Plugins that fail or reach out while they work: nothing is published, all is put back.

Rows G03 and G04 of the fault matrix; `tests/integration/test_plugin_mistakes.py` has whole runs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_plugin import Bench

from crossmod import (
    DataError,
    Options,
    PluginError,
    Translator,
)
from crossmod.run.execute import Maker
from crossmod.run.task import Event, Task
from crossmod.stages import find
from crossmod.stages.guard import guarded
from crossmod.testing import check_stage

FAILING_WORK = {
    "raises": ("for v in volumes:\n    raise ValueError('no luck')\n    yield v",
               "case case-0: ValueError: no luck"),
    "forgets to yield": ("[v for v in volumes]", "returned None"),
    "reads late": ("for v in volumes:\n"
                   "    yield Volume(v.case, v.center, v.affine, lambda: 1 / 0)",
                   "case case-0: ZeroDivisionError"),
    "NaN": ("for v in volumes:\n    yield v.with_data(v.data * np.nan)", "NaN or infinite"),
    "case": ("for v in volumes:\n    yield Volume.of(v.data, v.affine, case='z')", "case 'z'"),
    "exit": ("sys.exit(0)\nyield", "tries to end the program: SystemExit: 0"),
    "base": ("import asyncio\nraise asyncio.CancelledError\nyield", "tries to end the program"),
    "recursion": ("f = lambda: f()\nf()\nyield", "RecursionError"),
    "mute": ("class Mute(Exception):\n    def __str__(self): 1 / 0\nraise Mute\nyield",
             "Mute: (str() of it raised ZeroDivisionError)"),
    "mute out of memory": ("class Mute(RuntimeError):\n    def __str__(self): 1 / 0\n"
                           "raise Mute\nyield", "Mute: (str() of it"),
    "own class": ("class Mine(PluginError):\n    def __init__(self, a, b):\n"
                  "        super().__init__('is mine')\nraise Mine(1, 2)\nyield", "is mine"),
    "no words": ("class Mine(PluginError):\n    def __init__(self): pass\nraise Mine\nyield",
                 "case case-0: Mine"),
    "link": ("(ctx.folder / 'w').symlink_to(OUT)\nyield from volumes", "'w' in its folder is a"),
    "dead link": ("(ctx.folder / 'w').symlink_to('gone')\nyield from volumes", "is a link"),
    "fifo": ("os.mkfifo(ctx.folder / 'w')\nyield from volumes",
             "'w' in its folder is not a regular file"),
    "manifest": ("(ctx.folder / 'manifest.json').write_text('{}')\nyield from volumes",
                 "'manifest.json' in its folder has a name that the store needs"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING_WORK)
def test_g03_a_step_that_fails_publishes_nothing(name: str, bench: Bench) -> None:
    body, words = FAILING_WORK[name]
    bench.offer(body)
    assert words in bench.refused()


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise ValueError('no luck')", "raise ValueError('no luck')"),
        ("f = lambda: np.linalg.inv(np.eye(2) * 0)\nf()",
         "f = lambda: np.linalg.inv(np.eye(2) * 0)"),
        ("(OUT / 'stray').touch()", "(OUT / 'stray').touch()"),
        ("sys.exit(3)", "sys.exit(3)"),
    ],
)  # fmt: skip
def test_g03_the_line_of_the_plugin_is_told(body: str, line: str, bench: Bench) -> None:
    """It is the innermost of its own, whether it fails, calls what fails, or is refused."""
    bench.offer(f"for v in volumes:\n    yield v\n{body}")
    said = bench.refused()
    source = bench.site / "odd.py"
    number = source.read_text(encoding="utf-8").splitlines().index(f"        {line}") + 1
    assert f"  {source}:{number}: {line}" in said.splitlines()


def test_g03_an_error_of_a_kind_that_we_know_names_the_plugin_too(bench: Bench) -> None:
    bench.offer("for v in volumes:\n    raise DataError('bad thing')\n    yield v")
    error = bench.run().error
    assert isinstance(error, DataError)
    assert str(error) == "step odd, plugin 'odd' (odd 1.2), case case-0: bad thing"


def test_g04_a_file_that_a_plugin_links_to_stays_writable(bench: Bench) -> None:
    precious = bench.folder / "weights.pt"
    precious.write_text("x")
    precious.chmod(0o640)
    bench.offer("(ctx.folder / 'w').symlink_to(OUT / 'weights.pt')\nyield from volumes")
    assert "'w' in its folder is a link" in bench.refused()
    assert precious.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ("pass", "fit returned None"),
        ("return {'w': np.array([np.inf])}", "1 of 1 learned arrays"),
        ("return {'w': 'weights.pt'}", "'w' holds values of type <U10"),
    ],
)
def test_g03_a_training_that_gives_no_arrays_publishes_nothing(
    fit: str, words: str, bench: Bench
) -> None:
    bench.offer("yield from volumes", fit)
    assert words in bench.refused()


# --- G04: files ---------------------------------------------------------------------------------

MISPLACED = {
    "write": "(OUT / 'stray').write_text('x')",
    "append": "open(OUT / 'stray', 'a')",
    "update": "open(OUT / 'precious', 'r+')",
    "array": "np.save(OUT / 'stray', np.zeros(2))",
    "low": "os.open(OUT / 'stray', os.O_WRONLY | os.O_CREAT)",
    "bytes": "open(os.fsencode(OUT / 'stray'), 'wb')",
    "relative": "os.chdir(OUT); open('stray', 'w')",
    "dots": "open(ctx.folder / '../../../stray', 'w')",
    "link": "(ctx.folder / 'x').symlink_to(OUT / 'precious'); open(ctx.folder / 'x', 'w')",
    "mkdir": "(OUT / 'stray').mkdir()",
    "remove": "(OUT / 'precious').unlink()",
    "rename away": "(OUT / 'precious').rename(ctx.folder / 'mine')",
    "rename to": "(ctx.folder / 'x').write_text(''); (ctx.folder / 'x').rename(OUT / 'stray')",
    "symlink": "(OUT / 'stray').symlink_to(ctx.folder)",
    "hard link": "(ctx.folder / 'x').touch(); os.link(ctx.folder / 'x', OUT / 'stray')",
    "truncate": "os.truncate(OUT / 'precious', 0)",
    "chmod": "(OUT / 'precious').chmod(0)",
    "link chmod": "(ctx.folder / 'x').symlink_to(OUT / 'precious'); (ctx.folder / 'x').chmod(0)",
    "link truncate": "os.chdir(ctx.folder); os.symlink(OUT / 'precious', 'x'); os.truncate('x', 0)",
    "second name": "os.link(OUT / 'precious', ctx.folder / 'x')",
    "proc": "os.chdir(ctx.folder.parent); open('/proc/self/cwd/../../stray', 'w')",
    "name like a cache": "(OUT / 'my__pycache__').touch()",
    "cache in the store": "(OUT / 'store' / '__pycache__').mkdir()",
    "no cache": "(OUT / 'folder' / '__pycache__' / 'stray').touch()",
    "database": "import sqlite3; sqlite3.connect(OUT / 'stray')",
    "database address": "import sqlite3; sqlite3.connect(f'file:{OUT}/stray?mode=rwc', uri=True)",
    "owner": "os.chown(OUT / 'precious', os.getuid(), os.getgid())",
    "times": "os.utime(OUT / 'precious', (0, 0))",
    "attribute": "os.setxattr(OUT / 'precious', 'user.x', b'1')",
    "attribute removed": "os.removexattr(OUT / 'precious', 'user.x')",
    "unlink at": "os.unlink('precious', dir_fd=os.open(OUT, os.O_RDONLY))",
    "mkdir at": "os.mkdir('stray', dir_fd=os.open(OUT, os.O_RDONLY))",
    "rename at": "os.rename('precious', 'stray', src_dir_fd=os.open(OUT, os.O_RDONLY))",
    "tree": "import shutil; shutil.rmtree(OUT / 'folder')",
    "move": "import shutil; shutil.move(OUT / 'folder', ctx.folder / 'mine')",
    "input": "next(OUT.glob('store/??/*/images/*.nii')).unlink()",
    "lock": "(OUT / 'store' / 'locks' / 'mine').touch()",
    "thread": "t = threading.Thread(target=(OUT / 'stray').touch); t.start(); t.join()",
}


@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
@pytest.mark.parametrize("name", MISPLACED)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_g04_writing_elsewhere_is_refused_before_it_happens(
    name: str, swallowed: bool, bench: Bench
) -> None:
    (bench.folder / "folder").mkdir()
    (bench.folder / "folder" / "file").touch()
    (bench.folder / "precious").write_text("x")
    before = (bench.folder / "precious").stat()
    work = MISPLACED[name]
    body = f"try:\n    {work}\nexcept Exception:\n    pass" if swallowed else work
    bench.offer(f"{body}\nyield from volumes")
    names = {path.name for path in bench.folder.iterdir()} | {"store"}
    said = bench.refused()
    assert "writes outside of its folder" in said
    assert "ctx.folder" in said
    assert {path.name for path in bench.folder.iterdir()} == names
    assert (bench.folder / "precious").read_text() == "x"
    after = (bench.folder / "precious").stat()
    for field in ("st_mode", "st_mtime_ns", "st_nlink"):
        assert getattr(after, field) == getattr(before, field)
    assert (bench.folder / "folder" / "file").exists()
    for step in (bench.translate.images, bench.fit):
        assert not bench.store.damaged(step.key)


ALLOWED = """
import shutil, sqlite3, subprocess, tempfile
(ctx.folder / 'deep' / 'down').mkdir(parents=True)
(ctx.folder / 'deep' / 'down' / 'x').write_text('x')
shutil.rmtree(ctx.folder / 'deep')
ctx.panel('one', [[np.zeros((8, 8))]])
with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as file:
    np.save(Path(folder) / 'x', np.zeros(3))
    np.memmap(Path(folder) / 'm', mode='w+', shape=9)
    file.write(b'x')
(Path(os.environ['XDG_CACHE_HOME']) / 'library').mkdir(parents=True)
(Path(os.environ['XDG_CACHE_HOME']) / 'library' / 'x').touch()
OUT.mkdir(exist_ok=True)
(OUT / '__pycache__').mkdir()
(OUT / '__pycache__' / 'm.cpython-311.pyc.1234').touch()
(ctx.folder / 'mine').touch()
os.link(ctx.folder / 'mine', ctx.folder / 'same')
sqlite3.connect(ctx.folder / 'data').close()
sqlite3.connect(':memory:').close()
sqlite3.connect(f"file:{ctx.folder / 'data'}?mode=ro", uri=True).close()
sqlite3.connect('file::memory:?cache=shared', uri=True).close()
sys.path.append('/library/_vendor')
sys.setrecursionlimit(2000)
threading.Thread(target=threading.Event().wait, daemon=True).start()
from concurrent.futures import ThreadPoolExecutor
self.pool = ThreadPoolExecutor(1)
self.pool.submit(print).result()
Path(os.devnull).write_text('x')
(OUT / 'precious').read_text()
print('x', flush=True)
subprocess.run(['true'])
import wave
yield from volumes
"""


def test_g04_what_plugins_need_to_write_they_may(bench: Bench) -> None:
    (bench.folder / "precious").write_text("x")
    limit = sys.getrecursionlimit()
    bench.offer(ALLOWED)
    done = bench.run()
    assert done.error is None, done.traceback
    assert bench.warnings() == []
    assert (bench.store.path(done.key) / "panels" / "one.png").exists()
    assert "/library/_vendor" in sys.path
    sys.path.remove("/library/_vendor")
    sys.setrecursionlimit(limit)


def test_g04_the_store_is_closed_even_among_temporary_files(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(bench.folder))
    bench.offer("(OUT / 'store' / 'stray').touch()\nyield from volumes")
    assert "writes outside" in bench.refused()


def test_g04_the_core_writes_where_it_must(bench: Bench) -> None:
    """Events may go into a file, and a thread may keep a lock alive, while a plugin works."""
    bench.offer("import time\nctx.log('x')\ntime.sleep(0.2)\nyield from ctx.progress(volumes)")
    diary, ended = bench.folder / "diary", threading.Event()

    def beat() -> None:
        while not ended.wait(0.01):
            (bench.folder / "heartbeat").write_text("alive")

    def note(event: Event) -> None:
        with diary.open("a") as file:
            file.write(f"{event}\n")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        for step in (bench.fit, bench.translate):
            task = Task(step.key, step, bench.store.folder, {"tumor": 1}, shared=True)
            done = Maker(task, note).outcome()
            assert done.error is None, done.traceback
    finally:
        ended.set()
        thread.join()
    assert diary.read_text().count("Remark") == 1


def test_g04_nothing_is_watched_afterwards(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    with guarded("plugin 'p' (p 1)", 0, (own,), tmp_path, lambda text: None):
        (own / "x").touch()
    (tmp_path / "x").touch()


def test_g04_threads_that_go_on_are_named(bench: Bench) -> None:
    bench.offer(
        "import time\ndef late():\n    while ctx.folder.exists(): time.sleep(0.01)\n"
        "threading.Thread(target=late, name='late').start()\nyield from volumes"
    )
    done = bench.run()
    assert done.error is None, done.traceback
    assert bench.warnings() == ["odd: plugin 'odd' (odd 1.2) left threads running: late"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_g04_a_thread_of_an_earlier_plugin_is_watched_and_the_next_one_not_blamed(
    tmp_path: Path,
) -> None:
    own, go = tmp_path / "own", threading.Event()
    own.mkdir()

    def late() -> None:
        go.wait()
        (tmp_path / "stray").touch()

    thread = threading.Thread(target=late, daemon=True)
    with guarded("plugin 'p' (p 1)", 0, (own,), tmp_path, lambda text: None):
        thread.start()
    with guarded("plugin 'q' (q 1)", 0, (own,), tmp_path, lambda text: None):
        go.set()
        thread.join()
    assert not (tmp_path / "stray").exists()


# --- G04: the process ---------------------------------------------------------------------------


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


SHARED: dict[str, tuple[str, Callable[[], Any]]] = {
    "Python's global random numbers": ("random.random()", random.getstate),
    "numpy's global random numbers": (
        "np.random.seed(1)",
        lambda: [*map(str, np.random.get_state())],
    ),
    "numpy's error handling": ("np.seterr(all='ignore')", np.geterr),
    "the working folder": ("os.chdir('/')", Path.cwd),
    "environment variables": (
        "os.environ['XDG_CACHE_HOME'] = '/x'; os.environ['ODD'] = '1'",
        lambda: dict(os.environ),
    ),
    "the handler of SIGTERM": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        lambda: signal.getsignal(signal.SIGTERM),
    ),
    "the umask": ("os.umask(0o027)", umask),
    "sys.path": ("sys.path.insert(0, '/x')", lambda: list(sys.path)),
    "the recursion limit": (
        "sys.setrecursionlimit(sys.getrecursionlimit() + 500)",
        sys.getrecursionlimit,
    ),
    "torch's default device": ("torch.set_default_device('meta')", torch.get_default_device),
    "torch's matmul precision": (
        "torch.set_float32_matmul_precision('medium')",
        torch.get_float32_matmul_precision,
    ),
    "torch's number of threads": (
        "torch.set_num_threads(torch.get_num_threads() + 1)",
        torch.get_num_threads,
    ),
    "torch's default dtype": ("torch.set_default_dtype(torch.float64)", torch.get_default_dtype),
    "torch's gradient mode": ("torch.set_grad_enabled(False)", torch.is_grad_enabled),
    "torch's deterministic mode": (
        "torch.use_deterministic_algorithms(False)",
        torch.are_deterministic_algorithms_enabled,
    ),
}


def test_g04_a_precision_of_one_device_is_put_back_too(bench: Bench) -> None:
    bench.offer(
        "import torch\ntorch.backends.mkldnn.matmul.fp32_precision = 'bf16'\nyield from volumes"
    )
    done = bench.run()
    assert done.error is None, done.traceback
    assert torch.get_float32_matmul_precision() == "highest"
    torch.backends.mkldnn.matmul.fp32_precision = "none"  # type: ignore[assignment]


@pytest.mark.parametrize("name", SHARED)
def test_g04_what_steps_share_is_put_back_with_a_warning(name: str, bench: Bench) -> None:
    change, state = SHARED[name]
    bench.offer(f"import torch\n{change}\nyield from volumes")
    assert bench.make(bench.fit).error is None
    before = state()
    done = bench.make(bench.translate)
    assert done.error is None, done.traceback
    assert state() == before
    [warning] = bench.warnings()
    assert f"odd: plugin 'odd' (odd 1.2) changed {name}" in warning


@pytest.mark.parametrize("limit", [1000, 2000])
def test_g04_what_libraries_had_set_before_is_put_back_as_it_was(
    limit: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["/library/_vendor", *sys.path])
    found, at_start = [*sys.path], sys.getrecursionlimit()
    bench.offer("sys.path.append('/x')\nsys.setrecursionlimit(2500)\nyield from volumes")
    try:
        sys.setrecursionlimit(limit)
        assert bench.run().error is None
        assert (sys.path, sys.getrecursionlimit()) == (found, limit)
    finally:
        sys.setrecursionlimit(at_start)


def test_g04_it_is_put_back_after_a_failure_too(bench: Bench) -> None:
    bench.offer("os.chdir('/')\nraise ValueError\nyield")
    before = Path.cwd()
    assert "ValueError" in bench.refused()
    assert Path.cwd() == before
    assert "the working folder" in bench.warnings()[0]


def test_g04_torch_may_draw_random_numbers(bench: Bench) -> None:
    bench.offer("import torch\ntorch.rand(3)\nyield from volumes")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert bench.run().error is None
    assert torch.equal(torch.get_rng_state(), before)
    assert bench.warnings() == []


def test_g04_global_random_numbers_do_not_depend_on_what_ran_before(bench: Bench) -> None:
    bench.offer(
        "import torch\n"
        "drawn = np.random.rand() / 4 + random.random() / 4 + torch.rand(1).item() / 4\n"
        "for v in volumes:\n    yield v.with_data(np.full_like(v.data, drawn))"
    )
    contents = []
    for number in (1, 2):
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        assert bench.run().error is None
        folder = bench.store.path(bench.translate.key)
        contents.append((folder / "images" / "case-0.nii").read_bytes())
        bench.store.quarantine(bench.translate.key)
    assert contents[0] == contents[1]


# --- the contract suite of authors finds the same -----------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("(OUT / 'stray').touch()\nyield from volumes", "writes outside of its folder"),
        ("np.random.rand()\nyield from volumes", "changed numpy's global random numbers"),
        ("for v in volumes:\n    yield v.with_data(v.data + np.nan)", "NaN"),
        ("return None", "returned None"),
        ("sys.exit()\nyield", "tries to end the program"),
        ("(ctx.folder / 'x').symlink_to(OUT)\nyield from volumes", "'x' in its folder is a link"),
        ("threading.Timer(2, print).start()\nyield from volumes", "left threads running"),
    ],
)
def test_g04_check_stage_finds_it(body: str, words: str, bench: Bench, tmp_path: Path) -> None:
    bench.offer(body)
    (tmp_path / "check").mkdir()
    with pytest.raises(PluginError, match=words):
        check_stage(find.load("odd").stage(), tmp_path / "check")


def test_check_stage_hands_on_what_is_stored(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Learns(Translator[Options]):
        def fit(self, source: Any, target: Any, ctx: Any) -> Any:
            return {"w": np.ones(2, ">f4")}

        def translate(self, volumes: Any, state: Any, ctx: Any) -> Any:
            seen.append(state["w"].dtype.byteorder)
            yield from volumes

    check_stage(Learns(), tmp_path)
    assert seen == ["=", "=", "="]
