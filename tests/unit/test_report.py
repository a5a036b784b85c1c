import math
import re
import time
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scored import scored

from crossmod.data.cohorts import Cohort, CohortWriter
from crossmod.data.crossmoda import EMPTY_PREDICTION_MM
from crossmod.data.curves import Curve
from crossmod.data.nifti import write_nifti
from crossmod.data.slices import Upright
from crossmod.data.volumes import LabelArray, Volume
from crossmod.report import ReportContent, write_report
from crossmod.report.content import MAX_CENTERS, Copies, Dropped, spread, spread_cases
from crossmod.report.drawing import PALETTE
from crossmod.report.galleries import drawn_panels
from crossmod.report.slices import Outline, box_around, picture
from crossmod.report.tables import duration, score_tables
from crossmod.report.training import trainings_of
from crossmod.report.trust import MAX_ROWS

CLASSES = {"tumor": 1, "cochlea": 2}
HOSTILE = "<script>alert(1)<"
AFFINE = np.diag([1.2, 1.2, 2.0, 1.0])
SHAPE = (24, 20, 8)
UNSHOWN = (2.0, 0.5, 0.1, 600.0)
"""HD95, NSD, volume error and volume, which the page leaves out."""
SECTIONS = ("summary", "cohort", "translation", "augmentation", "predictions", "timings", "recipe")


def labels_at(i: int) -> LabelArray:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[6 : 10 + i % 3, 8:12, 3:6] = 1
    labels[16:18, 8:10, 3:5] = 2
    return labels


def cohort(
    folder: Path,
    names: list[str],
    *,
    labeled: bool = True,
    centers: int = 2,
    shape: tuple[int, int, int] = SHAPE,
) -> Cohort:
    writer = CohortWriter(folder, CLASSES)
    rng = np.random.default_rng(len(names))
    for i, name in enumerate(names):
        data = rng.random((1, *shape), dtype=np.float32)
        center = ("London", "Tilburg", *map(str, range(centers)))[i % centers]
        image = Volume.of(data, AFFINE, case=name, center=center)
        labels = np.zeros(shape, dtype=np.uint8)
        labels[: SHAPE[0], : SHAPE[1], : SHAPE[2]] = labels_at(i)
        writer.add(image, patient=name.split("+")[0], labels=labels if labeled else None)
    return writer.close()


def empty(tmp_path: Path) -> ReportContent:
    return ReportContent(
        title="Nothing yet",
        recipe="",
        facts={},
        classes=CLASSES,
        file_values={name: (label,) for name, label in CLASSES.items()},
        structure="tumor",
        scores=(),
        source=Cohort((), CLASSES),
        target=Cohort((), CLASSES),
        translated=(),
        rounds=(),
        panels=(),
        predictions=(),
        references={},
        images={},
        timings=(),
    )


def full(tmp_path: Path) -> ReportContent:
    """Everything a report can show, with a hostile case among the cases."""
    names = [HOSTILE, "s1", "s2", "s3"]
    files: dict[str, dict[str, Path]] = {}
    scans = ["v0", HOSTILE, "v2", "v3"]
    for i, case in enumerate(scans):
        for kind in ("image", "reference", "no-adaptation", "round-1", "oracle"):
            path = tmp_path / kind / f"{i}.nii"
            data = labels_at(i) if kind != "image" else np.indices(SHAPE, np.int16)[i % 3]
            write_nifti(path, np.roll(data, len(kind) % 3, axis=0), AFFINE)
            files.setdefault(kind, {})[case] = path
    panel = tmp_path / "panel.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(panel)
    scores = [
        scored(split, stage, case, ("London", "Tilburg")[i % 2], structure, *numbers, *UNSHOWN)
        for split in ("target", "validation")
        for stage in ("oracle", "no-adaptation", "translated", "round-1")
        for i, case in enumerate(scans)
        for structure, numbers in (
            ("tumor", (0.2 * i, 1.0) if i else (0.0, EMPTY_PREDICTION_MM)),
            ("cochlea", (math.nan, math.nan) if i == 2 else (0.9, 0.0)),
        )
    ]
    source = cohort(tmp_path / "source", names)
    target = cohort(tmp_path / "target", ["t0", "t1", "t2"], labeled=False)
    return ReportContent(
        title=f"Title {HOSTILE}",
        recipe=f'title = "{HOSTILE}"',
        facts={"device": f"cpu {HOSTILE}"},
        classes=CLASSES,
        file_values={name: (label,) for name, label in CLASSES.items()},
        structure="tumor",
        scores=scores,
        source=source,
        target=target,
        translated=[("gan", cohort(tmp_path / "gan", names)), (HOSTILE, source)],
        copies=[
            Copies(
                "x", cohort(tmp_path / "added", [f"{n}+gain{g}" for n in names for g in range(7)])
            )
        ],
        rounds=[cohort(tmp_path / "round", ["t0", "t1", "t2"])],
        panels=[(f"caption {HOSTILE}", panel)],
        predictions=[(stage, files[stage]) for stage in ("no-adaptation", "round-1", "oracle")],
        references=files["reference"],
        images=files["image"],
        timings=[("segment", 3725.0), (HOSTILE, 1.0)],
        warnings=[f"a warning {HOSTILE}"],
        notes=[("gan", [f"line {n} {HOSTILE}" for n in range(30)])],
        trainings=[
            ("train-a-fold-1", {"loss": Curve([1, 2], [2.0, 1.0]), HOSTILE: Curve([2], [0.5])}),
            ("train-a-fold-2", {"loss": Curve([1, 2, 3], [2.0, math.nan, 0.0])}),
            (HOSTILE, {"loss": Curve([1], [1.0])}),
        ],
    )


