"""What changes the key of a plugin's steps: all of its code, and no version number."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from odd_plugin import HEAD, HOOK, ODD, forget

import crossmod
from crossmod import Options, PluginError, Translator
from crossmod.recipe.load import load
from crossmod.run.planner import Planner
from crossmod.stages import code, find

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
NETS = "SIZE = 1\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Python finds modules; what was imported from there is forgotten."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    forget()


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def describe(
    folder: Path,
    entry: str,
    record: list[str] | None = None,
    version: str = "1.2",
    more: str = "",
    name: str = "cut",
) -> None:
    """Write the metadata of a distribution; without a record, as where a folder was copied."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    put(about, {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"})
    put(about, {"entry_points.txt": f"[crossmod.plugins]\n{name} = {entry}\n{more}"})
    if record is not None:
        lines = [*record, f"{about.name}/METADATA", f"{about.name}/entry_points.txt"]
        put(about, {"RECORD": "".join(f"{line},,\n" for line in lines)})


def digest(name: str = "cut") -> str:
    """The digest that a new process would find."""
    forget()
    return find.load(name).code_digest


CODE = HEAD + "{start}\n" + ODD + HOOK

# layout: entry module, its code, other files, listed files, and the file that is changed
LAYOUTS: dict[str, tuple[str, dict[str, str], list[str] | None, str]] = {
    "two modules, copied": (
        "cut", {"cut.py": "import nets", "nets.py": NETS}, None, "nets.py"),
    "two modules, listed, imported late": (
        "cut",
        {"cut.py": "def late():\n    from nets import SIZE\n    return SIZE", "nets.py": NETS},
        ["cut.py", "nets.py"], "nets.py"),
    "listed, imported by a computed name": (
        "cut", {"cut.py": "NAME = 'ne' + 'ts'", "nets.py": NETS}, ["cut.py", "nets.py"], "nets.py"),
    "beside, imported by name": (
        "cut",
        {"cut.py": "import importlib\nlate = lambda: importlib.import_module('nets')",
         "nets.py": NETS},
        ["cut.py"], "nets.py"),
    "a chain": (
        "cut", {"cut.py": "import nets", "nets.py": "import layers", "layers.py": NETS},
        ["cut.py"], "layers.py"),
    "a module of a package": (
        "cut.stage", {"cut/__init__.py": "", "cut/stage.py": "", "cut/deep/nets.py": NETS},
        None, "cut/deep/nets.py"),
    "in a package, not listed": (
        "cut.stage", {"cut/__init__.py": "", "cut/stage.py": "", "cut/nets.py": NETS},
        ["cut/__init__.py", "cut/stage.py"], "cut/nets.py"),
    "a namespace": (
        "lab.cut", {"lab/cut.py": "from . import nets", "lab/nets.py": NETS}, None, "lab/nets.py"),
    "a package in a namespace": (
        "lab.cut", {"lab/cut/__init__.py": "from ..nets import SIZE", "lab/nets.py": NETS},
        ["lab/cut/__init__.py"], "lab/nets.py"),
    "a second package": (
        "cut", {"cut.py": "import nets.unet", "nets/__init__.py": "", "nets/unet.py": NETS},
        None, "nets/unet.py"),
    "data in a package": (
        "cut", {"cut/__init__.py": "", "cut/weights.pt": "1"}, None, "cut/weights.pt"),
    "data beside a module": (
        "cut", {"cut.py": "TABLE = Path(__file__).with_name('table.json')", "table.json": "{}"},
        None, "table.json"),
    "a program beside a module": (
        "cut", {"cut.py": "PROGRAM = 'train.py'", "train.py": "import nets", "nets.py": NETS},
        None, "nets.py"),
    "a compiled extension": (
        "cut", {"cut/__init__.py": "", "cut/fast.cpython-311-x86_64-linux-gnu.so": "elf"},
        None, "cut/fast.cpython-311-x86_64-linux-gnu.so"),
    "the module itself": ("cut", {"cut.py": "SIZE = 1"}, ["cut.py"], "cut.py"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_change_of_any_code_changes_the_digest(name: str, folder: Path) -> None:
    entry, files, record, changed = LAYOUTS[name]
    main = entry.replace(".", "/")
    main = f"{main}.py" if f"{main}.py" in files else f"{main}/__init__.py"
    put(folder, files)
    put(folder, {main: CODE.format(start=files[main])})
    describe(folder, entry, record)
    before = digest()
    with (folder / changed).open("a") as file:
        file.write("\n# another\n")
    after = digest()
    assert after != before
    again = (folder / changed).read_text()
    (folder / changed).write_text(again)  # another time, the same content
    put(folder, {"README.md": "x", "cut/notes.md": "x", "cut/__pycache__/a.pyc": "x", ".x": "x"})
    assert digest() == after


@pytest.mark.parametrize("record", [None, ["cut.py", "nets.py"]])
def test_a_version_alone_changes_nothing(record: list[str] | None, folder: Path) -> None:
    put(folder, {"cut.py": CODE.format(start="import nets"), "nets.py": NETS})
    describe(folder, "cut", record)
    before = digest()
    old, new = folder / "cut-1.2.dist-info", folder / "cut-9.0.dist-info"
    old.rename(new)
    metadata = (new / "METADATA").read_text().replace("1.2", "9.0")
    (new / "METADATA").write_text(metadata)
    assert digest() == before
    assert find.load("cut").identity["version"] == "9.0"
    assert "9.0" not in find.load("cut").content.values()


def test_an_editable_installation_has_the_digest_of_the_installed_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"cut.py": CODE.format(start="import nets"), "nets.py": NETS}
    project = tmp_path / "project"
    put(project, {**files, "setup.py": "1", "tests/test_cut.py": "1"})
    describe(folder, "cut", ["_editable_impl_cut.pth"])
    put(folder, {"_editable_impl_cut.pth": str(project)})
    monkeypatch.syspath_prepend(project)
    linked = digest()
    put(project, {"tests/test_cut.py": "2", "setup.py": "2"})
    assert digest() == linked
    put(project, {"nets.py": "SIZE = 2\n"})
    assert digest() != linked
    sys.path.remove(str(project))
    del sys.modules["cut"]
    put(folder, files)
    describe(folder, "cut", ["cut.py", "nets.py"])
    assert digest() == linked


def test_a_plugin_in_an_archive(tmp_path: Path, folder: Path) -> None:
    def pack(size: int, when: int) -> str:
        path = tmp_path / f"cut{size}{when}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in (("cut.py", CODE.format(start="import nets")),
                               ("nets.py", f"SIZE = {size}")):  # fmt: skip
                archive.writestr(zipfile.ZipInfo(name, (when, 1, 1, 0, 0, 0)), text)
        sys.path.insert(0, str(path))
        sys.modules.pop("cut", None)
        try:
            return digest()
        finally:
            sys.path.remove(str(path))

    describe(folder, "cut")
    first = pack(1, 2001)
    assert pack(1, 2002) == first
    assert pack(2, 2003) != first


