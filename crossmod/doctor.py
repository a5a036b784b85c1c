"""What this installation and this machine can do, and what a run would use of them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from crossmod.engines import door
from crossmod.engines.profile import VARIABLE, Profile, open_engine, read_profile
from crossmod.errors import CrossmodError, with_extra
from crossmod.lanes import cores
from crossmod.machine import (
    GIB,
    THREAD_VARIABLES,
    available_memory,
    gpu_model,
    gpus,
    memory_limit,
    total_memory,
    unused_gpus,
)
from crossmod.run.task import Machine
from crossmod.stages.explain import plugin_rows
from crossmod.store.store import Store

OWN = "crossmod"

FOR_DEVELOPERS = ("test", "docs", "release")
"""The extras that runs need nothing of."""

ENVIRONMENT = ("CROSSMOD_DATA", VARIABLE, "CUDA_VISIBLE_DEVICES", *THREAD_VARIABLES)
"""Variables that change what a run does."""

LOW_DISK = 10 * GIB
"""Less free space is told: checkpoints and results of a run of the paper take more."""

BROKEN = "broken"
"""The kind that lists of plugins give one that cannot be loaded."""


@dataclass
class Findings:
    """What was found.

    Attributes:
        facts: part -> name -> value, ready for JSON.
        problems: what keeps a run from working, a line each.
        remarks: what is worth knowing, a line each.
    """

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def examine(folder: Path, profile: Path | None = None) -> Findings:
    """Look at the installation, the machine and a folder to work in; nothing is written or kept.

    Args:
        folder: where runs would be.
        profile: as `crossmod run` takes it.
    """
    found = Findings()
    found.facts["crossmod"] = {
        "version": version(OWN),
        "folder": str(Path(__file__).parent),
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    _look_at_packages(found)
    _look_at_plugins(found)
    found.facts["machine"] = {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": _gib(total_memory()),
        "memory_limit_gib": _gib(memory_limit()),
        "memory_available_gib": _gib(available_memory()),
        "gpus": _gpus(found),
    }
    _look_at_disks(found, folder)
    named = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    found.facts["environment"] = named
    _look_at_use(found, folder, profile)
    return found


def _look_at_packages(found: Findings) -> None:
    """The versions of what crossmod needs, and what its extras lack."""
    needed: dict[str, str] = {}
    extras: dict[str, list[str]] = {}
    for requirement, extra in _requirements():
        installed = _version(requirement.name)
        fits = installed and requirement.specifier.contains(installed, prereleases=True)
        if extra is None:
            needed[requirement.name] = installed or "missing"
            if not fits:
                found.problems.append(f"{requirement} is required, {installed or 'none'} installed")
        else:
            extras.setdefault(extra, [])
            if not fits:
                extras[extra].append(f"{requirement.name}{requirement.specifier}")
    found.facts["packages"] = needed
    found.facts["extras"] = {
        name: f"lacks {', '.join(missing)}; {with_extra(name)}" if missing else "installed"
        for name, missing in extras.items()
    }


def _requirements() -> Iterator[tuple[Requirement, str | None]]:
    """What crossmod requires on this system, with the extra that does."""
    about = distribution(OWN)
    extras = [
        one for one in about.metadata.get_all("Provides-Extra") or () if one not in FOR_DEVELOPERS
    ]
    for line in about.requires or ():
        requirement = Requirement(line)
        for extra in (None, *extras):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""}):
                yield requirement, extra
                break


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _look_at_plugins(found: Findings) -> None:
    for part, rows in (("plugins", plugin_rows()), ("engines", door.engine_rows())):
        found.facts[part] = {
            name: f"{kind}, {source} {number}" if kind != BROKEN else f"{BROKEN}: {text}"
            for name, kind, source, number, text in rows
        }
        found.problems += [
            f"{part[:-1]} '{name}' of {source}: {text}"
            for name, kind, source, _, text in rows
            if kind == BROKEN
        ]


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus(found: Findings) -> dict[str, str]:
    """The GPUs that torch can compute on; those that it cannot are remarks."""
    found.remarks += unused_gpus("auto")
    if not gpus("auto"):
        return {}
    from crossmod.torch.device import usable_gpus

    return {f"cuda:{number}": gpu_model(f"cuda:{number}") for number in usable_gpus("auto")}


def _look_at_disks(found: Findings, folder: Path) -> None:
    """The disks of a folder and of temporary files."""
    found.facts["disks"] = {}
    for name, place in {
        "work": folder.absolute(),
        "temporary": Path(tempfile.gettempdir()),
    }.items():
        free, writable = shutil.disk_usage(place).free, os.access(place, os.W_OK)
        found.facts["disks"][name] = {
            "folder": str(place),
            "free_gib": _gib(free),
            "writable": writable,
            "shared": Store(place, make=False).shared,
        }
        if not writable:
            found.problems.append(f"{place} is not writable: choose another folder")
        if free < LOW_DISK:
            what = f"{place} has {free / GIB:.1f} GiB free"
            found.remarks.append(f"{what}; crossmod run --dry-run says what a recipe needs")


def _look_at_use(found: Findings, folder: Path, file: Path | None) -> None:
    """What `crossmod run` would compute with, if a recipe leaves it open."""
    from crossmod.torch.device import resolve_device, resolve_precision

    try:
        profile = read_profile(file)
        device = resolve_device("auto")
        machine = Machine(checkpoint_minutes=profile.checkpoint_minutes)
        found.facts["run"] = {
            "device": device,
            "precision": resolve_precision("auto", device),
            "engine": profile.engine,
            **_shares(profile, folder, machine),
        }
    except CrossmodError as error:
        found.problems.append(str(error))


def _shares(profile: Profile, folder: Path, machine: Machine) -> Mapping[str, int]:
    """How the engine shares out the machine, where it is this one."""
    engine = open_engine(profile, Store(folder / "store", make=False), machine)
    try:
        names = ("workers", "threads")
        return {name: getattr(engine, name) for name in names if hasattr(engine, name)}
    finally:
        engine.close()


def _gib(size: int) -> float:
    return round(size / GIB, 1)
