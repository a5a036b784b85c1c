"""How an opened run looks in a notebook."""

from __future__ import annotations

from markupsafe import Markup

from crossmod.data.shown import facts_html
from crossmod.notebook.opened import OpenRun
from crossmod.scores.final import SPLITS
from crossmod.scores.metrics import OVERALL, Score, read_scores, summarize
from crossmod.scores.table import reported


def run_html(run: OpenRun) -> str:
    """What a run is, and the mean of each metric for each of its segmenters."""
    facts = {"run": str(run.folder), "finished": "yes" if run.finished else "no"}
    if (state := run.state) != "finished":
        earlier = "; these are results of an earlier run" if run.finished else ""
        facts |= {"last attempt": f"{state}{earlier}", "error": run.error}
    if run.runs:
        facts["runs"] = ", ".join(run.runs)
    else:
        facts["steps"] = str(len(run.steps))
    if run.report.is_file():
        facts["report"] = str(run.report)
    file = run.folder / "metrics.csv"
    scores = read_scores(file) if file.is_file() else []
    heading = Markup("<b>{}</b>").format(run.title)
    return str(heading + facts_html(facts) + _means(scores))


def _means(scores: list[Score]) -> Markup:
    """The first split that was scored, over all centers."""
    split = next((one for one in SPLITS if any(s.split == one for s in scores)), "")
    rows = [
        (
            structure,
            row.stage,
            *(metric.text(row.spreads[metric.column][0]) for metric in reported()),
        )
        for structure in dict.fromkeys(score.structure for score in scores)
        for row in summarize(scores, split, structure)
        if row.center == OVERALL
    ]
    if not rows:
        return Markup("")
    heads = ("class", "segmenter after", *(metric.title for metric in reported()))
    lines = [_line(heads, "th"), *(_line(row, "td") for row in rows)]
    caption = Markup("<caption>{} split, means</caption>").format(split)
    return Markup("<table>{}{}</table>").format(caption, Markup("").join(lines))


def _line(cells: tuple[str, ...], tag: str) -> Markup:
    mark = Markup("<{0}>{1}</{0}>")
    return Markup("<tr>{}</tr>").format(Markup("").join(mark.format(tag, cell) for cell in cells))
