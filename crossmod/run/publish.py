"""Gather what a run made into its report."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from importlib.metadata import version
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmod.data.cohorts import Case, Cohort
from crossmod.data.curves import Curve, curves_of, read_rows
from crossmod.data.folder import Scan
from crossmod.data.volumes import LabelArray
from crossmod.files.digests import digest_of_bytes
from crossmod.files.figures import FIGURES
from crossmod.files.outputs import Outputs
from crossmod.files.patterns import references_of
from crossmod.recipe.lock import locked
from crossmod.run.folder import LOCKED
from crossmod.run.ledger import Row
from crossmod.run.run import Run
from crossmod.run.steps import Augment, PseudoLabel, Step, label_map
from crossmod.run.steps.extents import cohort_in
from crossmod.run.steps.kept import load_prediction
from crossmod.scores.comparison import (
    Comparison,
    Sizes,
    Trial,
    compare_trials,
    difference_sheet,
    row_sheet,
    write_differences,
    write_rows,
)
from crossmod.scores.final import split_of
from crossmod.scores.sheets import write_sheets

if TYPE_CHECKING:
    from crossmod.report.content import Copies, Dropped, Tried

COMPARISON_FILES = ("comparison.csv", "comparison.md", "comparison.tex", "differences.csv",
                    "report.html")  # fmt: skip
"""What `show_comparison` writes, besides figures."""

KEY_FILE = ".report-key"

PROMISES = {
    "exact": "the same bits again on the same kind of machine, with any number of workers",
    "seeded": "the same random numbers again; sums may round differently",
    "free": "another run may differ as much as another seed",
}


def publish_report(run: Run) -> None:
    """Write the locked recipe, and ``report.html`` unless it shows these very results already."""
    recipe = locked(run.plan.checked)
    with run.outputs.file(LOCKED) as file:
        file.write_text(recipe, encoding="utf-8")
    keys = [step.key for step in run.reached]
    digest = digest_of_bytes("\n".join([recipe, version("crossmod"), *keys]))
    key_file = run.folder / KEY_FILE
    page = run.folder / "report.html"
    if _is_shown(run, page, key_file, digest):
        return
    from crossmod.report import ReportContent, write_figures, write_report

    plan, checked = run.plan, run.plan.checked
    scans = plan.validation.scans(run.store) if plan.validation else []
    ledger = run.ledger()
    content = ReportContent(
        title=checked.recipe.title,
        recipe=recipe,
        facts=_facts(run),
        classes=checked.recipe.data.class_table.labels,
        file_values=checked.recipe.data.class_table.values,
        structure=checked.recipe.evaluate.structure,
        scores=run.scores(),
        source=Cohort.load(plan.source.folder(run.store)),
        target=Cohort.load(plan.target.folder(run.store)),
        translated=[one for one in _cohorts(run, plan.translations).items() if one[1].cases],
        rounds=list(_cohorts(run, plan.rounds).values()),
        panels=_panels(run),
        predictions=_predictions(run, scans),
        references=_references(run, scans),
        images={scan.case: scan.image for scan in scans},
        timings=run.seconds(),
        warnings=run.warnings(),
        notes=run.notes(),
        intake=checked.recipe.intake,
        series=plan.validation.series if plan.validation else "",
        ledger=ledger,
        dropped=_dropped(run, ledger),
        survival=run.survival(),
        trainings=_trainings(run),
        copies=_copies(run),
        tries=_tried(run),
    )  # fmt: skip
    with run.outputs.file(page.name) as file:
        charts = write_report(file, content)
    write_figures(run.outputs, charts)
    with run.outputs.file(KEY_FILE) as file:
        file.write_text(digest, encoding="utf-8")


def _is_shown(run: Run, page: Path, key_file: Path, digest: str) -> bool:
    """Whether the page and its figures show these results."""
    figures = run.folder / FIGURES
    if not (page.exists() and figures.is_dir() and key_file.exists()):
        return False
    return key_file.read_text(encoding="utf-8") == digest


def publish_comparison(runs: Sequence[Run], outputs: Outputs) -> Comparison:
    """Write the table over all variants and seeds, a page and figures; return the table.

    The split is the validation scans, or the target scans where none were held back.
    """
    recipe, scores = runs[0].plan.checked.recipe, [run.scores() for run in runs]
    split = split_of(score.split for one in scores for score in one)
    trials = [
        Trial(
            run.plan.checked.variant or run.plan.checked.recipe.title,
            run.plan.checked.recipe.seed,
            run.plan.checked.recipe.first_stage,
            [score for score in one if score.split == split],
        )
        for run, one in zip(runs, scores, strict=True)
    ]
    comparison = compare_trials(trials, Sizes(*recipe.evaluate.size_limits_mm3))
    links = {run.label: f"{run.folder.name}/report.html" for run in runs}
    show_comparison(outputs, comparison, recipe.title, links)
    return comparison


def show_comparison(
    outputs: Outputs,
    comparison: Comparison,
    title: str,
    links: Mapping[str, str],
    **words: Any,
) -> None:
    """Write a comparison as CSV, Markdown, LaTeX, a page and figures.

    Args:
        outputs: where to.
        comparison: what to show.
        title: of the page.
        links: name of a run -> its own report, relative to the folder.
        words: further texts of the page, see `write_comparison`.

    Raises:
        DataError: a file of such a name is somebody else's.
        MachineError: a file cannot be written.
    """
    from crossmod.report import write_comparison, write_figures

    for name, write in (("comparison.csv", write_rows), ("differences.csv", write_differences)):
        with outputs.file(name) as file:
            write(file, comparison)
    sheets = [
        make(comparison, structure)
        for structure in comparison.structures
        for make in (row_sheet, difference_sheet)
    ]
    write_sheets(outputs, "comparison", sheets)
    with outputs.file("report.html") as file:
        charts = write_comparison(file, comparison, title, links, **words)
    write_figures(outputs, charts)


def _facts(run: Run) -> dict[str, str]:
    recipe = run.plan.checked.recipe
    manifests = [run.store.manifest(step.key) for step in run.reached]
    made = [manifest for manifest in manifests if manifest]
    devices = sorted({f"{manifest['device']} {manifest['precision']}" for manifest in made})
    total = sum(manifest["seconds"] for manifest in made)
    level = recipe.determinism
    return {
        "crossmod": version("crossmod"),
        "seed": str(recipe.seed),
        "device": ", ".join(devices),
        "determinism": f"{level}: {PROMISES[level]}",
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "time to make all steps": f"{total / 60:.1f} min",
    }


def _cohorts(run: Run, steps: Sequence[Step]) -> dict[str, Cohort]:
    """Name -> cohort of those of the steps that the run came to."""
    return {one.name: Cohort.load(one.folder(run.store)) for one in steps if one in run.reached}


def _copies(run: Run) -> list[Copies]:
    """What each stage learned from that had other copies than the stage before."""
    from crossmod.report.content import Copies

    first = run.plan.copies
    made = [("the first segmentation", first)]
    for number, real in enumerate(run.plan.rounds, start=1):
        anew = [one for one in run.reached if isinstance(one, Augment) and one.real is real]
        if anew:
            made.append((f"round {number}", [*anew, *(s for s in first if not s.is_guided)]))
    found = [(stage, steps, [*_cohorts(run, steps).values()]) for stage, steps in made]
    return [
        Copies(stage, reduce(add, cohorts), _originals(run, steps))
        for stage, steps, cohorts in found
        if cohorts
    ]


def _originals(run: Run, copies: Sequence[Step]) -> Cohort | None:
    """The images that stayed in a training beside these copies; None where all did."""
    for step in reversed(run.plan.originals):
        if step in run.reached and all(one in copies for one in step.copies):
            return Cohort.load(step.folder(run.store))
    return None


def _tried(run: Run) -> list[Tried]:
    """The translators that were trained several times, with the translations of every try."""
    from crossmod.report.content import Tried

    rows = run.tries()
    return [
        Tried(
            step.name,
            [row for row in rows if row["translator"] == step.name],
            [cohort_in(one.folder(run.store)) for one in step.tries],
        )
        for step in run.plan.choices
        if step in run.reached
    ]


def _dropped(run: Run, ledger: Sequence[Row]) -> list[Dropped]:
    """The target cases that rounds noted not to learn from."""
    from crossmod.report.content import Dropped

    lost = [row for row in ledger if row["kept"] == "no"]
    if not lost:
        return []
    given = Cohort.load(run.plan.target.folder(run.store))
    cases = {case.case: case for case in given.cases}

    def labels(step: PseudoLabel, case: Case) -> LabelArray:
        return load_prediction(step.predictions.folder(run.store), case.volume()).labels

    return [
        Dropped(number, case, str(row["why"]), partial(labels, run.plan.rounds[number - 1], case))
        for row in lost
        if (case := cases.get(str(row["case"])))
        for number in (int(row["round"]),)
    ]


def _trainings(run: Run) -> list[tuple[str, dict[str, Curve]]]:
    """The curves of the steps that noted numbers as they trained."""
    found = [(step.name, curves_of(read_rows(step.folder(run.store)))) for step in run.reached]
    return [(name, curves) for name, curves in found if curves]


def _panels(run: Run) -> list[tuple[str, Path]]:
    """The pictures that plugins saved."""
    return [
        (f"{step.name}: {path.stem.replace('-', ' ')}", path)
        for step in run.reached
        if step.who
        for path in sorted((step.folder(run.store) / "panels").glob("*.png"))
    ]


def _predictions(run: Run, scans: list[Scan]) -> list[tuple[str, dict[str, Path]]]:
    """Stage -> case -> label map, on validation scans."""
    return [
        (stage, {scan.case: label_map(step.folder(run.store), scan.case) for scan in scans})
        for (stage, split), step in run.plan.predictions.items()
        if split == "validation" and step in run.reached
    ]


def _references(run: Run, scans: list[Scan]) -> dict[str, Path]:
    labels = run.plan.checked.recipe.evaluate.labels
    if labels is None or not run.plan.scores:
        return {}
    root = run.plan.scores[0].data.folder(run.store)
    found = references_of(root, labels, (scan.case for scan in scans))
    return {case: path for case, path in found.items() if path.is_file()}
