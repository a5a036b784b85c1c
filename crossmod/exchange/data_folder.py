"""A data set of another program into a data folder, and the [data] table that reads it."""

from __future__ import annotations

import filecmp
import os
import tempfile
from collections.abc import Mapping, MutableMapping, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable

from crossmod.data.classes import Classes
from crossmod.data.folder import Scan, stem_of
from crossmod.errors import DataError
from crossmod.exchange.nnunet_raw import RawCase, RawDataset
from crossmod.files.copies import copy_file
from crossmod.files.outputs import NOTHING, Inputs, Outputs
from crossmod.files.text import read_text
from crossmod.intake import Inspector, Intake, Part, Survey, survey

TABLE = "data.toml"
"""The file in a data folder that says how a recipe reads it."""

REFERENCES = "hidden"
"""The folder of label maps to score against."""


class Role(StrEnum):
    """What scans are in a recipe."""

    SOURCE = "source"
    TARGET = "target"
    VALIDATION = "validation"


@dataclass(frozen=True)
class Imported:
    """What an import has done.

    Attributes:
        role: what the scans are now.
        scans: how many there are.
        references: how many label maps lie in `REFERENCES`.
        left_out: unlabeled scans of the source modality, which no stage can use.
        table: text of `TABLE`.
        remarks: what was odd about scans and could be mended.
    """

    role: Role
    scans: int
    references: int
    left_out: int
    table: str
    remarks: tuple[str, ...] = ()


def import_raw(raw: RawDataset, out: Path, role: Role | None, inputs: Inputs = NOTHING) -> Imported:
    """Put the cases of a data set into a data folder, bytes unchanged.

    Files are copied, so that whoever edits one edits one. A data folder may be filled by several
    imports, one for each role.

    Args:
        raw: the data set.
        out: the data folder; made if missing.
        role: what the scans will be; None: the source if they are labeled, else the target.
        inputs: the folder of the data set.

    Raises:
        DataError: files cannot be trusted, the folder holds such scans or other label maps of these
            names already or lies in the data set, cases of target and validation have the same
            names, a source has no labels, or classes contradict an earlier import.
    """
    outputs_of(out, inputs).require([])
    role = role or (Role.SOURCE if raw.labeled else Role.TARGET)
    cases = raw.training if role is Role.SOURCE else raw.training + raw.test
    _check(raw, cases, out, role)
    found = _survey(raw, cases, role)
    found.require()
    table = _table(raw, cases, out, role)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".import-") as name:
        stage = Path(name)
        labels = f"{role}/labels" if role is Role.SOURCE else REFERENCES
        for case in cases:
            _place(case.image, stage / role / "images" / f"{case.case}{raw.ending}")
            if case.labels is not None:
                _place(case.labels, stage / labels / f"{case.case}{raw.ending}")
        references = sorted(stage.glob(f"{REFERENCES}/*"))
        for path in references:
            (out / REFERENCES).mkdir(exist_ok=True)
            if not os.path.lexists(out / REFERENCES / path.name):  # else it is the same
                path.rename(out / REFERENCES / path.name)
        (stage / role).rename(out / role)
    left_out = len(raw.test) if role is Role.SOURCE else 0
    remarks = (*(text for _, text in found.remarks), *write_table(outputs_of(out, inputs), table))
    return Imported(role, len(cases), len(references), left_out, table, remarks)


def _check(raw: RawDataset, cases: tuple[RawCase, ...], out: Path, role: Role) -> None:
    if role is Role.SOURCE and not raw.labeled:
        raise DataError("source scans need label maps, but labelsTr is empty", fix="--as target")
    if role is Role.SOURCE and not raw.classes:
        raise DataError("dataset.json names no classes", fix='add "labels" as nnU-Net wants them')
    check_room(out, role, {case.case for case in cases})
    kept = {} if role is Role.SOURCE else {case.case: case.labels for case in cases if case.labels}
    places = {out / REFERENCES / f"{name}{raw.ending}": file for name, file in kept.items()}
    other = [str(place) for place, file in places.items() if _is_other(place, file)]
    if other:
        what = "the folder already holds different label maps with these names:"
        raise DataError("\n".join([what, *other]), fix="move them away, or name a new folder")


