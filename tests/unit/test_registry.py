from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crossmod.store.collect
import crossmod.store.store
from crossmod import MachineError
from crossmod.errors import Interrupted
from crossmod.store.collect import Collector, Removed
from crossmod.store.runs import KnownRun, known_runs, name_of, recorded
from crossmod.store.store import Store


def key(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:40]


def publish(store: Store, *names: str) -> None:
    for name in names:
        with store.publish(key(name), {"step": name}) as folder:
            (folder / "file.txt").write_text(name)


def the_steps(names: Iterable[str]) -> dict[str, dict[str, str]]:
    return {"": {name: key(name) for name in names}}


def enter(store: Store, folder: Path, *names: str) -> None:
    """A run that finished at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with recorded(store, folder, "Title", the_steps(names)):
        pass


def the_run(store: Store) -> KnownRun:
    [run], unreadable = known_runs(store)
    assert unreadable == []
    return run


def draft_of(store: Store, name: str) -> Path:
    """What a killed program leaves beside a result."""
    draft = store.path(key(name)).with_name(f".{key(name)}.123.0a1b2c3d")
    draft.mkdir(parents=True)
    (draft / "half.txt").write_text("half")
    return draft


def checkpoint_of(store: Store, name: str, step: str = "000000004") -> Path:
    states = store.checkpoints(key(name)) / step
    states.mkdir(parents=True)
    (states / "state").write_text("state")
    return states


def collect(store: Store, **options: bool) -> Removed:
    return Collector(store, **options).collect()


@contextmanager
def other_process(store: Store, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a lock until it is killed."""
    program = (
        "import sys; from pathlib import Path; from crossmod.store.store import Store\n"
        f"with Store(Path(sys.argv[1]), {store.shared}).lock(sys.argv[2]):\n"
        "    print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, store.folder, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_record_says_how_a_run_is_doing(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    steps = {"a": {"one": key("one")}, "b": {"one": key("one"), "two": key("two")}}
    with store.lock(name_of(store, folder)), recorded(store, folder, "Title", steps):
        assert the_run(store).state == "running"
    run = the_run(store)
    assert (run.state, run.folder, run.record.title) == ("finished", folder, "Title")
    assert run.keys == {key("one"), key("two")}
    with pytest.raises(Interrupted), recorded(store, folder, "Title", steps):
        raise Interrupted("stopped")
    assert the_run(store).state == "interrupted"
    with pytest.raises(ValueError, match="x"), recorded(store, folder, "Title", steps):
        raise ValueError("x")
    assert the_run(store).state == "failed"
    folder.rmdir()
    assert the_run(store).state == "gone"


def test_a_killed_run_is_unfinished(store: Store, tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path\n"
        "from crossmod.store.runs import name_of, recorded\n"
        "from crossmod.store.store import Store\n"
        "store, folder = Store(Path(sys.argv[1])), Path(sys.argv[2])\n"
        "with store.lock(name_of(store, folder)), recorded(store, folder, 't', {}):\n"
        "    folder.mkdir(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, store.folder, tmp_path / "run"], check=False)
    assert the_run(store).state == "unfinished"


def test_the_name_of_a_run_is_the_same_after_a_move_and_through_a_link(tmp_path: Path) -> None:
    store = Store(tmp_path / "disk" / "store")
    enter(store, tmp_path / "disk" / "run", "a")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "link").symlink_to(store.folder)
    linked = Store(tmp_path / "deep" / "link")
    assert name_of(linked, tmp_path / "disk" / "run") == the_run(store).file.stem
    assert the_run(linked).state == "finished"
    assert str(tmp_path) not in the_run(store).file.read_text()
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    moved = Store(tmp_path / "elsewhere" / "store")
    assert the_run(moved).folder == tmp_path / "elsewhere" / "run"
    assert the_run(moved).state == "finished"


def test_a_store_that_is_only_read_keeps_no_record(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(store, tmp_path / "run", "a")
    monkeypatch.setattr(Store, "writable", False)
    enter(store, tmp_path / "other", "b")
    assert the_run(store).state == "finished"
    assert not list(tmp_path.glob("store/locks/run-*"))
    with pytest.raises(MachineError, match="cannot be written"):
        collect(store)


def test_a_full_disk_does_not_hide_why_a_run_failed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (  # noqa: PT012
        pytest.raises(ValueError, match="first"),
        recorded(store, tmp_path, "Title", {}),
    ):
        monkeypatch.setenv("CROSSMOD_FAULT", "*:write-*:enospc")
        raise ValueError("first")
    assert the_run(store).state == "unfinished"


@pytest.mark.parametrize("text", ["{", "", '{"format": 2}', "\x00", "moved"])
def test_a_record_that_cannot_be_read_stops_the_collector(
    text: str, store: Store, tmp_path: Path
) -> None:
    publish(store, "a", "b")
    enter(store, tmp_path / "run", "a")
    if text == "moved":
        text = the_run(store).file.read_text()
    strange = store.folder / "runs" / "run-0000.json"
    strange.write_text(text)
    assert known_runs(store)[1] == [strange]
    with pytest.raises(MachineError, match="cannot be read") as caught:
        collect(store)
    assert str(strange) in str(caught.value)
    assert store.manifest(key("b"))


def test_what_a_run_with_a_folder_refers_to_stays(store: Store, tmp_path: Path) -> None:
    publish(store, "a", "b", "c", "d")
    enter(store, tmp_path / "one", "a", "b")
    enter(store, tmp_path / "two", "b", "c")
    shutil.rmtree(tmp_path / "two")
    tree = sorted(store.folder.rglob("*"))
    foreseen = collect(store, dry_run=True)
    assert sorted(store.folder.rglob("*")) == tree
    removed = collect(store)
    assert removed == foreseen
    assert removed.counts == {"results": 2}
    assert removed.gone == [tmp_path / "two"]
    assert [name for name in "abcd" if store.manifest(key(name))] == ["a", "b"]
    assert the_run(store).folder == tmp_path / "one"
    assert collect(store) == Removed()


def test_what_is_linked_into_a_folder_stays(store: Store, tmp_path: Path) -> None:
    """A run folder was renamed: removing what it holds would free nothing."""
    publish(store, "a")
    enter(store, tmp_path / "run", "a")
    shutil.copytree(store.path(key("a")), tmp_path / "run" / "01-a", copy_function=os.link)
    (tmp_path / "run").rename(tmp_path / "renamed")
    assert collect(store).gone == [tmp_path / "run"]
    assert store.manifest(key("a"))
    shutil.rmtree(tmp_path / "renamed")
    assert collect(store).counts == {"results": 1}


def test_a_removed_folder_of_a_running_run_is_no_reason(store: Store, tmp_path: Path) -> None:
    publish(store, "a")
    enter(store, tmp_path / "run", "a", "b")
    draft, states = draft_of(store, "b"), checkpoint_of(store, "a")
    (tmp_path / "run").rmdir()
    with other_process(store, name_of(store, tmp_path / "run")):
        assert collect(store) == Removed()
    assert store.manifest(key("a"))
    assert draft.exists()
    assert states.exists()


@pytest.mark.parametrize("shared", [False, True])
def test_c08_debris_goes_only_without_a_live_owner(
    tmp_path: Path, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossmod.store.collect, "LEASE_S", 0.1)
    store = Store(tmp_path / "store", shared)
    enter(store, tmp_path / "run", "a", "b")
    publish(store, "b")
    drafts = [draft_of(store, name) for name in "abc"]
    half = checkpoint_of(store, "a", ".000000008.9.0a1b2c3d")
    whole, over, strange = (checkpoint_of(store, name) for name in "abc")
    with other_process(store, key("a")):
        removed = collect(store)
        assert removed.busy == [key("a")]
        assert [path.exists() for path in drafts] == [True, False, False]
        assert half.exists()
    removed = collect(store)
    assert removed.counts == {"drafts": 2}
    assert not drafts[0].exists()
    assert not half.exists()
    assert [path.exists() for path in (whole, over, strange)] == [True, False, False]
    assert [path.name for path in (store.folder / "locks").glob("[!r]*")] == []


def test_the_lock_of_a_machine_that_died_is_outlived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (crossmod.store.collect, crossmod.store.store):
        monkeypatch.setattr(module, "LEASE_S", 1.0)
    store = Store(tmp_path / "store", shared=True)
    draft = draft_of(store, "a")
    lease = store.folder / "locks" / f"{key('a')}.lease"
    with store.lock(key("a")):
        left_behind = lease.read_text()
    host = next(line for line in left_behind.splitlines() if line.startswith("host="))
    lease.write_text(left_behind.replace(host, "host=node17"))
    assert store.busy(key("a"))
    assert collect(store).counts == {"drafts": 1}
    assert not draft.exists()
    assert not lease.exists()


def test_quarantine_goes_only_when_asked_for(store: Store) -> None:
    publish(store, "a")
    aside = store.quarantine(key("a"))
    assert aside is not None
    assert collect(store) == Removed()
    assert aside.exists()
    assert collect(store, quarantine=True).counts == {"damaged results": 1}
    assert not aside.exists()


def test_what_cannot_be_removed_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "a", "b")
    rename = Path.rename

    def not_mine(path: Path, target: Path) -> Path:
        if path.name == key("a"):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", not_mine)
    removed = collect(store)
    assert removed.counts == {"results": 1}
    assert removed.refused == [f"{store.path(key('a'))}: Permission denied"]


def test_nothing_else_in_the_folder_is_touched(store: Store) -> None:
    mine = [store.folder / "notes.txt", store.folder / "ab" / "cd", store.folder / "ab" / ".hidden"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert collect(store, quarantine=True) == Removed()
    assert all(path.exists() for path in mine)


def test_collectors_and_owners_of_locks_side_by_side(store: Store, tmp_path: Path) -> None:
    enter(store, tmp_path / "run", "a")
    inside: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            with store.lock(key("a")):
                inside.append(number)
                assert inside == [number]
                shutil.rmtree(store.path(key("a")), ignore_errors=True)
                publish(store, "a")
                inside.remove(number)

    def tidy(number: int) -> None:
        del number
        for _ in range(20):
            assert collect(store).refused == []

    with ThreadPoolExecutor(5) as pool:
        for done in [pool.submit(work, n) for n in range(3)] + [
            pool.submit(tidy, n) for n in range(2)
        ]:
            done.result()
    assert store.manifest(key("a"))


NAMES = st.sampled_from("abcdefgh")
SOME = st.frozensets(NAMES)
RUN = st.tuples(SOME, st.sampled_from(["there", "failed", "gone", "running", "renamed"]))


def make_run(store: Store, folder: Path, names: frozenset[str], state: str) -> None:
    enter(store, folder, *names)
    if state == "failed":
        with suppress(ValueError), recorded(store, folder, "Title", the_steps(names)):
            raise ValueError
    if state == "renamed":
        for one in filter(store.manifest, map(key, sorted(names))):
            shutil.copytree(
                store.path(one), folder.with_name(f"new-{folder.name}-{one}"), copy_function=os.link
            )
    if state in ("gone", "running", "renamed"):
        folder.rmdir()


@settings(max_examples=40)
@given(stored=SOME, drafts=SOME, states=SOME, runs=st.lists(RUN, max_size=4), again=st.booleans())
def test_no_key_that_a_run_refers_to_is_ever_removed(
    stored: frozenset[str],
    drafts: frozenset[str],
    states: frozenset[str],
    runs: list[tuple[frozenset[str], str]],
    again: bool,
) -> None:
    by_state: defaultdict[str, set[str]] = defaultdict(set)
    with TemporaryDirectory() as place, ExitStack() as held:
        store = Store(Path(place) / "store", shared=False)
        publish(store, *stored)
        left = {name: draft_of(store, name) for name in drafts}
        left_states = {name: checkpoint_of(store, name) for name in states}
        for number, (names, state) in enumerate(runs):
            folder = Path(place) / f"run-{number}"
            make_run(store, folder, names, state)
            by_state[state] |= names
            if state == "running":
                held.enter_context(store.lock(name_of(store, folder)))
        for _ in range(1 + again):
            collect(store)

        at_work = by_state["running"]
        needed = by_state["there"] | by_state["failed"] | at_work
        kept = {name for name in stored if store.manifest(key(name))}
        assert kept == stored & (needed | by_state["renamed"])
        assert {name for name in left if left[name].exists()} == drafts & at_work
        resumable = at_work | (needed - stored)
        assert {name for name in states if left_states[name].exists()} == states & resumable
        assert all(path in left.values() for path in store.folder.glob("*/.*"))
