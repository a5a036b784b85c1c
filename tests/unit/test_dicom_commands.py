"""DICOM on the command line: prediction and import, and no word of patients anywhere."""

from __future__ import annotations

import gzip
import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_child import no_child  # noqa: F401
from dicom_files import enhanced, header, item, series
from processor import AFFINE_MM
from test_model import _level, a_run, a_scan  # noqa: F401  # the plugin "level" of this module
from typer.testing import CliRunner, Result

from crossmod.cli import app
from crossmod.errors import CrossmodError
from crossmod.intake.dicom import process, read_series
from crossmod.model.package import package

MARK = "ZZPLANT"


def crossmod(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def failed(done: Result, code: int) -> str:
    """The message of a command that must fail as errors of users do."""
    assert isinstance(done.exception, CrossmodError), done.exception
    assert done.exception.exit_code == code
    return str(done.exception)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that finds bright voxels: one class, with the value 4."""
    package(a_run(tmp_path / "run"), tmp_path / "model")
    return tmp_path / "model"


# Prediction.


def test_outlines_of_a_series_come_as_nifti_or_dicom(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    series(folder / "deep", range(0, 24, 2), Rows=16, Columns=16, PixelSpacing=[2, 2],
                    PixelData=blob())  # fmt: skip
    series(folder / "deep", [0, 5], first=50, SeriesInstanceUID="1.2.7", SeriesDescription="scout")
    wanted = ["--series", "T2*"]
    assert crossmod("predict", model, folder, tmp_path / "out", *wanted).exit_code == 0
    done = crossmod("predict", model, folder, tmp_path / "seg", *wanted, "--format", "dicom-seg")
    assert done.exit_code == 0, done.output
    labels = nibabel.load(tmp_path / "out" / "scan.nii.gz")
    seg = pydicom.dcmread(tmp_path / "seg" / "scan.dcm")
    names = [path.name for path in (tmp_path / "seg").glob("[!.]*")]
    assert sorted(names) == ["confidence.csv", "scan.dcm"]
    assert seg.SegmentSequence[0].SegmentAlgorithmName.endswith(": Made by hand")
    assert np.asarray(labels.dataobj).any()
    assert int(seg.pixel_array.sum()) == int((np.asarray(labels.dataobj) == 4).sum())
    message = failed(crossmod("predict", model, folder, tmp_path / "none"), 3)
    assert "1.2.7: 2 files, scout" in message


def blob() -> bytes:
    data = np.zeros((16, 16), np.int16)
    data[5:9, 4:10] = 20
    return data.tobytes()


def test_nifti_has_no_dicom_to_refer_to(model: Path, tmp_path: Path) -> None:
    scan = a_scan(tmp_path / "nifti", "a")
    out = tmp_path / "out"
    done = crossmod("predict", tmp_path / "no-model-yet", scan.path, out, "--format", "dicom-seg")
    assert "needs folders of DICOM files" in failed(done, 3)
    assert not out.exists()


def test_a_source_without_identifiers_does_not_stop_the_others(model: Path, tmp_path: Path) -> None:
    tags = {"Rows": 16, "Columns": 16, "PixelSpacing": [2, 2], "PixelData": blob()}
    series(tmp_path / "a", range(0, 24, 2), FrameOfReferenceUID=None, **tags)
    series(tmp_path / "b", range(0, 24, 2), **tags)
    done = crossmod("predict", model, tmp_path / "a", tmp_path / "b", tmp_path / "out",
                    "--format", "dicom-seg")  # fmt: skip
    assert "FrameOfReferenceUID" in failed(done, 3)
    assert (tmp_path / "out" / "b.dcm").is_file()
    assert not (tmp_path / "out" / "a.dcm").exists()


def test_a_missing_extra_has_exit_code_4(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = series(tmp_path / "s", [0, 2])
    monkeypatch.setattr(process, "find_spec", lambda name: None)
    for more in ([], ["--format", "dicom-seg"]):
        done = crossmod("predict", model, folder, tmp_path / "out", *more)
        assert "pip install -c constraints.txt '.[dicom]'" in failed(done, 4)
    done = crossmod("data", "import", folder, tmp_path / "data", "--format", "dicom")
    assert "pip install -c constraints.txt '.[dicom]'" in failed(done, 4)


# Import.


def imported(folder: Path, out: Path, *more: str) -> Result:
    return crossmod("data", "import", folder, out, "--format", "dicom", *more)


def test_every_folder_becomes_a_case(tmp_path: Path) -> None:
    series(tmp_path / "in" / "a" / "deep", [0, 2, 4])
    enhanced(tmp_path / "in" / "b" / "e.dcm", [0, 2], scales=[(0.5, 0), (1, 0)])
    done = imported(tmp_path / "in", tmp_path / "data")
    assert done.exit_code == 0, done.output
    assert "2 scans in" in done.output
    images = tmp_path / "data" / "target" / "images"
    whole, real = nibabel.load(images / "a.nii.gz"), nibabel.load(images / "b.nii.gz")
    assert (whole.get_data_dtype(), real.get_data_dtype()) == (np.int16, np.float32)
    scan = read_series(tmp_path / "in" / "a")
    np.testing.assert_array_equal(np.asarray(whole.dataobj), scan.data)
    np.testing.assert_allclose(whole.affine, scan.affine, atol=AFFINE_MM)
    table = tomllib.loads((tmp_path / "data" / "data.toml").read_text(encoding="utf-8"))
    assert table == {"data": {"target": {"images": "target/images/{case}.nii.gz"},
                              "centers": {"all": "*"}}}  # fmt: skip


def test_the_only_folder_is_a_case_by_its_name(tmp_path: Path) -> None:
    series(tmp_path / "patient-1", [0, 2, 4])
    out = tmp_path / "data"
    assert imported(tmp_path / "patient-1", out, "--as", "validation").exit_code == 0
    assert (out / "validation" / "images" / "patient-1.nii.gz").is_file()


def test_a_series_is_chosen_in_every_case(tmp_path: Path) -> None:
    for case in "ab":
        folder = series(tmp_path / "in" / case, [0, 2, 4])
        series(folder, [0, 3], first=5, SeriesInstanceUID="1.2.8", SeriesDescription="T1")
    assert imported(tmp_path / "in", tmp_path / "data", "--series", "t2*").exit_code == 0
    image = nibabel.load(tmp_path / "data" / "target" / "images" / "b.nii.gz")
    assert image.shape == (5, 4, 3)


def test_all_problems_are_named_and_nothing_is_published(tmp_path: Path) -> None:
    series(tmp_path / "in" / "a", [0, 2, 6, 8])
    series(tmp_path / "in" / "b", [0, 2])
    series(tmp_path / "in" / "c", [0, 2], PixelSpacing=[0, 0])
    (tmp_path / "in" / "d").mkdir()
    message = failed(imported(tmp_path / "in", tmp_path / "data"), 3)
    for part in ("slices are missing", "PixelSpacing", "neither NIfTI files nor a DICOM series"):
        assert part in message
    assert not (tmp_path / "data").exists()


def test_slices_beside_the_folders_of_cases_are_remarked(tmp_path: Path) -> None:
    series(tmp_path / "in" / "a", [0, 2, 4])
    series(tmp_path / "in", [6, 8], first=3)
    (tmp_path / "in" / "notes.txt").write_text("x", encoding="utf-8")
    done = imported(tmp_path / "in", tmp_path / "data")
    assert done.exit_code == 0, done.output
    assert "note: 2 DICOM files beside the case folders were skipped" in done.output


def test_voxels_that_are_not_finite_are_not_imported(tmp_path: Path) -> None:
    series(tmp_path / "in" / "a", [0, 2, 4], RescaleSlope="1e300", RescaleIntercept=0)
    message = failed(imported(tmp_path / "in", tmp_path / "data"), 3)
    assert f"{tmp_path / 'in' / 'a'}: voxels: 60 of 60 are NaN or infinite" in message
    assert not (tmp_path / "data").exists()


def test_what_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    series(folder / "a", [0, 2])
    assert "label maps" in failed(imported(folder, tmp_path / "data", "--as", "source"), 3)
    assert "is not a folder" in failed(imported(tmp_path / "no", tmp_path / "data"), 3)
    assert imported(folder, tmp_path / "data", "--channel", "1").exit_code == 2
    assert crossmod("data", "import", folder, tmp_path / "d", "--series", "x").exit_code == 2
    (folder / "link").symlink_to(folder / "a")
    assert "is a link" in failed(imported(folder, tmp_path / "data"), 3)
    (folder / "link").unlink()
    (folder / "b\nc").mkdir()
    assert "case id" in failed(imported(folder, tmp_path / "data"), 3)
    (folder / "b\nc").rmdir()
    assert imported(folder, tmp_path / "data").exit_code == 0
    assert "exists already" in failed(imported(folder, tmp_path / "data"), 3)


# D05: patients.

NAMED = {
    "PatientName": f"{MARK}^Name",
    "PatientID": f"{MARK}-id",
    "PatientBirthDate": "19500704",
    "ReferringPhysicianName": f"{MARK}^Doctor",
    "InstitutionName": f"{MARK} hospital",
    "StudyDescription": f"{MARK} study",
    "ProtocolName": f"{MARK} protocol",
    "PatientComments": f"{MARK} comment",
}
ODD = ("InstanceNumber", "SpecificCharacterSet", "ImagePositionPatient", "PixelSpacing",
       "ImageOrientationPatient", "SeriesInstanceUID", "PhotometricInterpretation",
       "AcquisitionTime", "RescaleSlope", "SOPClassUID", "EchoTime", "TransferSyntaxUID",
       "Rows")  # fmt: skip
"""Tags in which a name may stand by mistake."""


def plant(path: Path, keyword: str = "") -> None:
    """Give a file names in private tags and sequences, and as the value of one other tag."""
    image = pydicom.dcmread(path)
    block = image.private_block(0x0009, f"{MARK} private", create=True)
    block.add_new(1, "LO", f"{MARK} private")
    block.add_new(2, "UN", f"{MARK} bytes".encode())
    image.RequestAttributesSequence = [item(RequestedProcedureDescription=f"{MARK} asked")]
    image.AcquisitionTime, image.SpecificCharacterSet = "101010.101010", "ISO_IR 192"
    image.RescaleSlope, image.EchoTime, image.InstanceNumber = "1.000000", "20.00000", "1000000000"
    image.save_as(path)
    if keyword:
        content = path.read_bytes()
        where = image.file_meta if keyword in image.file_meta else pydicom.dcmread(path)
        raw = where.get_item(keyword).value
        raw = raw if isinstance(raw, bytes) else str(raw).encode()
        assert content.count(raw) >= 1
        value = (MARK * 20).encode()[: len(raw)]
        path.write_bytes(content.replace(raw, value, 1))


@pytest.fixture
def everything(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[list[str]]:
    """Collects texts; at the end, no name may be in them, the terminal or the log."""
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    yield texts
    captured = capfd.readouterr()
    for text in (*texts, captured.out, captured.err, caplog.text):
        assert MARK not in text
        assert "19500704" not in text


def content_of(folder: Path) -> str:
    """All that a folder holds, unpacked."""
    texts = []
    for path in folder.rglob("*"):
        texts.append(path.name)
        if path.is_file():
            data = path.read_bytes()
            data = gzip.decompress(data) if path.suffix == ".gz" else data
            texts.append(data.decode("latin-1"))
    return "\n".join(texts)


def test_d05_names_reach_no_output_and_no_file(
    model: Path, tmp_path: Path, everything: list[str]
) -> None:
    folder = series(tmp_path / "in" / "case", range(0, 24, 2), Rows=16, Columns=16,
                    PixelSpacing=[2, 2], PixelData=blob(), **NAMED)  # fmt: skip
    for path in folder.iterdir():
        plant(path)
    done = crossmod("predict", model, folder, tmp_path / "out")
    assert done.exit_code == 0
    brought = imported(tmp_path / "in", tmp_path / "data")
    assert brought.exit_code == 0
    everything += [done.output, brought.output, content_of(tmp_path / "out"),
                   content_of(tmp_path / "data")]  # fmt: skip
    made = crossmod("predict", model, folder, tmp_path / "seg", "--format", "dicom-seg")
    seg = tmp_path / "seg" / "case.dcm"
    assert pydicom.dcmread(seg).PatientName == f"{MARK}^Name"  # the standard demands it
    seg.unlink()
    everything += [made.output, content_of(tmp_path / "seg")]


@pytest.mark.parametrize("keyword", ODD)
def test_d05_names_in_odd_places_reach_no_message(
    keyword: str, tmp_path: Path, everything: list[str]
) -> None:
    folder = series(tmp_path / "in" / "case", [0, 2, 4], **NAMED)
    for path in folder.iterdir():
        plant(path, keyword if path.name == "1.dcm" else "")
    done = imported(tmp_path / "in", tmp_path / "data")
    everything += [done.output, str(done.exception), repr(done.exception)]
    if (tmp_path / "data").exists():
        everything.append(content_of(tmp_path / "data"))


def test_d05_a_report_that_names_a_patient_is_not_quoted(
    tmp_path: Path, everything: list[str]
) -> None:
    folder = series(tmp_path / "in" / "case", [0, 2, 4], **NAMED)
    report = header("1.2.3.9", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", **NAMED)
    del report.Rows
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    cut = (folder / "2.dcm").read_bytes()
    for length in (200, 300, 400, 500, len(cut) - 1):
        (folder / "2.dcm").write_bytes(cut[:length])
        done = imported(tmp_path / "in", tmp_path / "data")
        assert done.exit_code != 0
        everything += [done.output, str(done.exception)]