def _is_other(place: Path, file: Path) -> bool:
    """Whether something lies at a place that is not the same as a file."""
    if not os.path.lexists(place):
        return False
    return not place.is_file() or not filecmp.cmp(place, file, shallow=False)


def _survey(raw: RawDataset, cases: tuple[RawCase, ...], role: Role) -> Survey:
    """What the files hold, before they are taken for data."""
    scans = [Scan(case.case, "", case.image, case.labels) for case in cases]
    values = {n: (v,) if isinstance(v, int) else tuple(v) for n, v in raw.classes.items()}
    return survey([Part(role, scans)], Classes(values), Inspector(Intake()))


def check_room(out: Path, role: Role, cases: Set[str]) -> None:
    """Refuse scans for which a data folder has no room.

    Raises:
        DataError: it has scans of this role, or target and validation would share cases.
    """
    if (out / role).exists():
        raise DataError("exists already", where=str(out / role), fix="name a new folder")
    taken = {
        stem_of(path.name)
        for other in {Role.TARGET, Role.VALIDATION} - {role}
        for path in (out / other / "images").glob("*")
    }
    clashes = sorted(taken & cases)
    if clashes and role is not Role.SOURCE:
        raise DataError(
            f"target and validation would share the cases {', '.join(clashes)}",
            where=str(out),
            fix="rename one of them: references are found by the name of the case",
        )


def outputs_of(out: Path, inputs: Inputs) -> Outputs:
    """What an import writes into a data folder besides scans and label maps."""
    return Outputs(out, "crossmod data import", inputs)


def write_table(outputs: Outputs, table: str) -> list[str]:
    """Write `TABLE` unless somebody else wrote or changed it; returns what to tell of that."""
    path = outputs.folder / TABLE
    if os.path.lexists(path) and not outputs.owns(TABLE):
        return [f"{path}: was edited by hand and is kept; add the lines below to it"]
    with outputs.file(TABLE) as file:
        file.write_text(table, encoding="utf-8")
    return []


def _place(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_file(file, target)


def _table(raw: RawDataset, cases: tuple[RawCase, ...], out: Path, role: Role) -> str:
    """The text of `TABLE` with this import added to what is there."""
    path = out / TABLE
    content = table_with(out, role, raw.ending)
    data = _table_in(content, "data")
    if role is Role.SOURCE or any(case.labels for case in cases):
        known = data.setdefault("classes", _inline(raw.classes))
        _compare_classes(known, raw.classes, path)
    if role is not Role.SOURCE and all(case.labels for case in cases):
        pattern = f"{REFERENCES}/{{case}}{raw.ending}"
        evaluate = _table_in(content, "evaluate")
        known = evaluate.setdefault("labels", pattern)
        if known != pattern:
            raise DataError(f"references are {known}, these would be {pattern}", where=str(path))
        scored = {*evaluate.get("splits", ()), role.value}
        evaluate["splits"] = sorted(scored)
    return tomlkit.dumps(content)


def table_with(out: Path, role: Role, ending: str) -> TOMLDocument:
    """`TABLE` of a data folder, with the scans of a role added.

    Raises:
        DataError: what is there is not TOML.
    """
    path = out / TABLE
    try:
        content = tomlkit.parse(read_text(path) if path.is_file() else "")
    except TOMLKitError as error:
        raise DataError(f"is not TOML: {error}", where=str(path)) from error
    data = _table_in(content, "data")
    files = {"images": f"{role}/images/{{case}}{ending}"}
    if role is Role.SOURCE:
        files["labels"] = f"{role}/labels/{{case}}{ending}"
    data[role.value] = _inline(files)
    data.setdefault("centers", _inline({"all": "*"}))
    return content


def _table_in(content: MutableMapping[str, Any], name: str) -> MutableMapping[str, Any]:
    table: MutableMapping[str, Any] = content.setdefault(name, tomlkit.table())
    return table


def _inline(values: Mapping[str, Any]) -> InlineTable:
    table = tomlkit.inline_table()
    table.update(values)
    return table


def _compare_classes(known: Mapping[str, Any], found: Mapping[str, Any], path: Path) -> None:
    problems = [
        f"class '{name}' is {known[name]} here, {value} in the data set"
        for name, value in found.items()
        if known.get(name, value) != value
    ]
    if problems:
        raise DataError("\n".join(problems), where=str(path))
