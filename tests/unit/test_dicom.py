"""DICOM series from outside: chosen, ordered, read, and refused where they would mislead."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from bombs import deflated
from dicom_child import a_child, no_child  # noqa: F401
from dicom_files import COLUMNS, ROWS, enhanced, header, item, series, stored
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from crossmod import DataError, MachineError
from crossmod.files.digests import digest_of
from crossmod.intake.dicom import files, process, read_series
from crossmod.intake.dicom import read as read_module
from crossmod.intake.dicom import series as series_module
from crossmod.intake.options import Limits
from crossmod.intake.results import Loaded

TEXT_REPORT = "1.2.840.10008.5.1.4.1.1.88.11"

AFFINE = [[-0.5, 0, 0, 3], [0, -0.7, 0, -4], [0, 0, 2, 0], [0, 0, 0, 1]]


def refused(folder: Path, *words: str, **options: Any) -> str:
    """Reading must be refused, naming the folder; what is said beyond it."""
    with pytest.raises(DataError) as caught:
        read_series(folder, **options)
    message = str(caught.value)
    assert message.startswith(str(folder))
    for word in words:
        assert word in message
    return message


def change(path: Path, **tags: Any) -> None:
    image = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    image.save_as(path)


@pytest.mark.usefixtures("a_child")
def test_a_series_is_read_in_order_of_its_positions(tmp_path: Path) -> None:
    found = read_series(series(tmp_path / "s", [4, 0, 2]))
    assert isinstance(found, Loaded)
    assert found.data.dtype == np.float32
    assert found.data[0, 0].tolist() == [11, 21, 1]
    assert found.data[1, 2].tolist() == [7, 7, 7]
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-12)
    assert found.remarks == ()


def test_spacing_comes_from_positions_whatever_the_tags_say(tmp_path: Path) -> None:
    folder = series(tmp_path, [0, 2, 4], SpacingBetweenSlices=5, SliceThickness=9, SliceLocation=1)
    np.testing.assert_allclose(read_series(folder).affine, AFFINE, atol=1e-12)


def test_the_digest_is_of_content_and_not_of_names(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    digests = sorted(hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir())
    expected = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    assert read_series(folder).digest == expected
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "1.dcm").rename(folder / "deep" / "er" / "no-ending")
    assert read_series(folder).digest == expected


@pytest.mark.parametrize(
    ("heights", "said"),
    [
        ([0, 2, 6, 8], "2.00 to 6.00 mm: slices are missing (elsewhere 2.00 mm apart)"),
        ([0, 2, 2, 4, 6], "2.00 to 2.00 mm: two slices at the same position"),
        ([0, 0, 2, 2, 4, 4], "4.00 to 4.00 mm: two slices at the same position"),
        ([0, 2, 4.5, 6.5], "2.00 to 4.50 mm: uneven"),
        ([0, 7, 14, 21.3, 28.3, 35.3], "14.00 to 21.30 mm: uneven"),
        ([0, 0], "two slices at the same position"),
        ([0], "single slice"),
    ],
)
def test_d01_slices_that_are_no_even_stack_are_refused(
    heights: list[float], said: str, tmp_path: Path
) -> None:
    refused(series(tmp_path / "s", heights), said)


def test_d01_positions_rounded_by_a_scanner_are_read(tmp_path: Path) -> None:
    """Slices 7 mm apart with positions in tenths of a mm; gaps differ by more than 1 %."""
    heights = [0, 7.07, 14.03, 21, 28.06, 35.02, 41.99, 49.05]
    affine = read_series(series(tmp_path / "s", heights)).affine
    assert affine[2, 2] == pytest.approx(7.0, abs=0.01)
    # The grid that fits best is nowhere farther off than half the rounding.
    grid = affine[2, 3] + affine[2, 2] * np.arange(8)
    assert np.abs(grid - heights).max() < 0.05


def test_d01_a_long_gap_among_rounded_ones_is_still_found(tmp_path: Path) -> None:
    heights = [0, 7.07, 14.03, 21, 35.02, 41.99, 49.05]
    message = refused(series(tmp_path / "s", heights), "21.00 to 35.02 mm: slices are missing")
    assert "uneven:" not in message


def test_d01_images_of_one_place_say_by_which_tags_they_differ(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4], EchoTime=20)
    series(folder, [0, 2, 4], first=3, EchoTime=80)
    message = refused(folder, "two slices at the same position", "apart in (0018,0081) EchoTime")
    assert "80" not in message.replace(str(folder), "")


@pytest.mark.parametrize(
    ("keyword", "one", "other"),
    [
        ("EchoTime", 20, 80),
        ("EchoNumbers", 1, 2),
        ("FrameOfReferenceUID", "1.2.9", "1.2.10"),
        ("StudyInstanceUID", "1.2.3", "1.2.4"),
        ("PatientID", "ZZPLANT-a", "ZZPLANT-b"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
        ("TemporalPositionIdentifier", 1, 2),
        ("DiffusionBValue", 0, 1000),
    ],
)
def test_slices_of_two_kinds_that_fill_the_gaps_of_each_other_are_refused(
    keyword: str, one: Any, other: Any, tmp_path: Path
) -> None:
    folder = series(tmp_path / "s", [0, 4, 8, 12], **{keyword: one})
    series(folder, [2, 6, 10], first=4, **{keyword: other})
    message = refused(folder, f"{keyword}", "3 of 7, in 4.dcm, 5.dcm, 6.dcm, differ")
    assert "ZZPLANT" not in message


def test_what_differs_from_slice_to_slice_of_a_stack_is_no_matter(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for number in range(3):
        tags = {"AcquisitionNumber": number, "TriggerTime": number, "EchoTime": 20 + number / 50,
                "AcquisitionTime": f"10000{number}"}  # fmt: skip
        series(folder, [2 * number], first=number, **tags)
    assert read_series(folder).data.shape == (5, 4, 3)


def test_mosaics_are_refused_by_name(tmp_path: Path) -> None:
    kind = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    folder = series(tmp_path / "s", [0, 2], ImageType=kind)
    refused(folder, "0.dcm: is a mosaic of slices, by (0008,0008) ImageType")


def test_d01_sideways_shifts_are_refused(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    change(folder / "2.dcm", ImagePositionPatient=[-2, 4, 4])
    refused(folder, "shifted sideways")


@pytest.fixture
def two_series(tmp_path: Path) -> Path:
    folder = series(tmp_path / "s", [0, 2, 4])
    other = {"SeriesInstanceUID": "1.2.3.5", "SeriesDescription": "T1 + contrast [1]"}
    return series(folder / "other", [0, 3], first=3, **other).parent


def test_d02_several_series_are_listed(two_series: Path) -> None:
    refused(two_series, "holds 2 series", "1.2.3.4: 3 files, T2 axial",
            "1.2.3.5: 2 files, T1 + contrast [1]", "--series")  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "slices"),
    [("1.2.3.4", 3), ("1.2.3.5", 2), ("t2*", 3), ("*CONTRAST*", 2), ("T1 + contrast [1]", 2)],
)
def test_d02_a_series_is_chosen_by_uid_or_description(
    wanted: str, slices: int, two_series: Path
) -> None:
    assert read_series(two_series, series=wanted).data.shape[2] == slices


def test_d02_a_choice_must_match_exactly_one(two_series: Path) -> None:
    refused(two_series, "none matches 'T9'", "T2 axial", series="T9")
    refused(two_series, "2 match 'T*'", series="T*")
    refused(two_series, "none matches '1.2.3'", series="1.2.3")  # no patterns of UIDs
    refused(two_series, "none matches 'T.*'", series="T.*")


def test_d02_a_scout_inside_a_series_is_named(tmp_path: Path) -> None:
    turned = series(tmp_path / "turned", [0, 2, 4])
    series(turned, [9], first=7, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    refused(turned, "orientation of 7.dcm differ from the other 3 slices", "scout")
    larger = series(tmp_path / "larger", [2, 4, 6], first=1)
    data = bytes(ROWS * (COLUMNS + 1) * 2)
    series(larger, [0], Columns=COLUMNS + 1, PixelData=data)
    refused(larger, "size, spacing or orientation of 0.dcm differ")


def test_reports_among_the_images_are_passed_over(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    report = header("1.2.3.9", SeriesInstanceUID="1.2.3.9.9", SOPClassUID=TEXT_REPORT)
    for keyword in ("Rows", "Columns"):
        delattr(report, keyword)
    report.save_as(folder / "report.dcm")
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    (folder / "._0.dcm").write_bytes(b"Mac")
    assert read_series(folder).data.shape == (5, 4, 3)


# D03: damaged and hostile files.


@pytest.mark.parametrize("lost", [1, 20, 500])
def test_d03_a_cut_slice_is_not_passed_over(lost: int, tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    for victim in (folder / "1.dcm", folder / "2.dcm"):  # what is left would be an even stack
        whole = victim.read_bytes()
        victim.write_bytes(whole[:-lost])
        refused(folder, victim.name)
        victim.write_bytes(whole)


def damaged(folder: Path, kind: str, count: int) -> list[dict[str, Any]]:
    program = Path(__file__).with_name("dicom_damage.py")
    done = subprocess.run(
        [sys.executable, str(program), str(folder), kind, str(count)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_d03_truncation_anywhere_is_refused(tmp_path: Path) -> None:
    for folder in (series(tmp_path / "s", [0, 2, 4]), enhanced(tmp_path / "e" / "e.dcm", [0, 2])):
        found = damaged(folder, "cut", 150)
        assert len(found) == 150
        assert all("error" in one for one in found)
        assert {one["error"]["kind"] for one in found} == {"DataError"}


def test_d03_a_changed_bit_gives_an_error_or_an_image_of_the_same_form(tmp_path: Path) -> None:
    """DICOM has no checksum: values may change unseen, the form may not."""
    for folder in (series(tmp_path / "s", [0, 2, 4]), enhanced(tmp_path / "e" / "e.dcm", [0, 2])):
        slices = 3 if folder.name == "s" else 2
        for one in damaged(folder, "flip", 400):
            if "error" in one:
                assert one["error"]["kind"] in ("DataError", "MachineError")
            else:
                assert one["shape"] == [slices, ROWS, COLUMNS]
                assert np.isfinite(one["affine"]).all()


def element(group: int, number: int, vr: bytes, length: int, value: bytes = b"") -> bytes:
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHI", group, number, vr, 0, length) + value
    return struct.pack("<HH2sH", group, number, vr, length) + value


def spoiled(folder: Path, extra: bytes) -> Path:
    """A series with one slice in which strange tags stand before all others."""
    series(folder, [0, 2, 4])
    content = (folder / "1.dcm").read_bytes()
    start = 132 + 12 + struct.unpack("<I", content[140:144])[0]
    (folder / "1.dcm").write_bytes(content[:start] + extra + content[start:])
    return folder


@pytest.mark.usefixtures("a_child")
def test_d03_a_length_beyond_the_file_is_refused(tmp_path: Path) -> None:
    huge = element(0x0009, 0x1001, b"OB", 0xFFFFFFF0)
    refused(spoiled(tmp_path / "a", huge), "1.dcm")
    folder = series(tmp_path / "b", [0, 2, 4])
    content = (folder / "1.dcm").read_bytes()
    at = content.rindex(struct.pack("<HH2sH", 0x7FE0, 0x0010, b"OW", 0)) + 8
    for length in (0xFFFFFFFE, 0xFFFFFFFF, 0x7FFFFFFF):
        (folder / "1.dcm").write_bytes(content[:at] + struct.pack("<I", length) + content[at + 4 :])
        refused(folder, "1.dcm")


@pytest.mark.usefixtures("a_child")
def test_d03_deeply_nested_sequences_are_refused(tmp_path: Path) -> None:
    begin = element(0x0008, 0x1140, b"SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000,
                                                                     0xFFFFFFFF)  # fmt: skip
    refused(spoiled(tmp_path / "s", begin * 100_000), "1.dcm: its tags are nested too deeply")


def test_d03_voxels_that_do_not_fill_the_image_are_refused(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    change(folder / "1.dcm", PixelData=stored(1).tobytes()[:-2])
    refused(folder, "1.dcm: (7FE0,0010) PixelData has 38 bytes", "allowed: 40")
    change(folder / "1.dcm", PixelData=stored(1).tobytes() + b"\0\1")
    refused(folder, "has 42 bytes")
    change(folder / "1.dcm", PixelData=stored(1).tobytes() + bytes(2 * COLUMNS))
    refused(folder, "has 50 bytes")
    change(folder / "1.dcm", PixelData=None)
    refused(folder, "1.dcm: has no (7FE0,0010) PixelData")


def test_zeros_that_fill_up_the_end_of_a_slice_do_not_count(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    expected = read_series(folder).data
    for path in folder.iterdir():
        change(path, PixelData=pydicom.dcmread(path).PixelData + b"\0\0")
    np.testing.assert_array_equal(read_series(folder).data, expected)
    frames = enhanced(tmp_path / "e" / "e.dcm", [0, 2])
    change(frames / "e.dcm", PixelData=bytes(82))
    refused(frames, "has 82 bytes")


def test_d03_a_payload_is_weighed_before_room_is_made(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    refused(folder, "has 60 voxels", "limits.max_voxels = 59", limits=Limits(max_voxels=59))
    for name in ("0", "1", "2"):
        change(folder / f"{name}.dcm", Rows=65535, Columns=65535)
    refused(folder, "has 12884508675 voxels", "limits.max_voxels")


@pytest.mark.usefixtures("a_child")
def test_d03_memory_is_limited_and_the_parent_lives(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    content = (folder / "1.dcm").read_bytes()
    image = pydicom.dcmread(folder / "1.dcm")
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"  # the rest is deflated
    image.save_as(folder / "1.dcm")
    content = (folder / "1.dcm").read_bytes()
    start = 132 + 12 + struct.unpack("<I", content[140:144])[0]
    (folder / "1.dcm").write_bytes(content[:start] + deflated(b"", 1 << 30))
    refused(folder, "needs more than 0.5 GB to read", "limits.dicom_memory_gb",
            limits=Limits(dicom_memory_gb=0.5))  # fmt: skip


def child_that(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Put another program in the place of the child."""
    (folder / "another_child.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(process, "CHILD", "another_child")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.usefixtures("a_child")
def test_d03_time_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    child_that(monkeypatch, tmp_path, "import time; time.sleep(60)")
    refused(folder, "took longer than 1 s", "limits.dicom_seconds", limits=Limits(dicom_seconds=1))


@pytest.mark.usefixtures("a_child")
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL"),
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("raise SystemExit(3)", "ended with exit code 3"),
    ],
)
def test_d03_a_child_that_dies_is_an_error(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    child_that(monkeypatch, tmp_path, code)
    refused(folder, said, "its limit is 4 GB")


@pytest.mark.usefixtures("a_child")
def test_code_beside_the_scans_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    (folder / "pydicom.py").write_text("raise SystemExit", encoding="utf-8")
    (folder / "numpy.py").write_text("raise SystemExit", encoding="utf-8")
    monkeypatch.chdir(folder)
    assert read_series(Path()).data.shape == (5, 4, 3)


# D04: where files lie.


def test_d04_folders_without_dicom_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    refused(tmp_path / "s", "neither NIfTI files nor a DICOM series")
    (tmp_path / "s" / "notes.txt").write_text("nothing", encoding="utf-8")
    refused(tmp_path / "s", "neither NIfTI files nor a DICOM series")
    (tmp_path / "s" / "page.dcm").write_text("<html>not found</html>", encoding="utf-8")
    (tmp_path / "s" / "empty.dcm").touch()
    refused(tmp_path / "s", "should be DICOM and do not begin so: empty.dcm, page.dcm")


def test_d04_a_slice_whose_beginning_is_damaged_is_not_passed_over(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    content = bytearray((folder / "2.dcm").read_bytes())
    content[129] ^= 1
    (folder / "2.dcm").unlink()
    (folder / "IM2").write_bytes(bytes(content))
    refused(folder, "do not begin so: IM2")


@pytest.mark.parametrize("ending", ["", ".img", ".5"])
@pytest.mark.parametrize("left", ["nothing", "zeros", "no preamble", "no meta"])
def test_d04_the_rest_of_a_slice_is_not_passed_over(left: str, ending: str, tmp_path: Path) -> None:
    """What is left of the last slice would be missed by nobody."""
    folder = series(tmp_path / "s", [0, 2, 4])
    for path in list(folder.iterdir()):
        path.rename(folder / f"MR.{path.stem}{ending if ending != '.5' else ''}")
    last = folder / f"MR.2{ending}"
    whole = (folder / f"MR.2{ending if ending != '.5' else ''}").read_bytes()
    (folder / f"MR.2{ending if ending != '.5' else ''}").unlink()
    meta = 132 + 12 + struct.unpack("<I", whole[140:144])[0]
    last.write_bytes({"nothing": b"", "zeros": bytes(len(whole)), "no preamble": whole[132:],
                      "no meta": whole[meta:]}[left])  # fmt: skip
    refused(folder, f"do not begin so: {last.name}")
    last.rename(folder / "notes.txt")
    assert read_series(folder).data.shape == (5, 4, 2)


def test_d04_packed_slices_are_not_passed_over(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2, 4])
    (folder / "2.dcm.gz").write_bytes(gzip.compress((folder / "2.dcm").read_bytes()))
    (folder / "2.dcm").unlink()
    refused(folder, "do not begin so: 2.dcm.gz", "unpack them")


def test_d04_a_folder_that_cannot_be_entered_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(series(tmp_path, [0, 2, 4]) / "b", [6, 8], first=3)
    known = os.scandir

    def scandir(place: str) -> Any:
        if Path(place).name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", place)
        return known(place)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="b: cannot be read: Permission denied"):
        files.find_files(tmp_path)


