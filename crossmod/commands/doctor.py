"""`crossmod doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer


def doctor(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Where runs would be.")
    ] = Path(),
    profile: Annotated[
        Path | None, typer.Option(help="The profile of this machine. Default: $CROSSMOD_PROFILE.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is installed, what this machine has and what a run would use of it."""
    import json
    from dataclasses import asdict

    from crossmod import console
    from crossmod.doctor import examine
    from crossmod.errors import MachineError

    found = examine(folder, profile)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        for line in _lines(found.facts):
            console.out.print(line, markup=False, soft_wrap=True)
        for remark in found.remarks:
            console.remark(f"note: {remark}")
        for problem in found.problems:
            console.remark(f"problem: {problem}")
    if found.problems:
        raise typer.Exit(MachineError.exit_code)


def _lines(facts: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for part, named in facts.items():
        yield f"{part}:" if named else f"{part}: none"
        yield from (f"  {name}: {_text(value)}" for name, value in named.items())


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_text(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
