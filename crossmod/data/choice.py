"""Which cases of a pattern of files take part: by their ids, or by a list in a file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from crossmod.data.cases import fits
from crossmod.errors import DataError, elided
from crossmod.files.patterns import nfc
from crossmod.files.tables import read_csv
from crossmod.files.text import read_text
from crossmod.options import Options

ENDINGS = (".txt", ".tsv", ".csv", ".json")
"""Of files that list cases."""

SUBJECT = "sub-"
"""What BIDS puts before a participant."""

MAX_NAMED = 10
"""Cases that a message names."""


class CaseList(Options):
    """Cases by patterns of their ids, or by a file that lists them."""

    ids: tuple[str, ...] = ()
    """Case ids, or patterns of them with `*`; a plain list means the same."""
    file: str = ""
    """A file below the data folder that lists cases; a plain text means the same. `.txt` has one
    case a line; `.tsv` and `.csv` have a column of cases, as BIDS' `participants.tsv`; `.json` is
    nnU-Net's `splits_final.json`."""
    column: str = "participant_id"
    """Column of a table that holds the cases; `sub-` before an id may be there or not."""
    where: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Only rows of a table with these values: column -> value, or several of them."""
    fold: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    """Fold of `splits_final.json`, from 0."""
    part: Literal["train", "val"] = "train"
    """Part of that fold."""

    @model_validator(mode="after")
    def _one_source(self) -> CaseList:
        if bool(self.ids) == bool(self.file):
            raise ValueError("either ids or a file choose cases")
        name = Path(self.file)
        if self.file and (name.is_absolute() or ".." in name.parts or self.file[0] == "~"):
            raise ValueError("a list of cases lies below the data folder: no .., ~ or leading /")
        if self.file and name.suffix not in ENDINGS:
            raise ValueError(f"a list of cases ends with {', '.join(ENDINGS)}")
        return self

    def listed(self, root: Path) -> list[str]:
        """The ids or patterns, from the data folder ``root`` where a file holds them.

        Raises:
            DataError: the file cannot be read, or lists nothing.
        """
        if not self.file:
            return list(self.ids)
        path = root / self.file
        read = {".txt": self._lines, ".json": self._split}.get(path.suffix, self._rows)
        found = list(dict.fromkeys(read(path)))
        if not found:
            raise DataError("lists no case", where=str(path))
        return found

    def _lines(self, path: Path) -> Iterator[str]:
        for _, row in read_csv(path):
            name = row[0].strip() if row else ""
            if name and not name.startswith("#"):
                yield name

    def _rows(self, path: Path) -> Iterator[str]:
        rows = (row for _, row in read_csv(path) if row)
        header = next(rows, [])
        if missing := [name for name in (self.column, *self.where) if name not in header]:
            raise DataError(
                f"has no column {', '.join(missing)}", where=str(path), allowed=", ".join(header)
            )
        wanted = {c: (v,) if isinstance(v, str) else v for c, v in self.where.items()}
        for row in rows:
            cells = dict(zip(header, row, strict=False))
            if all(cells.get(column) in values for column, values in wanted.items()):
                yield cells[self.column]

    def _split(self, path: Path) -> Iterator[str]:
        try:
            folds = json.loads(read_text(path))
            names = folds[self.fold][self.part]
        except (ValueError, RecursionError) as error:
            raise DataError(f"is not JSON: {error}", where=str(path)) from error
        except (IndexError, KeyError, TypeError) as error:
            raise DataError(
                f"has no fold {self.fold} with a part '{self.part}'",
                where=str(path),
                allowed="a list of folds, each with lists of cases 'train' and 'val'",
            ) from error
        yield from map(str, names)


def _as_table(written: Any) -> Any:
    """A plain text is a file, a plain list holds ids."""
    if isinstance(written, str):
        return {"file": written}
    return {"ids": written} if isinstance(written, list | tuple) else written


Cases = Annotated[
    CaseList, BeforeValidator(_as_table, json_schema_input_type=CaseList | str | list[str])
]


@dataclass(frozen=True)
class Choice:
    """The cases of a pattern that take part.

    Attributes:
        cases: those that do; None where all do.
        exclude: those that do not.
    """

    cases: CaseList | None = None
    exclude: CaseList | None = None

    @property
    def is_all(self) -> bool:
        """Whether all cases take part."""
        return self.cases is None and self.exclude is None

    def of(self, root: Path, found: Collection[str]) -> tuple[set[str], list[str]]:
        """The cases of ``found`` that take part, and what was listed in vain, a line for each.

        Raises:
            DataError: a list cannot be read.
        """
        kept, problems = set(found), list[str]()
        for name, wanted in (("cases", self.cases), ("exclude", self.exclude)):
            if wanted is None:
                continue
            named, vain = _named(wanted.listed(root), found)
            kept = kept & named if name == "cases" else kept - named
            if vain:
                where = f" of {wanted.file}" if wanted.file else ""
                problems.append(f"{name}{where}: no scan matches {elided(vain, MAX_NAMED)}")
        if not kept and not problems:
            problems.append("cases and exclude leave no scan")
        return kept, problems


ALL = Choice()


def _named(wanted: list[str], found: Collection[str]) -> tuple[set[str], list[str]]:
    """The cases that a list means, and what in it means none."""
    known = _by_name(found)
    named, vain = set[str](), list[str]()
    for one in wanted:
        plain = nfc(one)
        if "*" in one:
            meant = {case for name, case in known.items() if fits(name, plain)}
        else:
            short = known.get(plain.removeprefix(SUBJECT))
            meant = {case for case in (known.get(plain, short),) if case is not None}
        named |= meant
        vain += [] if meant else [one]
    return named, vain


def _by_name(found: Collection[str]) -> Mapping[str, str]:
    """Id in one form of Unicode -> id as the file system has it."""
    return {nfc(case): case for case in found}