def test_objects_without_an_image_need_no_series(tmp_path: Path) -> None:
    """A hanging protocol has none; a PDF may be in that of its images."""
    folder = series(tmp_path / "s", [0, 2, 4])
    for name, kind, uid in (("protocol", "1.2.840.10008.5.1.4.38.1", None),
                            ("pdf", "1.2.840.10008.5.1.4.1.1.104.1", "1.2.3.4")):  # fmt: skip
        other = header("1.2.3.9", SOPClassUID=kind)
        del other.Rows, other.Columns, other.SeriesInstanceUID
        if uid:
            other.SeriesInstanceUID = uid
        other.save_as(folder / name, enforce_file_format=True)
    assert read_series(folder).data.shape == (5, 4, 3)


def test_d03_a_cut_slice_of_a_kind_unknown_is_not_passed_over(tmp_path: Path) -> None:
    private = {"SOPClassUID": "1.2.826.0.1.3680043.9.7433.9"}
    folder = series(tmp_path / "s", [0, 2, 4], **private)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.file_meta.MediaStorageSOPClassUID = private["SOPClassUID"]
        if path.name == "2.dcm":
            del image.Rows
        image.save_as(path)
    refused(folder, "2.dcm: has no usable (0028,0010) Rows")


def test_d03_whatever_looking_at_tags_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = series(tmp_path / "s", [0, 2])

    def broken(*_: object) -> None:
        raise AttributeError("ZZPLANT")

    for module, name in ((read_module, "frames_of"), (series_module, "_class_of")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, broken)
            with pytest.raises(DataError, match=r"0\.dcm.*cannot be parsed \(AttributeError\)"):
                read_module.read(folder, "", 10**6, tmp_path)


