from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crossmod import MachineError, PluginError
from crossmod.files.atomic import MANIFEST, write_file
from crossmod.store.store import Store

KEY = "ab" * 20


def publish(store: Store, text: str = "content") -> Path:
    with store.publish(KEY, {"step": "s", "key": KEY}) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file.txt").write_text(text)
    return store.path(KEY)


def test_an_entry_appears_whole_with_digests(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = publish(store)
    manifest = store.manifest(KEY)
    assert manifest is not None
    assert manifest["files"]["sub/file.txt"]["bytes"] == 7
    assert store.damaged(KEY) == []
    assert [path.name for path in entry.parent.iterdir()] == [KEY]  # no drafts left
    assert str(tmp_path) not in (entry / MANIFEST).read_text()


def test_a_failed_step_publishes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail_halfway() -> None:
        with store.publish(KEY, {}) as folder:
            (folder / "half.txt").write_text("half")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail_halfway()
    assert store.manifest(KEY) is None
    assert list(store.path(KEY).parent.iterdir()) == []


def test_a_write_error_says_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(MachineError, match="No space left"), store.publish(KEY, {}):
        raise OSError(28, "No space left on device", "/somewhere")


@pytest.mark.parametrize(
    ("name", "target"), [("w", "weights.pt"), ("w", "."), ("manifest.json", "")]
)
def test_what_cannot_be_kept_is_not_published(name: str, target: str, tmp_path: Path) -> None:
    store, outside = Store(tmp_path / "store"), tmp_path / "outside"
    outside.mkdir()
    (outside / "weights.pt").write_text("weights")
    mode = (outside / "weights.pt").stat().st_mode

    def work() -> None:
        with store.publish(KEY, {}) as folder:
            path = folder / name
            path.symlink_to(outside / target) if target else path.write_text("{}")

    with pytest.raises(PluginError, match=f"'{name}' in its folder"):
        work()
    assert store.manifest(KEY) is None
    assert (outside / "weights.pt").stat().st_mode == mode


def test_a_file_that_many_threads_write_is_always_whole(tmp_path: Path) -> None:
    target = tmp_path / "note.json"
    texts = [f"{n}" * 1000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: [write_file(target, text) for _ in range(20)], texts))
    assert target.read_text() in texts
    assert list(tmp_path.iterdir()) == [target]  # no drafts left


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(MachineError, match="cannot be written: Is a directory"):
        write_file(target, "text")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
def test_damage_is_found_and_set_aside(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    entry = publish(store)
    file = entry / "sub" / "file.txt"
    os.chmod(file, 0o644)  # noqa: PTH101
    if damage == "flip":
        file.write_text("CONTENT")
    elif damage == "truncate":
        file.write_text("con")
    elif damage == "delete":
        file.unlink()
    else:
        (entry / MANIFEST).write_text("{")
    assert store.damaged(KEY)
    aside = store.quarantine(KEY)
    assert aside is not None
    assert aside.exists()
    assert store.manifest(KEY) is None
    publish(store)
    assert store.damaged(KEY) == []


def test_a_store_can_be_moved(tmp_path: Path) -> None:
    publish(Store(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    assert Store(tmp_path / "b").damaged(KEY) == []


def test_one_at_a_time_computes_an_entry(tmp_path: Path) -> None:
    made: list[int] = []

    def work(number: int) -> None:
        store = Store(tmp_path)
        with store.lock(KEY):
            if store.manifest(KEY) is None:
                made.append(number)
                publish(store, str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(made) == 1
    files = json.loads((Store(tmp_path).path(KEY) / MANIFEST).read_text())["files"]
    assert list(files) == ["sub/file.txt"]


HOLD = """
import os, signal, sys
from pathlib import Path
from crossmod.store.store import Store
with Store(Path(sys.argv[1]), sys.argv[2] == "shared").lock(sys.argv[3]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("disk", ["local", "shared"])
def test_c07_the_lock_of_a_killed_process_is_taken_over(disk: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path), disk, KEY]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    store = Store(tmp_path, disk == "shared")
    with store.try_lock(KEY, patience_s=90) as free:  # a lease has to run out first
        assert free


def test_e04_published_twice_it_is_there_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.publish(KEY, {"step": "s", "key": KEY}) as slow:
        (slow / "file.txt").write_text("made twice")
        with Store(tmp_path).publish(KEY, {"step": "s", "key": KEY}) as quick:
            (quick / "file.txt").write_text("made twice")
        before = (store.path(KEY) / MANIFEST).stat().st_ino
    assert (store.path(KEY) / MANIFEST).stat().st_ino == before  # the first stays
    assert store.damaged(KEY) == []
    assert [path.name for path in store.path(KEY).parent.iterdir()] == [KEY]
