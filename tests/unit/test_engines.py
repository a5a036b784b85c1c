"""Engines come through entry points; the profile checks the options of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from odd_plugin import Install

import crossmod
from crossmod import MachineError, Options, PluginError, RecipeError, engines
from crossmod.engines import Engine, Machine, Store, door
from crossmod.engines.local import Local, LocalOptions
from crossmod.engines.profile import VARIABLE, open_engine, read_profile
from crossmod.stages.explain import option_rows

OWN = {"local", "ray", "slurm"}
ENGINE = """
from crossmod import MachineError, Options, Size
from crossmod.engines import Engine


class OddOptions(Options):
    size: Size = 3


class Odd(Engine[OddOptions]):
    \"\"\"Makes nothing.\"\"\"
    on_shared_disk = True
    def takes(self, task, beside=()): return False
    def submit(self, tasks): pass
    def wait(self, seconds): return []
    def stop(self): pass
    def close(self): pass
"""
ENTRY = "[crossmod.engines]\nodd = odd:Odd\n"


def offer(site: Path, install: Install, code: str = ENGINE, entry: str = ENTRY) -> None:
    install(site, "odd", code, entry)


def profile(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path | None, **given: str) -> str:
    with pytest.raises(RecipeError) as refused:
        read_profile(path, **given)  # type: ignore[arg-type]
    return str(refused.value)


def test_the_own_engines_come_through_entry_points() -> None:
    assert door.available().keys() >= OWN
    assert all(issubclass(door.load(name), Engine) for name in OWN)
    assert door.load("local") is Local


def test_the_core_names_no_engine_but_its_own() -> None:
    for path in Path(crossmod.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8").lower()
        assert not [name for name in OWN - {"local"} if f'"{name}"' in text], path


def test_loading_every_engine_imports_neither_torch_nor_their_programs() -> None:
    code = (
        "import sys; from crossmod.engines import door; "
        "[door.load(name) for name in door.available()]; "
        "assert sys.modules.keys().isdisjoint({'torch', 'monai', 'ray', 'submitit'})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_option_of_every_engine_is_explained() -> None:
    for name in OWN:
        rows = option_rows(door.load(name).options_type)
        assert rows, name
        assert not [key for key, _, _, meaning in rows if not meaning], name
    assert all(row[1] == "engine" and row[4] for row in door.engine_rows() if row[0] in OWN)


def test_the_page_explains_every_public_name() -> None:
    page = Path(crossmod.__file__).parents[1] / "docs" / "how-to" / "write-an-engine.md"
    table = page.read_text(encoding="utf-8").partition("## What you may import")[2]
    assert not [name for name in engines.__all__ if f"`{name}" not in table]


def test_each_readme_of_an_engine_names_every_option() -> None:
    for name in OWN - {"local"}:
        folder = Path(crossmod.__file__).parents[1] / "plugins" / f"crossmod_{name}"
        readme = (folder / "README.md").read_text(encoding="utf-8")
        missing = [
            key for key, *_ in option_rows(door.load(name).options_type) if f"`{key}`" not in readme
        ]
        assert not missing, name


def test_an_engine_that_somebody_else_wrote_is_opened_with_its_options(
    site: Path, install: Install, tmp_path: Path
) -> None:
    offer(site, install)
    text = 'engine = "odd"\ncheckpoint_minutes = 2\n[odd]\nsize = 4\n'
    read, store, machine = read_profile(profile(tmp_path, text)), Store(tmp_path / "s"), Machine()
    engine = open_engine(read, store, machine)
    assert (type(engine).__name__, engine.store, engine.machine) == ("Odd", store, machine)
    assert engine.options.size == 4
    assert read.on_shared_disk
    assert read.checkpoint_minutes == 2
    assert ("odd", "engine", "odd", "1.2", "Makes nothing.") in door.engine_rows()


def test_an_engine_without_a_table_has_its_defaults(site: Path, install: Install) -> None:
    offer(site, install)
    read = read_profile(None, engine="odd", workers=3)
    assert read.options("odd") == door.load("odd").options_type()
    assert read.options("local") == LocalOptions(workers=3)


def test_the_command_line_outdoes_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = profile(tmp_path, 'engine = "slurm"\n[local]\nworkers = 2\nthreads = 5\n')
    monkeypatch.setenv(VARIABLE, str(path))
    assert read_profile(None).on_shared_disk
    read = read_profile(None, engine="local", workers=1)
    assert (read.engine, read.options("local")) == ("local", LocalOptions(workers=1, threads=5))
    assert not read.on_shared_disk


def test_an_unknown_engine_is_refused_with_those_there_are(tmp_path: Path) -> None:
    for message, where in (
        (refusal(profile(tmp_path, 'engine = "slrum"\n')), "mine.toml:1: engine"),
        (refusal(None, engine="slrum"), "--engine"),
    ):
        assert where in message
        assert "no engine is called 'slrum'" in message
        assert "allowed: local, ray, slurm" in message
        assert "did you mean 'slurm'?" in message
        assert "install the package" in message


def test_what_is_wrong_with_a_profile_is_said_at_once(tmp_path: Path) -> None:
    text = 'engine = "slrum"\nminutes = 3\n[slurm]\npartitoin = "a"\n[lokal]\nworkers = 3\n'
    message = refusal(profile(tmp_path, f"{text}[local]\nworkers = 0\n"))
    assert "no engine is called 'slrum'" in message
    assert "mine.toml:2: minutes: unknown key" in message
    assert "mine.toml:4: slurm.partitoin: unknown key 'partitoin'" in message
    assert "did you mean 'partition'?" in message
    assert "mine.toml:5: lokal: unknown key 'lokal'" in message
    assert "did you mean 'local'?" in message
    assert "mine.toml:8: local.workers: " in message


# --- Broken engines ------------------------------------------------------------------------------

BROKEN = {
    "import": ("import no_such_module", ENTRY, "cannot be imported: ModuleNotFoundError"),
    "exit": ("raise SystemExit", ENTRY, "cannot be imported: SystemExit"),
    "name": ("", ENTRY, "cannot be imported: AttributeError"),
    "module": (ENGINE, ENTRY.replace(":Odd", ""), "odd is <module 'odd'"),
    "stage": ("class Odd: pass", ENTRY, "odd:Odd is <class 'odd.Odd'>"),
    "method": (ENGINE.replace("def stop", "def halt"), ENTRY, "Odd does not implement stop"),
    "options": (ENGINE.replace("[OddOptions]", "[int]"), ENTRY, "options of type <class 'int'>"),
    "metadata": (ENGINE, "[crossmod.engines]\nno equals sign\n", "entry_points.txt"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_engine_breaks_alone(
    name: str, site: Path, install: Install, tmp_path: Path
) -> None:
    code, entry, words = BROKEN[name]
    offer(site, install, code, entry)
    with pytest.raises(PluginError) as caught:
        open_engine(read_profile(None, engine="odd"), Store(tmp_path / "s"), Machine())
    assert str(caught.value).startswith("engine 'odd' (odd 1.2): ")
    assert words in str(caught.value)
    rows = {row[0]: row for row in door.engine_rows()}
    assert rows["odd"][1:4] == ("broken", "odd", "1.2")
    assert words in rows["odd"][4]
    assert [row[0] for row in rows.values() if row[1] == "broken"] == ["odd"]
    read = read_profile(profile(tmp_path, "[odd]\nwhatever = 3\n"))  # not used, so not looked at
    assert isinstance(open_engine(read, Store(tmp_path / "s"), Machine()), Local)


def test_an_engine_for_another_crossmod_is_refused(site: Path, install: Install) -> None:
    install(site, "odd", ENGINE, ENTRY, requires="Requires-Dist: crossmod>=7\n")
    with pytest.raises(PluginError, match=r"engine 'odd' \(odd 1\.2\): needs crossmod>=7, this is"):
        door.load("odd")
    assert "odd" not in sys.modules


def test_a_name_taken_twice_is_an_error(site: Path, install: Install) -> None:
    offer(site, install)
    install(site, "other", ENGINE, "[crossmod.engines]\nodd = other:Odd\n")
    with pytest.raises(PluginError, match=r"2 engines are called 'odd': odd 1\.2 and other"):
        door.load("odd")


def test_what_an_engine_misses_is_said_when_it_is_opened(
    site: Path, install: Install, tmp_path: Path
) -> None:
    start = '    def __init__(self, *given): raise MachineError("nobody answers")\n'
    offer(site, install, ENGINE.replace("    on_shared", f"{start}    on_shared"))
    with pytest.raises(MachineError, match="nobody answers"):
        open_engine(read_profile(None, engine="odd"), Store(tmp_path / "s"), Machine())


def test_an_engine_may_have_no_options(site: Path, install: Install, tmp_path: Path) -> None:
    offer(site, install, ENGINE.replace("[OddOptions]", ""))
    assert door.load("odd").options_type is Options
    path = profile(tmp_path, "[odd]\nsize = 4\n")
    assert "mine.toml:2: odd.size: unknown key 'size'" in refusal(path, engine="odd")