def test_d04_an_index_leads_nowhere(tmp_path: Path) -> None:
    series(tmp_path / "outside", [6, 8], first=3)
    folder = series(tmp_path / "s", [0, 2, 4])
    index = header("1.2.3.7", SOPClassUID="1.2.840.10008.1.3.10")
    index.DirectoryRecordSequence = [item(ReferencedFileID=["OUTSIDE", "THREE"])]
    index.save_as(folder / "DICOMDIR")
    index.save_as(folder / "renamed")
    assert read_series(folder).data.shape == (5, 4, 3)


def test_d04_links_are_not_followed(tmp_path: Path) -> None:
    outside = series(tmp_path / "outside", [6, 8], first=3)
    folder = series(tmp_path / "s", [0, 2, 4])
    (folder / "more").symlink_to(outside, target_is_directory=True)
    (folder / "3.dcm").symlink_to(outside / "3.dcm")
    found = read_series(folder)
    assert found.data.shape == (5, 4, 3)
    assert found.remarks == ("2 links were not followed",)
    only = tmp_path / "only"
    only.mkdir()
    (only / "0.dcm").symlink_to(outside / "3.dcm")
    refused(only, "neither NIfTI files nor a DICOM series (1 link was not followed)")


def test_d04_the_digest_of_a_folder_counts_what_is_read_of_it(tmp_path: Path) -> None:
    """A file outside must not tell whether a result of the store is still good."""
    folder = series(tmp_path / "s", [0, 2, 4])
    digest = digest_of(folder)
    outside = series(tmp_path / "outside", [6], first=3)
    (folder / "3.dcm").symlink_to(outside / "3.dcm")
    (folder / "more").symlink_to(outside, target_is_directory=True)
    (folder / ".DS_Store").write_bytes(b"Mac")
    assert digest_of(folder) == digest
    (folder / "notes").write_text("x", encoding="utf-8")
    assert digest_of(folder) != digest


