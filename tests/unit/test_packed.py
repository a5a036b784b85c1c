"""NIfTI files written and unpacked by isal or by zlib: the same voxels, the same errors."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_damage import DAMAGES
from nifti_files import AFFINE, anatomy, same, write

from crossmod import DataError
from crossmod.data import nifti
from crossmod.data.nifti import in_c_order, read_image, read_labels, write_nifti
from crossmod.files import packed
from crossmod.intake import Loaded, load_scan

KINDS = ("float32", "float64", "uint8", "int16", ">i2", ">f4")
LIBRARIES = ("isal", "zlib")

orders = st.permutations([0, 1, 2])
shapes = st.tuples(*[st.integers(1, 9)] * 3)
seeds = st.integers(0, 2**32 - 1)


def use(library: str, patch: pytest.MonkeyPatch) -> None:
    """Unpack and pack with a library."""
    if library == "zlib":
        patch.setattr(packed, "isal_zlib", None)
        patch.setattr(packed, "igzip", None)
    else:
        pytest.importorskip("isal")


def some(
    seed: int, shape: tuple[int, ...], order: tuple[int, ...], kind: str = "int16"
) -> np.ndarray:
    """A volume whose axes lie in memory in any order."""
    whole = np.random.default_rng(seed).integers(0, 200, [shape[axis] for axis in order])
    return whole.astype(kind).transpose(np.argsort(order))


@given(seeds, shapes, orders, st.sampled_from(KINDS), st.booleans())
def test_the_bytes_are_those_that_nibabel_writes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shape, order, kind: str, flipped: bool
) -> None:
    data = some(seed, shape, order, kind)[:: -1 if flipped else 1]
    path = tmp_path_factory.getbasetemp() / "bytes" / "a.nii"
    write_nifti(path, data, AFFINE)
    image = nibabel.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm")
    assert path.read_bytes() == image.to_bytes()


def test_so_are_those_of_nifti_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti, "NIFTI1_SIDE", 8)
    data = some(0, (9, 3, 2), (0, 1, 2))
    write_nifti(tmp_path / "a.nii", data, AFFINE)
    image = nibabel.Nifti2Image(data, AFFINE)
    image.header.set_xyzt_units("mm")
    assert (tmp_path / "a.nii").read_bytes() == image.to_bytes()


@given(seeds, shapes, orders)
def test_the_order_in_memory_changes_and_no_value(seed: int, shape, order) -> None:
    data = some(seed, shape, order)
    turned = in_c_order(data)
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, data)
    assert in_c_order(turned) is turned


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_reader_finds_the_voxels_that_were_written(
    library: str, order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several chunks, so that the stream is made of several calls, and always the same one."""
    use(library, monkeypatch)
    data = np.asarray(some(0, (60, 50, 200), (0, 1, 2), "float32"), order=order)
    assert data.nbytes > 2 * packed.CHUNK
    paths = [tmp_path / "one" / "a.nii.gz", tmp_path / "other" / "b.nii.gz"]
    for path in paths:
        write_nifti(path, data, AFFINE)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    np.testing.assert_array_equal(np.asarray(nibabel.load(paths[0]).dataobj), data)
    image = SimpleITK.ReadImage(str(paths[0]))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).T, data)
    np.testing.assert_array_equal(load_scan(paths[0]).data, data)
    found = read_image(paths[0])
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found[0], data)
    np.testing.assert_array_equal(read_labels(paths[0]), data)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")  # noqa: PTH110
def test_a_full_disk_is_an_error(
    name: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(library, monkeypatch)
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OSError, match="space"):
        write_nifti(tmp_path / name, some(0, (9, 9, 9), (0, 1, 2)), AFFINE)


def told(path: Path, library: str) -> Loaded | str:
    """What is loaded, or the message."""
    with pytest.MonkeyPatch.context() as patch:
        use(library, patch)
        try:
            return load_scan(path)
        except DataError as error:
            return str(error)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(DAMAGES), st.lists(st.integers(1, 9), max_size=2), seeds)
def test_what_is_damaged_is_told_in_the_same_words_by_both(
    tmp_path_factory: pytest.TempPathFactory, damage, levels: list[int], seed: int
) -> None:
    """In members of their own, or one, packed by several levels."""
    rng = np.random.default_rng(seed)
    plain = anatomy(12)
    cut = int(rng.integers(len(plain)))
    parts = [plain[:cut], plain[cut:]] if len(levels) == 2 else [plain]
    level = iter([*levels, 6])
    whole = b"".join(gzip.compress(part, next(level), mtime=0) for part in parts)
    path = tmp_path_factory.getbasetemp() / "damaged.nii.gz"
    path.write_bytes(damage(whole, rng))
    fast, slow = told(path, "isal"), told(path, "zlib")
    if isinstance(fast, str):
        assert fast == slow
    elif isinstance(slow, str):  # isal passes over bits that mean nothing yet
        assert "unknown header flags set" in slow
        assert same(fast, load_scan(write(path, plain)))
    else:
        assert same(fast, slow)


def test_isal_never_has_the_last_word_on_the_fault_of_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where zlib finds nothing wrong, what isal says is told; the file is refused all the same."""
    isal_zlib = pytest.importorskip("isal.isal_zlib")

    class Strict:
        eof, unconsumed_tail, unused_data = False, b"", b""

        def decompress(self, data: bytes, most: int) -> bytes:
            raise isal_zlib.error("Error -1 Invalid deflate block found")

    monkeypatch.setattr("crossmod.intake.payload.unpacker", lambda wbits: Strict())
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(anatomy(12)))
    with pytest.raises(DataError, match=r"is damaged \(Error -1 Invalid deflate block found\)"):
        load_scan(path)


def test_packed_voxels_of_other_formats_are_unpacked_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = some(0, (30, 20, 10), (2, 1, 0))
    image = SimpleITK.GetImageFromArray(data.T)
    for name in ("a.nrrd", "a.mha"):
        path = tmp_path / name
        SimpleITK.WriteImage(image, str(path), True)
        whole = path.read_bytes()
        for changed in (whole, whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], whole[:-20]):
            path.write_bytes(changed)
            fast, slow = told(path, "isal"), told(path, "zlib")
            assert fast == slow if isinstance(fast, str) else same(fast, slow)
            assert isinstance(fast, Loaded) == (changed == whole)
