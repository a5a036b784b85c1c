"""Voxels and affines are those that nibabel reads, to the last bit."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nifti_files import AFFINE, SHAPE, content, refused, some_data, write
from processor import AFFINE_MM
from scipy.spatial.transform import Rotation

from crossmod.intake import load_labels, load_scan

KINDS = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
QUIET = settings(max_examples=300)
single = st.floats(width=32, allow_nan=False, allow_infinity=False)
versions, orders = st.sampled_from([1, 2]), st.sampled_from(["<", ">"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("values")


def whole_range(kind: str, seed: int) -> np.ndarray:
    """Random numbers over the whole range of a type, as far as single precision holds them."""
    rng = np.random.default_rng(seed)
    if kind[0] == "f":
        return (rng.standard_normal(SHAPE) * 10.0 ** rng.integers(-30, 30)).astype(kind)
    limits = np.iinfo(kind)
    data = rng.integers(limits.min, limits.max, SHAPE, dtype=kind, endpoint=True)
    data[0, 0, 0], data[1, 0, 0] = limits.min, limits.max
    return data


@QUIET
@given(
    st.sampled_from(KINDS),
    versions,
    orders,
    st.sampled_from([0.0, 1.0, np.nan]) | single,
    st.just(0.0) | single,
    st.integers(0, 99),
)
def test_values_are_those_of_nibabel(
    folder: Path, kind: str, version: int, order: str, slope: float, inter: float, seed: int
) -> None:
    data = whole_range(kind, seed)
    options = {"version": version, "order": order, "scl_slope": slope, "scl_inter": inter}
    path = write(folder / "a.nii", data=data, **options)
    with np.errstate(all="ignore"):
        expected = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)
    assume(np.isfinite(expected).all() and expected.min() < expected.max())
    np.testing.assert_array_equal(load_scan(path).data, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_with_and_without_scaling(kind: str, folder: Path) -> None:
    for version, order, slope in ((1, "<", 1), (1, ">", 0.25), (2, "<", -3), (2, ">", 0)):
        options = {"version": version, "order": order, "scl_slope": slope, "scl_inter": slope / 2}
        path = write(folder / "a.nii.gz", data=whole_range(kind, 3), **options)
        expected = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)
        np.testing.assert_array_equal(load_scan(path).data, expected)


angles = st.floats(-180, 180, width=32)
sizes = st.floats(0.25, 10, width=32)


@QUIET
@given(
    st.tuples(angles, angles, angles),
    st.tuples(sizes, sizes, sizes),
    st.tuples(*[st.floats(-500, 500, width=32)] * 3),
    st.sampled_from([1, -1]),
    versions,
    orders,
    st.sampled_from(["qform", "sform"]),
)
def test_affines_are_those_of_nibabel(
    folder: Path,
    degrees: tuple[float, ...],
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
    flip: int,
    version: int,
    order: str,
    form: str,
) -> None:
    """Rotations, also by 180 degrees, where the quaternion is hard, and mirrored third axes."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine[:3, :3] = turn * spacing * [1, 1, flip]
    affine[:3, 3] = origin
    unset = {"sform_code": 0} if form == "qform" else {"qform_code": 0}
    path = write(folder / "a.nii", affine=affine, version=version, order=order, **unset)
    scan = load_scan(path)
    np.testing.assert_allclose(scan.affine, affine, atol=0.01)
    if version == 1 or form == "sform":  # of NIfTI-2, nibabel refuses rotations that it has written
        # Double precision, but for the root of what is left of 1: 1.5e-8 of a voxel's size.
        np.testing.assert_allclose(scan.affine, nibabel.load(path).affine, rtol=0, atol=1e-5)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns(axis: int, folder: Path) -> None:
    """The first number of the quaternion is 0; rounding must not make it more."""
    degrees = [0.0, 0.0, 0.0]
    degrees[axis] = 180
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    for more in (0, 1e-8, -1e-8):
        fields = {"sform_code": 0, f"quatern_{'bcd'[axis]}": np.float32(1 + more)}
        path = write(folder / "a.nii", affine=affine, **fields)
        np.testing.assert_allclose(load_scan(path).affine, affine, atol=AFFINE_MM)
        np.testing.assert_allclose(load_scan(path).affine, nibabel.load(path).affine, atol=1e-7)