# What voxels mean.


def test_rescaling_is_that_of_each_slice(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2])
    change(folder / "0.dcm", RescaleSlope=2, RescaleIntercept=-1000)
    change(folder / "1.dcm", RescaleSlope="0.5", RescaleIntercept=0)
    assert read_series(folder).data[0, 0].tolist() == [-998, 5.5]
    for wrong in ("0", "1e400"):
        change(folder / "1.dcm", RescaleSlope=wrong)
        refused(folder, "1.dcm: has no usable (0028,1053) RescaleSlope")


@pytest.mark.parametrize(("signed", "expected"), [(1, -1), (0, 65535)])
def test_signs_are_as_declared(signed: int, expected: int, tmp_path: Path) -> None:
    data = np.full((ROWS, COLUMNS), -1, np.int16)
    data[0, 0] = 5
    folder = series(tmp_path, [0, 2], PixelRepresentation=signed, PixelData=data.tobytes())
    assert read_series(folder).data[1, 1, 1] == expected


def test_bits_beyond_those_stored_do_not_count(tmp_path: Path) -> None:
    """Old files keep overlays there."""
    data = (stored(1).astype(np.uint16) | 0x8000).tobytes()
    bits = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}
    assert read_series(series(tmp_path, [0, 2], PixelData=data, **bits)).data.max() == 11


