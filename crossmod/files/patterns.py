"""Patterns of files below a data folder: what lies where they lead, and what leads out of it."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from crossmod.errors import DataError, itemized, reading

CASE = "{case}"
"""What stands for the case id in a pattern."""

MAX_LINKS = 20
"""Links to the outside that a message lists."""


def references_of(root: Path, labels: str, cases: Iterable[str]) -> dict[str, Path]:
    """Case -> where the label map lies that it is scored against, whether or not it exists.

    Example:
        >>> found = references_of(Path("data"), "hidden/{case}_Label.nii.gz", ["ldn_7"])
        >>> found["ldn_7"].as_posix()
        'data/hidden/ldn_7_Label.nii.gz'
    """
    places = {case: root / labels.replace(CASE, case) for case in cases}
    missing = [case for case, place in places.items() if not os.path.lexists(place)]
    there = matches(root, labels) if missing else {}  # in another form of Unicode, perhaps
    return places | {case: there[case] for case in missing if case in there}


def refuse_links(root: Path, patterns: Iterable[str], names: Iterable[str] = ()) -> None:
    """Refuse files of a data folder, by patterns or names, that are links to somewhere else.

    Raises:
        DataError: names the links and where they lead, or folders that cannot be read.
    """
    files = (*files_of(root, patterns), *(root / name for name in names))
    inside, known = root.resolve(), dict[Path, Path | None]()
    links = {link for path in files if (link := _way_out(root, path, inside, known))}
    if links:
        lines = [f"{link} leads to {_target(link)}" for link in sorted(links)]
        raise DataError(
            itemized("links lead out of the data folder", lines, MAX_LINKS),
            where=str(root),
            fix="if you trust them, pass --allow-outside",
        )


def _way_out(root: Path, path: Path, inside: Path, known: dict[Path, Path | None]) -> Path | None:
    """The first part of a path that is not in the folder ``inside`` once links are followed.

    Args:
        root: the data folder, without its links followed.
        path: below it.
        inside: the data folder, its links followed.
        known: what was found of folders, to which more is added: many files share one.
    """
    if path == root:
        return None
    if path.parent not in known:
        known[path.parent] = _way_out(root, path.parent, inside, known)
    before = known[path.parent]
    if before is not None or not (path.is_symlink() or ".." in path.parts):
        return before
    return None if _target(path).is_relative_to(inside) else path


def _target(path: Path) -> Path:
    """Where a path leads; links in a circle lead nowhere."""
    try:
        return path.resolve()
    except RuntimeError:
        return Path(path.readlink())


def files_of(
    root: Path, patterns: Iterable[str], cases: Collection[str] | None = None
) -> list[Path]:
    """What lies where patterns lead, pattern by pattern; only of some cases, where they are given.

    Raises:
        DataError: names every folder that cannot be read.
    """
    found, problems = list[Path](), list[str]()
    for pattern in patterns:
        try:
            matched = matches(root, pattern).items()
            found += [path for case, path in matched if cases is None or case in cases]
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))
    return found


def matches(root: Path, pattern: str) -> dict[str, Path]:
    """Case -> what lies where the pattern leads, sorted; nothing but `{case}` is special in it.

    `{case}` is the same at each place, holds no slash, and is in Unicode's form NFC. Hidden files
    do not count: systems create them beside others, as `._name`.

    Raises:
        DataError: it is not a pattern, or folders cannot be read.

    Example:
        >>> for name in ("t2/a.nii.gz", "t2/b.nii.gz", "t2/b_seg.nii", "t1/a.nii.gz"):
        ...     Path(name).parent.mkdir(exist_ok=True)
        ...     Path(name).touch()
        >>> {case: path.name for case, path in matches(Path(), "t2/{case}.nii.gz").items()}
        {'a': 'a.nii.gz', 'b': 'b.nii.gz'}
    """
    if CASE not in pattern or Path(pattern).is_absolute():
        raise DataError(
            f"'{pattern}' is not a pattern of files",
            allowed="a path below the data folder with {case} where the case id stands",
        )
    found, problems = [root], list[str]()
    for part in pattern.split("/"):
        found = [path for folder in found for path in _below(folder, part, problems)]
    if problems:
        raise DataError("\n".join(problems))
    whole = _expression(nfc(pattern))
    cases: dict[str, Path] = {}
    for path in sorted(found):
        if match := whole.fullmatch(nfc(path.relative_to(root).as_posix())):
            if (case := match["case"]) in cases:
                raise DataError("two names look the same", where=f"{cases[case]}, {path}")
            cases[case] = path
    return cases


def nfc(name: str) -> str:
    """A name in the one form of Unicode that names are compared in; macOS writes another.

    Example:
        >>> nfc("e\u0301") == "\u00e9"
        True
    """
    return unicodedata.normalize("NFC", name)


def _expression(pattern: str) -> re.Pattern[str]:
    first, *others = map(re.escape, pattern.split(CASE))
    return re.compile(first + "(?P<case>[^/]+)" * bool(others) + "(?P=case)".join(others))


def _below(folder: Path, part: str, problems: list[str]) -> list[Path]:
    """What is in a folder and fits one part of a pattern; what cannot be read is noted."""
    try:
        if CASE not in part:
            return _named(folder, part)
        expression, hidden = _expression(nfc(part)), part.startswith(".")
        named = [path for path in folder.iterdir() if hidden or not path.name.startswith(".")]
        return [path for path in named if expression.fullmatch(nfc(path.name))]
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            problems.append(f"{error.filename}: cannot be read: {error.strerror}")
        return []


def _named(folder: Path, name: str) -> list[Path]:
    """What has that name, in whatever form of Unicode.

    Raises:
        OSError: nothing has, or the folder cannot be read.
    """
    if os.path.lexists(folder / name) or name.isascii():
        (folder / name).lstat()
        return [folder / name]
    return [path for path in folder.iterdir() if nfc(path.name) == nfc(name)]


def is_folder(path: Path) -> bool:
    """Whether a path is a folder.

    Raises:
        DataError: nobody can know.
    """
    with reading(path):
        return path.is_dir()
