"""Synthetic images to work on, and what a stage is told of its run."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from crossmod import Case, Cohort, Context, Options
from crossmod.torch import resolve_precision, set_up
from racing.turns import Turns

ItemT = TypeVar("ItemT")
OptionsT = TypeVar("OptionsT", bound=Options)

CLASSES = {"tumor": 1}
SPACING_MM = (0.6, 0.6, 1.0)
RECIPES = Path(__file__).parents[2] / "recipes"


def image(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """A smooth image in [0, 1] of a head with a bright tumor."""
    head, tumor = balls(shape)
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 2)
    values = head * (0.4 + 0.8 * smooth) + 0.4 * tumor
    noisy = values + 0.02 * rng.standard_normal(shape)
    return np.asarray(np.clip(noisy, 0, 1), dtype=np.float32)


def balls(shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """A head and a tumor in it."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij", sparse=True)
    head = sum((axis / 0.85) ** 2 for axis in axes) < 1
    tumor = sum(((axis - 0.15) / 0.18) ** 2 for axis in axes) < 1
    return np.asarray(head), np.asarray(tumor)


def cohort(
    name: str,
    shape: tuple[int, int, int],
    cases: int,
    spacing_mm: tuple[float, ...] = SPACING_MM,
) -> Cohort:
    """Labeled images of one shape, as files in a new folder of that name."""
    rows = []
    affine = np.diag([*spacing_mm, 1.0])
    for number in range(cases):
        row = {"image": image(shape, number), "labels": balls(shape)[1].astype(np.uint8)}
        paths = {}
        for kind, data in row.items():
            path = paths[kind] = Path.cwd() / name / kind / f"{number}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(data, affine), path)
        name_of = f"case-{number}"
        rows.append(Case(name_of, name_of, "here", paths["image"], paths["labels"]))
    return Cohort(tuple(rows), CLASSES)


def context(turns: Turns, threads: int, lanes: int = 1, **more: Any) -> Context:
    """What a stage is told; its number format is the one that a run picks on this machine.

    Args:
        turns: of the contestant.
        threads: cores to use.
        lanes: independent pieces of a step, which share the cores as in a run.
        more: fields of the `Context`.
    """
    set_up("seeded", "cpu")
    turns.precision = resolve_precision("auto", "cpu")
    has_lanes = "cores" in {field.name for field in dataclasses.fields(Context)}
    torch.set_num_threads(max(1, threads // lanes) if has_lanes else threads)
    if has_lanes:
        more["cores"] = lambda: 1 if turns.counting else threads
    folder = Path.cwd() / "work"
    folder.mkdir(exist_ok=True)
    return Context(folder, seed=1, classes=CLASSES, precision=turns.precision, **more)


def marking(turns: Turns) -> Callable[..., Iterator[Any]]:
    """A `Context.progress` that makes a turn of each step."""

    def progress(
        items: Iterable[ItemT], *, total: int | None = None, label: str = ""
    ) -> Iterator[ItemT]:
        del total, label
        return (item for item, _ in zip(items, turns, strict=False))

    return progress


def options_of(recipe: str, table: str, kind: type[OptionsT], **changes: Any) -> OptionsT:
    """The options of a stage in a recipe of this repository, some of them changed.

    Args:
        recipe: name of the file; empty for the defaults.
        table: where the options are, as "translate.gan".
        kind: of options.
        changes: what to set otherwise.
    """
    if not recipe:
        return kind.model_validate(changes)
    found: Mapping[str, Any] = tomllib.loads((RECIPES / recipe).read_text(encoding="utf-8"))
    for part in table.split("."):
        found = found[part]
    own = {name: value for name, value in found.items() if name in kind.model_fields}
    return kind.model_validate(own | changes)
