"""Tables for people: one form that is shown in a terminal, or written as Markdown or LaTeX."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crossmod.files.outputs import Outputs
from crossmod.scores.table import Metric

FORMATS = (".md", ".tex")
"""Endings of the files of `write_sheets`."""

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "|": r"\textbar{}", "<": "$<$", ">": "$>$", "±": r"$\pm$",
    "²": r"\textsuperscript{2}", "³": r"\textsuperscript{3}",
    "[": "{[}", "*": "{*}",  # after the end of a row they would be options of it
}  # fmt: skip

MARKDOWN = re.compile(r"([\\|*_`<>\[\]~#])")

SIGNED = re.compile(r"^([+-]\d[\d.]*)")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: their texts, one for each column.
        best: the columns whose value is the best of all rows.
        starts: whether a line is drawn above.
    """

    cells: Sequence[str]
    best: frozenset[int] = frozenset()
    starts: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: what it shows.
        columns: their headings.
        rows: from top to bottom.
        names: how many columns hold names; the others hold numbers.
        note: how to read it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    names: int = 1
    note: str = ""


def best_rows(metric: Metric, values: Sequence[float]) -> set[int]:
    """Which of two or more known values are the best, as far as tables show them and they differ.

    >>> from crossmod.scores.table import DICE
    >>> sorted(best_rows(DICE, [0.7, 0.9001, 0.9002, math.nan]))
    [1, 2]
    >>> best_rows(DICE, [0.7, math.nan]), best_rows(DICE, [0.7, 0.7])
    (set(), set())
    """
    known = [value for value in values if not math.isnan(value)]
    if metric.better is None or len({metric.text(value) for value in known}) < 2:
        return set()
    best = metric.text(max(known) if metric.better == "higher" else min(known))
    return {i for i, value in enumerate(values) if metric.text(value) == best}


def write_sheets(outputs: Outputs, stem: str, sheets: Sequence[Sheet]) -> None:
    """Write tables as ``stem.md`` and ``stem.tex``.

    Raises:
        DataError: a file of this name was not written by the command.
        MachineError: a file cannot be written.
    """
    for ending, text_of in zip(FORMATS, (markdown, latex), strict=True):
        with outputs.file(f"{stem}{ending}") as file:
            _write(file, "\n".join(map(text_of, sheets)))


def _write(file: Path, text: str) -> None:
    # Names may come from a command line that is not UTF-8.
    file.write_text(text, encoding="utf-8", errors="replace")


def markdown(sheet: Sheet) -> str:
    r"""A table in GitHub's Markdown; the best values are bold.

    >>> print(markdown(Sheet("a|b", ["team", "Dice"], [Row(["x_1", "0.9"], frozenset({1}))])))
    **a\|b**
    <BLANKLINE>
    | team | Dice |
    |:--|--:|
    | x\_1 | **0.9** |
    <BLANKLINE>
    """

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def cell(text: str, best: bool) -> str:
        return f"**{_md(text)}**" if best else _md(text)

    kinds = [":--" if i < sheet.names else "--:" for i in range(len(sheet.columns))]
    lines = [f"**{_md(sheet.title)}**", "", line(list(map(_md, sheet.columns)))]
    lines.append(f"|{'|'.join(kinds)}|")
    for row in sheet.rows:
        lines.append(line([cell(text, i in row.best) for i, text in enumerate(row.cells)]))
    return "\n".join([*lines, "", *([_md(sheet.note), ""] if sheet.note else [])])


def latex(sheet: Sheet) -> str:
    r"""A ``tabular`` for ``\usepackage{booktabs}``; the best values are bold.

    Names may hold any character that LaTeX reserves. Scripts other than Latin need XeLaTeX or
    LuaLaTeX.

    >>> print(latex(Sheet("t", ["team", "Dice"], [Row(["x_1", "0.9"], frozenset({1}))])))
    % t
    \begin{tabular}{lr}
    \toprule
    team & Dice \\
    \midrule
    x\_1 & \textbf{0.9} \\
    \bottomrule
    \end{tabular}
    <BLANKLINE>
    """

    def cell(text: str, best: bool) -> str:
        return rf"\textbf{{{_tex(text)}}}" if best else _tex(text)

    kinds = "l" * sheet.names + "r" * (len(sheet.columns) - sheet.names)
    comments = [f"% {_line(text)}" for text in (sheet.title, sheet.note) if text]
    lines = [*comments, rf"\begin{{tabular}}{{{kinds}}}", r"\toprule"]
    lines.append(" & ".join(map(_tex, sheet.columns)) + r" \\")
    for number, row in enumerate(sheet.rows):
        lines += [r"\midrule"] if row.starts or number == 0 else []
        cells = [cell(text, i in row.best) for i, text in enumerate(row.cells)]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _tex(text: str) -> str:
    escaped = "".join(LATEX.get(c, c) for c in _line(text))
    return SIGNED.sub(r"$\1$", escaped)  # a minus sign, not a hyphen


def _md(text: str) -> str:
    return MARKDOWN.sub(r"\\\1", _line(text))


def _line(text: str) -> str:
    """One line of what can be printed, composed as fonts want it."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(c if c.isprintable() else " " for c in composed)
