"""A translator that is trained several times, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sheets import rows_of
from tiny import PREPARED, RECIPE, Tiny, begun

FICKLE = """\
import numpy as np
from crossmod import Translator, hookimpl


class Fickle(Translator):
    \"\"\"Collapses, diverges, does well or badly, as its seed has it.\"\"\"

    def fit(self, source, target, ctx):
        return {"try": np.array([np.nan if ctx.seed == 3022 else ctx.seed])}

    def translate(self, volumes, state, ctx):
        for volume in volumes:
            image = 1 - volume.data
            if state["try"][0] == 2022:
                image = np.full_like(image, 0.5)
            if state["try"][0] == 5022:
                noise = ctx.rng(volume.case).random(image.shape, np.float32)
                image = 0.7 * image + 0.3 * noise
            yield volume.with_data(image)


@hookimpl
def crossmod_stage():
    return Fickle
"""

TRIED = (
    RECIPE.split("[translate.gan]")[0]
    + """\
[translate]
sharpen = false
[translate.gan]
use = "fickle"
tries = 5
"""
    + "[segment]"
    + RECIPE.split("[segment]")[1]
).replace('title = "Tiny"', 'title = "Tries"\naugment = false\npseudo_label = false')


class Drawn(Tiny):
    """A recipe of several tries, beside the plugin that it uses."""

    @property
    def site(self) -> str:
        return str(self.folder / "site")

    def rows(self) -> list[dict[str, str]]:
        return rows_of(self.result.folder / "tries.csv")


@pytest.fixture(scope="module")
def drawn(
    undisturbed: Tiny, tmp_path_factory: pytest.TempPathFactory, install: Callable[..., None]
) -> tuple[Drawn, str]:
    """A run that was killed while it judged, and run again; and what was printed then."""
    tiny = begun(undisturbed, tmp_path_factory.mktemp("drawn") / "tries", TRIED)
    tiny.forget_all_but(*PREPARED)
    drawn = Drawn(tiny.folder, TRIED)
    Path(drawn.site).mkdir()
    install(Path(drawn.site), "fickle", FICKLE)
    fault = "translate-gan-try-3-judge:begin:kill"
    drawn.go(code=4, PYTHONPATH=drawn.site, CROSSMOD_FAULT=fault)
    return drawn, drawn.go(PYTHONPATH=drawn.site)


def test_a_collapsed_try_is_never_chosen(drawn: tuple[Drawn, str]) -> None:
    rows = drawn[0].rows()
    assert [row["try"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["seed"] for row in rows] == ["2022", "3022", "4022", "5022", "6022"]
    assert rows[0]["why"].startswith("collapsed")
    assert rows[1]["why"].startswith("diverged: 1 of 1 learned arrays hold NaN")
    assert [float(row["score"]) for row in rows[:2]] == [0.0, 0.0]
    assert [row["used"] for row in rows] == ["no", "no", "yes", "no", "no"], rows
    assert {row["translator"] for row in rows} == {"translate-gan"}


def test_what_is_chosen_is_what_is_learned_from(drawn: tuple[Drawn, str]) -> None:
    images, tried = (
        next(drawn[0].result.folder.glob(f"*-translate-gan{name}")) / "images"
        for name in ("", "-try-3")
    )
    files = sorted(path.name for path in images.iterdir())
    assert files == sorted(path.name for path in tried.iterdir())
    assert all((images / name).samefile(tried / name) for name in files)


def test_a_run_that_stopped_goes_on_where_it_was(drawn: tuple[Drawn, str]) -> None:
    made = drawn[0].made()
    assert made["translate-gan-try-3-judge"] == 1
    assert {name: count for name, count in made.items() if count != 1} == {}


def test_the_console_and_the_page_show_every_try(drawn: tuple[Drawn, str]) -> None:
    assert "Try 3 of 5 used, scores 1: not used, collapsed" in drawn[1]
    page = (drawn[0].result.folder / "report.html").read_text("utf-8")
    assert "The tries of translate-gan" in page
    for words in ("try 1: 0.00, not used", "try 3: ", "try 4: ", "diverged"):
        assert words in page


def test_all_sound_tries_may_be_pooled(drawn: tuple[Drawn, str]) -> None:
    """Each of their translations under a name of its own, of the same patient."""
    tiny, _ = drawn
    tiny.go("--set", "translate.gan.use_tries=all", "--out", "pooled", PYTHONPATH=tiny.site)
    [folder] = (tiny.folder / "pooled").glob("*-translate-gan")
    names = sorted(path.stem for path in (folder / "images").iterdir())
    assert [name.partition("+")[2] for name in names] == ["", "try-4", "try-5"] * 2
    assert not list((tiny.folder / "pooled").glob("*-translate-gan-try-6*"))


def test_a_run_without_a_sound_try_ends_there(drawn: tuple[Drawn, str]) -> None:
    tiny, _ = drawn
    said = tiny.go("--set", "translate.gan.tries=2", "--out", "none", PYTHONPATH=tiny.site)
    assert "stopped early at translate-gan: no try of the translator is sound" in said
    assert not list((tiny.folder / "none").glob("*-train-translated*"))
    page = (tiny.folder / "none" / "report.html").read_text("utf-8")
    assert "none of 2 tries is sound" in page


def test_a_dry_run_counts_every_try(drawn: tuple[Drawn, str]) -> None:
    tiny, _ = drawn
    plan = tiny.go("--dry-run", "--set", "translate.gan.tries=5", PYTHONPATH=tiny.site)
    assert "translate-gan-try-5-fit" in plan
    assert "translate-gan-try-5-judge" in plan
