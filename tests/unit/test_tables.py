"""Tables in narrow terminals: no number and no name is cut, and nothing is left out."""

from __future__ import annotations

import io
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table
from scored import scored

from crossmod import console
from crossmod.commands import model_tables, plan_table, store
from crossmod.commands.score_tables import shown as sheet_table
from crossmod.console.layout import NO_LIMIT
from crossmod.cost.estimates import Estimate, Estimates
from crossmod.cost.preview import PlannedStep
from crossmod.engines import door
from crossmod.model.confidence import Confidence
from crossmod.recipe.load import load
from crossmod.run.planner import Planner
from crossmod.scores.comparison import Trial, compare_trials
from crossmod.scores.evaluation import summary
from crossmod.scores.evaluation.sheets import percentile_sheet, summary_sheet
from crossmod.scores.metrics import Score
from crossmod.scores.ranking import ScoreTable, duels, rankings
from crossmod.scores.ranking.sheets import duel_sheet, ranking_sheet
from crossmod.scores.sizes import USUAL
from crossmod.stages import find
from crossmod.stages.explain import option_rows, plugin_rows
from crossmod.store.collect import Contents
from crossmod.store.runs import KnownRun, Record
from crossmod.store.store import Store

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
CLASSES = ("tumor_extrameatal", "tumor_intrameatal", "cochlea", "facial_nerve_left")
CENTERS = ("Maastricht-Tilburg", "london")


def scores(stage: str, seed: int = 0) -> list[Score]:
    """Four classes of six cases of two centers; large numbers, and some that are not known."""
    random, found = np.random.default_rng(seed), []
    for number, structure in ((n, s) for n in range(6) for s in CLASSES):
        dice, nsd = random.uniform(0, 1, 2)
        distances = random.uniform(100, 400, 2) if number else (math.nan, 350.0)
        measured = (dice, *distances, nsd, random.uniform(-1, 9), random.uniform(10, 9999))
        case = f"crossmoda2022_etz_{number:03d}"
        found.append(scored("target", stage, case, CENTERS[number % 2], structure, *measured))
    return found


def comparison() -> list[Table]:
    trials = [
        Trial(f"without-{name}", seed, f"after-{stage}", scores(f"after-{stage}", seed))
        for name in ("self-training", "augmentation-of-tumors")
        for seed in (1, 2)
        for stage in ("translation", "round-1")
    ]
    return console.comparison_tables(compare_trials(trials, USUAL))


def evaluation() -> list[Table]:
    groups = summary.summarize(scores("augmented"), CLASSES[0])
    makes = (summary_sheet, percentile_sheet)
    return [sheet_table(make(groups, structure)) for structure in CLASSES for make in makes]


def ranking() -> list[Table]:
    values = np.random.default_rng(1).uniform(0, 1, (2, 6, 3))
    metrics = ["tumor_extrameatal_Dice", "cochlea_ASSD"]
    teams = ["a-team-with-a-long-name", "b", "samoyed"]
    table = ScoreTable(teams, [f"case-{n}" for n in range(6)], metrics, values)
    sheets = [*map(ranking_sheet, rankings(table, samples=20))]
    sheets += [duel_sheet(name, duels(table, name)) for name in metrics]
    return [*map(sheet_table, sheets)]


def plan() -> list[Table]:
    steps = Planner(load(SMOKE), None).plan().steps
    why = "its options differ: segment.options.iterations, segment.options.initial_learning_rate"
    rows = [PlannedStep("", n, step, "to run", why) for n, step in enumerate(steps, start=1)]
    costs = Estimate(123_456.0, 12_300_000_000, None, 45_600_000_000, "probe")
    estimates = Estimates(of={step.key: costs for step in steps})
    return [plan_table.plan_table("without-self-training, seed 12", rows, estimates)]


def runs(folder: Path) -> list[Table]:
    opened = Store(folder / "store")
    record = Record(folder="mine", title="Four classes of a study with a long title", steps={})
    place = folder / "a-folder-of-many-runs" / "without-augmentation-and-self-training-seed-2"
    known = [KnownRun(folder / "x.json", place, record, "interrupted")]
    users: Counter[str] = Counter()
    return [store._run_table(known, {}, users), store._space_table(Contents(opened), users)]


def confidence() -> list[Table]:
    flag = "folds disagree, and the outline is far larger than those of training"
    rows = [
        Confidence(f"crossmoda2022_{n}_hrT2", name, 0.123, 0.987, 12345.6, flag, 12.3)
        for n in range(2)
        for name in CLASSES
    ]
    return [model_tables.confidence_table(rows)]


