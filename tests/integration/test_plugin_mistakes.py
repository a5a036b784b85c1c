"""Plugins that are broken or careless, in whole runs: rows G01 to G04 of the fault matrix."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

import pytest
from program import SMOKE
from tiny import PREPARED, Tiny

RECIPE = f"""\
extends = "{SMOKE}"
title = "Tiny"
determinism = "exact"
augment = false
pseudo_label = false
[data]
phantom = {{ source = 2, target = 2, validation = 2 }}
[preprocess]
spacing_mm = [3.0, 3.0, 3.0]
crop = [40, 32]
[translate]
sharpen = false
[segment]
patch = [24, 24, 16]
iterations = 2
[evaluate]
compare = []
"""

TRANSLATOR = """\
print("{name} is imported")
{start}
import os
from pathlib import Path
import numpy as np
from crossmod import Translator, hookimpl


class Odd(Translator):
    def fit(self, source, target, ctx):
        {fit}
        return {{}}

    def translate(self, volumes, state, ctx):
        print("at work")
        for volume in volumes:
            {work}


@hookimpl
def crossmod_stage():
    return Odd
"""

FAULTS = {
    "lost": (
        "yield type(volume).of(volume.data, volume.affine, case='somebody-else')",
        "yielded case 'somebody-else'",
    ),
    "fails": ("raise ValueError('no luck')", "ValueError: no luck"),
    "blank": ("yield volume.with_data(volume.data * np.nan)", "values that are NaN or infinite"),
    "stray": (
        "np.save(os.environ['CROSSMOD_TEST_HOME'] + '/stray', 1)\n            yield volume",
        "writes outside of its folder",
    ),
}
PAINTS = "(ctx.folder / 'panels').mkdir(); (ctx.folder / 'panels' / 'a.png').write_text('x')"
SAYS = "ctx.log('warning: too dark'); ctx.log(f'looked at {volume.case}'); yield volume"
DRAWS = "yield volume.with_data(volume.data * np.random.rand())"
STARTS = {
    "cut": "import nets",
    "broken": "import sys; sys.exit(7)",
    "leaver": "import os; os._exit(0)",
    "handlers": "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
}


class Installed(Tiny):
    """The tiny recipe beside plugins of other people; temporary files have their own folder."""

    @property
    def variables(self) -> dict[str, str]:
        temporary = self.folder / "temporary"
        temporary.mkdir(exist_ok=True)
        return {
            "PYTHONPATH": str(self.folder / "site"),
            "TMPDIR": str(temporary),
            "CROSSMOD_TEST_HOME": str(self.folder),
        }

    def use(self, name: str, code: int = 0) -> str:
        """Run the recipe with a plugin."""
        return self.go("--set", f"translate.gan.use={name}", code=code, **self.variables)

    def stored(self) -> set[str]:
        """The names of the steps in the store."""
        return {digests["step"] for digests in self.digests().values()}


@pytest.fixture(scope="module")
def installed(
    undisturbed: Tiny, tmp_path_factory: pytest.TempPathFactory, install: Callable[..., None]
) -> Installed:
    tiny = Installed(tmp_path_factory.mktemp("plugins"), RECIPE)
    shutil.copytree(undisturbed.store, tiny.store)
    tiny.forget_all_but(*PREPARED)
    site = tiny.folder / "site"
    site.mkdir()
    works = {**{name: work for name, (work, _) in FAULTS.items()}, "draws": DRAWS, "says": SAYS}
    works |= {"ends0": "os._exit(0); yield", "ends5": "os._exit(5); yield"}
    fits = {"paints": PAINTS}
    for name in (*works, *STARTS, *fits):
        work, start = works.get(name, "yield volume"), STARTS.get(name, "")
        code = TRANSLATOR.format(name=name, start=start, work=work, fit=fits.get(name, "pass"))
        install(site, name, code)
    (site / "nets.py").write_text("SIZE = 1\n", encoding="utf-8")
    return tiny


def test_g01_a_broken_plugin_is_listed_beside_the_others(installed: Installed) -> None:
    done = installed("plugins", **installed.variables)
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "is imported" not in done.stdout
    assert "SystemExit: 7" in rows["broken"]
    assert [name for name, row in rows.items() if "broken" in row] == ["broken", "leaver"]
    assert "os._exit(0)" in rows["leaver"]
    said = installed("plugins", "broken", code=4, **installed.variables).stderr
    assert "plugin 'broken' (broken 1.2)" in said
    assert "Traceback" not in said
    assert "plugin 'broken' (broken 1.2)" in installed.use("broken", code=2)
    checked = installed("check", "tiny.toml", "--set", "translate.gan.use=leaver", code=2,
                        **installed.variables)  # fmt: skip
    assert "plugin 'leaver' (leaver 1.2)" in checked.stderr


@pytest.mark.parametrize("name", FAULTS)
def test_g03_g04_a_faulty_translation_is_not_published(name: str, installed: Installed) -> None:
    said = installed.use(name, code=4)
    assert FAULTS[name][1] in " ".join(said.split())
    assert f"plugin '{name}' ({name} 1.2)" in said
    assert "Traceback" not in said
    assert "prepare-source" in installed.stored()
    assert "translate-gan" not in installed.stored()
    assert not list(installed.folder.glob("stray*"))


def test_g03_the_line_of_a_plugin_is_told_and_its_traceback_is_in_the_log(
    installed: Installed,
) -> None:
    said = installed.use("fails", code=4)
    source = installed.folder / "site" / "fails.py"
    code = "raise ValueError('no luck')"
    number = source.read_text(encoding="utf-8").splitlines().index(f"            {code}") + 1
    assert f"{source}:{number}: {code}" in said
    *_, failed = (row for row in installed.result.events() if row["event"] == "failed")
    assert failed["traceback"].startswith("Traceback (most recent call last)")
    assert f'File "{source}", line {number}' in failed["traceback"]
    assert failed["traceback"].rstrip().endswith("ValueError: no luck")


def test_g01_a_plugin_that_the_worker_cannot_import_does_not_hang_the_run(
    installed: Installed,
) -> None:
    arguments = installed.arguments("--set", "translate.gan.use=handlers")
    said = installed.as_installed(*arguments, code=4, **installed.variables).stderr
    assert "the worker died" in said
    assert "plugin 'handlers' (handlers 1.2)" in said


@pytest.mark.parametrize("status", ["0", "5"])
def test_g03_a_plugin_that_ends_the_worker_is_named(status: str, installed: Installed) -> None:
    said = " ".join(installed.use(f"ends{status}", code=4).split())
    assert f"plugin 'ends{status}' (ends{status} 1.2): the worker died (exit code {status})" in said


def test_g03_a_panel_that_is_no_picture_is_left_out(installed: Installed) -> None:
    said = installed.use("paints")
    assert "translate-gan-fit: a: no picture that can be shown" in " ".join(said.split())
    assert "Traceback" not in said
    assert (installed.result.folder / "report.html").exists()


def test_g04_global_random_numbers_are_a_warning_in_the_report(installed: Installed) -> None:
    installed.use("draws")
    words = "plugin 'draws' (draws 1.2) changed numpy's global random numbers"
    warnings = [row["text"] for row in installed.result.events() if row["event"] == "warning"]
    assert [words in warning for warning in warnings].count(True) == 1
    report = (installed.result.folder / "report.html").read_text(encoding="utf-8")
    assert words in report.replace("&#39;", "'")
    assert "translate-gan" in installed.stored()


def test_what_a_plugin_logs_is_in_the_report_of_every_run_that_uses_its_result(
    installed: Installed,
) -> None:
    said = installed.use("says")
    assert "translate-gan: too dark" in said
    for _ in range(2):
        report = (installed.result.folder / "report.html").read_text(encoding="utf-8")
        assert report.count("<li>translate-gan: too dark</li>") == 1
        assert report.count("looked at crossmoda202") == 2
        shutil.rmtree(installed.result.folder)
        installed.use("says")  # finds everything in the store


def test_all_code_of_a_plugin_counts_and_no_version(installed: Installed) -> None:
    installed.use("cut")
    site = installed.folder / "site"

    def to_run() -> str:
        shown = installed.go(
            "--set", "translate.gan.use=cut", "--dry-run", "--force", **installed.variables
        )
        return re.sub(r"\s+", " ", shown)

    assert "Steps: 0 to run" in to_run()
    metadata = site / "cut-1.2.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text("utf-8").replace("1.2", "9.9"), encoding="utf-8")
    assert "Steps: 0 to run" in to_run()
    (site / "nets.py").write_text("SIZE = 2\n", encoding="utf-8")
    changed = to_run()
    assert "Steps: 0 to run" not in changed
    assert "code of plugin cut changed" in changed
