"""What each fault of a NIfTI file must lead to: an error that names it, or a remark."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import permutations, product
from pathlib import Path
from shutil import copy

import nibabel
import numpy as np
import pytest
from bombs import gzipped
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_files import (
    AFFINE,
    HELD_OUT,
    SHAPE,
    SMOKE,
    SOURCE,
    TARGET,
    anatomy,
    content,
    refused,
    same,
    small_cohort,
    some_data,
    survey_of,
    write,
)
from processor import AFFINE_MM
from scipy.spatial.transform import Rotation

from crossmod import DataError
from crossmod.data.grids import Grid, Preprocess, to_common, to_native
from crossmod.intake import Inspector, Intake, Limits, load_grid, load_labels, load_scan
from crossmod.recipe.load import load_all
from crossmod.run.planner import Planner
from crossmod.stages.context import Context
from crossmod.store.store import Store

TINY = content(some_data((3, 2, 2), "u1"))  # header and voxels come out of zlib at once
QUIET = settings(max_examples=60)


def test_n01_a_gzip_file_cut_anywhere_is_truncated(tmp_path: Path) -> None:
    whole = gzip.compress(TINY, mtime=0)
    path = tmp_path / "a.nii.gz"
    for length in range(2, len(whole)):
        path.write_bytes(whole[:length])
        refused(path, "truncated")
    for length in (0, 1):
        path.write_bytes(whole[:length])
        refused(path, "a NIfTI-1 or NIfTI-2 file")


@QUIET
@given(st.floats(0, 1, exclude_max=True))
def test_n01_the_message_says_how_much_is_there(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.nii.gz"
    whole = gzip.compress(anatomy(), mtime=0)
    path.write_bytes(whole[: max(int(share * len(whole)), 2)])
    message = refused(path, "truncated")
    assert (
        "unpacked bytes" in message or f"of {len(anatomy())} bytes" in message or "end" in message
    )


def test_n02_a_plain_file_shorter_than_its_header_says(tmp_path: Path) -> None:
    whole = content()
    path = tmp_path / "a.nii"
    for length in (*range(4, 352), 352, 353, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, f"size: truncated: {length} of {352 if length < 348 else len(whole)} bytes")


def test_n03_no_flipped_bit_of_a_gzip_file_loads_silently(tmp_path: Path) -> None:
    whole = gzip.compress(TINY, mtime=0)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(whole)
    intact = load_scan(path)
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with suppress(DataError):  # what still loads is the time, or a copy from elsewhere of a 0
            assert same(load_scan(path), intact)
            assert gzip.decompress(flipped) == TINY


def test_n04_a_wrong_checksum_or_length_is_named(tmp_path: Path) -> None:
    for plain in (TINY, anatomy()):
        whole = gzip.compress(plain, mtime=0)
        for byte, words in ((-8, "gzip: CRC differs"), (-1, "gzip: length differs")):
            wrong = bytearray(whole)
            wrong[byte] ^= 1
            path = tmp_path / "a.nii.gz"
            path.write_bytes(wrong)
            refused(path, words, "copy the file again")


# The peak of a child by getrusage begins at the memory of its parent; VmHWM does not.
MEASURE = """
import sys
from pathlib import Path
from crossmod import DataError
from crossmod.intake import load_scan

def peak_kb():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

load_scan(Path(sys.argv[1]))
before = peak_kb()
try:
    load_scan(Path(sys.argv[2]))
except DataError as error:
    print(error)