def test_what_another_distribution_has_counts_when_it_is_declared(folder: Path) -> None:
    put(folder, {"helper/__init__.py": "", "helper/deep.py": NETS})
    describe(folder, "helper", ["helper/__init__.py", "helper/deep.py"], name="help-er")
    describe(folder, "cut", ["cut.py"])
    found = {}
    for names in ("()", "('helper',)", "('help-er',)", "('helper.deep',)"):
        odd = ODD.replace('"""Odd."""', f"code_of = {names}")
        put(folder, {"cut.py": HEAD + "import helper.deep" + odd + HOOK})
        sys.modules.pop("cut", None)
        found[names] = digest()
        with (folder / "helper/deep.py").open("a") as file:
            file.write("# another\n")
        assert (digest() != found[names]) == (names != "()")


@pytest.mark.parametrize(("names", "words"), [
    ("('nowhere',)", "names nowhere"), ("('../site',)", "names ../site"),
    ("'helper'", r"code_of is 'helper'"), ("(1,)", "code_of is"),
])  # fmt: skip
def test_a_wrong_declaration_is_an_error(names: str, words: str, folder: Path) -> None:
    put(folder, {"cut.py": HEAD + ODD.replace('"""Odd."""', f"code_of = {names}") + HOOK})
    describe(folder, "cut")
    with pytest.raises(PluginError, match=words) as caught:
        digest()
    assert "plugin 'cut' (cut 1.2)" in str(caught.value)


def test_the_code_of_a_base_class_counts_wherever_it_is(folder: Path) -> None:
    put(folder, {"cut.py": HEAD + "import nets\nclass Odd(nets.Base): pass\n" + HOOK})
    put(folder, {"nets.py": HEAD + ODD.replace("Odd(", "Base("), "layers.py": NETS})
    describe(folder, "cut", ["cut.py"])
    describe(folder, "nets", ["nets.py"], name="other")
    before = digest()
    with (folder / "nets.py").open("a") as file:
        file.write("# another\n")
    assert digest() != before


def test_plugins_of_one_distribution_do_not_count_for_each_other(folder: Path) -> None:
    files = {f"{name}.py": CODE.format(start="import nets") for name in ("cut", "paste")}
    put(folder, {**files, "nets.py": NETS})
    describe(folder, "cut", [*files, "nets.py"], more="paste = paste\n")
    before = digest("cut"), digest("paste")
    with (folder / "paste.py").open("a") as file:
        file.write("# another\n")
    assert digest("cut") == before[0]
    assert digest("paste") != before[1]
    put(folder, {"nets.py": "SIZE = 2\n"})
    assert digest("cut") != before[0]


def test_a_folder_that_links_to_itself_ends(folder: Path) -> None:
    put(folder, {"cut/__init__.py": CODE.format(start=""), "else/nets.py": NETS})
    (folder / "cut" / "loop").symlink_to(folder / "cut")
    (folder / "cut" / "nets").symlink_to(folder / "else")
    describe(folder, "cut")
    before = digest()
    put(folder, {"else/nets.py": "SIZE = 2\n"})
    assert digest() != before


