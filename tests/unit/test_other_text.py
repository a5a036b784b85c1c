"""Text and names from other editors and systems: encodings, separators, Unicode, copies."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import nibabel
import numpy as np
import pytest
from test_exchange import dataset

from crossmod import DataError
from crossmod.data.crossmoda import Info, read_infos
from crossmod.data.folder import find_scans
from crossmod.exchange.data_folder import Role, import_raw
from crossmod.exchange.nnunet_raw import read_raw
from crossmod.files.patterns import matches, references_of
from crossmod.files.tables import read_csv
from crossmod.scores.evaluation.folders import label_pairs
from crossmod.scores.ranking.table import read_table

ROWS = [["case", "note"], ["ä 1", "a, b; c"], ["b", '"x"']]


def rows(path: Path) -> list[list[str]]:
    return [row for _, row in read_csv(path)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_any_editor_are_read(
    encoding: str, separator: str, end: str, tmp_path: Path
) -> None:
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in ROWS]
    path = tmp_path / "a.csv"
    path.write_bytes((end.join(map(separator.join, quoted)) + end).encode(encoding))
    assert rows(path) == ROWS


def test_tabs_separate_a_tsv_whatever_its_names_hold(tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tage, in years, rounded\nsub-01\t42\n", encoding="utf-8")
    assert rows(path) == [["participant_id", "age, in years, rounded"], ["sub-01", "42"]]


def test_text_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("a,b\nü,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.csv:2: is not UTF-8: byte 0xfc"):
        rows(path)
    path.write_bytes("a,b\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"a\.csv:1: holds zero bytes: UTF-16 without a mark"):
        rows(path)


def test_semicolon_tables_are_scores_and_infos(tmp_path: Path) -> None:
    scores = tmp_path / "scores.csv"
    lines = ["Case;Team;VS_Dice", *(f"{case};{team};0.{n}" for n, (case, team) in
             enumerate([("a", "x"), ("b", "x"), ("a", "y"), ("b", "y")], 1))]  # fmt: skip
    scores.write_text("\n".join(lines), encoding="utf-16")
    assert read_table(scores).of("VS_Dice").tolist() == [[0.1, 0.3], [0.2, 0.4]]
    scores.write_text("\n".join(lines).replace("0.", "0,"), encoding="utf-8")
    with pytest.raises(DataError, match=r"VS_Dice .* is '0,1'\n.*decimal point"):
        read_table(scores)
    infos = tmp_path / "infos.csv"
    infos.write_text("crossmoda_name;center;koos\na;London;1\n", encoding="utf-8-sig")
    assert read_infos(infos) == {"a": Info("London", "1")}


NFC = unicodedata.normalize("NFC", "Müller")
NFD = unicodedata.normalize("NFD", "Müller")


@pytest.mark.parametrize(("on_disk", "asked"), [(NFD, NFC), (NFC, NFD)])
def test_names_match_in_any_form_of_unicode(on_disk: str, asked: str, tmp_path: Path) -> None:
    image = tmp_path / f"t2 {on_disk}" / f"{on_disk}_1.nii.gz"
    labels = tmp_path / "seg" / f"{asked}_1.nii.gz"
    for path in (image, labels):
        path.parent.mkdir()
        path.touch()
    [scan] = find_scans(
        tmp_path, f"t2 {asked}/{{case}}.nii.gz", "seg/{case}.nii.gz", {"m": f"{asked}_*"}
    )
    assert (scan.case, scan.center, scan.image, scan.labels) == (f"{NFC}_1", "m", image, labels)
    pattern = f"t2 {asked}/{{case}}.nii.gz"
    assert references_of(tmp_path, pattern, [scan.case]) == {scan.case: image}
    [pair] = label_pairs(image.parent, labels.parent, {})
    assert pair.case == f"{NFC}_1"


def test_two_forms_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in (NFC, NFD):
        (tmp_path / f"{name}.nii").touch()
    if len(list(tmp_path.iterdir())) == 2:  # some file systems know one of them
        with pytest.raises(DataError, match="look the same"):
            matches(tmp_path, "{case}.nii")


def test_upper_case_endings_are_patterns_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.NII.GZ").touch()
    [scan] = find_scans(tmp_path, "{case}.NII.GZ", None, {"all": "*"})
    assert scan.case == "a"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_import_reads_tables_of_any_editor(encoding: str, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d", ["a", "b"], labeled=["a", "b"])
    out = tmp_path / "out"
    import_raw(read_raw(folder, None), out, Role.SOURCE)
    table = out / "data.toml"
    text = table.read_text(encoding="utf-8")
    table.write_text(text, encoding=encoding)
    other = dataset(tmp_path / "e", ["c", "d"])
    done = import_raw(read_raw(other, None), out, Role.TARGET)
    assert 'source = {images = "source/images/{case}.nii.gz"' in done.table
    assert 'target = {images = "target/images/{case}.nii.gz"}' in done.table


def test_numbers_written_as_text_are_numbers(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d", ["a", "b"], labeled=["a", "b"])
    file = folder / "dataset.json"
    content = json.loads(file.read_text())
    content["numTraining"] = "2"
    content["labels"] = {"background": "0", "tumor": "1", "inner": ["2", "3"]}
    file.write_text(json.dumps(content), encoding="utf-16")
    assert read_raw(folder, None).classes == {"tumor": 1, "inner": [2, 3]}
    content["numTraining"] = "3"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="promises 3 training cases, found 2"):
        read_raw(folder, None)


def test_an_import_is_a_copy(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d", ["a", "b"], labeled=["a", "b"])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    out = tmp_path / "out"
    import_raw(read_raw(folder, None), out, Role.SOURCE)
    copies = sorted(out.glob("source/*/*.nii.gz"))
    assert len(copies) == 4
    for path in copies:
        assert path.stat().st_nlink == 1
        image = nibabel.load(path)
        data = np.asarray(image.dataobj)
        with path.open("r+b") as file:  # as a header is mended in place
            file.seek(0)
            file.write(b"\0" * 40)
        assert data.size
    assert {path: path.read_bytes() for path in before} == before