print((peak_kb() - before) / 1024)
"""

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def refused_at_the_cost_of(path: Path) -> tuple[str, float]:
    """The message, and by how many MB the peak of resident memory rose."""
    small = write(path.parent / "small.nii.gz")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *message, megabytes = done.stdout.splitlines()
    return "\n".join(message), float(megabytes)


@LINUX
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_n05_huge_dimensions_in_a_small_file_take_no_memory(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(14_000)
    for dim in ([3, 32767, 32767, 32767], [3, 650, 650, 650]):  # beyond the limit, and within it
        plain = content(dim=[*dim, 1, 1, 1, 1]) + noise
        message, megabytes = refused_at_the_cost_of(write(tmp_path / name, plain))
        assert " x ".join(map(str, dim[1:])) in message
        assert megabytes < 50


@LINUX
def test_n06_a_gzip_bomb_takes_no_memory(tmp_path: Path) -> None:
    """One that is honest about its size, and two that are not."""
    n = 680
    head = content(dim=[3, n, n, n, 1, 1, 1, 1], datatype=2, bitpix=8)[:352]
    zeros = gzipped(head, n**3)
    assert len(zeros) < 0.01 * n**3
    for name, whole, words in (
        ("honest", zeros, f"{n} x {n} x {n} = {n**3} voxels\n  allowed: limits.max_voxels = 300"),
        ("after", gzip.compress(content(), mtime=0) + zeros, "the file continues after"),
        ("within", gzipped(content()[:352], n**3), "the file continues after"),
    ):
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(whole)
        message, megabytes = refused_at_the_cost_of(path)
        assert words in message
        assert megabytes < 50


def test_n06_the_limit_is_an_option(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii")
    voxels = int(np.prod(SHAPE))
    assert load_scan(path, Intake(limits=Limits(max_voxels=voxels))).data.shape == SHAPE
    refused(path, "max_voxels", options=Intake(limits=Limits(max_voxels=voxels - 1)))


@pytest.mark.parametrize(
    "dim",
    [
        [0, 8, 7, 6, 1, 1, 1, 1],
        [8, 8, 7, 6, 1, 1, 1, 1],
        [9, 8, 7, 6, 1, 1, 1, 1],
        [-1, 8, 7, 6, 1, 1, 1, 1],
        [3, -8, 7, 6, 1, 1, 1, 1],
        [3, 8, 0, 6, 1, 1, 1, 1],
        [3, -1, 1, 1, 1, 1, 1, 1],  # FreeSurfer's sign that the size stands elsewhere
        [3, 27307, 1, 6, 1, 1, 1, 1],
    ],
)
def test_n07_dimensions_that_cannot_be(dim: list[int], tmp_path: Path) -> None:
    refused(write(tmp_path / "a.nii", dim=dim), "dim: ")


@pytest.mark.parametrize("size", [0, np.nan, np.inf, -np.inf])
def test_n08_voxel_sizes_that_cannot_be(size: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", pixdim=[1, 1, size, 1.5, 0, 0, 0, 0])
    refused(path, f"pixdim: voxels of 1 x {size:g} x 1.5 mm", "three lengths above 0")


def test_n08_a_negative_voxel_size_is_made_positive(tmp_path: Path) -> None:
    sform = write(tmp_path / "s.nii", pixdim=[-1, 1, -2, 1.5, 0, 0, 0, 0])
    qform = write(tmp_path / "q.nii", pixdim=[-1, 1, -2, 1.5, 0, 0, 0, 0], sform_code=0)
    for path in (sform, qform):
        scan = load_scan(path)
        assert scan.remarks == ("pixdim: negative voxel size; using its absolute value",)
        np.testing.assert_allclose(scan.affine, AFFINE, atol=AFFINE_MM)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"datatype": 0}, "datatype: 0 (unknown)"),
        ({"datatype": 5}, "datatype: 5 (unknown)"),
        ({"datatype": 1, "bitpix": 1}, "datatype: 1 (binary)"),
        ({"datatype": 32, "bitpix": 64}, "datatype: 32 (complex64)"),
        ({"datatype": 128, "bitpix": 24}, "datatype: 128 (RGB)"),
        ({"datatype": 2304, "bitpix": 32}, "datatype: 2304 (RGBA)"),
        ({"datatype": 1536, "bitpix": 128}, "datatype: 1536 (float128)"),
        ({"bitpix": 8}, "bitpix: 8\n  allowed: 16, as datatype int16 has"),
        ({"bitpix": 0}, "bitpix: 0"),
    ],
)
def test_n09_types_that_are_no_real_numbers(
    fields: dict[str, int], words: str, tmp_path: Path
) -> None:
    refused(write(tmp_path / "a.nii", **fields), words)


@pytest.mark.parametrize("offset", [-352, 0, 348, 351, 352.5, np.nan, np.inf])
def test_n10_voxels_that_begin_nowhere(offset: float, tmp_path: Path) -> None:
    refused(write(tmp_path / "a.nii", vox_offset=offset), "vox_offset: ", "a whole number from 352")


def test_n10_voxels_that_begin_past_the_end(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.nii", vox_offset=1e6), "size: truncated: 1024 of 1000672 bytes")
    refused(write(tmp_path / "a.nii.gz", vox_offset=2000), "size: truncated: 1024 of 2672 bytes")
    refused(write(tmp_path / "b.nii.gz", vox_offset=1e30), "more than a gzip file of")


@pytest.mark.parametrize(
    ("name", "what", "words"),
    [
        ("a.nii", b"", "header: the file is empty"),
        ("a.nii.gz", gzip.compress(b"", mtime=0), "header: the file is empty"),
        ("a.nii.gz", b"<html><body>Not found", "not NIfTI; the file begins with '<html><body>Not "),
        ("a.nii", bytes(range(200, 256)) * 20, "not NIfTI; the file begins with '...."),
        ("a.nii", b"\x1f\x8b" + bytes(500), "gzip: the stream is damaged"),
        ("a.nii", content(magic=b"ni1"), "magic: the header of a pair .hdr and .img"),
        ("a.nii", content(magic=b""), "Analyze"),
        ("a.nii", content(magic=b"n+2"), "magic: 'n+2"),
        ("a.nii", content(version=2, eol_check=10), "magic: 'n+2"),
        ("a.nii", content(sizeof_hdr=349), "not NIfTI"),
    ],
)
def test_n11_what_is_no_nifti(name: str, what: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(what)
    refused(tmp_path / name, words)


def test_n12_content_that_the_name_contradicts(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.nii.gz", tmp_path / "packed.nii"
    plain.write_bytes(content())
    packed.write_bytes(gzip.compress(content()))
    for path, kind in ((plain, "plain NIfTI"), (packed, "gzip")):
        scan = load_scan(path)
        assert scan.remarks == (f"name: does not match the content, which is {kind}",)
        np.testing.assert_array_equal(scan.data, some_data())


def broken(kind: str = "f4") -> np.ndarray:
    data = some_data(kind=kind)
    data[1, 2, 3:5] = np.nan, -np.inf
    return data


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_n13_voxels_that_are_not_finite(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", data=broken(kind))
    refused(path, "voxels: 2 of 336 are NaN or infinite", "first at (1, 2, 3)", "intake.nonfinite")
    scan = load_scan(path, Intake(nonfinite="zero"))
    assert scan.data[1, 2, 3:5].tolist() == [0, 0]
    assert "2 of 336" in scan.remarks[0]
    with pytest.raises(DataError, match="labels: values from nan"):
        load_labels(path)


def test_n13_values_beyond_single_precision(tmp_path: Path) -> None:
    data = some_data(kind="f8")
    data[0, 0, 0] = 1e300
    refused(write(tmp_path / "a.nii", data=data), "1 of 336 are NaN or infinite as float32")
    refused(write(tmp_path / "b.nii", scl_slope=3e38, scl_inter=0), "as float32")


def test_n14_an_image_of_one_value(tmp_path: Path) -> None:
    flat = np.full(SHAPE, 7, np.int16)
    refused(write(tmp_path / "a.nii", data=flat), "voxels: all have the value 7")
    void = np.where(some_data() > -1, np.nan, 0)
    path = write(tmp_path / "b.nii", data=void)
    refused(path, "all have the value 0", options=Intake(nonfinite="zero"))
    assert load_labels(write(tmp_path / "c.nii", data=flat)).labels.max() == 7


@pytest.mark.parametrize(
    "data", [some_data(kind="f8") * 1e-50, some_data().astype("i4") % 5 + 2**30], ids=["f8", "i4"]
)
def test_n14_an_image_of_one_value_as_float32(data: np.ndarray, tmp_path: Path) -> None:
    words = ("voxels: all have the value ", " as float32\n", "scale or shift the values")
    refused(write(tmp_path / "a.nii", data=data), *words)


def test_n15_a_file_that_does_not_say_how_it_lies(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", sform_code=0, qform_code=0)
    refused(path, "qform, sform: both are unset", "intake.assume_affine = true")
    scan = load_scan(path, Intake(assume_affine=True))
    np.testing.assert_array_equal(scan.affine, nibabel.load(path).affine)
    assert len(scan.remarks) == 1
    assert "assumed axes" in scan.remarks[0]


@pytest.mark.parametrize("code", [-1, 6, 77])
def test_n15_codes_that_readers_take_differently(code: int, tmp_path: Path) -> None:
    refused(write(tmp_path / "a.nii", sform_code=code), f"sform_code: {code}", "0 to 5")
    refused(write(tmp_path / "b.nii", qform_code=code), f"qform_code: {code}", "0 to 5")


def turned(degrees: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix() @ AFFINE[:3, :3]
    return affine


def sform(affine: np.ndarray) -> dict[str, np.ndarray]:
    return {name: affine[row] for row, name in enumerate(("srow_x", "srow_y", "srow_z"))}


def test_n16_two_affines_that_differ(tmp_path: Path) -> None:
    moved, near = AFFINE.copy(), AFFINE.copy()
    moved[0, 3] += 7
    near[0, 3] += 0.05
    for other, words in (
        (moved, "up to 7.00 mm and 0.00 degrees apart; using the sform"),
        (turned(1), "1.00 degrees apart"),
        (turned(0.2), "0.20 degrees apart"),
    ):
        scan = load_scan(write(tmp_path / "a.nii", **sform(other)))
        assert words in scan.remarks[0]
        np.testing.assert_allclose(scan.affine, other, atol=AFFINE_MM)
    assert load_scan(write(tmp_path / "b.nii", **sform(near))).remarks == ()


def test_n16_a_qform_that_is_none_beside_a_good_sform(tmp_path: Path) -> None:
    for fields in ({"quatern_b": 2}, {"quatern_b": np.nan}, {"pixdim": [3, 1, 2, 1.5, 0, 0, 0, 0]}):
        path = write(tmp_path / "a.nii", **fields)
        scan = load_scan(path)
        assert "using the sform" in scan.remarks[0]
        np.testing.assert_allclose(scan.affine, AFFINE)
        refused(write(path, sform_code=0, **fields), scan.remarks[0].partition(":")[0])


def test_n16_voxel_sizes_that_contradict_the_affine(tmp_path: Path) -> None:
    scan = load_scan(write(tmp_path / "a.nii", pixdim=[-1, 1, 2, 3, 0, 0, 0, 0], qform_code=0))
    assert scan.remarks[0].startswith("pixdim: says 1 x 2 x 3 mm, the affine 1 x 2 x 1.5 mm")


def test_n17_a_tiny_shear_is_removed(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 1e-3  # of 2 mm: a cosine of 5e-4
    scan = load_scan(write(tmp_path / "a.nii", **sform(sheared)))
    axes = scan.affine[:3, :3] / np.linalg.norm(scan.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)  # double precision
    assert scan.remarks == ("sform: tiny shear (cosine 5.0e-04) removed",)


def test_n17_a_large_shear_is_refused(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.01
    refused(write(tmp_path / "a.nii", **sform(sheared)), "sform: the voxel axes are not perpendic")


@pytest.mark.parametrize("value", [0, np.nan, np.inf, 1e30])
def test_n18_an_affine_that_is_none(value: float, tmp_path: Path) -> None:
    rows = sform(np.diag([1, 1, value, 1]))
    refused(write(tmp_path / "a.nii", **rows), "sform: no usable" if value != 1e30 else "mm long")
    refused(write(tmp_path / "b.nii", srow_x=[1, 1, 1, 0], srow_y=[1, 1, 1, 0]), "no usable affine")


def test_n18_a_place_far_from_the_scanner(tmp_path: Path) -> None:
    far = AFFINE.copy()
    far[1, 3] = 1e6
    refused(write(tmp_path / "a.nii", **sform(far)), "affine: the first voxel lies at [5.0, 1000")


@pytest.mark.parametrize(("units", "mm"), [(1, 1000), (3, 0.001)])
def test_n18_a_unit_that_cannot_be(units: int, mm: float, tmp_path: Path) -> None:
    refused(write(tmp_path / "a.nii", xyzt_units=units), "mm long", f"xyzt_units says {mm:g} mm")


def stored(
    array: np.ndarray, affine: np.ndarray, order: tuple[int, ...], flips: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels at the same places, with the axes in another order and turned around."""
    array, affine = np.transpose(array, order), affine.copy()
    affine[:, :3] = affine[:, list(order)]
    for axis in np.flatnonzero(flips):
        array = np.flip(array, axis)
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
    return np.ascontiguousarray(array), affine