def test_a_file_that_is_no_code_that_python_can_run_counts_too(folder: Path) -> None:
    put(folder, {"cut/__init__.py": CODE.format(start=""), "cut/old.py": "print 'hello'\n"})
    describe(folder, "cut")
    before = digest()
    put(folder, {"cut/old.py": "print 'hi'\n"})
    assert digest() != before


# The plugins that come with crossmod


def built_in(name: str) -> set[str]:
    taken = code.Code(find.load(name).entry.dist)
    place = code.place_of(find.load(name).entry.module)
    assert place is not None
    taken.take(place)
    return set(taken.digests)


def test_a_built_in_plugin_counts_its_package_and_what_it_imports_of_the_core() -> None:
    found = built_in("cyclegan")
    assert {"crossmod_cyclegan/__init__.py", "crossmod_cyclegan/train.py"} <= found
    assert {name.rpartition("/")[0] for name in found} == {"crossmod_cyclegan", "crossmod"}
    own, of_core = sorted(built_in("naive-rescale"), key=lambda name: name.startswith("crossmod/"))
    assert own == "crossmod_naive_rescale/__init__.py"
    assert {of_core} == core_names("rescale")


def core_names(inner: str) -> set[str]:
    taken = code.Code(None)
    taken.core(inner)
    return set(taken.digests)


def test_code_of_the_core_counts_however_it_is_spelled_and_wherever_it_lies() -> None:
    lesions = core_names("data.lesions")
    assert len(lesions) == 1
    assert {n for names in crossmod._HOMES.values() for n in names} >= code.NUMBERS
    elsewhere = {"dice", "agreement", "touching", "in_voxels", "mean_shift_mm"}
    for name in code.NUMBERS - elsewhere:
        assert core_names(name) == lesions
    assert core_names("*") == lesions.union(*map(core_names, elsewhere)) > lesions
    for name in (
        "",
        "Options",
        "Volume",
        "data.volumes",
        "stages.base",
        "Translator",
        "DataError",
        "hookimpl",
    ):
        assert core_names(name) == set()
    assert len(core_names("torch")) > 3
    for line in (b"from crossmod.data import (\n    Case,\n)\n", b"import crossmod.cohorts\n"):
        assert code._without_core(line + b"A = 1\n") == b"A = 1\n"


@pytest.mark.parametrize("start", [
    "from crossmod import rescale", "from crossmod.data.lesions import rescale", "import crossmod",
    "import crossmod as core", "import crossmod.options", "from crossmod.data import lesions",
])  # fmt: skip
def test_code_of_the_core_that_a_plugin_imports_is_in_its_digest(
    start: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports = "from crossmod import Translator, hookimpl\n"
    put(folder, {"cut.py": f"{imports}{start}\n{ODD}{HOOK}"})
    describe(folder, "cut")
    before = digest()
    monkeypatch.setattr(code, "_without_core", lambda source: source + b"another")
    assert digest() != before


@pytest.mark.parametrize("name", ["data", "data/w.npy"])
def test_data_beside_a_module_count_when_they_are_declared(name: str, folder: Path) -> None:
    odd = ODD.replace('"""Odd."""', f"code_of = ({name!r},)")
    put(folder, {"cut.py": HEAD + odd + HOOK, "data/w.npy": "1"})
    describe(folder, "cut")
    before = digest()
    put(folder, {"data/w.npy": "2"})
    assert digest() != before


def keys() -> dict[str, str]:
    return {step.name: step.key for step in Planner(load(SMOKE), None).plan().steps}


def test_another_version_of_crossmod_changes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys()
    monkeypatch.setattr(find, "distribution_of", lambda entry: ("crossmod", "9"))
    assert keys() == before


def test_changed_code_changes_the_steps_of_its_plugin(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    before = keys()
    read = code._contents

    def changed(path: Path) -> Iterator[tuple[str, object]]:
        for name, file in read(path):
            yield (f"{name}2" if name == "harmonize.py" else name), file

    monkeypatch.setattr(code, "_contents", changed)
    forget()
    different = {name for name, key in keys().items() if key != before[name]}
    assert "augment-tumors-fit" in different
    assert not {"translate-gan-fit", "train-oracle"} & different


# What a stage declares


class First(Options):
    pass


class Second(Options):
    pass


class Shipped(Translator[First]):
    def translate(self, volumes, state, ctx):  # type: ignore[no-untyped-def]
        yield from volumes


def test_a_subclass_of_a_shipped_stage_keeps_the_options_it_sets() -> None:
    class Set(Shipped):
        options_type = Second

    class Kept(Shipped):
        pass

    class Again(Set):
        pass

    class Both(Translator[First]):
        options_type = Second

    assert [one.options_type for one in (Shipped, Set, Kept, Again, Both)] == [
        First, Second, First, Second, Second,
    ]  # fmt: skip
    assert isinstance(Set().options, Second)
