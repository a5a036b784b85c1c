"""`crossmod evaluate`, `crossmod rank` and `crossmod compare`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmod.data.crossmoda import CHALLENGE, DEFAULT_CENTERS, DEFAULT_CLASSES
from crossmod.data.folder import ENDINGS

if TYPE_CHECKING:
    from crossmod.data.classes import Classes

CLASSES = ",".join(f"{name}={label}" for name, label in DEFAULT_CLASSES.items())
CENTERS = ",".join(f"{name}={pattern}" for name, pattern in DEFAULT_CENTERS.items())
MAX_VALUE = 255
"""The largest value of a class in a label map."""

SCANS = (*ENDINGS, ".dcm")
"""Endings of the names of scans."""


def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            exists=True, file_okay=False, readable=False, help="Folder of predicted label maps."
        ),
    ],
    references: Annotated[
        Path,
        typer.Argument(
            exists=True, file_okay=False, readable=False, help="Folder of reference label maps."
        ),
    ],
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=VALUE,…",
            help="Classes and their values, several joined by +, as lesion=1+2,organ=3. Cases are"
            f" grouped by the size of the first. Default: {CLASSES}.",
        ),
    ] = None,
    centers: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=PATTERN,…",
            help=f"Centers and patterns of their case ids. Default: {CENTERS.replace(',', ', ')}.",
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Take classes and centers from a recipe, unless they are given."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, metavar="MM", help="Tolerance of the NSD.")
    ] = 1.0,
    challenge: Annotated[
        bool, typer.Option("--challenge", help=f"Measure distances as {CHALLENGE} did.")
    ] = False,
    out: Annotated[Path, typer.Option(help="File for the scores of each case.")] = Path(
        "scores.csv"
    ),
    summary: Annotated[
        Path | None,
        typer.Option(
            help="File for means and percentiles. Default: beside --out, -summary added;"
            " not written if --out is a device or a pipe."
        ),
    ] = None,
) -> None:
    """Score a folder of label maps against another: Dice, ASSD, HD95, NSD, volume error."""
    from crossmod import console
    from crossmod.commands.score_tables import shown
    from crossmod.scores import evaluation

    known, centers_of = _classes_and_centers(classes, centers, recipe)
    rest = _summary_file(out, summary)
    with console.Bar("evaluate") as bar:
        done = evaluation.evaluate(
            predictions,
            references,
            known,
            centers_of,
            scores=out,
            summary=rest,
            tolerance_mm=tolerance,
            challenge=challenge,
            progress=bar,
        )
    for remark in done.remarks:
        console.remark(f"note: {remark}")
    means, percentiles = done.sheets[: len(known.values)], done.sheets[len(known.values) :]
    for sheet in means:
        console.show(shown(sheet, caption=False), sheet.names)
    console.out.print(means[0].note, style="dim")
    for sheet in percentiles:
        console.show(shown(sheet), sheet.names)
    console.out.print(f"{done.cases} cases: {out}", markup=False)
    if rest is not None:
        files = ", ".join(map(str, [rest, *evaluation.tables_beside(rest)]))
        console.out.print(f"means and percentiles: {files}", markup=False)


def rank(
    scores: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE | TEAM=FILE…",
            help="One CSV with the columns Case, Team and {structure}_{metric}, e.g. VS_Dice; or"
            " for each team what crossmod evaluate wrote, a run folder, or its metrics.csv.",
        ),
    ],
    samples: Annotated[int, typer.Option(min=1, help="Number of bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    metric: Annotated[
        str | None,
        typer.Option(help="Test teams on this column only. Default: on every column."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the tables as CSV, Markdown and LaTeX."),
    ] = None,
) -> None:
    """Rank teams by the rule of CrossMoDA, with a bootstrap and paired tests."""
    from crossmod import console
    from crossmod.commands.score_tables import shown
    from crossmod.scores import ranking

    files = {
        name: path / "metrics.csv" if path.is_dir() else path
        for name, path in named_paths(scores).items()
    }
    table, remarks = ranking.read_teams(files)
    tested = [metric] if metric else table.metrics
    tests = {name: ranking.duels(table, name) for name in tested}
    found = ranking.rankings(table, samples=samples, seed=seed)
    for remark in remarks:
        console.remark(f"note: {remark}")
    console.out.print(f"{len(table.teams)} teams, {len(table.cases)} cases, {samples} samples")
    sheets = [*map(ranking.ranking_sheet, found), *starmap(ranking.duel_sheet, tests.items())]
    for sheet in sheets:
        console.show(shown(sheet), sheet.names)
    if out is not None:
        ranking.write_tables(out, list(files.values()), found, tests)
        console.out.print(f"tables: {out}", markup=False)


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN | NAME=RUN…",
            help="Run folders. Runs of one name are seeds of one method; without a name, the"
            " folder's is taken.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for tables (CSV, Markdown, LaTeX), a page, and figures."),
    ] = None,
) -> None:
    """Compare finished runs, of any recipes, on the cases that all of them scored."""
    from crossmod import console
    from crossmod.commands.score_tables import shown
    from crossmod.run import compare as comparing
    from crossmod.scores.comparison import difference_sheet

    done = comparing.compare(named_folders(runs), out)
    for remark in done.remarks:
        console.remark(f"note: {remark}")
    for table in console.comparison_tables(done.comparison):
        console.show(table, keys=2)
    for structure in done.comparison.structures:
        sheet = difference_sheet(done.comparison, structure)
        console.show(shown(sheet), sheet.names)
    if out is not None:
        console.out.print(f"comparison: {out / 'report.html'}", markup=False)


def _summary_file(out: Path, summary: Path | None) -> Path | None:
    """The file of the summary, or None; refuses unusable names before hours of work."""
    from crossmod.files.outputs import takes_all
    from crossmod.scores.evaluation import tables_beside

    _check_file(out, "--out")
    if summary is None and takes_all(out):
        return None
    rest = out.with_name(f"{out.stem}-summary.csv") if summary is None else summary
    _check_file(rest, "--summary")
    for file in (rest, *tables_beside(rest)):
        if file.resolve() == out.resolve():
            raise typer.BadParameter(f"'{file}' is the file of the scores", param_hint="--summary")
    if rest in tables_beside(rest):
        raise typer.BadParameter(
            f"'{rest}' is not CSV; tables as Markdown and LaTeX are written beside the CSV",
            param_hint="--summary",
        )
    return rest


def _check_file(path: Path, option: str) -> None:
    try:
        folder = not path.name or path.is_dir()
        taken = [parent for parent in path.parents if parent.exists() and not parent.is_dir()]
    except OSError as error:  # a name that is too long, for instance
        raise typer.BadParameter(f"'{path}': {error.strerror}", param_hint=option) from error
    if folder:
        raise typer.BadParameter(f"'{path}' is a folder", param_hint=option)
    if path.name.endswith(SCANS):
        raise typer.BadParameter(f"'{path}' names a scan, not a table", param_hint=option)
    if taken:
        raise typer.BadParameter(f"'{taken[0]}' is not a folder", param_hint=option)


def _named(text: str, option: str) -> dict[str, str]:
    """The pairs of ``name=value,name=value``."""
    if not text.isprintable():  # nor are bytes that are not UTF-8
        raise typer.BadParameter(f"{text!a} cannot be printed", param_hint=option)
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    names = [name.strip() for name, _, _ in pairs]
    if not all(name and value.strip() for name, (_, _, value) in zip(names, pairs, strict=True)):
        raise typer.BadParameter(f"'{text}' is not name=value,name=value", param_hint=option)
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"'{text}' repeats a name", param_hint=option)
    return {name: value.strip() for name, (_, _, value) in zip(names, pairs, strict=True)}


def _values(text: str) -> dict[str, tuple[int, ...]]:
    """The values of ``name=1+2,name=3``."""
    named = {name: value.split("+") for name, value in _named(text, "--classes").items()}
    parts = [part.strip() for of in named.values() for part in of]
    good = all(re.fullmatch("[0-9]{1,3}", part) and 1 <= int(part) <= MAX_VALUE for part in parts)
    if not parts or not good or len({*map(int, parts)}) < len(parts):
        raise typer.BadParameter(
            f"'{text}' does not give each class its own values, 1 to {MAX_VALUE}; several are"
            " joined by +",
            param_hint="--classes",
        )
    return {name: tuple(map(int, of)) for name, of in named.items()}


def _classes_and_centers(
    classes: str | None, centers: str | None, recipe: Path | None
) -> tuple[Classes, Mapping[str, str]]:
    """What options say, else the recipe, else the challenge."""
    from crossmod.data.classes import Classes
    from crossmod.recipe.load import load_all
    from crossmod.recipe.names import find_recipe

    values = _values(CLASSES if classes is None else classes)
    patterns: Mapping[str, str] = _named(CENTERS if centers is None else centers, "--centers")
    if recipe is not None:
        found = load_all(find_recipe(recipe))[0].recipe
        if classes is None:
            of_recipe = dict(found.data.class_table.values)
            first = found.evaluate.structure
            values = {first: of_recipe[first], **of_recipe}
        patterns = found.data.centers if centers is None else patterns
    return Classes(values), patterns


def named_paths(texts: Sequence[str]) -> dict[str, Path]:
    """What ``NAME=PATH`` or ``PATH`` name, each name once."""
    found: dict[str, Path] = {}
    for name, path in map(_named_path, texts):
        if name in found:
            raise typer.BadParameter(f"two are called '{name}': name them, as NAME=PATH")
        found[name] = path
    return found


def named_folders(texts: Sequence[str]) -> dict[str, list[Path]]:
    """What ``NAME=FOLDER`` or ``FOLDER`` name; a name may have several folders."""
    found: dict[str, list[Path]] = {}
    for text in texts:
        name, path = _named_path(text)
        if not path.is_dir():
            raise typer.BadParameter(f"'{path}' is not a folder")
        if name in found and Path(text) == path:
            raise typer.BadParameter(f"two are called '{name}': name them, as NAME=RUN")
        found.setdefault(name, []).append(path)
    return found


def _named_path(text: str) -> tuple[str, Path]:
    """A name and a path; a path alone has the name of its file or folder."""
    name, equals, rest = text.partition("=")
    whole = Path(text)
    path = whole if whole.exists() or not equals else Path(rest)
    if not path.exists():
        raise typer.BadParameter(f"'{path}' does not exist")
    if path is whole:
        name = _name_of(path)
    if not name.strip() or not name.isprintable():
        raise typer.BadParameter(f"{text!a} needs a name that can be printed, as NAME=PATH")
    return name.strip(), path


def _name_of(path: Path) -> str:
    """A run folder's name, or that of a file, of which many have the same one."""
    place = path.resolve()
    usual = place.name in ("scores.csv", "metrics.csv")
    return place.parent.name if usual else place.name if place.is_dir() else place.stem
