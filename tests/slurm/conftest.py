from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_node import Reference, Work, digests, slurm

START = Path(__file__).parent / "start_one_node.sh"


@pytest.fixture(scope="session")
def node() -> Iterator[None]:
    """A Slurm of one node, as long as the tests last."""
    if os.geteuid() != 0:
        pytest.skip("a Slurm of one node is started by root")
    missing = [name for name in ("slurmctld", "slurmd", "munged") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: apt-get install slurm-wlm munge")
    pytest.importorskip("submitit")
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        subprocess.run([START, folder], check=True)
        patch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
        yield
        subprocess.run([START, folder, "stop"], check=True)


@pytest.fixture(scope="session")
def reference(node: None, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    work = Work(tmp_path_factory.mktemp("local"), seconds=0)
    work.run("--workers", "2")
    rows = [json.loads(line) for line in work.events().splitlines()]
    return Reference(work.store, digests(work.store), {row["step"]: row["key"] for row in rows})


@pytest.fixture
def work(node: None, tmp_path: Path) -> Iterator[Work]:
    work = Work(tmp_path)
    yield work
    work.abandon()
    slurm("scancel", "--user=root")
