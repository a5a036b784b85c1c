"""Text files from any editor: UTF-8 with or without a mark, and UTF-16 and UTF-32 with one."""

from __future__ import annotations

import codecs
from pathlib import Path

from crossmod.errors import DataError, reading

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""How a file begins -> its encoding."""


def read_text(path: Path) -> str:
    """The text of a file, without the mark that says how it is encoded.

    Raises:
        DataError: it cannot be read, or is neither UTF-8 nor marked, with the line.

    Example:
        >>> written = Path("data.toml").write_text("seed = 1", encoding="utf-16")
        >>> read_text(Path("data.toml"))
        'seed = 1'
    """
    with reading(path):
        raw = path.read_bytes()
    mark, encoding = next((one for one in MARKS if raw.startswith(one[0])), (b"", "utf-8"))
    raw = raw.removeprefix(mark)
    fix = "save it in UTF-8"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        name = encoding[:6].rstrip("-").upper()
        what = f"is not {name}: byte 0x{byte:02x}"
        raise DataError(what, where=f"{path}:{line}", fix=fix) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        what = "holds zero bytes: UTF-16 without a mark, or not text"
        raise DataError(what, where=f"{path}:{line}", fix=fix)
    return text
