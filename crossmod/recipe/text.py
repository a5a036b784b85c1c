"""Untrusted TOML text: read within limits, parsed, and each key located.

Recipes stay far below every limit; the limits keep reading fast and the parser's recursion shallow.
Every problem gives line and column.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Never

from crossmod.errors import RecipeError
from crossmod.options import Location

MAX_BYTES = 100_000
"""Bytes of a file."""

MAX_DEPTH = 16
"""Brackets inside each other, and parts of a dotted key."""

MAX_WORD = 1000
"""Characters of a number, or of a key without quotes."""

TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+"""|' + r"'''(?:[^']|'(?!''))*+'''|"
    r'"(?:[^"\\\n]|\\.)*+"|' + r"'[^'\n]*+'|"
    r"(?P<open_quote>[\"'])|#[^\n]*+|(?P<word>[\w+:-]++)|(?P<dot>\.)|(?P<mark>[\[\]{},=\n])",
    re.DOTALL,
)
"""Strings and comments first, so that their content is skipped."""

PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")
AT_END = " (at end of document)"


def read_tables(path: Path) -> tuple[dict[str, Any], dict[Location, str]]:
    """The tables of a TOML file, and "file:line" of each of its keys.

    Raises:
        RecipeError: the file cannot be read, exceeds a limit or is not TOML.
    """
    text = _decoded(_read(path), str(path))
    tables = parse(text, str(path))
    return tables, {key: f"{path}:{line}" for key, line in locate(text).items()}


def parse(text: str, where: str) -> dict[str, Any]:
    """The tables that TOML text describes; ``where`` begins every message.

    Raises:
        RecipeError: the text exceeds a limit or is not TOML.
    """
    text = text.replace("\r\n", "\n")
    _check_shape(text, where)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what = str(error)
        place = PLACE.search(what)
        line, column = place.groups() if place else _place(text, len(text))
        what = what.removesuffix(AT_END) + ", at the end of the file" * what.endswith(AT_END)
        raise RecipeError(
            f"is not TOML: {PLACE.sub('', what)}", where=f"{where}:{line}:{column}"
        ) from error


def parse_value(text: str, where: str) -> Any:
    """A single value; text that is not TOML is a string, as in ``--set segment.use=unet3d``.

    Raises:
        RecipeError: the text exceeds a limit.

    Example:
        >>> [parse_value(text, "--set") for text in ("5", "[1, 2]", "false", "mine")]
        [5, [1, 2], False, 'mine']
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(
            f"is {len(text)} characters long", where=where, allowed=f"{MAX_BYTES} characters"
        )
    line = f"value = {text}"
    _check_shape(line, where)
    try:
        tables = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return text
    return tables["value"] if len(tables) == 1 else text


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise RecipeError("is not a file", where=str(path))
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RecipeError(f"cannot be read: {reason}", where=str(path)) from error
    if len(raw) > MAX_BYTES:
        line, column = _place(raw[:MAX_BYTES].decode("utf-8", "replace"), MAX_BYTES)
        raise RecipeError(
            f"is {path.stat().st_size} bytes long",
            where=f"{path}:{line}:{column}",
            allowed=f"{MAX_BYTES} bytes",
        )
    return raw.removeprefix(codecs.BOM_UTF8)


def _decoded(raw: bytes, where: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        good = raw[: error.start].decode("utf-8")
        _refuse(f"is not UTF-8: byte 0x{raw[error.start]:02x}", where, good, len(good))
    if "\0" in text:
        _refuse("is not text: it holds a NUL", where, text, text.index("\0"))
    return text


def _check_shape(text: str, where: str) -> None:
    """Refuse text that makes the parser slow or recurse deeply, in one pass."""
    depth = dots = 0
    for token in TOKEN.finditer(text):
        kind, found = token.lastgroup, token[0]
        if kind == "open_quote":
            return  # the parser says where the string should have ended
        if kind == "word" and len(found) > MAX_WORD:
            what = f"has a word of {len(found)} characters"
            _refuse(what, where, text, token.start(), f"{MAX_WORD}")
        if kind == "mark":
            dots = 0
            depth = max(depth + (found in "[{") - (found in "]}"), 0)
        dots += kind == "dot"
        if max(depth, dots) > MAX_DEPTH:
            what = "is nested too deep" if depth > MAX_DEPTH else "has a key of too many parts"
            _refuse(what, where, text, token.start(), f"{MAX_DEPTH} levels")


def _refuse(what: str, where: str, text: str, position: int, allowed: str = "") -> Never:
    line, column = _place(text, position)
    raise RecipeError(what, where=f"{where}:{line}:{column}", allowed=allowed)


def _place(text: str, position: int) -> tuple[int, int]:
    """Line and column of a position, both from 1."""
    before = text[:position]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def locate(text: str) -> dict[Location, int]:
    r"""Line of every table header and key that starts a line, by location.

    tomllib gives no positions. Keys inside inline tables take the line of the key that holds them.

    Example:
        >>> locate("seed = 1\n[segment]\nfolds = 5")
        {('seed',): 1, ('segment',): 2, ('segment', 'folds'): 3}
    """
    lines: dict[Location, int] = {}
    table: Location = ()
    counts: dict[Location, int] = {}
    for number, words in _statements(text):
        named = tuple(_unquoted(word) for word in words if word not in (".", "[", "]"))
        if words[0] != "[":
            key = (*table, *named)
        elif words[1:2] == ["["]:
            counts[named] = counts.get(named, -1) + 1
            table = key = (*named, counts[named])
        else:
            table = key = named
        for end in range(1, len(key) + 1):  # [a.b] is where a begins, too
            lines.setdefault(key[:end], number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line and words of every table header, and of every key up to its `=`."""
    number, counted, depth = 1, 0, 0
    words: list[str] = []
    in_value = False
    for token in TOKEN.finditer(text + "\n"):
        found = token[0]
        if found == "\n" and not depth:
            if words:
                yield number, words
            words, in_value = [], False
        elif in_value:
            depth = max(depth + (found in ("[", "{")) - (found in ("]", "}")), 0)
        elif found == "=":
            in_value = True
        elif found[0] not in "#\n":
            if not words:
                number, counted = number + text.count("\n", counted, token.start()), token.start()
            words.append(found)


def _unquoted(word: str) -> str:
    if word[0] not in "\"'":
        return word
    with suppress(tomllib.TOMLDecodeError):
        return next(iter(tomllib.loads(f"{word} = 0")))
    return word