def test_inverted_display_leaves_values_as_they_are(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2], PhotometricInterpretation="MONOCHROME1")
    found = read_series(folder)
    assert found.data[0, 0].tolist() == [1, 11]
    assert "MONOCHROME1" in found.remarks[0]


def test_colors_and_tables_are_refused(tmp_path: Path) -> None:
    color = series(tmp_path / "color", [0, 2], SamplesPerPixel=3, PhotometricInterpretation="RGB",
                   PlanarConfiguration=0, PixelData=bytes(ROWS * COLUMNS * 6))  # fmt: skip
    refused(color, "0.dcm: has colored voxels")
    palette = series(tmp_path / "palette", [0, 2], PhotometricInterpretation="PALETTE COLOR")
    refused(palette, "has colored voxels")
    table = series(tmp_path / "table", [0, 2], ModalityLUTSequence=[item(LUTExplanation="x")])
    refused(table, "(0028,3000) ModalityLUTSequence")


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("ImagePositionPatient", None, "(0020,0032) ImagePositionPatient"),
        ("ImagePositionPatient", [1, 2], "(0020,0032) ImagePositionPatient"),
        ("ImageOrientationPatient", [1, 0, 0, 0.1, 1, 0], "(0020,0037) ImageOrientationPatient"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "(0020,0037) ImageOrientationPatient"),
        ("ImageOrientationPatient", [0] * 6, "(0020,0037) ImageOrientationPatient"),
        ("PixelSpacing", [0, 1], "(0028,0030) PixelSpacing"),
        ("PixelSpacing", [-1, 1], "(0028,0030) PixelSpacing"),
        ("BitsAllocated", 1, "(0028,0100) BitsAllocated"),
    ],
)
def test_tags_without_a_usable_value_are_named(
    keyword: str, value: Any, said: str, tmp_path: Path
) -> None:
    folder = series(tmp_path / "s", [0, 2])
    for name in ("0.dcm", "1.dcm"):
        change(folder / name, **{keyword: value})
    refused(folder, "0.dcm: has no usable", said)


