"""The process that parses DICOM: what ends it, what is left of it, and whose fault it is."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import series

from crossmod import DataError, MachineError
from crossmod.intake.dicom import bounds, child, process, read_series, write_seg
from crossmod.intake.options import Limits

SLOW = """
import os, sys, time
from pathlib import Path
from crossmod.intake.dicom import child

def read(request, room):
    (room / "data.npy").write_bytes(bytes(1000))
    alive = open(os.environ["ALIVE"], "w")  # closed by the end of the child
    time.sleep(60)

child.TASKS["read"] = read
child.main(sys.argv[1], Path(sys.argv[2]))
"""

IMPORT = """
import signal, sys
from crossmod.cli import main
from crossmod.intake.dicom import process

for number in (signal.SIGTERM, signal.SIGHUP):  # these tests may run where they are ignored
    signal.signal(number, signal.SIG_DFL)
process.CHILD = "slow_child"
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP"])
def test_the_child_ends_with_its_parent_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "slow_child.py").write_text(SLOW, encoding="utf-8")
    (tmp_path / "rooms").mkdir()
    os.mkfifo(tmp_path / "alive")
    series(tmp_path / "in" / "case", [0, 2, 4])
    out = tmp_path / "out"
    command = ["data", "import", str(tmp_path / "in"), str(out), "--format", "dicom"]
    with subprocess.Popen(
        [sys.executable, "-c", IMPORT, *command],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "code"), "ALIVE": str(tmp_path / "alive"),
             "TMPDIR": str(tmp_path / "rooms")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as parent:  # fmt: skip
        with (tmp_path / "alive").open() as alive:
            assert len(list((tmp_path / "rooms").rglob("data.npy"))) == 1
            parent.send_signal(getattr(signal, name))
            began = time.monotonic()
            alive.read()
        code = parent.wait()
    assert time.monotonic() - began < 10  # of 60 that it would go on
    assert list((tmp_path / "rooms").iterdir()) == []
    assert code == (-signal.SIGKILL if name == "SIGKILL" else 5)
    if name == "SIGKILL":
        assert len(list(out.glob(".import-*"))) == 1
        again = [sys.executable, "-c", "from crossmod.cli import main; main()", *command]
        subprocess.run(again, check=True, stdout=subprocess.DEVNULL)
        assert sorted(path.name for path in out.glob("[!.]*")) == ["data.toml", "target"]
    else:
        assert not out.exists()


def child_limits(monkeypatch: pytest.MonkeyPatch, hard: int) -> dict[int, tuple[int, int]]:
    """Let the system allow no more than that of anything; what is set then."""
    found: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (hard, hard))

    def setrlimit(kind: int, limits: tuple[int, int]) -> None:
        if limits[1] > hard >= 0:
            raise ValueError("not allowed to raise maximum limit")
        found[kind] = limits

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    return found


def test_processor_time_is_limited_also_without_a_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    found = child_limits(monkeypatch, resource.RLIM_INFINITY)
    assert bounds.limit(10**9, seconds=1.5) == 10**9
    assert found[resource.RLIMIT_CPU] == (7, 7)
    assert found[resource.RLIMIT_AS] == (10**9, 10**9)


def test_a_system_may_allow_less_than_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    found = child_limits(monkeypatch, 3)
    assert bounds.limit(10**9, seconds=1.5) == 3
    assert found[resource.RLIMIT_AS] == (3, 3)


@pytest.mark.parametrize(("allowed", "kind"), [(4 * 10**9, "DataError"), (10**9, "MachineError")])
def test_too_little_memory_is_whose_fault_it_is(
    allowed: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> dict[str, Any]:
        raise MemoryError

    monkeypatch.setitem(child.TASKS, "read", read)
    request = {"memory_bytes": 4 * 10**9, "may_take_bytes": allowed}
    told = child.answered("read", request, tmp_path)["error"]
    assert told["kind"] == kind
    assert told["what"].startswith(f"needs more than {allowed / 1e9:g} GB")


def under(limit: str, folder: Path) -> tuple[int, str]:
    """Exit code and message of an import under a limit of the shell."""
    command = f'ulimit {limit}; exec "$0" -c "from crossmod.cli import main; main()" "$@"'
    arguments = ["data", "import", str(folder), str(folder.parent / "out"), "--format", "dicom"]
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(folder.parent), "COLUMNS": "300"},
    )
    return done.returncode, done.stderr + done.stdout


def test_a_low_limit_of_the_system_is_no_fault_of_the_files(tmp_path: Path) -> None:
    series(tmp_path / "in" / "case", [0, 2, 4])
    code, text = under("-v 3500000", tmp_path / "in")
    assert code == 0, text


def test_a_full_disk_is_no_fault_of_the_files(tmp_path: Path) -> None:
    voxels = np.zeros((64, 64), np.int16).tobytes()
    series(tmp_path / "in" / "case", [0, 2, 4], Rows=64, Columns=64, PixelData=voxels)
    code, text = under("-f 20", tmp_path / "in")
    assert code == 4, text
    assert "temporary files cannot be written" in text
    assert str(tmp_path / "crossmod-dicom-") in text
    assert "TMPDIR" in text


def test_no_room_for_an_answer_is_no_fault_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    monkeypatch.setattr(process, "CHILD", "no_such_module")
    with pytest.raises(DataError, match="ended with exit code 1"):
        read_series(folder)
    monkeypatch.setattr(process.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 4096}))
    with pytest.raises(MachineError, match="temporary files cannot be written"):
        read_series(folder)


def test_no_room_for_what_the_child_needs_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])

    def save(path: Path, *_: object, **__: object) -> None:
        raise OSError("60 requested and 12 written")

    monkeypatch.setattr(process.np, "save", save)
    with pytest.raises(MachineError, match="cannot be written: no space left"):
        write_seg(tmp_path / "o.dcm", np.zeros((5, 4, 3), np.uint8), np.eye(4), {"a": 1},
                  folder=folder)  # fmt: skip


def test_what_to_do_about_a_limit_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    monkeypatch.setattr(process, "CHILD", "slow")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DataError) as caught:
        read_series(series(tmp_path / "s", [0, 2]), limits=Limits(dicom_seconds=1))
    assert "raise intake.limits.dicom_seconds" in caught.value.fix
