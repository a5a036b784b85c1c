"""Run a recipe from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmod.model.arguments import as_path, naming_arguments
from crossmod.notebook.opened import OpenRun, open_run
from crossmod.notebook.settings import written

if TYPE_CHECKING:
    from crossmod.engines.profile import Profile
    from crossmod.run.api import Executed, Experiment

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
    from crossmod.engines.profile import read_profile
    from crossmod.run import api

    with naming_arguments():
        asked = read_profile(_path(profile, "profile"), workers=workers)
        experiment = api.plan(
            as_path(recipe, "recipe"),
            _path(data, "data"),
            out=_path(out, "out"),
            store=_path(store, "store"),
            settings=written(settings),
            shared=asked.on_shared_disk or None,
        )
        done = _carried_out(experiment, asked, quiet)
    return open_run(done.report.parent)


def _carried_out(experiment: Experiment, asked: Profile, quiet: bool) -> Executed:
    from crossmod import console
    from crossmod.cost.preview import Preview
    from crossmod.notebook.lines import Lines
    from crossmod.progress.carry_out import carry_out

    preview = Preview(experiment, asked)
    known = preview.require_room(lambda name: None)
    if quiet:
        return carry_out(experiment, preview, known, asked)
    if console.out.is_terminal:
        with console.RunConsole() as bars:
            return carry_out(experiment, preview, known, asked, bars)
    with Lines() as lines:
        return carry_out(experiment, preview, known, asked, lines, tell=lines.tell)


def _path(place: Place | None, name: str) -> Path | None:
    return None if place is None else as_path(place, name)
