"""Run a recipe from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossmod.notebook.opened import OpenRun, open_run
from crossmod.notebook.settings import written

Place = str | Path


def run(
    recipe: Place,
    data: Place | None,
    *,
    out: Place | None,
    store: Place | None,
    settings: Mapping[str, Any],
    profile: Place | None,
    workers: int | None,
    quiet: bool,
) -> OpenRun:
    """See `crossmod.run`."""
    from crossmod import console
    from crossmod.cost.preview import Preview
    from crossmod.engines.profile import read_profile
    from crossmod.progress.carry_out import carry_out
    from crossmod.run import api

    asked = read_profile(_path(profile), workers=workers)
    experiment = api.plan(
        Path(recipe),
        _path(data),
        out=_path(out),
        store=_path(store),
        settings=written(settings),
        shared=asked.on_shared_disk or None,
    )
    preview = Preview(experiment, asked)
    estimates = preview.require_room(lambda name: None)
    if quiet:
        done = carry_out(experiment, preview, estimates, asked)
    else:
        with console.RunConsole() as observer:
            done = carry_out(
                experiment, preview, estimates, asked, observer, tell=console.tell_without_terminal
            )
    return open_run(done.report.parent)


def _path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)
