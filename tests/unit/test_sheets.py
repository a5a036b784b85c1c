"""Tables as Markdown and LaTeX: every name is taken literally, the best values are bold."""

from __future__ import annotations

import shutil
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmod.files.outputs import Outputs
from crossmod.scores.sheets import Row, Sheet, latex, markdown, write_sheets

HOSTILE = [
    string.punctuation,
    "[1]",
    "*",
    r"\input{/etc/passwd}",
    "50 % & more_of #1 $x^2$ ~",
    "two\nlines",
    "A | B",
    "é ü ß ñ",
    "e\u0301",
]

SHEET = Sheet(
    "100 % of_all\n\\end{document}",
    ["team", "Dice, [small]", "ASSD (mm)"],
    [Row([name, "0.9 ± 0.1", "-1.00"], frozenset({1}), name == "*") for name in HOSTILE],
    note="p: < 0.001\n$",
)  # fmt: skip

DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs}
\begin{document}
\input{table}
\end{document}
"""


def test_latex_of_hostile_names() -> None:
    text = latex(SHEET)
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 1 + len(HOSTILE)
    assert rows[1] == (
        r"""!"\#\$\%\&'(){*}+,-./:;$<$=$>$?@{[}\textbackslash{}]\textasciicircum{}\_`\{\textbar{}\}"""
        r"""\textasciitilde{} & \textbf{0.9 $\pm$ 0.1} & $-1.00$ \\"""
    )
    assert rows[2].startswith("{[}1] & ")  # else LaTeX reads it as the space below the row before
    assert rows[4].startswith(r"\textbackslash{}input\{/etc/passwd\} & ")
    assert rows[-1].startswith("é & ")  # one character, as fonts have it
    assert text.splitlines()[:2] == [r"% 100 % of_all \end{document}", "% p: < 0.001 $"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    write_sheets(Outputs(tmp_path, "crossmod test"), "table", [SHEET, SHEET])
    (tmp_path / "paper.tex").write_text(DOCUMENT, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


@given(st.text(min_size=1, max_size=30))
def test_a_name_stays_in_its_cell(name: str) -> None:
    sheet = Sheet(name, ["team", "Dice"], [Row([name, "0.9"])], note=name)
    plain = Sheet("t", ["team", "Dice"], [Row(["name", "0.9"])], note="n")
    assert len(latex(sheet).splitlines()) == len(latex(plain).splitlines())
    assert len(markdown(sheet).splitlines()) == len(markdown(plain).splitlines())
    row = markdown(sheet).splitlines()[4]
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 3


def test_markdown_marks_the_best() -> None:
    lines = markdown(SHEET).splitlines()
    assert lines[3] == "|:--|--:|--:|"
    assert lines[5] == r"| \[1\] | **0.9 ± 0.1** | -1.00 |"
    assert lines[-1] == r"p: \< 0.001 $"