# Compressed voxels.

NOISE = {
    "Rows": 40,
    "Columns": 48,
    "PixelData": np.random.default_rng(0).integers(-900, 900, (40, 48), np.int16).tobytes(),
}


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_lossless_compression_changes_nothing(syntax: Any, tmp_path: Path) -> None:
    plain = series(tmp_path / "plain", [0, 2, 4], **NOISE)
    expected = read_series(plain).data
    assert expected.shape == (48, 40, 3)
    for path in plain.iterdir():
        image = pydicom.dcmread(path)
        image.compress(syntax)
        image.save_as(path)
    np.testing.assert_array_equal(read_series(plain).data, expected)


@pytest.mark.usefixtures("a_child")
def test_d03_compressed_voxels_that_are_cut_or_malformed_are_refused(tmp_path: Path) -> None:
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        folder = series(tmp_path / syntax, [0, 2, 4], **NOISE)
        image = pydicom.dcmread(folder / "1.dcm")
        image.compress(syntax)
        whole = image.PixelData
        size = int.from_bytes(whole[12:16], "little")
        for lost in (2, size // 2, size):  # an honest fragment of less than an image
            kept = whole[16 : 16 + size - lost]
            length = struct.pack("<I", len(kept) + len(kept) % 2)
            end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
            image.PixelData = whole[:12] + length + kept + bytes(len(kept) % 2) + end
            image.save_as(folder / "1.dcm")
            refused(folder, "1.dcm")
        image.PixelData = whole[:8] + bytes(20) + whole[28:]
        image.save_as(folder / "1.dcm")
        refused(folder, "1.dcm")


def test_a_syntax_that_nothing_decodes_is_named(tmp_path: Path) -> None:
    folder = series(tmp_path / "s", [0, 2])
    image = pydicom.dcmread(folder / "1.dcm")
    image.compress(RLELossless)
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # a video
    image.save_as(folder / "1.dcm")
    refused(folder, "1.dcm: uses the transfer syntax 1.2.840.10008.1.2.4.100")


# Enhanced multi-frame files.


def test_an_enhanced_file_is_read_in_order_of_its_positions(tmp_path: Path) -> None:
    stack = ("InStackPositionNumber", [3, 1, 2])
    scales = [(1, 0), (2, 0), (1, -5)]
    folder = enhanced(tmp_path / "e.dcm", [4, 0, 2], dimensions=[stack], scales=scales)
    found = read_series(folder)
    assert found.data[0, 0].tolist() == [22, 16, 1]
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-12)


