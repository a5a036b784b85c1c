"""Plugins that are broken, old, careless or lying: the message names them, the rest goes on.

Rows G01 to G04 of the fault matrix; `tests/integration/test_plugin_mistakes.py` has whole runs.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crossmod import (
    Case,
    DataError,
    FitOn,
    Options,
    Pair,
    PluginError,
    Prediction,
    RecipeError,
    Translator,
    Volume,
    contract,
    plugins,
    recipe,
)
from crossmod.data import CohortWriter
from crossmod.explain import plugin_rows
from crossmod.guard import guarded
from crossmod.making import Maker
from crossmod.recipe import StageUse
from crossmod.steps import Fit, Step, Translate
from crossmod.steps.files import load_state, save_state
from crossmod.store import Store
from crossmod.tasks import Event, Outcome, Remark, Task
from crossmod.testing import check_stage, small_cohort

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
IMPORTS = (
    "import os, random, signal, sys, threading\nfrom pathlib import Path\nimport numpy as np\n"
)
HEAD = IMPORTS + "from crossmod import *\n"
HOOK = """
@hookimpl
def crossmod_stage():
    return Odd
"""
ODD = """
class Odd(Translator):
    \"\"\"Odd.\"\"\"
    def translate(self, volumes, state, ctx):
        yield from volumes
