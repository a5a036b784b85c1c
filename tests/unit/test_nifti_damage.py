"""Files damaged anywhere: never a silent load, never an exception of another kind."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import nifti1
from nifti_damage import BAD, attack, outcome
from nifti_files import AFFINE, ANATOMY, anatomy, content, some_data, write

from crossmod import DataError
from crossmod.intake import Loaded, load_scan

PACKED = gzip.compress(anatomy(), mtime=0)
PLAIN = anatomy(12)
QUIET = settings(max_examples=200)

Change = Callable[[bytes], bytes]


def _at(share: float, whole: bytes) -> int:
    return int(share * len(whole))


def _cut(share: float) -> Change:
    return lambda whole: whole[: _at(share, whole)]


def _set(share: float, some: bytes) -> Change:
    def change(whole: bytes) -> bytes:
        at = _at(share, whole)
        return whole[:at] + some[: len(whole) - at] + whole[at + len(some) :]

    return change


def _flip(share: float, bit: int) -> Change:
    def change(whole: bytes) -> bytes:
        at = _at(share, whole)
        return whole[:at] + bytes(byte ^ 1 << bit for byte in whole[at : at + 1]) + whole[at + 1 :]

    return change


def _insert(share: float, some: bytes) -> Change:
    return lambda whole: whole[: _at(share, whole)] + some + whole[_at(share, whole) :]


def _delete(share: float, count: int) -> Change:
    return lambda whole: whole[: _at(share, whole)] + whole[_at(share, whole) + count :]


shares = st.floats(0, 1, exclude_max=True)
some = st.binary(min_size=1, max_size=2000)
lengths = st.builds(_cut, shares) | st.builds(_insert, shares, some)
lengths |= st.builds(_delete, shares, st.integers(1, 2000)) | st.builds(_insert, st.just(1.0), some)
changes = lengths | st.builds(_set, shares, some) | st.builds(_flip, shares, st.integers(0, 7))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


def loaded(folder: Path, name: str, whole: bytes) -> Loaded:
    (folder / name).write_bytes(whole)
    return load_scan(folder / name)


def memory_of(load: Callable[[], str]) -> tuple[str, int]:
    """What a load comes to, and the most bytes it held at once."""
    tracemalloc.start()
    try:
        return load(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@QUIET
@given(st.lists(changes, min_size=1, max_size=4))
def test_no_damage_to_a_gzip_file_goes_unseen(folder: Path, done: list[Change]) -> None:
    intact = loaded(folder, "a.nii.gz", PACKED)
    path = folder / "a.nii.gz"
    _, honest = memory_of(lambda: outcome(path, intact))
    whole = PACKED
    for change in done:
        whole = change(whole) or PACKED[:1]
    path.write_bytes(whole)
    result, held = memory_of(lambda: outcome(path, intact))
    assert result not in BAD
    assert held < 2 * honest


@QUIET
@given(lengths)
def test_no_plain_file_of_another_length_goes_unseen(folder: Path, change: Change) -> None:
    intact = loaded(folder, "a.nii", PLAIN)
    (folder / "a.nii").write_bytes(change(PLAIN))
    result = outcome(folder / "a.nii", intact)
    assert result == "refused" or change(PLAIN) == PLAIN


@QUIET
@given(st.lists(changes, min_size=1, max_size=4), st.sampled_from(["a.nii", "a.nii.gz"]))
def test_no_header_leads_to_an_exception_of_another_kind(
    folder: Path, done: list[Change], name: str
) -> None:
    """Damage before the file was packed, which no checksum sees."""
    head, rest = PLAIN[:352], PLAIN[352:]
    for change in done:
        head = change(head)
    path = write(folder / name, head + rest)
    assert outcome(path, load_scan(write(folder / "intact.nii", PLAIN))) not in BAD[1:]


@QUIET
@given(st.binary(max_size=3000), st.booleans(), st.sampled_from([b"", content()[:344]]))
def test_random_bytes_are_refused(folder: Path, what: bytes, packed: bool, head: bytes) -> None:
    path = folder / "random.nii.gz"
    path.write_bytes(gzip.compress(head + what) if packed else head + what)
    with pytest.raises(DataError):
        load_scan(path)


UNSEEN = {
    "scl_slope", "scl_inter",  # another unit of the voxels
    "srow_x", "srow_y", "srow_z",  # by less than 0.1 mm and 0.1 degrees
}  # fmt: skip
"""Fields of a plain file's header in which a flipped bit may go unseen, and what it changes."""


def test_which_flipped_bits_of_a_plain_header_go_unseen(folder: Path) -> None:
    """The page on safety names these fields."""
    whole = content(some_data((40, 30, 20)), affine=AFFINE, scl_slope=1, scl_inter=0)
    intact = loaded(folder, "header.nii", whole)
    ends = np.cumsum([nifti1.header_dtype[name].itemsize for name in nifti1.header_dtype.names])
    unseen = set()
    for bit in range(8 * 352):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path = write(folder / "header.nii", bytes(changed))
        result = outcome(path, intact)
        assert result not in BAD[1:]
        if result == "silent":
            field = nifti1.header_dtype.names[int(np.searchsorted(ends, bit // 8, "right"))]
            unseen.add(field)
            if field.startswith("srow"):
                corner = np.array([39, 29, 19, 1])
                moved = (load_scan(path).affine - intact.affine) @ corner
                assert np.linalg.norm(moved) <= 0.1
    assert unseen == UNSEEN


def test_empty_members_are_passed_over_in_time(folder: Path) -> None:
    """Each costs a copy of what is left of a block; large blocks made that minutes."""
    path = folder / "members.nii.gz"
    whole = content()
    path.write_bytes(gzip.compress(b"") * 100_000 + gzip.compress(whole))
    np.testing.assert_array_equal(load_scan(path).data, some_data())


@pytest.mark.slow
def test_ten_thousand_damaged_files() -> None:
    files = sorted(ANATOMY.parent.glob("*.nii.gz"))
    counts, megabytes = attack(files, 10_000, seed=0)
    assert sum(counts.values()) == 10_000
    assert {result for _, result in counts} <= {"refused", "the same voxels"}
    assert megabytes < 4 * 185 * 221 * 64 / 1e6