def test_an_enhanced_file_is_held_to_the_same_geometry(tmp_path: Path) -> None:
    refused(enhanced(tmp_path / "a" / "e.dcm", [0, 2, 6, 8]), "2.00 to 6.00 mm: slices are missing")
    refused(enhanced(tmp_path / "b" / "e.dcm", [0, 2, 4], NumberOfFrames=4), "e.dcm: (5200,9230)")
    lost = {"PerFrameFunctionalGroupsSequence": None}
    folder = enhanced(tmp_path / "c" / "e.dcm", [0, 2, 4])
    change(folder / "e.dcm", **lost)
    refused(folder, "(5200,9230) PerFrameFunctionalGroupsSequence should say where 3 frames lie")


@pytest.mark.parametrize(
    ("pointer", "said"),
    [
        ("TemporalPositionIndex", "(0020,9128) TemporalPositionIndex"),
        ("EffectiveEchoTime", "(0018,9082) EffectiveEchoTime"),
        ("DiffusionBValue", "(0018,9087) DiffusionBValue"),
    ],
)
def test_further_dimensions_are_named(pointer: str, said: str, tmp_path: Path) -> None:
    dimensions: Sequence[tuple[str, Sequence[int]]] = [
        ("InStackPositionNumber", [1, 2, 1, 2]),
        (pointer, [1, 1, 2, 2]),
    ]
    folder = enhanced(tmp_path / "e.dcm", [0, 2, 0, 2], dimensions=dimensions)
    refused(folder, "two slices at the same position", f"apart in {said}")


