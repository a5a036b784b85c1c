"""Whole runs on Ray clusters, and what may happen to them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path

import pytest
from clusters import (
    LOOPBACK,
    TOKEN,
    Nodes,
    children,
    command,
    digests,
    marked,
    nodes,
    wait_until,
)
from program import SMOKE, Program, Result

# find_spec would take the folder of these tests for the package.
INSTALLED = any(one.name == "ray" for one in distributions())

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="needs the extra ray"),
]

NO_FAULT = "none:none:raise"  # lets points be traced


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def start(
    program: Program, mark: str, *arguments: str | Path, **variables: str
) -> subprocess.Popen[str]:
    """Start a run on Ray; all its processes carry a mark."""
    variables["CROSSMOD_TEST_MARK"] = mark
    return program.start("run", SMOKE, "--out", "run", "--store", "store", "--engine", "ray",
                         *arguments, **variables)  # fmt: skip


def end(process: subprocess.Popen[str], code: int = 0) -> str:
    stdout, stderr = process.communicate()
    assert process.returncode == code, stdout + stderr
    return stdout + stderr


def finished(folder: Path) -> list[str]:
    """Steps that were made so far, in all runs in a folder."""
    if not (folder / "events.jsonl").exists():
        return []
    return [event["step"] for event in Result(folder, "").events() if event["event"] == "finished"]


def log(program: Program) -> str:
    """All that was said of steps so far."""
    path = program.folder / "run" / "events.jsonl"
    return path.read_text("utf-8") if path.exists() else ""


def profile_for(cluster: Nodes, folder: Path) -> Path:
    path = folder / "profile.toml"
    path.write_text(f'[ray]\naddress = "{cluster.address}"\n', encoding="utf-8")
    return path


def published(trace: Path) -> Counter[str]:
    lines = trace.read_text("utf-8").splitlines()
    return Counter(step for step, _, point in (line.partition(":") for line in lines)
                   if point == "published")  # fmt: skip


def test_a_lost_node_costs_no_result(program: Program, local: Result) -> None:
    """E01, E04: the step is made elsewhere, and every result is published once."""
    trace, held = program.folder / "trace", program.folder / "held"
    calm = {"CROSSMOD_FAULT": NO_FAULT, "CROSSMOD_FAULT_TRACE": str(trace)}
    doomed = {"CROSSMOD_FAULT": "*:draft:sleep=1000", "CROSSMOD_FAULT_TRACE": str(held)}
    with nodes(calm, calm, doomed) as cluster:
        process = start(program, "lost", "--profile", profile_for(cluster, program.folder),
                        **LOOPBACK, **TOKEN)  # fmt: skip
        wait_until(lambda: held.exists() and ":draft" in held.read_text("utf-8"))
        step = held.read_text("utf-8").splitlines()[-1].partition(":")[0]
        cluster.kill(2)
        output = end(process)
    assert f"the machine or the process of {step} was lost; it restarts" in output
    events = Result(program.folder / "run", "").events()
    starts = [e for e in events if e["step"] == step and "is running on" in e.get("text", "")]
    assert len(starts) == 2
    assert digests(program.folder / "store") == digests(local.folder.parent / "store")
    assert sorted(finished(program.folder / "run")) == sorted(local.made())
    assert published(trace) == Counter(local.made())


def test_two_runs_at_once_make_every_step_once(program: Program, local: Result) -> None:
    """E04, E06: two programs want the same results from the same cluster."""
    trace = program.folder / "trace"
    calm = {"CROSSMOD_FAULT": NO_FAULT, "CROSSMOD_FAULT_TRACE": str(trace)}
    with nodes(calm, calm) as cluster:
        profile = profile_for(cluster, program.folder)
        first, second = (
            start(program, "two", "--profile", profile, "--out", name, **LOOPBACK, **TOKEN)
            for name in ("first", "second")
        )
        end(first)
        end(second)
    assert digests(program.folder / "store") == digests(local.folder.parent / "store")
    assert published(trace) == Counter(local.made())
    made = finished(program.folder / "first") + finished(program.folder / "second")
    assert sorted(made) == sorted(local.made())


def test_a_cluster_of_ones_own(program: Program, local: Result) -> None:
    """E07: Ray's port is taken, and another Ray asks to be joined in every way it can."""
    with nodes({}, port=6379) as other:
        variables = {"RAY_ADDRESS": other.address, "RAY_GCS_SERVER_PORT": "6379", **TOKEN}
        end(start(program, "own", **variables))
        assert other.drivers() == 0
        os.kill(other.raylets[0], 0)  # still there
    assert digests(program.folder / "store") == digests(local.folder.parent / "store")
    wait_until(lambda: not marked("CROSSMOD_TEST_MARK=own"), seconds=10)


