"""Ray nodes to run on, and a look at what is left of a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # where the nodes of the tests listen
PRIORITY = {"RAY_worker_niceness": "0"}  # by default tasks wait for all else on the machine
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


@dataclass
class Nodes:
    """Ray nodes that do not belong to a run."""

    address: str
    raylets: list[int]
    folder: Path

    def kill(self, number: int) -> None:
        """Let a node vanish with all its processes."""
        raylet = self.raylets[number]
        for pid in [raylet, *children(raylet)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def drivers(self) -> int:
        """How many programs have joined."""
        return len(list(self.folder.glob("session_2*/logs/python-core-driver-*")))


@contextmanager
def nodes(*variables: dict[str, str], port: int = 0) -> Iterator[Nodes]:
    """Nodes of a cluster, each with its environment variables."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # sockets allow no long path
    wanted = {"folder": str(folder), "port": port, "nodes": variables}
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("nodes.py"), json.dumps(wanted)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **LOOPBACK, **PRIORITY, **TOKEN, "RAY_USAGE_STATS_ENABLED": "0"},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Nodes(**json.loads(process.stdout.readline()), folder=folder)
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=30)
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def children(pid: int) -> list[int]:
    """All processes below one."""
    with suppress(OSError):
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        return [int(child) for child in found] + [g for c in found for g in children(int(c))]
    return []


def command(pid: int) -> str:
    """The command line of a process."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def marked(mark: str) -> list[str]:
    """The command lines of all processes that have a word in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(command(int(folder.name)))
    return found


def wait_until(true: Callable[[], object], seconds: float = 600.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def digests(store: Path) -> dict[str, object]:
    """Content key -> the files of an entry with their digests."""
    found = store.glob("[0-9a-f][0-9a-f]/*/manifest.json")
    return {path.parent.name: json.loads(path.read_text("utf-8"))["files"] for path in found}