def test_times_of_an_enhanced_file_that_fill_the_gaps_of_each_other_are_refused(
    tmp_path: Path,
) -> None:
    times = ("TemporalPositionIndex", [1, 1, 1, 2, 2])
    folder = enhanced(tmp_path / "e.dcm", [0, 4, 8, 2, 6], dimensions=[times])
    refused(folder, "2 of 5, in e.dcm, differ", "(0020,9128) TemporalPositionIndex")


def test_dimensions_that_count_frames_are_no_matter(tmp_path: Path) -> None:
    counted = ("FrameAcquisitionNumber", [1, 2, 3])
    assert read_series(enhanced(tmp_path / "e.dcm", [0, 2, 4], dimensions=[counted])).data.size


@pytest.mark.parametrize("heights", [[0, 2, 0, 2], [0, 4, 2, 6]])
def test_echoes_are_told_apart_without_a_dimension(heights: list[float], tmp_path: Path) -> None:
    folder = enhanced(tmp_path / "e.dcm", heights)
    image = pydicom.dcmread(folder / "e.dcm")
    for number, frame in enumerate(image.PerFrameFunctionalGroupsSequence):
        frame.MREchoSequence = [item(EffectiveEchoTime=20.0 if number < 2 else 80.0)]
    image.save_as(folder / "e.dcm")
    refused(folder, "(0018,9082) EffectiveEchoTime")


# The extra.


def test_a_missing_extra_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find_spec", lambda name: None)
    with pytest.raises(MachineError) as caught:
        read_series(series(tmp_path / "s", [0, 2]))
    assert caught.value.exit_code == 4
    assert caught.value.fix.endswith("pip install -c constraints.txt '.[dicom]'")


def test_the_child_starts_without_heavy_libraries() -> None:
    code = (
        "import sys, crossmod.intake.dicom.child, crossmod.intake.dicom.read; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "SimpleITK", "nibabel", "scipy", "matplotlib"} & {*done.stdout.split()}