def test_stopped_and_resumed(program: Program, local: Result) -> None:
    process = start(program, "stopped")
    wait_until(lambda: len(finished(program.folder / "run")) > 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert "rerun the same command" in end(process, code=5)
    wait_until(lambda: not marked("CROSSMOD_TEST_MARK=stopped"), seconds=10)
    end(start(program, "resumed"))
    assert sorted(finished(program.folder / "run")) == sorted(local.made())
    assert digests(program.folder / "store") == digests(local.folder.parent / "store")


def test_stopped_at_once(program: Program) -> None:
    """The second signal does not wait for anything."""
    process = start(program, "at-once", CROSSMOD_FAULT="phantom:begin:sleep=1000")
    wait_until(lambda: "phantom is running on" in log(program))
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1)
    wait_until(lambda: process.poll() is not None, seconds=15)
    end(process, code=5)
    wait_until(lambda: not marked("CROSSMOD_TEST_MARK=at-once"), seconds=10)


def test_stopped_on_a_running_cluster(program: Program) -> None:
    """A step that reaches no safe point is ended, what waits leaves, the cluster stays."""
    with nodes({"CROSSMOD_FAULT": "prepare-*:begin:sleep=1000"}) as cluster:
        process = start(program, "joined", "--profile", profile_for(cluster, program.folder),
                        **LOOPBACK, **TOKEN)  # fmt: skip
        wait_until(lambda: re.search("prepare-.* is running on", log(program)))
        os.killpg(process.pid, signal.SIGINT)
        end(process, code=5)
        work = [pid for pid in children(cluster.raylets[0]) if command(pid).startswith("ray::prep")]
        assert not work
        assert command(cluster.raylets[0])


def test_killed_and_finished_by_another_engine(program: Program, local: Result) -> None:
    """E05: no finished step is made again; the last idle processes leave within a minute or so."""
    process = start(program, "killed")
    wait_until(lambda: len(finished(program.folder / "run")) > 3)
    process.kill()
    process.communicate()
    time.sleep(10)  # steps at work end in two
    before = set(digests(program.folder / "store"))
    rest = program.run("run", "--workers", "2")
    assert before.isdisjoint(rest.keys()[step] for step in rest.made())
    assert len(before) + len(rest.made()) == len(local.made())
    assert digests(program.folder / "store") == digests(local.folder.parent / "store")
    wait_until(lambda: not marked("CROSSMOD_TEST_MARK=killed"), seconds=90)
    for left in Path("/tmp").glob(f"crossmod-ray-*/session/session_*_{process.pid}"):
        shutil.rmtree(left.parents[1])


def test_memory_short(program: Program) -> None:
    """Ray looks every 20 s and ends what it must, here all; the error names the step."""
    variables = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "20000"}
    output = end(start(program, "memory", CROSSMOD_FAULT="*:begin:sleep=60", **variables), code=4)
    assert "step phantom" in output
    assert "out of memory" in output


def test_a_process_dies_again_and_again(program: Program) -> None:
    profile = program.folder / "profile.toml"
    profile.write_text("[ray]\nretries = 1\n", encoding="utf-8")
    output = end(start(program, "dies", "--profile", profile,
                       CROSSMOD_FAULT="phantom:begin:kill"), code=4)  # fmt: skip
    assert "it restarts" in output
    assert "step phantom: its machine or process was lost 2 times" in output