"""
WHO = r"plugin 'odd' \(odd 1\.2\)"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    forget()
    yield folder
    forget()
    for name in ("odd", "other"):
        sys.modules.pop(name, None)


def forget() -> None:
    plugins._offers.cache_clear()
    plugins.load.cache_clear()


Install = Callable[..., None]

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
    "leave": ("import os; os._exit(0)", r"ends the program by os\._exit\(0\)"),
    "mute": (
        "class Mute(Exception):\n    def __str__(self): 1 / 0\nraise Mute",
        r"Mute: \(its text cannot be made: ZeroDivisionError\)",
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
        plugins.load("odd")
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
    assert plugins.load("odd").kind == "translate"
    assert capsys.readouterr() == ("", "hello\nasked\n")


def test_g01_the_streams_of_the_program_stay_in_place(site: Path, install: Install) -> None:
    install(site, "odd", "import io, sys\nsys.stdout = sys.stderr = io.StringIO()\n1 / 0")
    before = sys.stdout, sys.stderr
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        plugins.load("odd")
    assert (sys.stdout, sys.stderr) == before


def test_g01_processes_that_a_plugin_begins_at_import_may_end(site: Path, install: Install) -> None:
    fork = "import os\nchild = os.fork()\nif not child: os._exit(7)\n"
    wait = "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
    install(site, "odd", f"{fork}{wait}{HEAD}{ODD}{HOOK}")
    leave = os._exit
    assert plugins.load("odd").kind == "translate"
    assert os._exit is leave


def test_g01_ctrl_c_during_an_import_is_heeded(site: Path, install: Install) -> None:
    install(site, "odd", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.load("odd")


# --- G02: metadata and hook ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["twice", "van-cittert"])
def test_g02_a_name_taken_twice_is_broken_alone(name: str, site: Path, install: Install) -> None:
    for module in ("odd", "other"):
        install(site, module, HEAD + ODD + HOOK, f"[crossmod.plugins]\n{name} = {module}\n")
    with pytest.raises(PluginError, match=rf"plugins are called '{name}': .*odd 1\.2") as caught:
        plugins.load(name)
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
    assert plugins.load("odd").kind == "translate"


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
        plugins.load("odd")
    assert caught.match(WHO)


@pytest.mark.parametrize(
    "needed", ["crossmod<0.1", "Crossmod (>=7)", "crossmod<0.1; python_version > '3'"]
)
def test_g02_a_plugin_for_another_crossmod_is_refused(
    needed: str, site: Path, install: Install
) -> None:
    install(site, "odd", HEAD + ODD + HOOK, requires=f"Requires-Dist: {needed}\n")
    with pytest.raises(PluginError, match=r"needs crossmod[<>=0-9.]+, this is 0\.1") as caught:
        plugins.load("odd")
    assert caught.match(WHO)
    assert "odd" not in sys.modules


@pytest.mark.parametrize(
    "needed",
    ["crossmod>=0.1,<2", "crossmod", "numpy>=1", "crossmod>7; extra == 'all'", "not / a [ name"],
)
def test_g02_other_requirements_do_not_matter(needed: str, site: Path, install: Install) -> None:
    install(site, "odd", HEAD + ODD + HOOK, requires=f"Requires-Dist: {needed}\n")
    assert plugins.load("odd").kind == "translate"


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
    assert plugins.load("other").identity["distribution"] == "?"


# --- G03: what a stage gives back ---------------------------------------------------------------

CLASSES = {"tumor": 1}
SHAPE = (1, 4, 5, 6)
P = "plugin 'p' (p 1)"


def volume(data: Any = None, affine: Any = None, case: Any = "a") -> Volume:
    data = np.full(SHAPE, 0.5, np.float32) if data is None else data
    return Volume.of(data, np.eye(4) if affine is None else affine, case=case)


def elsewhere() -> torch.Tensor:
    """A tensor on another device; "meta" is one that every machine has."""
    return torch.zeros(SHAPE, device="meta")


WRONG_VOLUMES = {
    "none": (lambda: None, "yielded None"),
    "array": (lambda: np.zeros(SHAPE), "yielded a ndarray"),
    "tuple": (lambda: ("a", np.zeros(SHAPE)), "yielded a tuple"),
    "device": (lambda: volume(elsewhere()), "data is a Tensor that is no array"),
    "gradient": (lambda: volume(torch.zeros(SHAPE, requires_grad=True)), "data is a Tensor"),
    "bf16": (lambda: volume(torch.zeros(SHAPE, dtype=torch.bfloat16)), "data is a Tensor"),
    "object": (lambda: volume(np.full(SHAPE, None)), "data holds values of type object"),
    "complex": (lambda: volume(np.zeros(SHAPE, complex)), "data holds values of type complex"),
    "text": (lambda: volume(np.full(SHAPE, "x")), "data holds values of type <U1"),
    "ragged": (lambda: volume([[1], [1, 2]]), "data is a list that is no array"),
    "infinite": (lambda: volume(np.full(SHAPE, np.inf)), "120 values that are NaN or infinite"),
    "affine shape": (lambda: volume(affine=np.eye(3)), r"affine of shape \(3, 3\)"),
    "affine NaN": (lambda: volume(affine=np.eye(4) * np.nan), "changed the affine"),
    "affine text": (lambda: volume(affine="RAS"), "affine holds values of type"),
    "case": (lambda: volume(case=7), "yielded an int as case"),
    "other case": (lambda: volume(case="b"), "yielded case 'b'"),
}


@pytest.mark.parametrize("name", WRONG_VOLUMES)
def test_g03_a_translator_that_yields_something_else(name: str) -> None:
    make, words = WRONG_VOLUMES[name]
    with pytest.raises(PluginError, match=words) as caught:
        list(contract.translations([volume()], [make()], P))  # type: ignore[list-item]
    assert P in str(caught.value)


@pytest.mark.parametrize("given", [None, 7, "text", {"a": 1}])
def test_g03_a_stage_that_does_not_yield(given: Any) -> None:
    for check in (
        lambda: contract.translations([volume()], given, P),
        lambda: contract.predictions([volume()], given, CLASSES, P),
        lambda: contract.copies({}, given, CLASSES, P),
        lambda: contract.selections({}, given, CLASSES, P),
    ):
        with pytest.raises(PluginError, match=r"returned|yielded") as caught:
            list(check())  # type: ignore[no-untyped-call]
        assert P in str(caught.value)


def test_g03_images_and_labels_come_out_as_their_types_say() -> None:
    [one] = contract.translations([volume()], [volume(torch.full(SHAPE, 0.5).double())], P)
    assert (type(one.data), one.data.dtype) == (np.ndarray, np.float32)
    shares = np.full((2, *SHAPE[1:]), 0.5, np.float16)
    [guess] = contract.predictions([volume()], [Prediction(volume(), shares)], CLASSES, P)
    assert guess.probabilities.dtype == np.float32


@pytest.mark.parametrize("center", ["../evil<b>\x1b[2J", None, 7])
def test_g03_center_and_patient_are_those_that_were_given(center: Any, tmp_path: Path) -> None:
    given = replace(volume(), center="ldn")
    [one] = contract.translations([given], [replace(volume(), center=center)], P)
    assert one.center == "ldn"
    moved = pair(image=replace(volume(), center=center), patient="P2")
    [chosen] = contract.selections(labeled(tmp_path), [moved], CLASSES, P)
    assert (chosen.center, chosen.patient) == ("etz", "P1")
    copy = replace(moved, patient="P1").copy_as("x", np.zeros(SHAPE, np.float32))
    [added] = contract.copies(labeled(tmp_path / "2"), [copy], CLASSES, P)
    assert (added.case, added.center, added.patient) == ("a+x", "etz", "P1")


@pytest.mark.parametrize(
    "affine", [np.eye(4) + 4 * np.eye(4, k=3), 2 * np.eye(4), np.eye(4) * np.nan]
)
def test_g03_a_prediction_stays_where_its_image_is(affine: Any) -> None:
    shares = np.full((2, *SHAPE[1:]), 0.5, np.float32)
    with pytest.raises(PluginError, match="changed the affine"):
        list(
            contract.predictions(
                [volume()], [Prediction(volume(affine=affine), shares)], CLASSES, P
            )
        )
    given, other = volume(), volume(np.zeros((1, 2, 2, 2), np.float32))
    [guess] = contract.predictions([given], [Prediction(other, shares)], CLASSES, P)
    assert guess.image is given


def test_g03_a_volume_that_is_read_late_is_read_once() -> None:
    reads = []

    def read() -> Any:
        reads.append(1)
        return np.zeros(SHAPE)

    [one] = contract.translations([volume()], [Volume("a", "", np.eye(4), read)], P)
    assert one.data.max() == 0
    assert len(reads) == 1


WRONG_SHARES = {
    "above 1": (np.full((2, *SHAPE[1:]), 1.5), r"probabilities in \[1.5, 1.5\]"),
    "scores": (np.stack([np.full(SHAPE[1:], -3.0), np.full(SHAPE[1:], 4.0)]), r"in \[-3, 4\]"),
    "sum": (np.full((2, *SHAPE[1:]), 0.4), "miss a sum of 1 by 0.2"),
    "NaN": (np.full((2, *SHAPE[1:]), np.nan), "NaN"),
    "classes": (np.full((3, *SHAPE[1:]), 1 / 3), r"probabilities of shape \(3, 4, 5, 6\)"),
    "object": (np.full((2, *SHAPE[1:]), None), "probabilities holds values of type object"),
    "none": (None, "probabilities holds values of type object"),
}


@pytest.mark.parametrize("name", WRONG_SHARES)
def test_g03_a_segmenter_whose_probabilities_are_none(name: str) -> None:
    shares, words = WRONG_SHARES[name]
    guess = Prediction(volume(), shares)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match=words) as caught:
        list(contract.predictions([volume()], [guess], CLASSES, P))
    assert f"{P}, case a" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_g03_probabilities_in_half_precision_are_near_enough(dtype: torch.dtype) -> None:
    scores = 8 * torch.randn(2, 40, 40, 40, generator=torch.Generator().manual_seed(0))
    shares = scores.to(dtype).softmax(0).float().numpy()
    image = volume(np.zeros((1, 40, 40, 40), np.float32))
    found = contract.predictions([image], [Prediction(image, shares)], CLASSES, P)
    assert len(list(found)) == 1


def labeled(folder: Path) -> dict[str, Case]:
    writer = CohortWriter(folder, CLASSES)
    image = replace(volume(), center="etz")
    writer.add(image, labels=np.ones(SHAPE[1:], np.uint8), patient="P1")
    return {case.case: case for case in writer.close().cases}


def pair(labels: Any = None, case: str = "a", patient: str = "P1", image: Any = None) -> Pair:
    labels = np.ones(SHAPE[1:], np.uint8) if labels is None else labels
    return Pair(volume(case=case) if image is None else image, labels, patient)


WRONG_PAIRS = {
    "float labels": (pair(np.ones(SHAPE[1:])), "labels holds values of type float64"),
    "unknown labels": (pair(np.full(SHAPE[1:], 300)), r"labels \[300\]"),
    "negative labels": (pair(np.full(SHAPE[1:], -1)), r"labels \[-1\]"),
    "shape of labels": (pair(np.ones((2, 2, 2), int)), r"labels of shape \(2, 2, 2\)"),
    "no labels": (pair(labels="none"), "labels holds values of type"),
    "no image": (pair(image=np.ones(3)), "as image of a Pair"),
    "NaN": (pair(image=volume(np.full(SHAPE, np.nan))), "NaN"),
}


@pytest.mark.parametrize("name", WRONG_PAIRS)
def test_g03_pairs_that_are_none(name: str, tmp_path: Path) -> None:
    wrong, words = WRONG_PAIRS[name]
    with pytest.raises(PluginError, match=words):
        list(contract.selections(labeled(tmp_path), [wrong], CLASSES, P))


@pytest.mark.parametrize("suffix", ["../x", "a/b", "x\x00y", "x\ny", "a\\b", "x" * 300, "x."])
def test_g03_a_copy_whose_name_cannot_be_one_of_a_file(suffix: str, tmp_path: Path) -> None:
    copy = pair().copy_as(suffix, np.zeros(SHAPE, np.float32))
    with pytest.raises(PluginError, match="cannot be a case id"):
        list(contract.copies(labeled(tmp_path), [copy], CLASSES, P))


def test_g03_copies_belong_to_their_patient_and_selections_come_once(tmp_path: Path) -> None:
    stranger = pair(patient="P2").copy_as("x", np.zeros(SHAPE, np.float32))
    with pytest.raises(PluginError, match="yielded patient 'P2'"):
        list(contract.copies(labeled(tmp_path), [stranger], CLASSES, P))
    with pytest.raises(PluginError, match="twice"):
        list(contract.selections(labeled(tmp_path), [pair(), pair()], CLASSES, P))


WRONG_STATES: dict[str, tuple[Any, str]] = {
    "none": (None, "fit returned None"),
    "list": ([np.zeros(2)], "fit returned a list"),
    "names": ({3: np.zeros(2)}, "an array called 3"),
    "object": ({"network": object()}, "'network' holds values of type object"),
    "device": ({"w": torch.zeros(2, device="meta")}, "'w' is a Tensor that is no array"),
    "NaN": ({"w": np.array([np.nan])}, "1 of 1 learned arrays hold NaN"),
    "complex": ({"w": np.ones(2, complex)}, "'w' holds values of type complex128"),
    "long": ({"w": np.ones(2, np.longdouble)}, "'w' holds values of type float128"),
    "surrogate": ({"\udcff": np.zeros(2)}, r"an array called '\\udcff'"),
    "reserved": ({"__metadata__": np.zeros(2)}, "an array called '__metadata__'"),
}


@pytest.mark.parametrize("name", WRONG_STATES)
def test_g03_a_state_that_cannot_be_stored(name: str) -> None:
    state, words = WRONG_STATES[name]
    with pytest.raises(PluginError, match=words) as caught:
        contract.learned(state, P)
    assert P in str(caught.value)


@pytest.mark.parametrize("learned", [np.float32(3), 4, True, np.ones((2, 3)).T, np.ones((0, 3))])
def test_g03_a_state_comes_back_as_it_was(learned: Any, tmp_path: Path) -> None:
    save_state(tmp_path, contract.learned({"w": learned}, P))
    found = load_state(tmp_path)["w"]
    assert (found.shape, found.dtype) == (np.shape(learned), np.asarray(learned).dtype)
    assert np.array_equal(found, learned)


@pytest.mark.parametrize("done", [None, 1, 0.5, "yes", np.zeros(2)])
def test_g03_a_pseudo_labeler_says_whether_it_is_done(done: Any) -> None:
    with pytest.raises(PluginError, match="done returned"):
        contract.decision(done, P)
    assert contract.decision(np.True_, P) is True


# --- G03 and G04 in the making of a step --------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Given(Step):
    """A small cohort."""

    labeled: bool

    @property
    def inputs(self) -> tuple[Step, ...]:
        return ()

    @property
    def settings(self) -> dict[str, Any]:
        return {"labeled": self.labeled}

    def make(self, folder_of: Any, ctx: Any) -> None:
        small_cohort(ctx.folder, labeled=self.labeled)


class Bench:
    """A translator and the store it works for; temporary files have a folder of their own."""

    def __init__(self, folder: Path, site: Path, install: Install) -> None:
        self.folder, self.site, self.install = folder, site, install
        self.store = Store(folder / "store")
        self.told: list[Event] = []
        self.fit: Fit
        self.translate: Translate

    def offer(self, body: str, fit: str = "return {}") -> None:
        """Install a translator with the lines of its two methods."""
        code = (
            f"{HEAD}OUT = Path({str(self.folder)!r})\nclass Odd(Translator):\n"
            f"    def fit(self, source, target, ctx):\n        {fit}\n"
            "    def translate(self, volumes, state, ctx):\n"
            + "".join(f"        {line}\n" for line in body.splitlines())
        )
        self.install(self.site, "odd", code + HOOK)
        plugin = plugins.load("odd")
        use = StageUse("translate-odd", plugin, plugin.stage.options_type())
        source, target = Given(name="source", labeled=True), Given(name="target", labeled=False)
        self.fit = Fit(
            name="fit-odd", seed=5, use=use, labeled=(source,), target=target, fit_on=FitOn()
        )
        self.translate = Translate(name="odd", seed=5, use=use, fit=self.fit, source=source)
        for step in (source, target):
            assert self.make(step).error is None

    def make(self, step: Step) -> Outcome:
        task = Task(step.key, step, self.store.folder, {"tumor": 1, "cochlea": 2})
        return Maker(task, self.told.append).outcome()

    def run(self) -> Outcome:
        """Make both steps; the outcome of the first that fails, else of the last."""
        done = self.make(self.fit)
        return done if done.error else self.make(self.translate)

    def refused(self) -> str:
        """Run, and return the message; nothing may be published."""
        done = self.run()
        assert isinstance(done.error, PluginError), done
        assert "plugin 'odd' (odd 1.2)" in str(done.error)
        assert type(done.error) is PluginError
        assert str(pickle.loads(pickle.dumps(done.error))) == str(done.error)
        assert self.store.manifest(done.key) is None
        assert not list(self.store.path(done.key).parent.glob(f"*{done.key}*"))
        return str(done.error)

    def warnings(self) -> list[str]:
        return [one.text for one in self.told if isinstance(one, Remark) and one.warning]


@pytest.fixture
def bench(tmp_path: Path, site: Path, install: Install, monkeypatch: pytest.MonkeyPatch) -> Bench:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Bench(tmp_path, site, install)


FAILING_WORK = {
    "raises": ("for v in volumes:\n    raise ValueError('no luck')\n    yield v",
               "case case-0: ValueError: no luck"),
    "forgets to yield": ("[v for v in volumes]", "returned None"),
    "reads late": ("for v in volumes:\n"
                   "    yield Volume(v.case, v.center, v.affine, lambda: 1 / 0)",
                   "case case-0: ZeroDivisionError"),
    "NaN": ("for v in volumes:\n    yield v.with_data(v.data * np.nan)", "NaN or infinite"),
    "case": ("for v in volumes:\n    yield Volume.of(v.data, v.affine, case='z')", "case 'z'"),
    "exit": ("sys.exit(0)\nyield", "tries to end the program: SystemExit: 0"),
    "base": ("import asyncio\nraise asyncio.CancelledError\nyield", "tries to end the program"),
    "recursion": ("f = lambda: f()\nf()\nyield", "RecursionError"),
    "mute": ("class Mute(Exception):\n    def __str__(self): 1 / 0\nraise Mute\nyield",
             "Mute: (its text cannot be made: ZeroDivisionError)"),
    "mute out of memory": ("class Mute(RuntimeError):\n    def __str__(self): 1 / 0\n"
                           "raise Mute\nyield", "Mute: (its text"),
    "own class": ("class Mine(PluginError):\n    def __init__(self, a, b):\n"
                  "        super().__init__('is mine')\nraise Mine(1, 2)\nyield", "is mine"),
    "no words": ("class Mine(PluginError):\n    def __init__(self): pass\nraise Mine\nyield",
                 "case case-0: Mine"),
    "link": ("(ctx.folder / 'w').symlink_to(OUT)\nyield from volumes", "'w' in its folder is a"),
    "dead link": ("(ctx.folder / 'w').symlink_to('gone')\nyield from volumes", "is a link"),
    "fifo": ("os.mkfifo(ctx.folder / 'w')\nyield from volumes", "'w' in its folder is no file"),
    "manifest": ("(ctx.folder / 'manifest.json').write_text('{}')\nyield from volumes",
                 "'manifest.json' in its folder has a name that the store needs"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING_WORK)
def test_g03_a_step_that_fails_publishes_nothing(name: str, bench: Bench) -> None:
    body, words = FAILING_WORK[name]
    bench.offer(body)
    assert words in bench.refused()


def test_g03_an_error_of_a_kind_that_we_know_names_the_plugin_too(bench: Bench) -> None:
    bench.offer("for v in volumes:\n    raise DataError('bad thing')\n    yield v")
    error = bench.run().error
    assert isinstance(error, DataError)
    assert str(error) == "step odd, plugin 'odd' (odd 1.2), case case-0: bad thing"


def test_g04_a_file_that_a_plugin_links_to_stays_writable(bench: Bench) -> None:
    precious = bench.folder / "weights.pt"
    precious.write_text("x")
    precious.chmod(0o640)
    bench.offer("(ctx.folder / 'w').symlink_to(OUT / 'weights.pt')\nyield from volumes")
    assert "'w' in its folder is a link" in bench.refused()
    assert precious.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ("pass", "fit returned None"),
        ("return {'w': np.array([np.inf])}", "1 of 1 learned arrays"),
        ("return {'w': 'weights.pt'}", "'w' holds values of type <U10"),
    ],
)
def test_g03_a_training_that_gives_no_arrays_publishes_nothing(
    fit: str, words: str, bench: Bench
) -> None:
    bench.offer("yield from volumes", fit)
    assert words in bench.refused()


# --- G04: files ---------------------------------------------------------------------------------

MISPLACED = {
    "write": "(OUT / 'stray').write_text('x')",
    "append": "open(OUT / 'stray', 'a')",
    "update": "open(OUT / 'precious', 'r+')",
    "array": "np.save(OUT / 'stray', np.zeros(2))",
    "low": "os.open(OUT / 'stray', os.O_WRONLY | os.O_CREAT)",
    "bytes": "open(os.fsencode(OUT / 'stray'), 'wb')",
    "relative": "os.chdir(OUT); open('stray', 'w')",
    "dots": "open(ctx.folder / '../../../stray', 'w')",
    "link": "(ctx.folder / 'x').symlink_to(OUT / 'precious'); open(ctx.folder / 'x', 'w')",
    "mkdir": "(OUT / 'stray').mkdir()",
    "remove": "(OUT / 'precious').unlink()",
    "rename away": "(OUT / 'precious').rename(ctx.folder / 'mine')",
    "rename to": "(ctx.folder / 'x').write_text(''); (ctx.folder / 'x').rename(OUT / 'stray')",
    "symlink": "(OUT / 'stray').symlink_to(ctx.folder)",
    "hard link": "(ctx.folder / 'x').touch(); os.link(ctx.folder / 'x', OUT / 'stray')",
    "truncate": "os.truncate(OUT / 'precious', 0)",
    "chmod": "(OUT / 'precious').chmod(0)",
    "link chmod": "(ctx.folder / 'x').symlink_to(OUT / 'precious'); (ctx.folder / 'x').chmod(0)",
    "link truncate": "os.chdir(ctx.folder); os.symlink(OUT / 'precious', 'x'); os.truncate('x', 0)",
    "second name": "os.link(OUT / 'precious', ctx.folder / 'x')",
    "proc": "os.chdir(ctx.folder.parent); open('/proc/self/cwd/../../stray', 'w')",
    "name like a cache": "(OUT / 'my__pycache__').touch()",
    "cache in the store": "(OUT / 'store' / '__pycache__').mkdir()",
    "no cache": "(OUT / 'folder' / '__pycache__' / 'stray').touch()",
    "database": "import sqlite3; sqlite3.connect(OUT / 'stray')",
    "database address": "import sqlite3; sqlite3.connect(f'file:{OUT}/stray?mode=rwc', uri=True)",
    "owner": "os.chown(OUT / 'precious', os.getuid(), os.getgid())",
    "times": "os.utime(OUT / 'precious', (0, 0))",
    "attribute": "os.setxattr(OUT / 'precious', 'user.x', b'1')",
    "attribute removed": "os.removexattr(OUT / 'precious', 'user.x')",
    "unlink at": "os.unlink('precious', dir_fd=os.open(OUT, os.O_RDONLY))",
    "mkdir at": "os.mkdir('stray', dir_fd=os.open(OUT, os.O_RDONLY))",
    "rename at": "os.rename('precious', 'stray', src_dir_fd=os.open(OUT, os.O_RDONLY))",
    "tree": "import shutil; shutil.rmtree(OUT / 'folder')",
    "move": "import shutil; shutil.move(OUT / 'folder', ctx.folder / 'mine')",
    "input": "next(OUT.glob('store/??/*/images/*.nii')).unlink()",
    "lock": "(OUT / 'store' / 'locks' / 'mine').touch()",
    "thread": "t = threading.Thread(target=(OUT / 'stray').touch); t.start(); t.join()",
}


@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
@pytest.mark.parametrize("name", MISPLACED)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_g04_writing_elsewhere_is_refused_before_it_happens(
    name: str, swallowed: bool, bench: Bench
) -> None:
    (bench.folder / "folder").mkdir()
    (bench.folder / "folder" / "file").touch()
    (bench.folder / "precious").write_text("x")
    before = (bench.folder / "precious").stat()
    work = MISPLACED[name]
    body = f"try:\n    {work}\nexcept Exception:\n    pass" if swallowed else work
    bench.offer(f"{body}\nyield from volumes")
    names = {path.name for path in bench.folder.iterdir()} | {"store"}
    said = bench.refused()
    assert "writes outside of its folder" in said
    assert "ctx.folder" in said
    assert {path.name for path in bench.folder.iterdir()} == names
    assert (bench.folder / "precious").read_text() == "x"
    after = (bench.folder / "precious").stat()
    for field in ("st_mode", "st_mtime_ns", "st_nlink"):
        assert getattr(after, field) == getattr(before, field)
    assert (bench.folder / "folder" / "file").exists()
    for step in (bench.translate.source, bench.fit):
        assert not bench.store.damaged(step.key)


ALLOWED = """
import shutil, sqlite3, subprocess, tempfile
(ctx.folder / 'deep' / 'down').mkdir(parents=True)
(ctx.folder / 'deep' / 'down' / 'x').write_text('x')
shutil.rmtree(ctx.folder / 'deep')
ctx.panel('one', [[np.zeros((8, 8))]])
with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as file:
    np.save(Path(folder) / 'x', np.zeros(3))
    np.memmap(Path(folder) / 'm', mode='w+', shape=9)
    file.write(b'x')
