"""Put finished runs side by side, whatever recipes they are of."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from crossmod.data.crossmoda import SIZE_LIMITS_MM3
from crossmod.errors import DataError, itemized, listed, reading
from crossmod.files.figures import require_figures
from crossmod.files.outputs import Inputs, Outputs
from crossmod.model.facts import RUN_FILE, RunFacts, read_facts
from crossmod.recipe.model import first_stage
from crossmod.recipe.text import read_tables
from crossmod.run.folder import LOCKED
from crossmod.run.publish import COMPARISON_FILES, show_comparison
from crossmod.scores.comparison import Comparison, Sizes, Trial, compare_trials
from crossmod.scores.final import SPLITS, references_differ, require_same_classes
from crossmod.scores.metrics import Score, read_scores

METRICS = "metrics.csv"

OF_RUNS = "Finished runs"

SEED = re.compile(r"-?seed-\d+$")


@dataclass(frozen=True)
class Finished:
    """A run that has scores.

    Attributes:
        name: of its rows; runs of one name are seeds of one method.
        folder: its run folder.
        recipe: the tables of its locked recipe.
        references: split -> case -> digest of the reference, as far as the run noted it.
        scores: of all stages and splits.
    """

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    references: Mapping[str, Mapping[str, str]]
    scores: Sequence[Score]

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.recipe.get("seed", 0))

    @property
    def label(self) -> str:
        """How messages name it; no other run of a comparison has this label."""
        return f"{self.name} (seed {self.seed})"

    @property
    def limits(self) -> tuple[float, float]:
        """Which structures are small and large, mm3."""
        low, high = self.recipe.get("evaluate", {}).get("size_limits_mm3", SIZE_LIMITS_MM3)
        return float(low), float(high)


@dataclass(frozen=True)
class Compared:
    """What a comparison found, and what a reader should know about it."""

    comparison: Comparison
    remarks: Sequence[str]


def compare(folders: Mapping[str, Sequence[Path]], out: Path | None = None) -> Compared:
    """Compare runs on the cases that all of them scored.

    Args:
        folders: name -> run folders, each of another seed; or folders of variants, which become
            rows of their own.
        out: where tables, a page and figures go, if anywhere.

    Raises:
        DataError: a folder is not a finished run; fewer than two names; or runs have no case in
            common, other classes, or other references.
        MachineError: a file cannot be written.
    """
    outputs = None
    if out is not None:
        read = tuple(folder for of in folders.values() for folder in of)
        outputs = Outputs(out, "crossmod compare", Inputs(searched=read))
        outputs.require(COMPARISON_FILES)
        require_figures(outputs)
    alone = len(folders) == 1
    runs = [
        run
        for name, of in folders.items()
        for folder in of
        for run in _open("" if alone else f"{name}/", name, folder)
    ]
    _require_several(runs)
    split = _split(runs)
    scored = {run.label: [score for score in run.scores if score.split == split] for run in runs}
    require_same_classes(scored, "the runs have different classes:")
    remarks, common = _common_cases(scored)
    kept = {
        name: [score for score in scores if score.case in common] for name, scores in scored.items()
    }
    _require_same_references(runs, split, common, kept)
    sizes = {run.limits for run in runs}
    if len(sizes) > 1:
        remarks.append(f"the recipes differ in evaluate.size_limits_mm3: {runs[0].name} counts")
    trials = [
        Trial(run.name, run.seed, _first(run), kept[run.label], own_references=True) for run in runs
    ]
    comparison = compare_trials(trials, Sizes(*runs[0].limits))
    if outputs is not None:
        names = list(dict.fromkeys(run.name for run in runs))
        title = f"{', '.join(names[:-1])} and {names[-1]}"
        links = {run.label: _link(run, outputs.folder) for run in runs}
        show_comparison(outputs, comparison, title, links, intro=OF_RUNS, notes=remarks)
    return Compared(comparison, remarks)


def _open(prefix: str, name: str, folder: Path) -> Iterator[Finished]:
    """The run of a folder, or the runs of its variants and seeds, named with a prefix."""
    if (folder / METRICS).is_file():
        yield _read(name, folder)
        return
    inside = sorted(
        path.parent for path in folder.glob(f"*/{METRICS}") if not _lacking(path.parent)
    )
    if not inside:
        raise DataError(
            "is not a finished run",
            where=str(folder),
            allowed=f"a run folder with {METRICS}, {RUN_FILE} and {LOCKED}",
            fix="name a run folder; finish an interrupted run with crossmod run",
        )
    for one in inside:
        variant = SEED.sub("", one.name)
        yield _read(f"{prefix}{variant}" if variant else name, one)


def _lacking(folder: Path) -> list[str]:
    """The files of a finished run that a folder does not have."""
    return [name for name in (METRICS, RUN_FILE, LOCKED) if not (folder / name).is_file()]


def _read(name: str, folder: Path) -> Finished:
    if missing := _lacking(folder):
        raise DataError(f"lacks {', '.join(missing)}", where=str(folder), allowed="a finished run")
    with reading(folder):
        recipe, _ = read_tables(folder / LOCKED)
        scores = read_scores(folder / METRICS, check=True)
    if not scores:
        raise DataError(
            "has no scores",
            where=str(folder),
            fix="name reference label maps in evaluate.labels of its recipe, and run it again",
        )
    facts = read_facts(folder / RUN_FILE, RunFacts)
    return Finished(name, folder, recipe, facts.references, scores)


def _first(run: Finished) -> str:
    return first_stage(run.recipe.get("translate"), run.recipe.get("augment"))


def _require_several(runs: Sequence[Finished]) -> None:
    if len({run.name for run in runs}) < 2:
        raise DataError(
            f"runs to compare: {runs[0].name}",
            allowed="two or more",
            fix="name further run folders; runs of one name are seeds of one method",
        )
    seen: dict[tuple[str, int], Finished] = {}
    for run in runs:
        other = seen.setdefault((run.name, run.seed), run)
        if other is not run:
            raise DataError(
                f"{other.folder} and {run.folder} are both '{run.name}' with seed {run.seed}",
                allowed="one run for each name and seed",
                fix="give them different names, as NAME=RUN",
            )


def _split(runs: Sequence[Finished]) -> str:
    """The split that all runs scored."""
    found = {run.label: {score.split for score in run.scores} for run in runs}
    for split in SPLITS:
        if all(split in splits for splits in found.values()):
            return split
    lines = [f"{label}: {', '.join(sorted(splits))}" for label, splits in found.items()]
    raise DataError("\n".join(["no split was scored by all runs:", *lines]))


def _common_cases(scored: Mapping[str, Sequence[Score]]) -> tuple[list[str], set[str]]:
    """What is left out, and the cases that all runs scored."""
    cases = {label: {score.case for score in scores} for label, scores in scored.items()}
    common = set.intersection(*cases.values())
    if not common:
        lines = [f"{label}: {listed(sorted(of))}" for label, of in cases.items()]
        raise DataError("\n".join(["the runs have no case in common:", *lines]))
    every = set.union(*cases.values())
    remarks = [
        f"{label} lacks {len(every - of)} of {len(every)} cases: {listed(sorted(every - of))}"
        for label, of in cases.items()
        if every - of
    ]
    if remarks:
        remarks.append(f"compared on the {len(common)} cases that all runs scored")
    return remarks, common


def _require_same_references(
    runs: Sequence[Finished],
    split: str,
    common: set[str],
    kept: Mapping[str, Sequence[Score]],
) -> None:
    problems = references_differ(kept)
    digests = {run.label: run.references.get(split, {}) for run in runs}
    labels = list(digests)
    for first, second in pairwise(labels):
        known = sorted(common & digests[first].keys() & digests[second].keys())
        problems += [
            f"case {case}: other label maps for {first} than for {second}"
            for case in known
            if digests[first][case] != digests[second][case]
        ]
    if problems:
        raise DataError(
            itemized("the runs were scored against different references:", problems),
            fix="score both against the same label maps",
        )


def _link(run: Finished, folder: Path) -> str:
    return Path(os.path.relpath(run.folder / "report.html", folder)).as_posix()