def test_a_quaternion_a_little_too_long_is_one_all_the_same(folder: Path) -> None:
    """Eight digits of a text file are enough to make it so; nibabel refuses such files."""
    fields = {"sform_code": 0, "quatern_b": np.float32(1.000002)}
    half = np.diag([1.0, -1, -1, 1])
    scan = load_scan(write(folder / "a.nii", affine=half, **fields))
    np.testing.assert_allclose(scan.affine, half, atol=1e-5)
    refused(write(folder / "a.nii", affine=half, sform_code=0, quatern_b=1.1), "qform: quaternion")


def gzipped(plain: bytes, *cuts: int, flags: int = 0, extra: bytes = b"") -> bytes:
    """One member for each part, with what stands in the head of a member."""
    import struct
    import zlib

    members = []
    for start, end in zip((0, *cuts), (*cuts, len(plain)), strict=True):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(plain[start:end]) + packer.flush()
        head = b"\x1f\x8b\x08" + bytes([flags, 1, 2, 3, 4, 0, 255]) + extra
        tail = struct.pack("<II", zlib.crc32(plain[start:end]), end - start)
        members.append(head + packed + tail)
    return b"".join(members)


def test_whatever_gzip_allows(folder: Path) -> None:
    """Several members, empty ones, names, comments, extra fields, and zeros at the end."""
    plain = content()
    extra = b"\x05\x00hello"
    for whole in (
        gzipped(plain, 1, 100, 348, 352, 600),
        gzipped(plain, 0, 200, 200, len(plain)),
        gzipped(plain, flags=8, extra=b"scan.nii\0"),
        gzipped(plain, flags=16, extra=b"a comment\0"),
        gzipped(plain, 352, flags=4 | 8, extra=extra + b"scan.nii\0"),
        gzipped(plain) + bytes(512),
        gzipped(plain) + bytes(100_000),
    ):
        path = folder / "a.nii.gz"
        path.write_bytes(whole)
        scan = load_scan(path)
        np.testing.assert_array_equal(scan.data, some_data())
        assert scan.remarks == ()
    for more in (b"x", b"\x1f", b"\x1f\x8b", bytes(9) + b"x", gzipped(b"x")):
        path.write_bytes(gzipped(plain) + more)
        refused(path)


def test_extensions_of_the_header_are_passed_over(folder: Path) -> None:
    note = b"\x20\0\0\0\x06\0\0\0" + b"a comment of 24 bytes..."
    plain = content(vox_offset=384)
    path = write(folder / "a.nii.gz", plain[:348] + b"\1\0\0\0" + note + plain[352:])
    np.testing.assert_array_equal(load_scan(path).data, some_data())
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), some_data())


def test_a_file_is_not_mixed_up_with_one_of_almost_the_same_name(folder: Path) -> None:
    """SimpleITK 2.5 takes the voxels of the one that is not compressed."""
    packed = write(folder / "same.nii.gz")
    write(folder / "same.nii", data=some_data() + 1)
    np.testing.assert_array_equal(load_scan(packed).data, some_data())


def test_labels_of_every_type(folder: Path) -> None:
    labels = (some_data() % 3).astype("u1")
    for kind in KINDS:
        for options in ({}, {"order": ">"}, {"scl_slope": 1, "scl_inter": 0}):
            found = load_labels(write(folder / "a.nii.gz", data=labels.astype(kind), **options))
            np.testing.assert_array_equal(found.labels, labels)
            assert found.labels.dtype == np.uint8
            assert found.remarks == ()
    found = load_labels(write(folder / "a.nii.gz", data=labels, scl_slope=2, scl_inter=0))
    np.testing.assert_array_equal(found.labels, 2 * labels)
    np.testing.assert_allclose(found.affine, AFFINE)