def page_of(content: ReportContent, tmp_path: Path) -> str:
    path = tmp_path / "report.html"
    write_report(path, content)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"no png", b"\x89PNG\r\n\x1a\n", None])
def test_a_panel_that_is_no_picture_is_left_out(content: bytes | None, tmp_path: Path) -> None:
    whole, broken = full(tmp_path), tmp_path / "broken.png"
    broken.mkdir() if content is None else broken.write_bytes(content)
    given = replace(whole, panels=[("bad one", broken), *whole.panels])
    with pytest.warns(UserWarning, match="bad one: no picture that can be shown"):
        panels = drawn_panels(given)
    assert [caption for caption, _ in panels["training"]] == [f"caption {HOSTILE}"]


PAGE_BYTES = 8_000_000
"""What a report takes at most, however many cases there are."""


class Offline(HTMLParser):
    """Refuses whatever makes a browser ask for something, or run something."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form")
        for name, value in attrs:
            link = value or ""
            assert not name.startswith("on"), name
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                assert link.startswith(("#", "data:image/png;base64,")), link
            if not name.startswith("xmlns"):
                assert not re.search(r"url\((?!#)|https?:", link), link

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            assert not re.search(r"@import|url\((?!#)|https?:", data)


def assert_offline(page: str) -> None:
    Offline().feed(page)
    assert 0 < len(page.encode()) < PAGE_BYTES


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportContent, str]:
    folder = tmp_path_factory.mktemp("report")
    content = full(folder)
    return content, page_of(content, folder)


def test_every_step_that_drew_panels_shows_some(tmp_path: Path) -> None:
    panels = []
    for step, count in (("translate-gan-fit", 50), ("augment-a-fit", 2), ("train-x", 6)):
        (tmp_path / step).mkdir()
        for number in range(count):
            path = tmp_path / step / f"{number}.png"
            Image.new("L", (4, 4)).save(path)
            panels.append((f"{step} {number}", path))
    content = replace(empty(tmp_path), panels=panels)
    shown = {name: [text for text, _ in drawn] for name, drawn in drawn_panels(content).items()}
    assert shown == {
        "translation": ["translate-gan-fit 0", "translate-gan-fit 49"],
        "augmentation": ["augment-a-fit 0", "augment-a-fit 1"],
        "training": ["train-x 0", "train-x 5"],
    }


def test_m06_page_has_every_section_and_needs_no_network(whole: tuple[ReportContent, str]) -> None:
    _, page = whole
    assert all(f'id="{name}"' in page for name in SECTIONS)
    assert_offline(page)
    assert page.count('class="slice"') > 20
    for word in ("London", "Tilburg", "best", "median", "worst", "1 h 02 min", "gain6"):
        assert word in page


def test_m06_hostile_names_are_shown_literally(whole: tuple[ReportContent, str]) -> None:
    _, page = whole
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page


def test_dropped_pseudo_labels_are_told_and_shown(tmp_path: Path) -> None:
    whole = full(tmp_path)
    told = {"center": "London", "agreement_tumor": 0.912345, "agreement_cochlea": 0.8}
    ledger = [
        {"round": 1, "case": "t0", "kept": "yes", "why": "", **told},
        {"round": 1, "case": "t1", "kept": "no", "why": "agreement 0.31", **told},
        {"round": 1, "case": HOSTILE, "kept": "no", "why": "agreement 0.42", **told},
        *(
            {"round": 2, "case": f"t{n}", "kept": "no", "why": why, **told}
            for n, why in enumerate(
                [
                    "tumor of 0.12 times the mean volume of the source",
                    "tumor of 12 times the mean volume of the source",
                    "changed by 0.4 since the last round",
                    "among the least trusted, 50% are kept",
                    "class2 of 3.1 times the mean volume of the source",
                ]
            )
        ),
    ]
    found = labels_at(0)
    dropped = [Dropped(1, whole.target.cases[1], f"agreement {HOSTILE}", lambda: found)]
    page = page_of(replace(whole, ledger=ledger, dropped=dropped), tmp_path)
    assert "Round 1: 1 kept, 2 dropped: agreement (2)" in page
    assert (
        "5 dropped: tumor of … times the mean volume of the source (2), changed by … since the last"
        " round (1), among the least trusted, … are kept (1), class2 of … times" in page
    )
    assert "0.9123" in page
    assert "agreement cochlea" not in page
    assert HOSTILE not in page
    start = page.index('id="trust"')
    assert page[start : page.index('id="predictions"')].count("<path") == 1
    many = [{**ledger[0], "case": f"t{n}"} for n in range(MAX_ROWS + 7)]
    assert "7 more rows" in page_of(replace(whole, ledger=many), tmp_path)
    assert 'id="trust"' not in page_of(whole, tmp_path)


def test_warnings_and_the_first_notes_are_shown(whole: tuple[ReportContent, str]) -> None:
    _, page = whole
    assert "<li>a warning" in page
    assert "line 19 " in page
    assert "line 20 " not in page
    assert "and 10 more" in page


def test_each_training_has_its_curves(whole: tuple[ReportContent, str]) -> None:
    one, other = trainings_of(whole[0].trainings)
    assert [(key.label, key.color) for key in one.keys] == [
        ("fold-1", PALETTE[0]),
        ("fold-2", PALETTE[1]),
    ]
    loss, _ = one.pictures
    assert re.findall(r'd="(M[^"]+)" fill="none" stroke="(#\w+)"', loss) == [
        ("M132.0 22.0L212.0 76.0", PALETTE[0]),
        ("M132.0 22.0h0.1M292.0 130.0h0.1", PALETTE[1]),  # a gap between them
    ]
    assert not other.keys
    assert all(str(picture) in whole[1] for picture in (*one.pictures, *other.pictures))


def test_ids_are_unique_across_figures(whole: tuple[ReportContent, str]) -> None:
    used = re.findall(r'\bid="([^"]+)"', whole[1])
    assert len(used) == len(set(used))


def test_same_content_gives_the_same_page(whole: tuple[ReportContent, str], tmp_path: Path) -> None:
    assert page_of(whole[0], tmp_path) == whole[1]


def test_m06_nothing_at_all(tmp_path: Path) -> None:
    page = page_of(empty(tmp_path), tmp_path)
    assert all(f'id="{name}"' in page for name in SECTIONS)
    assert "Not scored" in page
    assert_offline(page)


def test_no_references_still_shows_predictions(
    whole: tuple[ReportContent, str], tmp_path: Path
) -> None:
    page = page_of(replace(whole[0], scores=(), references={}), tmp_path)
    assert 'class="predictions"' in page
    assert "Not scored" in page


def test_no_translation_no_augmentation_no_rounds(
    whole: tuple[ReportContent, str], tmp_path: Path
) -> None:
    content = replace(whole[0], translated=(), copies=(), rounds=(), panels=())
    page = page_of(content, tmp_path)
    assert "has no translation" in page
    assert "adds no augmented copies" in page


def test_strange_centers_do_not_break_the_charts(tmp_path: Path) -> None:
    names = ["$x^$", "_hidden", "東京", HOSTILE]
    source = cohort(tmp_path / "s", ["a", "b", "c", "d"])
    cases = tuple(replace(c, center=n) for c, n in zip(source.cases, names, strict=True))
    scores = [scored("validation", n, "a", n, "tumor", 0.5, 1.0, *UNSHOWN) for n in names]
    content = replace(empty(tmp_path), source=replace(source, cases=cases), scores=scores)
    page = page_of(content, tmp_path)
    assert "東京" in page
    assert "<script" not in page


def test_a_center_without_cases_in_a_split_has_no_box(tmp_path: Path) -> None:
    source = cohort(tmp_path / "s", ["a", "b"])
    cases = tuple(
        replace(case, center=name) for case, name in zip(source.cases, ("ldn", "etz"), strict=True)
    )
    scores = [scored("validation", "oracle", "a", "ldn", "tumor", 0.5, 1.0, *UNSHOWN)]
    content = replace(empty(tmp_path), source=replace(source, cases=cases), scores=scores)
    assert "Better is" in page_of(content, tmp_path)


EVIL = [
    "<script>alert(1)</script>",
    '"><img src=http://x.example onerror=alert(1)>',
    "{{7*7}}{% raw %}",
    "$(touch x); touch x | `touch x`",
    "[red]bold[/red]",
    "\x1b[2J\x1b]0;title\x07\u202egnirts",
    "https://x.example/?a=b&c",
    "$x^{2$ & \\frac",
    "漢字" * 20,
]


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
def test_r08_strings_of_a_recipe_are_shown_literally(text: str, tmp_path: Path) -> None:
    labels = cohort(tmp_path / "s", ["a", "b"])
    cases = tuple(replace(case, case=f"{i}{text}", center=text)
                  for i, case in enumerate(labels.cases))  # fmt: skip
    source = replace(labels, cases=cases, classes={text: 1})
    content = replace(
        empty(tmp_path),
        title=text,
        recipe=f"title = '{text}'",
        facts={text: text},
        classes={text: 1},
        file_values={text: (1,)},
        structure=text,
        source=source,
        target=source,
        translated=[(text, source)],
        scores=[scored("validation", text, text, text, text, 0.5, 1.0, *UNSHOWN)],
        timings=[(text, 1.0)],
    )
    page = page_of(content, tmp_path)
    assert_offline(page)
    assert unescape(page).count(text) > 5
    assert not (tmp_path / "x").exists()


def test_m06_five_hundred_cases_render_soon_and_stay_small(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    few = cohort(folder, [f"case{i}" for i in range(4)])
    names = [f"{HOSTILE}{i}" for i in range(500)]
    cases = tuple(replace(few.cases[i % 4], case=name) for i, name in enumerate(names))
    many = replace(few, cases=cases)
    maps = {name: few.cases[i % 4].labels for i, name in enumerate(names)}
    images = {name: few.cases[i % 4].image for i, name in enumerate(names)}
    assert None not in maps.values()
    scores = [
        scored("validation", stage, case.case, case.center, "tumor", i % 90 / 100, 1.0, *UNSHOWN)
        for stage in ("no-adaptation", "translated", "round-1")
        for i, case in enumerate(cases)
    ]
    content = replace(
        empty(tmp_path),
        scores=scores, source=many, target=many, translated=[("gan", many)],
        copies=[Copies("x", many)],
        rounds=[many], predictions=[("translated", maps), ("round-1", maps)], references=maps,
        images=images,
    )  # fmt: skip
    start = time.process_time()
    page = page_of(content, tmp_path)
    assert time.process_time() - start < 60
    assert_offline(page)
    assert "<script" not in page


def test_m06_many_cases_and_centers_stay_bounded(tmp_path: Path) -> None:
    source = cohort(tmp_path / "s", [f"case{i}" for i in range(500)], centers=12)
    scores = [
        scored("validation", f"round-{r}", c.case, c.center, "tumor", i % 100 / 100, 1.0, *UNSHOWN)
        for r in range(4)
        for i, c in enumerate(source.cases)
    ]
    content = replace(empty(tmp_path), source=source, scores=scores)
    page = page_of(content, tmp_path)
    assert_offline(page)
    assert f"first {MAX_CENTERS} centers" in page
    worst, centers = re.findall(r"<details><summary>(?:The \d|All).*?</details>", page, re.DOTALL)
    assert "The 10 weakest of 500 cases: tumor, round-3" in worst
    assert worst.count("<tr>") == centers.count("<tr>") - 2 == 11
    assert "All 12 centers" in centers
    found = [float(dice) for dice in re.findall(r"<td>\w+</td><td>(0\.\d+)", worst)]
    assert found == sorted(found)
    assert found[-1] < 0.02


def test_a_center_without_scores_of_a_split_is_no_box(tmp_path: Path) -> None:
    source = cohort(tmp_path / "s", ["a", "b"], centers=2)
    other = source.cases[0].center
    scores = [scored("validation", "round-1", "v", other, "tumor", 0.5, 1.0, *UNSHOWN)]
    page = page_of(replace(empty(tmp_path), source=source, scores=scores), tmp_path)
    assert "Every case: tumor" in page


def test_of_many_warnings_the_first_are_open(tmp_path: Path) -> None:
    warnings = [f"odd {number}," for number in range(3000)]
    page = page_of(replace(empty(tmp_path), warnings=warnings), tmp_path)
    assert page.index("odd 19,") < page.index("<summary>2980 more") < page.index("odd 20,")
    assert "odd 999," in page
    assert "odd 1000," not in page


@pytest.mark.slow
def test_a_hundred_small_volumes_take_seconds(tmp_path: Path) -> None:
    names = [f"case{i}" for i in range(100)]
    source = cohort(tmp_path / "s", names, shape=(80, 64, 32))
    content = replace(empty(tmp_path), source=source, target=source, translated=[("gan", source)])
    start = time.process_time()
    write_report(tmp_path / "report.html", content)
    assert time.process_time() - start < 60


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_slices_are_upright_from_any_orientation(
    signs: tuple[int, ...], order: tuple[int, ...]
) -> None:
    """A mark at the left, front and top of the head lands right, up and in the last slice."""
    canonical = np.zeros((5, 7, 3))
    canonical[0, 6, 2] = 1
    axes = np.zeros((3, 3))
    for axis, sign in enumerate(signs):
        axes[axis, order.index(axis)] = sign * (0.5, 0.6, 2.0)[axis]
        canonical = np.flip(canonical, axis) if sign < 0 else canonical
    affine = np.eye(4)
    affine[:3, :3] = axes
    upright = Upright.of(canonical.transpose(order), affine)
    assert upright.spacing_mm == pytest.approx((0.5, 0.6, 2.0))
    assert upright.fullest_level() == 2
    assert upright.plane(2).shape == (7, 5)
    assert upright.plane(2)[0, 4] == 1


def test_pictures_keep_millimeters_and_outline_masks() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[4:6, 8:12] = True
    svg = picture(np.full((10, 20), np.nan), (2.0, 0.5), outlines=[Outline(mask, "#fff")])
    assert 'viewBox="0 0 10 20"' in svg
    path = re.search(r'd="M([^"]+)"', svg)
    assert path is not None
    points = np.array([list(map(float, point.split())) for point in path[1].split("L")])
    assert points.min(axis=0).tolist() == [4.0, 8.0]
    assert points.max(axis=0).tolist() == [6.0, 12.0]


def test_close_ups_stay_inside() -> None:
    mask = np.zeros((50, 60), dtype=bool)
    mask[1, 58] = True
    rows, columns = box_around(mask, (1.0, 1.0), 20.0)
    assert (rows, columns) == (slice(0, 20), slice(40, 60))
    assert box_around(mask, (1.0, 1.0), 500.0) == (slice(0, 50), slice(0, 60))


def test_best_stage_is_never_the_oracle(whole: tuple[ReportContent, str]) -> None:
    tables = score_tables(whole[0], "validation")
    assert [table.structure for table in tables] == ["tumor", "cochlea"]
    for row in tables[0].rows:
        assert any(cell.best for cell in row.cells) == (row.stage != "oracle")
    assert [row.not_applicable for row in tables[1].rows] == [1] * 4


def test_samples_are_even(tmp_path: Path) -> None:
    assert spread(range(100), 3) == [0, 49, 99]
    assert spread("ab", 5) == ["a", "b"]
    chosen = spread_cases(cohort(tmp_path, [f"c{i}" for i in range(9)]), ["London", "Tilburg"], 4)
    assert [case.case for case in chosen] == ["c0", "c8", "c1", "c7"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "< 0.1 s"), (5, "5.0 s"), (59.99, "1 min 00 s"), (7322, "2 h 02 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
