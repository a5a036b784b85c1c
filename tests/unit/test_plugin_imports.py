"""Plugins that cannot be imported, are old or offered wrongly: they break alone.

Rows G01 and G02 of the fault matrix.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from odd_plugin import HEAD, HOOK, ODD, SMOKE, WHO, Install, forget

from crossmod import (
    PluginError,
    RecipeError,
)
from crossmod.recipe import load as recipe
from crossmod.stages import find
from crossmod.stages.explain import plugin_rows

# --- G01: it cannot be imported -----------------------------------------------------------------

FAILING_IMPORTS = {
    "missing": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "syntax": ("def f(:\n    pass", "SyntaxError"),
    "exit": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "silent-exit": ("raise SystemExit", "SystemExit"),
    "base": ("class Halt(BaseException): pass\nraise Halt('no more')", "Halt: no more"),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
    "lines": ("raise ValueError('one\\n  two [/red]')", r"ValueError: one two \[/red\]"),
    "ours": (HEAD + "raise PluginError('something')", "PluginError: something"),
    "hook": (HEAD + "@hookimpl\ndef crossmod_stage(): 1 / 0", "ZeroDivisionError"),
    "leave": ("import os; os._exit(0)", r"ends the program with os\._exit\(0\)"),
    "mute": (
        "class Mute(Exception):\n    def __str__(self): 1 / 0\nraise Mute",
        r"Mute: \(str\(\) of it raised ZeroDivisionError\)",
    ),
    "hook-exit": (HEAD + "@hookimpl\ndef crossmod_stage(): sys.exit()", "SystemExit"),
}


@pytest.mark.parametrize("name", FAILING_IMPORTS)
def test_g01_a_plugin_that_cannot_be_imported_breaks_itself_only(
    name: str, site: Path, install: Install
) -> None:
    code, words = FAILING_IMPORTS[name]
    install(site, "odd", code)
    with pytest.raises(PluginError, match=words) as caught:
        find.load("odd")
    assert caught.match(WHO)
    rows = {row[0]: row for row in plugin_rows()}
    assert rows["odd"][1:4] == ("broken", "odd", "1.2")
    assert [row[0] for row in rows.values() if row[1] == "broken"] == ["odd"]
    assert recipe.load(SMOKE)  # does not need it
    with pytest.raises(RecipeError, match=WHO) as refused:
        recipe.load(SMOKE, ["translate.gan.use=odd"])
    assert refused.match(words)


def test_g01_what_a_plugin_prints_does_not_mix_with_results(
    site: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = HOOK.replace("return", "print('asked')\n    return")
    install(site, "odd", f"print('hello')\n{HEAD}{ODD}{hook}")
    assert find.load("odd").kind == "translate"
    assert capsys.readouterr() == ("", "hello\nasked\n")


def test_g01_the_streams_of_the_program_stay_in_place(site: Path, install: Install) -> None:
    install(site, "odd", "import io, sys\nsys.stdout = sys.stderr = io.StringIO()\n1 / 0")
    before = sys.stdout, sys.stderr
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        find.load("odd")
    assert (sys.stdout, sys.stderr) == before


def test_g01_processes_that_a_plugin_begins_at_import_may_end(site: Path, install: Install) -> None:
    fork = "import os\nchild = os.fork()\nif not child: os._exit(7)\n"
    wait = "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
    install(site, "odd", f"{fork}{wait}{HEAD}{ODD}{HOOK}")
    leave = os._exit
    assert find.load("odd").kind == "translate"
    assert os._exit is leave


def test_g01_ctrl_c_during_an_import_is_heeded(site: Path, install: Install) -> None:
    install(site, "odd", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        find.load("odd")


# --- G02: metadata and hook ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["twice", "van-cittert"])
def test_g02_a_name_taken_twice_is_broken_alone(name: str, site: Path, install: Install) -> None:
    for module in ("odd", "other"):
        install(site, module, HEAD + ODD + HOOK, f"[crossmod.plugins]\n{name} = {module}\n")
    with pytest.raises(PluginError, match=rf"plugins are called '{name}': .*odd 1\.2") as caught:
        find.load(name)
    assert caught.match(r"other 1\.2")
    assert caught.match("uninstall")
    rows = {row[0]: row for row in plugin_rows()}
    assert [row[0] for row in rows.values() if row[1] == "broken"] == [name]
    assert "uninstall" in rows[name][4]


def test_g02_the_same_distribution_twice_on_the_path_is_one(
    site: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = site / "further"
    further.mkdir()
    install(further, "odd", "1 / 0", "[crossmod.plugins]\nodd = odd_old\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(further)])
    install(site, "odd", HEAD + ODD + HOOK)
    assert find.load("odd").kind == "translate"


WRONG_HOOKS = {
    "argument": (HEAD + ODD + HOOK.replace("stage()", "stage(ctx)"), r"crossmod_stage\(ctx\)"),
    "unknown": (HEAD + ODD + HOOK.replace("stage", "stages"), "unknown hook 'crossmod_stages'"),
    "none": (HEAD + ODD, "does not implement the hook crossmod_stage"),
    "several": (HEAD + ODD + HOOK.replace("Odd", "[Odd, Odd]"), "crossmod_stage returned"),
    "instance": (HEAD + ODD + HOOK.replace("Odd", "Odd()"), "crossmod_stage returned"),
    "two kinds": (
        HEAD + ODD.replace("Translator", "Translator, Segmenter") + HOOK,
        "subclass of one of",
    ),
    "abstract": (HEAD + "class Odd(Translator): pass" + HOOK, "does not implement translate"),
    "options": (HEAD + ODD.replace("Translator", "Translator[int]") + HOOK, "options of type"),
}


@pytest.mark.parametrize("name", WRONG_HOOKS)
def test_g02_a_wrong_hook_is_named_with_its_plugin(name: str, site: Path, install: Install) -> None:
    code, words = WRONG_HOOKS[name]
    install(site, "odd", code)
    with pytest.raises(PluginError, match=words) as caught:
        find.load("odd")
    assert caught.match(WHO)


@pytest.mark.parametrize(
    "needed", ["crossmod<0.1", "Crossmod (>=7)", "crossmod<0.1; python_version > '3'"]
)
def test_g02_a_plugin_for_another_crossmod_is_refused(
    needed: str, site: Path, install: Install
) -> None:
    install(site, "odd", HEAD + ODD + HOOK, requires=f"Requires-Dist: {needed}\n")
    with pytest.raises(PluginError, match=r"needs crossmod[<>=0-9.]+, this is 0\.1") as caught:
        find.load("odd")
    assert caught.match(WHO)
    assert "odd" not in sys.modules


@pytest.mark.parametrize(
    "needed",
    ["crossmod>=0.1,<2", "crossmod", "numpy>=1", "crossmod>7; extra == 'all'", "not / a [ name"],
)
def test_g02_other_requirements_do_not_matter(needed: str, site: Path, install: Install) -> None:
    install(site, "odd", HEAD + ODD + HOOK, requires=f"Requires-Dist: {needed}\n")
    assert find.load("odd").kind == "translate"


def test_g02_broken_metadata_harm_nobody_else(site: Path, install: Install) -> None:
    install(site, "odd", HEAD + ODD + HOOK, "[crossmod.plugins]\nno equals sign\n")
    install(site, "other", HEAD + ODD + HOOK)
    (site / "other-1.2.dist-info" / "METADATA").write_bytes(b"\xff\xfe")
    install(site, "alien", "", "[something.else]\n???\n")
    rows = {row[0]: row for row in plugin_rows()}
    assert rows["odd"][1:4] == ("broken", "odd", "1.2")
    assert "entry_points.txt" in rows["odd"][4]
    assert rows["other"][1:4] == ("translate", "?", "?")
    assert "alien" not in rows
    (site / "other-1.2.dist-info" / "METADATA").unlink()
    forget()
    assert find.load("other").identity["distribution"] == "?"