def plugins() -> list[Table]:
    offered = [find.load(name).stage for name in find.available()]
    models = [one.options_type for one in [*offered, *map(door.load, door.available())]]
    options = [console.options_table(option_rows(model)) for model in models]
    return [console.plugin_table([*plugin_rows(), *door.engine_rows()]), *options]


def every_table(folder: Path) -> list[tuple[Table, int]]:
    """All tables of all commands, and how many columns name their rows."""
    stages = [*scores("translated"), *scores("augmented-round-1")]
    by_two = [*console.summary_tables(stages, CLASSES), *comparison(), *plan(), *confidence()]
    ranked, tested = ranking()[:-2], ranking()[-2:]
    by_one = [*evaluation(), *tested, *runs(folder), *plugins()]
    return [(table, 2) for table in [*by_two, *ranked]] + [(table, 1) for table in by_one]


def shown(table: Table, keys: int, monkeypatch: pytest.MonkeyPatch, width: int | None) -> str:
    """What a terminal of a width shows; without one, what a file gets."""
    file = io.StringIO()
    screen = {"width": width, "force_terminal": True} if width else {}
    monkeypatch.setattr(console, "out", console.Terminal(file=file, color_system=None, **screen))
    console.show(table, keys)
    return file.getvalue()


def cells(table: Table, keys: int = 0) -> list[str]:
    """All cells, and the headings of columns that do not name the rows."""
    parts = [str(cell) for column in table.columns for cell in column.cells]
    headings = [str(column.header) for column in table.columns[keys:]]
    return [console.out.render_str(part).plain for part in parts + headings]


@pytest.mark.parametrize("width", [120, 80, 40])
def test_nothing_is_cut_in_a_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for table, keys in every_table(tmp_path):
        text = shown(table, keys, monkeypatch, width)
        assert "…" not in text
        body = text.split("\n", 1)[1] if table.title else text  # the terminal breaks a long title
        body = body.rsplit("\n", 2)[0] if table.caption else body
        assert max(map(len, body.splitlines())) <= width, text
        words, joined = set(body.split()), "".join(body.split())
        for word in (word for cell in cells(table, keys) for word in cell.split()):
            assert word in words or (len(word) > width - 25 and word in joined), (word, text)


def test_what_is_no_terminal_gets_a_line_for_each_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for table, keys in every_table(tmp_path):
        text = shown(table, keys, monkeypatch, None)
        assert all(" ".join(cell.split("\n")[0].split()) in " ".join(text.split())
                   for cell in cells(table))  # fmt: skip
        assert len(text.splitlines()) <= table.row_count + 10
    assert console.Terminal(file=io.StringIO()).width == NO_LIMIT


def test_a_table_that_is_too_wide_becomes_one_for_each_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [table] = console.summary_tables(scores("translated"), CLASSES)
    text = shown(table, 2, monkeypatch, 80)
    assert text.count("segmenter") == len(CLASSES)
    for center in CENTERS:  # each part names all its rows
        assert text.count(center) == len(CLASSES)
    parts = [text.index(f"\n{name}\n") for name in CLASSES]
    assert parts == sorted(parts)


def test_parts_that_do_not_fit_either_become_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    [table] = console.summary_tables(scores("translated"), CLASSES)
    text = shown(table, 2, monkeypatch, 40)
    for center in ("overall", *CENTERS):  # a stage is written once, and stands in each heading
        assert text.count(f"translated  {center}\n  Dice ± sd  ") == len(CLASSES)


def test_lines_make_room_for_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table("segmenter after", "center")
    table.add_column("tumor\nDice ± sd", justify="right", no_wrap=True)
    table.add_column("tumor\nASSD mm", justify="right", no_wrap=True)
    table.add_row("no-adaptation", "overall", "0.441 ± 0.284", "328.259")
    text = shown(table, 2, monkeypatch, 40)
    assert text.splitlines()[1].split() == ["segmenter", "after", "center", "Dice", "±", "sd"]
    assert text.count("no-adaptation    overall  ") == 2


def test_progress_in_a_narrow_terminal_keeps_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (80, 40):
        screen = console.Terminal(file=io.StringIO(), force_terminal=True, width=width)
        monkeypatch.setattr(console, "out", screen)
        progress = console._progress()
        name = "12/37 without-self-training train-round-1 fold 2 of 5"
        progress.add_task(name, total=25_000, completed=12_345)
        with screen.capture() as captured:
            screen.print(progress.get_renderable())
        assert "…" not in captured.get()
        assert "12345/25000" in captured.get()
        assert "2of5" in "".join(captured.get().split())
