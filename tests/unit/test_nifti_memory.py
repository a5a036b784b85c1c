"""How much memory looking at a file takes: at most twice its voxels, whatever they hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nifti_files import write

N = 200
SLACK = 1.25

# ru_maxrss of a child starts at that of its parent; VmHWM does not.
HEAD = """
import resource, sys
from pathlib import Path
from crossmod import CrossmodError
from crossmod.intake import Inspector, Intake, Limits, load_labels, load_scan, mend

def memory(field):
    [line] = [s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(field)]
    return int(line.split()[1]) * 1024

small, path, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
inspector = Inspector(Intake(nonfinite="zero"))
what = "labels" if "labels" in kind else "scan"
inspector.facts(small, what)
"""

PEAK = """
before = memory("VmHWM")
facts = inspector.facts(path, what)
if kind == "mended labels":
    assert mend(path, facts, path.with_name("copy.nii.gz"), None, Limits())
print(memory("VmHWM") - before)
"""

LIMITED = """
room = memory("VmSize") + int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    (load_labels if what == "labels" else load_scan)(path)
except CrossmodError as error:
    print(error.exit_code, error)
"""


def said(script: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + script, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def whole_numbers(end: int, number_type: str) -> np.ndarray:
    return np.random.default_rng(0).integers(0, end, (N, N, N), number_type)


def nonfinite() -> np.ndarray:
    data = np.full((N, N, N), np.nan, "f4")
    data[0, 0, 0], data[0, 0, 1] = 1, 2
    return data


def labels(number_type: str) -> np.ndarray:
    data = np.zeros((N, N, N), number_type)
    data[50:90, 50:90, 50:90] = 1.0000001
    return data


VOXELS = {
    "int16 scan": lambda: whole_numbers(1000, "i2"),
    "uint8 scan": lambda: whole_numbers(250, "u1"),
    "float64 scan": lambda: np.random.default_rng(0).normal(size=(N, N, N)),
    "scan of few values": lambda: whole_numbers(9, "i2"),
    "scan of NaN": nonfinite,
    "float32 labels": lambda: labels("f4"),
    "float64 labels": lambda: labels("f8"),
    "scaled labels": lambda: 2 * labels("u1"),
    "mended labels": lambda: labels("f8"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", VOXELS)
def test_memory_is_at_most_twice_the_voxels(kind: str, tmp_path: Path) -> None:
    data = VOXELS[kind]()
    scaling = {"scl_slope": 0.5 if kind == "scaled labels" else 1, "scl_inter": 0}
    small = write(tmp_path / "small.nii", data=np.arange(0, 16.0, 2).reshape(2, 2, 2), **scaling)
    path = write(tmp_path / "large.nii", data=data, **scaling)
    result_bytes = N**3 * (1 if "labels" in kind else 4)
    peak_bytes = int(said(PEAK, small, path, kind))
    assert peak_bytes < 2 * SLACK * max(data.nbytes, result_bytes)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["scan", "labels"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_what_does_not_fit_into_memory_is_said_with_its_size(
    kind: str, share: float, tmp_path: Path
) -> None:
    data = np.arange(N**3).reshape(N, N, N) % 200.0
    small = write(tmp_path / "small.nii", data=np.arange(8.0).reshape(2, 2, 2) * 31)
    path = write(tmp_path / "large.nii", data=data)
    told = said(LIMITED, small, path, kind, str(int(share * data.nbytes)))
    assert told.startswith(f"4 {path}: memory: 200 x 200 x 200 voxels are 0.032 GB as float32, ")
    assert "use a machine with more" in told