def upright(array: np.ndarray, order: tuple[int, ...], flips: tuple[int, ...]) -> np.ndarray:
    return np.transpose(np.flip(array, tuple(np.flatnonzero(flips))), np.argsort(order))


def places(grid: Grid) -> np.ndarray:
    """The RAS+ mm of every voxel, ``(I, J, K, 3)``."""
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    return voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3]


@pytest.mark.parametrize("degrees", [0, 20])
def test_n19_results_do_not_depend_on_the_order_of_the_axes(degrees: float, tmp_path: Path) -> None:
    turn = Rotation.from_euler("xyz", [degrees, -degrees, degrees / 2], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.0, 0.9, 1.5]
    affine[:3, 3] = (-7, 5, -11)
    x, y, z = np.indices((24, 26, 10))
    image = (np.exp(-((x - 12) ** 2 + (y - 13) ** 2) / 60 - (z - 5) ** 2 / 30) * 900).astype("i2")
    ball = ((x - 14) ** 2 + (y - 10) ** 2 + 2 * (z - 5) ** 2 < 16).astype(np.uint8)
    options = Preprocess(spacing_mm=(0.8, 0.8, 1.2), crop=(30, 28))

    def prepared(order: tuple[int, ...], flips: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        data, at = stored(image, affine, order, flips)
        scan = load_scan(write(tmp_path / "image.nii.gz", data=data, affine=at))
        labels = load_labels(
            write(tmp_path / "labels.nii.gz", data=stored(ball, at, order, flips)[0], affine=at)
        )
        assert scan.remarks == labels.remarks == ()
        np.testing.assert_array_equal(upright(scan.data, order, flips), image)
        native = Grid(scan.data.shape, scan.affine)
        common, mask, moved = to_common(scan.data, labels.labels, scan.affine, options)
        back = to_native(np.stack([mask == 0, mask == 1]).astype(np.float32), moved, native)
        there = np.stack([upright(places(native)[..., n], order, flips) for n in range(3)], axis=-1)
        return common, mask, moved, upright(back, order, flips), there

    expected = prepared((0, 1, 2), (0, 0, 0))
    np.testing.assert_allclose(expected[4], places(Grid(image.shape, affine)), atol=AFFINE_MM)
    for order, flips in product(permutations(range(3)), product((0, 1), repeat=3)):
        common, mask, moved, back, there = prepared(order, flips)
        np.testing.assert_allclose(common, expected[0], atol=AFFINE_MM)  # at most 1 for each mm
        np.testing.assert_array_equal(mask, expected[1])
        np.testing.assert_allclose(moved, expected[2], atol=AFFINE_MM)
        np.testing.assert_array_equal(back, expected[3])
        np.testing.assert_allclose(there, expected[4], atol=AFFINE_MM)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((8, 7, 6, 1), ""),
        ((8, 7, 6, 1, 1), ""),
        ((8, 7, 6, 2), "8 x 7 x 6 x 2 voxels\n  allowed: one 3D image\n  split it"),
        ((8, 7, 6, 1, 3), "8 x 7 x 6 x 1 x 3 voxels"),
        ((8, 7), "8 x 7 voxels"),
        ((8, 7, 1), "8 x 7 x 1 voxels"),
        ((8,), "8 voxels"),
    ],
)
def test_n20_one_3d_image(shape: tuple[int, ...], said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", data=some_data(shape))
    if said:
        refused(path, f"dim: {said}")
    else:
        np.testing.assert_array_equal(load_scan(path).data, some_data(shape).reshape(SHAPE))
        assert load_scan(path).remarks == ()


def test_n21_versions_and_byte_orders(tmp_path: Path) -> None:
    for version, order in product((1, 2), "<>"):
        scan = load_scan(write(tmp_path / "a.nii.gz", version=version, order=order))
        np.testing.assert_array_equal(scan.data, some_data())
        np.testing.assert_array_equal(scan.affine, AFFINE)
        assert scan.remarks == ()


def test_n21_units(tmp_path: Path) -> None:
    for units, factor in ((0, 1), (2, 1), (10, 1), (3, 1000), (1, 0.001)):  # 10: mm and seconds
        affine = np.diag([factor, factor, factor, 1]) @ AFFINE
        for codes in ({}, {"sform_code": 0}, {"qform_code": 0}):
            path = write(tmp_path / "a.nii", affine=affine, xyzt_units=units, **codes)
            scan = load_scan(path)
            np.testing.assert_allclose(scan.affine, AFFINE, atol=AFFINE_MM)
            assert scan.remarks == ()
    refused(write(tmp_path / "a.nii", xyzt_units=7), "xyzt_units: 7")


def test_n21_scaling(tmp_path: Path) -> None:
    for slope, inter, values in (
        (0, 5, some_data()),
        (np.nan, np.inf, some_data()),
        (1, 0, some_data()),
        (2, 5, 2 * some_data() + 5),
        (-0.5, 0, -0.5 * some_data()),
    ):
        scan = load_scan(write(tmp_path / "a.nii", scl_slope=slope, scl_inter=inter))
        np.testing.assert_array_equal(scan.data, values)
    refused(write(tmp_path / "a.nii", scl_slope=np.inf), "scl_slope: inf")
    refused(write(tmp_path / "a.nii", scl_slope=2, scl_inter=np.nan), "scl_inter: nan")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_cohort(tmp_path / "data")


def test_n22_the_same_scan_under_two_names(root: Path) -> None:
    assert survey_of(root).problems == []
    scan = root / TARGET / "crossmoda2021_ldn_2_hrT2.nii.gz"
    copy(scan, root / TARGET / "crossmoda2021_ldn_9_hrT2.nii.gz")
    found = survey_of(root)
    assert found.problems == []
    assert any("the same as those of" in text for _, text in found.remarks)

    held_out = root / HELD_OUT / "crossmoda2021_ldn_8_hrT2.nii.gz"
    held_out.write_bytes(gzip.compress(gzip.decompress(scan.read_bytes()), 1))  # other bytes
    with pytest.raises(DataError, match=r"ldn_8_hrT2\.nii\.gz: voxels: the same as those of"):
        survey_of(root).require()


def test_n23_paths_that_cannot_be_read(tmp_path: Path) -> None:
    refused(tmp_path / "gone.nii", "file: cannot be read: No such file or directory")
    refused(tmp_path / ("x" * 300 + ".nii"), "file: cannot be read: File name too long")
    (tmp_path / "dangling.nii").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle.nii").symlink_to(tmp_path / "circle.nii")
    refused(tmp_path / "dangling.nii", "file: cannot be read")
    refused(tmp_path / "circle.nii", "file: cannot be read")
    refused(write(tmp_path / "a.nii") / "b.nii", "file: cannot be read: Not a directory")
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii")
    for read in (load_labels, load_grid):
        with pytest.raises(DataError, match=r"gone\.nii"):
            read(tmp_path / "gone.nii")
    with pytest.raises(DataError, match=r"folder\.nii"):
        load_labels(tmp_path / "folder.nii")


@pytest.mark.timeout(60)  # opening a pipe waits for ever
@pytest.mark.parametrize("read", [load_scan, load_labels, load_grid])
def test_n23_pipes_and_devices_are_not_waited_for(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "zero.nii").symlink_to("/dev/zero")
    (tmp_path / "null.nii.gz").symlink_to("/dev/null")
    for name in ("pipe.nii", "zero.nii", "null.nii.gz"):
        with pytest.raises(DataError, match=f"{name}: file: is a folder, a pipe or a device"):
            read(tmp_path / name)
        with pytest.raises(DataError, match=f"{name}: file: is a folder, a pipe or a device"):
            Inspector(Intake(), tmp_path / "memory").facts(tmp_path / name, "scan")


def test_n23_no_permission(as_nobody: Path) -> None:
    (as_nobody / "locked").mkdir()
    path = write(as_nobody / "locked" / "a.nii")
    path.chmod(0)
    refused(path, "file: cannot be read: Permission denied")
    path.parent.chmod(0)
    refused(path, "file: cannot be read: Permission denied")
    path.parent.chmod(0o700)


@pytest.mark.parametrize("ending", ["ceT1", "Label"])
def test_n24_a_file_that_changes_between_intake_and_use(
    ending: str, root: Path, tmp_path: Path
) -> None:
    step = Planner(load_all(SMOKE)[0], root, survey_of(root).digests).plan().source
    changed = root / SOURCE / f"crossmoda2022_etz_1_{ending}.nii.gz"
    write(changed, data=some_data(kind="u1") % 3)
    made = tmp_path / "made"
    made.mkdir()
    with pytest.raises(DataError, match=rf"{changed.name}: content: changed since the intake"):
        step.make(Store(tmp_path / "store"), Context(made))
    assert not (made / "cohort.json").exists()