(Path(os.environ['XDG_CACHE_HOME']) / 'library').mkdir(parents=True)
(Path(os.environ['XDG_CACHE_HOME']) / 'library' / 'x').touch()
OUT.mkdir(exist_ok=True)
(OUT / '__pycache__').mkdir()
(OUT / '__pycache__' / 'm.cpython-311.pyc.1234').touch()
(ctx.folder / 'mine').touch()
os.link(ctx.folder / 'mine', ctx.folder / 'same')
sqlite3.connect(ctx.folder / 'data').close()
sqlite3.connect(':memory:').close()
sqlite3.connect(f"file:{ctx.folder / 'data'}?mode=ro", uri=True).close()
sqlite3.connect('file::memory:?cache=shared', uri=True).close()
sys.path.append('/library/_vendor')
sys.setrecursionlimit(2000)
threading.Thread(target=threading.Event().wait, daemon=True).start()
from concurrent.futures import ThreadPoolExecutor
self.pool = ThreadPoolExecutor(1)
self.pool.submit(print).result()
Path(os.devnull).write_text('x')
(OUT / 'precious').read_text()
print('x', flush=True)
subprocess.run(['true'])
import wave
yield from volumes
"""


def test_g04_what_plugins_need_to_write_they_may(bench: Bench) -> None:
    (bench.folder / "precious").write_text("x")
    limit = sys.getrecursionlimit()
    bench.offer(ALLOWED)
    done = bench.run()
    assert done.error is None, done.traceback
    assert bench.warnings() == []
    assert (bench.store.path(done.key) / "panels" / "one.png").exists()
    assert "/library/_vendor" in sys.path
    sys.path.remove("/library/_vendor")
    sys.setrecursionlimit(limit)


def test_g04_the_store_is_closed_even_among_temporary_files(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(bench.folder))
    bench.offer("(OUT / 'store' / 'stray').touch()\nyield from volumes")
    assert "writes outside" in bench.refused()


def test_g04_the_core_writes_where_it_must(bench: Bench) -> None:
    """Events may go into a file, and a thread may keep a lock alive, while a plugin works."""
    bench.offer("import time\nctx.log('x')\ntime.sleep(0.2)\nyield from ctx.progress(volumes)")
    diary, ended = bench.folder / "diary", threading.Event()

    def beat() -> None:
        while not ended.wait(0.01):
            (bench.folder / "heartbeat").write_text("alive")

    def note(event: Event) -> None:
        with diary.open("a") as file:
            file.write(f"{event}\n")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        for step in (bench.fit, bench.translate):
            task = Task(step.key, step, bench.store.folder, {"tumor": 1}, shared=True)
            done = Maker(task, note).outcome()
            assert done.error is None, done.traceback
    finally:
        ended.set()
        thread.join()
    assert diary.read_text().count("Remark") == 1


def test_g04_nothing_is_watched_afterwards(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    with guarded(P, 0, (own,), tmp_path, lambda text: None):
        (own / "x").touch()
    (tmp_path / "x").touch()


def test_g04_threads_that_go_on_are_named(bench: Bench) -> None:
    bench.offer(
        "import time\ndef late():\n    while ctx.folder.exists(): time.sleep(0.01)\n"
        "threading.Thread(target=late, name='late').start()\nyield from volumes"
    )
    done = bench.run()
    assert done.error is None, done.traceback
    assert bench.warnings() == ["odd: plugin 'odd' (odd 1.2) left threads at work: late"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_g04_a_thread_of_an_earlier_plugin_is_watched_and_the_next_one_not_blamed(
    tmp_path: Path,
) -> None:
    own, go = tmp_path / "own", threading.Event()
    own.mkdir()

    def late() -> None:
        go.wait()
        (tmp_path / "stray").touch()

    thread = threading.Thread(target=late, daemon=True)
    with guarded(P, 0, (own,), tmp_path, lambda text: None):
        thread.start()
    with guarded("plugin 'q' (q 1)", 0, (own,), tmp_path, lambda text: None):
        go.set()
        thread.join()
    assert not (tmp_path / "stray").exists()


# --- G04: the process ---------------------------------------------------------------------------


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


SHARED: dict[str, tuple[str, Callable[[], Any]]] = {
    "Python's global random numbers": ("random.random()", random.getstate),
    "numpy's global random numbers": (
        "np.random.seed(1)",
        lambda: [*map(str, np.random.get_state())],
    ),
    "numpy's treatment of errors": ("np.seterr(all='ignore')", np.geterr),
    "the working folder": ("os.chdir('/')", Path.cwd),
    "environment variables": (
        "os.environ['XDG_CACHE_HOME'] = '/x'; os.environ['ODD'] = '1'",
        lambda: dict(os.environ),
    ),
    "what SIGTERM does": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        lambda: signal.getsignal(signal.SIGTERM),
    ),
    "the rights of new files": ("os.umask(0o027)", umask),
    "where Python finds modules": ("sys.path.insert(0, '/x')", lambda: list(sys.path)),
    "the recursion limit": (
        "sys.setrecursionlimit(sys.getrecursionlimit() + 500)",
        sys.getrecursionlimit,
    ),
    "torch's default device": ("torch.set_default_device('meta')", torch.get_default_device),
    "torch's precision of products": (
        "torch.set_float32_matmul_precision('medium')",
        torch.get_float32_matmul_precision,
    ),
    "torch's number of threads": (
        "torch.set_num_threads(torch.get_num_threads() + 1)",
        torch.get_num_threads,
    ),
    "torch's default type": ("torch.set_default_dtype(torch.float64)", torch.get_default_dtype),
    "whether torch keeps gradients": ("torch.set_grad_enabled(False)", torch.is_grad_enabled),
    "whether torch is deterministic": (
        "torch.use_deterministic_algorithms(False)",
        torch.are_deterministic_algorithms_enabled,
    ),
}


def test_g04_a_precision_of_one_device_is_put_back_too(bench: Bench) -> None:
    bench.offer(
        "import torch\ntorch.backends.mkldnn.matmul.fp32_precision = 'bf16'\nyield from volumes"
    )
    done = bench.run()
    assert done.error is None, done.traceback
    assert torch.get_float32_matmul_precision() == "highest"
    torch.backends.mkldnn.matmul.fp32_precision = "none"  # type: ignore[assignment]


@pytest.mark.parametrize("name", SHARED)
def test_g04_what_steps_share_is_put_back_with_a_warning(name: str, bench: Bench) -> None:
    change, state = SHARED[name]
    bench.offer(f"import torch\n{change}\nyield from volumes")
    assert bench.make(bench.fit).error is None
    before = state()
    done = bench.make(bench.translate)
    assert done.error is None, done.traceback
    assert state() == before
    [warning] = bench.warnings()
    assert f"odd: plugin 'odd' (odd 1.2) changed {name}" in warning


def test_g04_it_is_put_back_after_a_failure_too(bench: Bench) -> None:
    bench.offer("os.chdir('/')\nraise ValueError\nyield")
    before = Path.cwd()
    assert "ValueError" in bench.refused()
    assert Path.cwd() == before
    assert "the working folder" in bench.warnings()[0]


def test_g04_torch_may_draw_random_numbers(bench: Bench) -> None:
    bench.offer("import torch\ntorch.rand(3)\nyield from volumes")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert bench.run().error is None
    assert torch.equal(torch.get_rng_state(), before)
    assert bench.warnings() == []


def test_g04_global_random_numbers_do_not_depend_on_what_ran_before(bench: Bench) -> None:
    bench.offer(
        "import torch\n"
        "drawn = np.random.rand() / 4 + random.random() / 4 + torch.rand(1).item() / 4\n"
        "for v in volumes:\n    yield v.with_data(np.full_like(v.data, drawn))"
    )
    contents = []
    for number in (1, 2):
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        assert bench.run().error is None
        folder = bench.store.path(bench.translate.key)
        contents.append((folder / "images" / "case-0.nii").read_bytes())
        bench.store.quarantine(bench.translate.key)
    assert contents[0] == contents[1]


# --- the contract suite of authors finds the same -----------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("(OUT / 'stray').touch()\nyield from volumes", "writes outside of its folder"),
        ("np.random.rand()\nyield from volumes", "changed numpy's global random numbers"),
        ("for v in volumes:\n    yield v.with_data(v.data + np.nan)", "NaN"),
        ("return None", "returned None"),
        ("sys.exit()\nyield", "tries to end the program"),
        ("(ctx.folder / 'x').symlink_to(OUT)\nyield from volumes", "'x' in its folder is a link"),
        ("threading.Timer(2, print).start()\nyield from volumes", "left threads at work"),
    ],
)
def test_g04_check_stage_finds_it(body: str, words: str, bench: Bench, tmp_path: Path) -> None:
    bench.offer(body)
    (tmp_path / "check").mkdir()
    with pytest.raises(PluginError, match=words):
        check_stage(plugins.load("odd").stage(), tmp_path / "check")


def test_check_stage_hands_on_what_is_stored(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Learns(Translator[Options]):
        def fit(self, source: Any, target: Any, ctx: Any) -> Any:
            return {"w": np.ones(2, ">f4")}

        def translate(self, volumes: Any, state: Any, ctx: Any) -> Any:
            seen.append(state["w"].dtype.byteorder)
            yield from volumes

    check_stage(Learns(), tmp_path)
    assert seen == ["=", "="]
