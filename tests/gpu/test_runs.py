"""The command itself on a GPU: every stage of the quickstart, tiny."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CROSSMOD = Path(sys.executable).with_name("crossmod")


def run(folder, *more):
    """Run the smoke recipe; name of each step -> (device, digests of its files)."""
    command = [CROSSMOD, "run", "smoke", "--store", folder / "store", "--out", folder / "run"]
    done = subprocess.run(
        [*map(str, command), *more], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for path in (folder / "store").rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        if "step" in manifest:
            digests = {name: file["sha256"] for name, file in manifest["files"].items()}
            found[manifest["step"], manifest["key"]] = (manifest.get("device"), digests)
    return found


def test_exact_is_the_same_bits_in_two_runs_with_other_workers(tmp_path, note):
    one = run(tmp_path / "one", "--workers", "1")
    other = run(tmp_path / "other", "--workers", "2")  # probes all its steps first
    assert {device for device, _ in one.values()} == {"cuda"}
    assert one == other
    note(f"smoke recipe on the GPU, twice: {len(one)} steps, the same bits")
