"""`crossmod view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    run: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="A finished run folder.")
    ],
    case: Annotated[str, typer.Argument(help="The id of a case, of any split.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="The data folder of the run, for references. Default: the embedded cohort,"
            " $CROSSMOD_DATA."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The page to write. Default: CASE.html in this folder.")
    ] = None,
) -> None:
    """Write an offline page of a case: scan, translations, reference, outlines of every stage."""
    from crossmod import console
    from crossmod.run.view import view as write

    page = out or Path(f"{case}.html")
    content = write(run, case, page, data)
    for text in content.remarks:
        console.remark(text)
    console.out.print(f"{page}: open it in a browser, or the files in", markup=False)
    if content.files is not None:
        for name, line in content.files.seen_from(Path.cwd()).commands():
            console.out.print(f"{name}:\n  {line}", markup=False, soft_wrap=True)
