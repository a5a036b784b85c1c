"""What readers make of bad NIfTI files; prints the table of safety.md.

    pip install torchio==1.2.1; python docs/explanation/measure_readers.py [FOLDER]

Every file is written into a folder of its own, then loaded by every reader in a process of its own
with a limit of memory and time, and compared with what was written.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "unit"))
from nifti_files import AFFINE, anatomy, content, some_data

MEMORY_GB, SECONDS = 8, 60
SIZE = (40, 30, 20)
DATA = some_data(SIZE) + 1
NOISE = np.random.default_rng(0).bytes(14_000)
BESIDE = "b.nii.gz"
"""A file of this name has another one beside it."""

Loading = tuple[np.ndarray, np.ndarray, tuple[str, ...]]
"""Voxels, affine voxel -> RAS+ mm, remarks."""


def simpleitk(path: Path) -> Loading:
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    n = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(n, n)
    affine[:3, :3] = direction[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return SimpleITK.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine, ()


def nibabel(path: Path) -> Loading:
    import nibabel

    image = nibabel.load(path)
    return np.asarray(image.dataobj), image.affine, ()


def torchio(path: Path) -> Loading:
    import torchio

    image = torchio.ScalarImage(path)
    data = image.data.numpy()
    return (data[0] if len(data) == 1 else np.moveaxis(data, 0, -1)), image.affine, ()


def crossmod(path: Path) -> Loading:
    from crossmod.intake import load_scan

    scan = load_scan(path)
    return scan.data, scan.affine, scan.remarks


READERS = {"SimpleITK": simpleitk, "nibabel": nibabel, "torchio": torchio, "crossmod": crossmod}


def flipped(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]


def shifted(column: int, row: int, by: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[row, column] += by
    return affine


def sform(affine: np.ndarray) -> dict[str, np.ndarray]:
    return {name: affine[row] for row, name in enumerate(("srow_x", "srow_y", "srow_z"))}


File = tuple[str, str, bytes, np.ndarray, np.ndarray]
"""What is wrong, the name, the content, and the voxels and affine that a reader should find."""


def of(data: np.ndarray = DATA, affine: np.ndarray = AFFINE, **fields: Any) -> bytes:
    return content(data, affine, **fields)


def sized(*shape: int) -> list[int]:
    """The field `dim`."""
    return [len(shape), *shape, *[1] * (7 - len(shape))]


def damaged() -> Iterator[File]:
    """Files that lost or changed something on the way."""
    small, large = of(), anatomy(64)
    little = some_data((4, 3, 3))
    few, real = gzip.compress(of(little), mtime=0), gzip.compress(large, mtime=0)
    rows = np.frombuffer(large[280:328], "<f4").reshape(3, 4)
    there = np.frombuffer(large[352:], np.uint8).reshape(64, 64, 64, order="F")
    head = (there, np.vstack([rows, [0, 0, 0, 1]]).astype(float))
    ball = (little, AFFINE)
    scan = (DATA, AFFINE)
    half, last = len(real) // 2, len(real) - 8
    yield "`.nii.gz` cut in half", "a.nii.gz", real[:half], *head
    yield "`.nii` cut in half", "a.nii", large[: len(large) // 2], *head
    yield "header only", "a.nii", small[:352], *scan
    yield "`vox_offset` past the end", "a.nii", of(vox_offset=1e6), *scan
    yield "byte changed within `.nii.gz`", "a.nii.gz", flipped(real, half), *head
    yield "the same, tiny file", "a.nii.gz", flipped(few, 90), *ball
    yield "wrong checksum", "a.nii.gz", flipped(real, last), *head
    yield "wrong checksum, tiny file", "a.nii.gz", flipped(few, len(few) - 8), *ball
    yield "checksum missing", "a.nii.gz", real[:last], *head
    yield "bytes after the voxels", "a.nii.gz", gzip.compress(small + NOISE), *scan
    yield "byte of a voxel changed, `.nii`", "a.nii", flipped(small, 20_001), *scan
    yield "plain NIfTI named `.nii.gz`", "a.nii.gz", small, *scan
    yield "gzip named `.nii`", "a.nii", gzip.compress(small), *scan
    yield "`b.nii.gz` beside another `b.nii`", BESIDE, gzip.compress(small), *scan
    yield "HTML saved as `.nii.gz`", "a.nii.gz", b"<html>404</html>" * 40, *scan
    yield "magic bytes wrong", "a.nii", of(magic=b"xyz"), *scan


def odd_voxels() -> Iterator[File]:
    """Sizes, types and values that are no scan, or that not every reader knows."""
    scan = (DATA, AFFINE)
    broken = DATA.astype("f4")
    broken[1, 1, 1], broken[2, 2, 2] = np.nan, np.inf
    huge = gzip.compress(of(dim=sized(1200, 1200, 1000)) + NOISE)
    both = np.stack([DATA, DATA], axis=-1)
    yield "NaN and Inf in voxels", "a.nii.gz", gzip.compress(of(broken)), broken, AFFINE
    yield "all voxels the same", "a.nii", of(DATA * 0 + 7), DATA * 0 + 7, AFFINE
    yield "32767³ voxels in 14 KB", "a.nii", of(dim=sized(32767, 32767, 32767)) + NOISE, *scan
    yield "1200x1200x1000 voxels in 14 KB", "a.nii.gz", huge, *scan
    yield "negative dimension", "a.nii", of(dim=sized(40, -30, 20)), *scan
    yield "dimension 0", "a.nii", of(dim=sized(40, 0, 20)), *scan
    yield "4D, two volumes", "a.nii", of(both), *scan
    yield "complex", "a.nii", of(DATA.astype("c8")), *scan
    yield "`scl_slope` Inf", "a.nii", of(scl_slope=np.inf), *scan
    yield "int64", "a.nii", of(DATA.astype("i8")), *scan
    yield "NIfTI-2", "a.nii", of(version=2), *scan
    yield "big-endian", "a.nii", of(order=">"), *scan


def odd_geometry() -> Iterator[File]:
    """Files that do not say, or say twice, where their voxels lie."""
    scan = (DATA, AFFINE)
    for size in (np.nan, 0):
        pixdim = [1, 1, size, 1.5, 0, 0, 0, 0]
        yield f"`pixdim` {size}", "a.nii", of(pixdim=pixdim), *scan
        yield f"`pixdim` {size}, no sform", "a.nii", of(pixdim=pixdim, sform_code=0), *scan
    yield "no qform, no sform", "a.nii", of(sform_code=0, qform_code=0), *scan
    for percent in (1, 0.05):
        sheared = shifted(1, 0, 0.02 * percent)
        yield f"shear of {percent} %", "a.nii", of(**sform(sheared)), DATA, sheared
    yield "singular sform", "a.nii", of(srow_z=[0, 0, 0, 0]), *scan
    moved = shifted(3, 0, 7)
    yield "sform 7 mm from qform", "a.nii", of(**sform(moved)), DATA, moved
    other = of(**sform(moved), sform_code=2)
    yield "the same, sform to another scan", "a.nii", other, DATA, moved
    yield "`sform_code` 77", "a.nii", of(**sform(moved), sform_code=77), DATA, moved
    microns = of(affine=np.diag([1e3, 1e3, 1e3, 1]) @ AFFINE, xyzt_units=3)
    yield "microns", "a.nii", microns, *scan


def files() -> list[File]:
    return [*damaged(), *odd_voxels(), *odd_geometry()]


def judged(found: Loading, data: np.ndarray, affine: np.ndarray) -> str:
    """What a reader made of a file, in words; bold where it is wrong and nothing says so."""
    values, place, remarks = found
    wrong = []
    if values.shape != data.shape:
        wrong.append("an array of " + "x".join(map(str, values.shape)))
    elif np.iscomplexobj(values):
        wrong.append("complex numbers")
    elif not np.array_equal(values.astype("f4"), data.astype("f4"), equal_nan=True):
        share = np.mean(values.astype("f4") != data.astype("f4"))
        zeros = np.isnan(values).sum() == 0 and np.all(values[values != data] == 0)
        wrong.append(f"{max(share, 1e-4):.2%} of voxels {'become 0' if zeros else 'wrong'}")
    corners = np.array([(*np.array(data.shape) - 1, 1), (0, 0, 0, 1)])
    distance = np.linalg.norm(corners @ (place - affine)[:3].T, axis=1).max()
    if not distance < 0.1:
        wrong.append(f"{distance:.3g} mm elsewhere")
    if remarks:
        return "loads; " + "; ".join(text.replace("|", "/") for text in remarks)
    if wrong:
        return f"**loads: {', '.join(wrong)}**"
    return "**loads NaN**" if np.isnan(values.astype("f4")).any() else "right"


def tried(reader: Callable[[Path], Loading], path: Path, data: np.ndarray, at: np.ndarray) -> str:
    """Load a file in a child of this process."""
    out, said = path.parent / "out", path.parent / "said"
    child = os.fork()
    if child == 0:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GB << 30, MEMORY_GB << 30))
        signal.alarm(SECONDS)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            text = judged(reader(path), data, at)
        except BaseException as error:  # whatever it is, it belongs in the table
            text = refusal(error)
        rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
        out.write_text(f"{text} after {rise:.1f} GB" if rise > 0.5 else text, encoding="utf-8")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        return "does not end" if os.WTERMSIG(status) == signal.SIGALRM else "crashes"
    text = out.read_text(encoding="utf-8")
    warned = said.stat().st_size and not text.startswith("error")
    return f"{text} (a line on stderr)" if warned else text


def refusal(error: BaseException) -> str:
    """The field and the finding that a message of crossmod names, or the kind of the error."""
    if type(error).__name__ != "DataError":
        return f"error ({type(error).__name__})"
    field = str(getattr(error, "where", "")).rpartition(": ")[2]
    return f"error: {field}: {getattr(error, 'what', '')}"


def measured(name: str, folder: Path) -> list[str]:
    """What one reader makes of every file."""
    reader = READERS[name]
    good = folder / "good.nii"
    good.write_bytes(content(DATA, AFFINE))
    reader(good)  # imports everything
    cells = []
    for number, (_, ending, whole, data, affine) in enumerate(files()):
        path = folder / str(number) / ending
        path.parent.mkdir()
        path.write_bytes(whole)
        if ending == BESIDE:
            (path.parent / "b.nii").write_bytes(content(DATA + 1, AFFINE))
        cells.append(tried(reader, path, data, affine))
    return cells


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]))))
        return
    columns = []
    for name in READERS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, name, folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        columns.append(json.loads(done.stdout.splitlines()[-1]))
    heads = ["file", *(f"{name} {version(name)}" for name in READERS)]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for (what, *_), *cells in zip(files(), *columns, strict=True):
        print("| " + " | ".join([what, *cells]) + " |")


if __name__ == "__main__":
    main()
