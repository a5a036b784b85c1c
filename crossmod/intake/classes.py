"""Which classes label maps hold: classes that are missing, and values that belong to none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossmod.errors import elided
from crossmod.intake.results import FileFault

if TYPE_CHECKING:
    from crossmod.intake.survey import Part, Survey

SIZABLE = (0.05, 8)
"""A component counts if it has this share of the largest one, and this many voxels."""


def strange_values(survey: Survey) -> Iterator[tuple[Path, FileFault]]:
    """Label maps with values that belong to no class and are not declared background."""
    classes = survey.classes.values
    known = {value for values in classes.values() for value in values} | survey.ignored | {0}
    for part in survey.parts:
        maps = [path for _, path in part.pairs() if path in survey.facts]
        everywhere = set[int]().union(*(survey.facts[path].labels for path in maps)) - known
        fix = (
            "add what belongs to a class to [data.classes]; for background, list it:"
            f" data.ignore_values = {sorted(everywhere | survey.ignored)}"
        )
        for path in dict.fromkeys(maps):
            facts = survey.facts[path]
            if strange := sorted(facts.labels - known):
                each = [f"{value} ({facts.voxels_of([value])} voxels)" for value in strange]
                plural = "values" if len(each) > 1 else "value"
                what = f"{plural} {', '.join(each)} of no class"
                allowed = ", ".join(map(str, sorted(known)))
                yield path, FileFault("labels", what, allowed, fix)


def missing_classes(survey: Survey) -> Iterator[str]:
    """Splits to learn from in which no label map holds one of the classes."""
    for part in survey.parts:
        maps = _learned(survey, part)
        if not maps or len(maps) < len(part.scans):
            continue  # files that cannot be read may hold them
        missing = {
            name: f"'{name}' (value {' or '.join(map(str, values))})"
            for name, values in survey.classes.values.items()
            if not any(survey.facts[path].labels & set(values) for _, path in maps)
        }
        if missing:
            what = f"none of {len(maps)} label maps holds {', '.join(missing.values())}"
            fix = "correct the value in [data.classes], or remove the class there"
            unset = ", ".join(f"data.classes.{name} = false" for name in missing)
            inherited = f"; if it is inherited: {unset}"
            yield f"{part.split}: labels: {what}\n  {fix}{inherited}"


def remarks_on_classes(
    survey: Survey, single: Sequence[tuple[int, ...]]
) -> Iterator[tuple[str, str]]:
    """Cases without a class that others have, and structures in several sizable parts.

    Args:
        survey: what is known of the files.
        single: the values of each class of which predictions keep only the largest component.
    """
    for part in survey.parts:
        maps = _learned(survey, part)
        for name, values in survey.classes.values.items():
            without = [case for case, path in maps if not survey.facts[path].labels & set(values)]
            if without and len(without) < len(maps):
                share = f"{len(without)} of {len(maps)} label maps"
                text = f"'{name}' is missing in {share}: {elided(without)}"
                yield part.split, f"{part.split}: labels: {text}"
            if values in single:
                yield from _cut(survey, part, name, single.index(values))


def lines_on_classes(survey: Survey) -> list[str]:
    """How many scans have references, and how much of each class the label maps hold."""
    sought = [part for part in survey.parts if part.split != "source"]
    found = [sum(1 for _ in part.pairs()) for part in sought]
    scans = sum(len(part.scans) for part in sought)
    each = [f"{part.split} {n} of {len(part.scans)}" for part, n in zip(sought, found, strict=True)]
    lines = [f"references: {sum(found)} of {scans} ({', '.join(each)})"]
    for name, values in survey.classes.values.items():
        each = [_held(survey, part, values) for part in survey.parts]
        lines.append(f"{name}: " + "; ".join(text for text in each if text))
    return lines


def _held(survey: Survey, part: Part, values: Sequence[int]) -> str:
    """How many label maps of a split hold a class, and how many voxels; empty without any."""
    maps = [survey.facts[path] for _, path in part.pairs() if path in survey.facts]
    counts = [facts.voxels_of(values) for facts in maps]
    kind = "label maps" if part.split == "source" else "references"
    held = f"{len([n for n in counts if n])} of {len(maps)} {part.split} {kind}"
    return f"{held}, {sum(counts)} voxels" if maps else ""


def _cut(survey: Survey, part: Part, name: str, number: int) -> Iterator[tuple[str, str]]:
    """Label maps in which a class that is cut to its largest component has others."""
    for _, path in part.pairs():
        sizes = survey.facts[path].parts[number] if path in survey.facts else ()
        least = max(SIZABLE[0] * sizes[0], SIZABLE[1]) if sizes else 0
        large = [str(size) for size in sizes if size >= least]
        if len(large) > 1:
            text = f"'{name}' has {len(large)} components of {', '.join(large)} voxels"
            cut = "largest_component leaves one in each prediction"
            yield part.split, f"{path}: labels: {text}; {cut}"


def _learned(survey: Survey, part: Part) -> list[tuple[str, Path]]:
    """Case and label map of the scans that a split is learned from, where they can be trusted."""
    maps = [(scan.case, scan.labels) for scan in part.scans if scan.labels]
    return [(case, path) for case, path in maps if path in survey.facts]
