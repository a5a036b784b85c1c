"""`crossmod evaluate` and `crossmod rank`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from crossmod.data.crossmoda import CHALLENGE, DEFAULT_CENTERS, DEFAULT_CLASSES
from crossmod.data.folder import ENDINGS

CLASSES = ",".join(f"{name}={label}" for name, label in DEFAULT_CLASSES.items())
CENTERS = ",".join(f"{name}={pattern}" for name, pattern in DEFAULT_CENTERS.items())
LARGEST_LABEL = 255
SCANS = (*ENDINGS, ".dcm")
"""What names of scans end with."""


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
            exists=True, file_okay=False, readable=False, help="Folder of true label maps."
        ),
    ],
    classes: Annotated[
        str, typer.Option(help="Names and labels. The first is the one grouped by size.")
    ] = CLASSES,
    centers: Annotated[str, typer.Option(help="Names and patterns of cases.")] = CENTERS,
    tolerance: Annotated[
        float, typer.Option(min=0, metavar="MM", help="Surfaces this close agree, for the NSD.")
    ] = 1.0,
    challenge: Annotated[
        bool, typer.Option("--challenge", help=f"Measure distances as {CHALLENGE} did.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the scores of each case go.")] = Path(
        "scores.csv"
    ),
    summary: Annotated[
        Path | None,
        typer.Option(
            help="Where means and percentiles go. Default: beside --out, -summary added;"
            " nowhere if --out is a device or a pipe."
        ),
    ] = None,
) -> None:
    """Score a folder of label maps against another: Dice, ASSD, HD95, NSD, volume error."""
    from crossmod import console
    from crossmod.commands.score_tables import note, percentile_table, summary_table
    from crossmod.scores import evaluation

    labels = _labels(classes)
    rest = _summary_file(out, summary)
    with console.Bar("evaluate") as bar:
        done = evaluation.evaluate(
            predictions,
            references,
            labels,
            _named(centers, "--centers"),
            scores=out,
            summary=rest,
            tolerance_mm=tolerance,
            challenge=challenge,
            progress=bar,
        )
    for remark in done.remarks:
        console.remark(f"note: {remark}")
    for structure in labels:
        console.out.print(summary_table(done.groups, structure))
    console.out.print(note(), style="dim")
    for structure in labels:
        console.out.print(percentile_table(done.groups, structure))
    console.out.print(f"{done.cases} cases: {out}", markup=False)
    if rest is not None:
        console.out.print(f"means and percentiles: {rest}", markup=False)


def rank(
    scores: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="CSV with the columns Case, Team and {structure}_{metric}, e.g. VS_Dice.",
        ),
    ],
    samples: Annotated[int, typer.Option(min=1, help="How often cases are redrawn.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of these draws.")] = 0,
    metric: Annotated[
        str | None,
        typer.Option(help="Test teams on this column. Default: on each."),
    ] = None,
) -> None:
    """Rank teams by the rule of CrossMoDA, with a bootstrap and paired tests."""
    from crossmod import console
    from crossmod.commands.score_tables import duel_table, ranking_table
    from crossmod.scores.ranking import duels, rankings, read_table

    table = read_table(scores)
    tested = [metric] if metric else table.metrics
    tests = {name: duels(table, name) for name in tested}
    console.out.print(f"{len(table.teams)} teams, {len(table.cases)} cases, {samples} samples")
    for ranking in rankings(table, samples=samples, seed=seed):
        console.out.print(ranking_table(ranking))
    for name, rows in tests.items():
        console.out.print(duel_table(name, rows))


def _summary_file(out: Path, summary: Path | None) -> Path | None:
    """Where the summary goes, if anywhere; wrong names are said before hours of work."""
    from crossmod.files.outputs import takes_all

    _check_file(out, "--out")
    if summary is None and takes_all(out):
        return None
    rest = out.with_name(f"{out.stem}-summary.csv") if summary is None else summary
    _check_file(rest, "--summary")
    if rest.resolve() == out.resolve():
        raise typer.BadParameter(f"'{rest}' is where the scores go", param_hint="--summary")
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
        raise typer.BadParameter(f"'{text}' has a name twice", param_hint=option)
    return {name: value.strip() for name, (_, _, value) in zip(names, pairs, strict=True)}


def _labels(text: str) -> dict[str, int]:
    named = _named(text, "--classes")
    labels = {
        name: int(value)
        for name, value in named.items()
        if re.fullmatch("[0-9]{1,3}", value) and int(value) <= LARGEST_LABEL
    }
    values = set(labels.values())
    if not named or len(values) < len(named) or 0 in values:
        raise typer.BadParameter(
            f"'{text}' does not give each class a label of its own, 1 to {LARGEST_LABEL}",
            param_hint="--classes",
        )
    return labels
