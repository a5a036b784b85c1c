"""The profile: what a user's machine or cluster is like. It is a file beside no recipe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from crossmod.engines.local import Local, LocalOptions
from crossmod.engines.ray import RayOptions
from crossmod.engines.slurm import SlurmOptions
from crossmod.errors import RecipeError
from crossmod.machine import gpus
from crossmod.options import Options
from crossmod.recipe.files import read_documents
from crossmod.recipe.problems import explain
from crossmod.run.engine import Engine
from crossmod.run.task import Machine
from crossmod.store.store import Store

EngineName = Literal["local", "slurm", "ray"]

VARIABLE = "CROSSMOD_PROFILE"
"""Names the profile where no option does."""


class Profile(Options):
    """Where and how steps are made; it changes no result's meaning and no content key."""

    engine: EngineName = "local"
    """Where steps are made."""
    checkpoint_minutes: Annotated[float, Field(strict=True, ge=0.0, le=100_000.0)] = 5.0
    """Time between two checkpoints of a training; 0 keeps one after every step."""
    local: LocalOptions = LocalOptions()
    """Options of the engine on this machine."""
    slurm: SlurmOptions = SlurmOptions()
    """Options of the Slurm engine."""
    ray: RayOptions = RayOptions()
    """Options of the Ray engine."""


def read_profile(path: Path | None, settings: Sequence[str] = ()) -> Profile:
    """The profile in a file, in the file that $CROSSMOD_PROFILE names, or the defaults.

    Args:
        path: the file.
        settings: keys that the command line changes, ``a.b=c``.

    Raises:
        RecipeError: no such file, or something in it is not allowed; all problems at once.
    """
    named = path or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is None:
        return Profile()
    document = read_documents(named, settings).get("")
    if document is None:
        raise RecipeError("a profile has no variants", where=str(named))
    try:
        return Profile.model_validate(document.tables)
    except ValidationError as error:
        problems = explain(error, (), Profile, document)
        raise RecipeError("\n".join(problems)) from error


def open_engine(profile: Profile, store: Store, machine: Machine) -> Engine:
    """The engine that a profile asks for.

    Raises:
        MachineError: what it needs is not installed or not running.
    """
    if profile.engine == "slurm":
        from crossmod.engines.slurm import Slurm

        return Slurm(profile.slurm, store, machine)
    if profile.engine == "ray":
        from crossmod.engines.ray import Ray

        return Ray(profile.ray, store, machine)
    exact = machine.determinism == "exact"
    return Local(profile.local, gpus(machine.device), exact)
