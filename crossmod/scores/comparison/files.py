"""A comparison as CSV and as LaTeX."""

from __future__ import annotations

import math
from pathlib import Path

from crossmod.files.tables import write_csv
from crossmod.scores.comparison.trials import Comparison, Row

NUMBERS = ("dice_mean", "dice_seeds_sd", "dice_cases_sd", "assd_mean_mm", "assd_seeds_sd_mm")
ROW_COLUMNS = ("class", "variant", "round", "seeds", "runs", "cases", *NUMBERS)
DIFFERENCE_COLUMNS = (
    *("class", "first", "first_round", "second", "second_round", "cases", "dice_difference"),
    *("t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm"),
)
UNSAFE = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"}


def write_rows(path: Path, comparison: Comparison) -> None:
    """Write one line for each row, Dice by size in the last columns."""
    sizes = comparison.size_names
    lines = [
        [
            *(row.structure, row.label, "" if row.round is None else row.round),
            *(row.seeds, row.runs, row.cases),
            *(*row.dice, row.dice_cases_sd, *row.assd_mm),
            *(row.by_size.get(size, math.nan) for size in sizes),
        ]
        for row in comparison.rows
    ]
    write_csv(path, [*ROW_COLUMNS, *(f"dice_{size}" for size in sizes)], lines)


def write_differences(path: Path, comparison: Comparison) -> None:
    """Write one line for each test."""
    lines = [
        [
            *(test.structure, test.first, test.rounds[0], test.second, test.rounds[1]),
            *(test.paired.cases, test.paired.mean_difference),
            *(test.paired.t_p, test.t_holm),
            *(test.paired.wilcoxon_p, test.wilcoxon_holm),
        ]
        for test in comparison.differences
    ]
    write_csv(path, DIFFERENCE_COLUMNS, lines)


def write_latex(path: Path, comparison: Comparison) -> None:
    r"""Write one ``tabular`` for each structure; needs ``\usepackage{booktabs}``."""
    tables = [_table(comparison, structure) for structure in comparison.structures]
    path.write_text("\n".join(tables), encoding="utf-8")


def _table(comparison: Comparison, structure: str) -> str:
    heads = ["Variant", "Round", "Dice", "ASSD (mm)", *map(str.capitalize, comparison.size_names)]
    lines = [
        f"% {structure}, {comparison.split} scans; mean and standard deviation over seeds",
        rf"\begin{{tabular}}{{ll{'r' * (len(heads) - 2)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
    ]
    before = ""
    for row in comparison.of(structure):
        lines += [r"\midrule"] if row.label != before else []
        lines.append(" & ".join(_latex_cells(row, comparison.size_names, before)) + r" \\")
        before = row.label
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_cells(row: Row, sizes: list[str], before: str) -> list[str]:
    name = "" if row.label == before else "".join(UNSAFE.get(c, c) for c in row.label)
    return [
        name,
        "" if row.round is None else str(row.round),
        _plus_minus(*row.dice),
        _plus_minus(*row.assd_mm),
        *(_number(row.by_size.get(size, math.nan)) for size in sizes),
    ]


def _plus_minus(mean: float, spread: float) -> str:
    return _number(mean) + ("" if math.isnan(spread) else rf" $\pm$ {spread:.3f}")


def _number(value: float) -> str:
    return "--" if math.isnan(value) else f"{value:.3f}"
