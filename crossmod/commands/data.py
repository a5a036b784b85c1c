"""`crossmod data`: make and look after data folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossmod.errors import DataError

app = typer.Typer(help="Make and look after data folders.", no_args_is_help=True)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="The folder to write into; must not exist.")],
    source: Annotated[int, typer.Option(min=1, help="Labeled ceT1 scans.")] = 24,
    target: Annotated[int, typer.Option(min=1, help="Unlabeled hrT2 scans.")] = 24,
    validation: Annotated[int, typer.Option(min=1, help="hrT2 scans for scoring.")] = 12,
    seed: Annotated[int, typer.Option(help="Another seed makes other patients.")] = 1,
) -> None:
    """Write the embedded cohort as a CrossMoDA 2022 data folder."""
    from crossmod import console
    from crossmod.phantom import write_cohort

    if out.exists() and any(out.iterdir()):
        raise DataError("is not empty", where=str(out), fix="name a new folder")
    with console.RunConsole() as watcher:
        bar = console.StepBar(watcher.progress, "phantom")
        write_cohort(
            out,
            source=source,
            target=target,
            validation=validation,
            seed=seed,
            progress=lambda items, total: bar(items, total=total),
        )
    console.out.print(f"{source + target + validation} scans in {out}")
