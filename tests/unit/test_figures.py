"""Charts as files for a paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crossmod.errors import DataError
from crossmod.files.figures import FIGURES, require_figures
from crossmod.files.outputs import Outputs
from crossmod.report.drawing import INK, MUTED, Chart, Key, chart, drawing, new_figure
from crossmod.report.figures import write_figures

KEYS = [
    Key("here", "#2f86c8", "dot"),
    Key("gone", "var(--muted)", "ring"),
    Key("added", "var(--muted)", "triangle"),
    Key("target", "var(--muted)", "area"),
    Key("source", "var(--muted)", "dashed"),
    Key("$ & <b>", "#e2762b", "line"),
]


def drawn(name: str) -> Chart:
    with drawing():
        figure, [axes] = new_figure(4, 3, 1)
        axes.plot([0, 1], [0, 1], color=MUTED)
        axes.set_title("a $ title", color=INK)
        return chart(figure, "part", name, KEYS, "what to see")


def test_a_chart_is_on_the_page_and_in_files(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path, "crossmod test")
    one = drawn("scores-validation-left/right lung")
    write_figures(outputs, [one])
    files = sorted(path.name for path in (tmp_path / FIGURES).glob("[!.]*"))
    assert files == [f"scores-validation-left-right-lung.{ending}" for ending in ("pdf", "svg")]
    svg = (tmp_path / FIGURES / files[1]).read_text(encoding="utf-8")
    assert "var(" not in svg  # the colors of a page mean nothing in a paper
    assert INK in svg
    for key in KEYS:
        assert key.label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in svg
    assert "here" not in one.svg  # the page has its own legend
    assert "currentColor" in one.svg
    pdf = (tmp_path / FIGURES / files[0]).read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/Type3" not in pdf.replace(b" ", b"")
    assert not re.search(rb"CreationDate|Producer", pdf)


def test_the_same_chart_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_figures(Outputs(tmp_path / name, "crossmod test"), [drawn("one")])
    for ending in ("svg", "pdf"):
        first, second = (tmp_path / name / FIGURES / f"one.{ending}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_figures_of_others_stay(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path, "crossmod test")
    write_figures(outputs, [drawn("one"), drawn("two")])
    (tmp_path / FIGURES / "notes.txt").touch()
    write_figures(outputs, [drawn("two")])
    left = sorted(path.name for path in (tmp_path / FIGURES).glob("[!.]*"))
    assert left == ["notes.txt", "two.pdf", "two.svg"]
    require_figures(outputs)
    (tmp_path / FIGURES / "two.svg").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)two\.svg: was not written by .*move them"):
        require_figures(outputs)
