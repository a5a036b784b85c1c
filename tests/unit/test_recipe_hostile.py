"""Recipes nobody vouches for: rows R01 to R09 of the fault matrix."""

from __future__ import annotations

import ast
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processor import SOON_S, children_seconds
from pydantic import BaseModel, Discriminator, TypeAdapter, ValidationError

from crossmod import DataError, RecipeError
from crossmod.data.cases import fault_of_case, faults_of_cases
from crossmod.data.folder import find_scans
from crossmod.engines.profile import Profile, read_profile
from crossmod.exchange.nnunet_raw import read_raw
from crossmod.files.patterns import refuse_links
from crossmod.intake import find_scan_files
from crossmod.recipe.load import load, load_all
from crossmod.recipe.lock import locked
from crossmod.recipe.model import Recipe
from crossmod.recipe.text import MAX_BYTES
from crossmod.stages import find

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "recipes" / "smoke.toml"
EVERYONE = {"all": "*"}
BASE = """\
title = "t"
[data]
source.images = "s/{case}.nii.gz"
source.labels = "s/{case}_l.nii.gz"
target.images = "t/{case}.nii.gz"
centers = { ldn = "*" }
classes = { tumor = 1 }
[preprocess]
spacing_mm = [1, 1, 1]
[translate.gan]
use = "cyclegan"
[segment]
use = "unet3d"
"""


def write(folder: Path, content: str | bytes, name: str = "r.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def changed(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


def refusal(path: Path, settings: Sequence[str] = ()) -> str:
    """The message of a recipe that is refused, quickly."""
    begin = time.process_time()
    with pytest.raises(RecipeError) as caught:
        load_all(path, settings)
    assert time.process_time() - begin < SOON_S
    return str(caught.value)


def program(
    *arguments: str | Path, cwd: Path, code: int, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `crossmod` as a user does; it ends soon, without a traceback.

    The time is that of the processor: other tests run at the same time.
    """
    environment = {**os.environ, "COLUMNS": "200", **variables}
    environment.pop("CROSSMOD_DATA", None)
    begin = children_seconds()
    done = subprocess.run(
        [str(Path(sys.executable).parent / "crossmod"), *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert children_seconds() - begin < SOON_S
    return done


def repeated(text: str, size: int = MAX_BYTES - 10) -> str:
    return (text * (size // len(text) + 1))[:size]


def numbered(line: str) -> str:
    """Lines with a number each, as many as a recipe may have."""
    lines = (line.format(i) for i in range(MAX_BYTES))
    size = 0
    kept = []
    for text in lines:
        size += len(text) + 1
        if size > MAX_BYTES:
            break
        kept.append(text)
    return "\n".join(kept)


BROKEN: dict[str, tuple[str | bytes, str]] = {
    "no value": ("title = \nseed = 1", ":1:9: is not TOML: Invalid value"),
    "duplicate key": ("a = 1\na = 2\n", ":2:6: is not TOML: Cannot overwrite a value"),
    "duplicate table": ("[a]\n[b]\n[a]\n", ":3:3: is not TOML: Cannot declare ('a',) twice"),
    "no end": ('a = 1\nb = "x', ":2:7: is not TOML: Unterminated string, at the end of the file"),
    "not UTF-8": (b"seed = 1\ntitle = 'a\xff'", ":2:11: is not UTF-8: byte 0xff"),
    "UTF-16": ("seed = 1".encode("utf-16"), ":1:1: is not UTF-8: byte 0xff"),
    "NUL": (b"seed = 1\n# \0", ":2:3: is not text: it holds a NUL"),
    "10 MB": (b"a = 1\n" + b"#" * 10_000_000, ":2:99995: is 10000006 bytes long"),
    "5,000 brackets": ("a = " + "[" * 5000, ":1:21: is nested too deep"),
    "brackets in lines": ("a = [\n" * 5000, ":17:5: is nested too deep"),
    "braces": ("a=" + "{a=" * 5000, ":1:51: is nested too deep"),
    "dots": (repeated("a."), ":1:34: has a key of too many parts"),
    "dots apart": (repeated('"a" . '), ":1:101: has a key of too many parts"),
    "header of dots": ("[" + repeated("a.") + "a]", ":1:35: has a key of too many parts"),
    "90,000 digits": ("seed = " + "9" * 90_000, ":1:8: has a word of 90000 characters"),
    "90,000 bits": ("seed = 0x" + "f" * 90_000, ":1:8: has a word of 90002 characters"),
    "many digits apart": ("seed = " + "1_" * 40_000 + "1", ":1:8: has a word of 80001 characters"),
    "open strings": (repeated('"\n'), ":1:2: is not TOML"),
    "escaped quotes": ('a = """' + repeated('\\"""'), "is not TOML: Unterminated string"),
    "only line ends": (repeated("\n") + "a", "is not TOML"),
    "only spaces": (repeated(" ") + "a", "is not TOML"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_r01_broken_texts_are_refused_with_line_and_column(name: str, tmp_path: Path) -> None:
    content, words = BROKEN[name]
    path = write(tmp_path, content)
    message = refusal(path)
    assert message.startswith(f"{path}:"), message[:200]
    assert words in message


LARGE = {
    "keys": numbered("k{0} = 1"),
    "tables": numbered("[t{0}]"),
    "arrays of tables": numbered("[[x]]"),
    "deep arrays of tables": numbered("[[a.b.c.d.e.f.g.h.i.j.k.l.m.n]]"),
    "dotted keys": numbered("a.b.c.d.e.f.g.h.i.j.k.l.m.n{0} = 1"),
    "sub-tables": "[x]\n" + numbered("[x.k{0}]")[: MAX_BYTES - 4].rpartition("\n")[0],
    "inline tables": "x = [" + repeated("{a=1},", MAX_BYTES - 16) + "]",
    "pairs of brackets": "x = [" + repeated("[],", MAX_BYTES - 16) + "]",
    "numbers": "x = [" + repeated("1,", MAX_BYTES - 16) + "]",
    "a long string": 'title = """' + "[" + " " * (MAX_BYTES - 32) + '\n"""',
    "plugin options": "[segment]\nuse = 'unet3d'\n" + numbered("lerning_rate{0} = 1")[:90_000],
    "steps": numbered("[translate.s{0}]\nuse = 'cyclegan'\nepoch = 1"),
    "variants": BASE + numbered("[variants.v{0}]")[:90_000],
    "wrong seeds": "seeds = [" + repeated("-1,", MAX_BYTES - 16) + "]",
}


@pytest.mark.parametrize("name", LARGE)
def test_r01_large_texts_take_no_time(name: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path, LARGE[name].rpartition("\n")[0] or LARGE[name]))
    assert len(message.splitlines()) < 400
    if name in ("keys", "steps", "wrong seeds"):
        assert ": more than 100 problems" in message


def test_r01_settings_have_the_same_limits(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    for setting, words in {
        "seed=" + "9" * 90_000: "has a word of 90000 characters",
        "seed=" + "[" * 5000: "is nested too deep",
        "seed=" + "x " * 90_000: "is 179999 characters long",
        "a." * 5000 + "b=1": "is not a setting",
        "seed=1\ntitle = 'smuggled'": "\"1\\ntitle = 'smuggled'\" has",
        "seed=nan": "--set seed: nan has the wrong type",
        "segment.epochs=1e999": "inf has the wrong type",
    }.items():
        assert words in refusal(path, [setting])


def test_r01_a_setting_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    for setting in ("title=\udcff", "\udcff=1", "segment.use=a\udcff"):
        message = refusal(path, [setting])
        assert "is not UTF-8" in message
        assert message.isascii()


@pytest.mark.timeout(60)  # opening a pipe waits for ever
def test_r01_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    for name in ("fifo.toml", "loop.toml", ".", "none.toml", "a" * 5000, "a\0b", "a\0/b"):
        with pytest.raises(RecipeError, match=r"is not a file|cannot be read"):
            load(tmp_path / name)
    with pytest.raises(RecipeError, match="is not a file"):
        load(Path("/dev/zero"))


@pytest.mark.parametrize("name", ["10 MB", "5,000 brackets", "NUL", "90,000 digits", "no value"])
def test_r01_the_program_says_it_at_once(name: str, tmp_path: Path) -> None:
    content, words = BROKEN[name]
    path = write(tmp_path, content)
    for command in (["check", path], ["run", path, "--out", tmp_path / "out"]):
        assert words in program(*command, cwd=tmp_path, code=2).stderr
    assert [item.name for item in tmp_path.iterdir()] == ["r.toml"]


@given(st.binary(max_size=300))
def test_r01_any_bytes_are_refused_or_read(content: bytes) -> None:
    from crossmod.recipe.text import locate, parse

    try:
        locate(content.decode("utf-8", "replace"))
        parse(content.decode("utf-8", "replace"), "x")
    except RecipeError as error:
        message = str(error)
    else:
        message = "x:"
    assert message.startswith("x:")


def test_r01_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    assert load(path).recipe.title == "t"


def test_r02_an_unknown_key_is_named_with_line_and_nearest_key(tmp_path: Path) -> None:
    path = write(tmp_path, BASE + "lerning_rate = 1\n")
    message = refusal(path)
    assert f"{path}:14: segment.lerning_rate: unknown key 'lerning_rate'" in message
    assert "did you mean 'learning_rate'?" in message


@pytest.mark.parametrize(
    ("table", "line", "words"),
    [
        ("segment", "epochs = 'many'", "segment.epochs: 'many' has the wrong type"),
        ("segment", f"epochs = {10**18}", "epochs: 1000000000000000000 is too large"),
        ("segment", "epochs = 1.5", "1.5 has the wrong type"),
        ("segment", "epochs = true", "True has the wrong type"),
        ("segment", "patch = [0, 8, 8]", "segment.patch.0: 0 is too small"),
        ("segment", "patch = [1000000, 8, 8]", "patch.0: 1000000 is too large"),
        ("segment", "patch = [8, 8]", "segment.patch: [8, 8] has too few items"),
        ("segment", "folds = 10000", "segment.folds: 10000 is too large"),
        ("segment", "learning_rate = nan", "segment.learning_rate: nan is not finite"),
        ("segment", "learning_rate = inf", "segment.learning_rate: inf is not finite"),
        ("segment", "learning_rate = -inf", "segment.learning_rate: -inf is not finite"),
        ("segment", "memory_gb = 1e400", "segment.memory_gb: inf is not finite"),
        ("translate.gan", "epochs = 0", "translate.gan.epochs: 0 is too small"),
        (
            "data",
            "phantom = {source = 10001, target = 1, validation = 1}",
            "phantom.source: 10001 is too large",
        ),
        ("preprocess", "crop = [100001, 8]", "preprocess.crop.0: 100001 is too large"),
    ],
)
def test_r03_values_out_of_range_are_named_with_line(
    table: str, line: str, words: str, tmp_path: Path
) -> None:
    text = changed(f"[{table}]\n", f"[{table}]\n{line}\n")
    path = write(tmp_path, text)
    number = text.splitlines().index(line) + 1
    found = [one for one in refusal(path).splitlines() if f"{path}:{number}: {table}" in one]
    assert found
    assert words in found[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("seeds = [1, 2, 1]", "seeds: list each seed once: the same seed gives the same run"),
        ('device = "x"', 'device: name "auto", "cpu", "cuda"'),
        ('device = "cuda:"', 'device: name "auto", "cpu", "cuda"'),
        ("evaluate.size_limits_mm3 = [5.0, 1.0]", "the second limit must not be below the first"),
    ],
)
def test_r03_values_that_make_no_sense_are_named_with_line(
    line: str, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path, changed('title = "t"\n', f'title = "t"\n{line}\n'))
    message = refusal(path)
    assert f"{path}:2: {line.partition(' ')[0]}" in message
    assert words in message
    for blank in ("", " ", "\\t"):
        message = refusal(write(tmp_path, changed('"t"', f'"{blank}"')))
        assert f"{path}:1: title: describe the experiment in its title" in message


def test_r03_a_pattern_of_patients_is_as_short_as_case_ids_are(tmp_path: Path) -> None:
    text = changed("classes =", f'patients = "{"*a" * 200}{{patient}}"\nclasses =')
    path = write(tmp_path, text)
    assert f"{path}:7: data.patients: a pattern of case ids has at" in refusal(path)


def test_r03_usual_devices_and_limits_are_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    for device in ("auto", "cpu", "cuda", "cuda:0", "cuda:12"):
        assert load(path, [f"device={device}"]).recipe.device == device
    assert load(path, ["evaluate.size_limits_mm3=[2.0, 2.0]"]).recipe


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    for argument in get_args(annotation):
        yield from models_in(argument)


def every_model() -> list[type[BaseModel]]:
    """The options of the core and of every built-in plugin."""
    stages = [find.load(name).stage.options_type for name in find.available()]
    found = [model for root in (Recipe, Profile, *stages) for model in models_in(root)]
    return list(dict.fromkeys(found))


def numbers_in(annotation: Any, value: Any) -> Iterator[Any]:
    """What a field looks like with a number at each place where it holds one."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (int, float):
        yield value
    elif origin is tuple:
        items = [item for item in arguments if item is not Ellipsis]
        for inner in numbers_in(items[0], value):
            yield (inner,) * len(items)
    elif origin in (dict, Mapping):
        yield from ({"a": inner} for inner in numbers_in(arguments[1], value))
    elif origin is not Literal:
        for argument in arguments[:1] if origin is Annotated else arguments:
            yield from numbers_in(argument, value)


NUMERIC = [
    (model, name)
    for model in every_model()
    for name, field in model.model_fields.items()
    if list(numbers_in(field.rebuild_annotation(), 1)) and name != "extra"  # free options of sbatch
]


@pytest.mark.parametrize(
    ("model", "name"), NUMERIC, ids=[f"{model.__name__}.{name}" for model, name in NUMERIC]
)
def test_r03_every_number_of_every_options_class_is_a_number_within_bounds(
    model: type[BaseModel], name: str
) -> None:
    field = model.model_fields[name]
    given: Any = Annotated[field.rebuild_annotation(), field]
    if any(isinstance(one, Discriminator) for one in field.metadata):
        given = get_type_hints(model, include_extras=True)[name]
    adapter = TypeAdapter(given)
    extremes = (10**18, -(10**18), 1e18, -1e18, math.nan, math.inf, -math.inf)
    for value in (*extremes, "1", True):
        for shaped in numbers_in(field.rebuild_annotation(), value):
            with pytest.raises(ValidationError):
                adapter.validate_python(shaped)


def test_r03_the_walk_sees_the_fields_it_should() -> None:
    seen = {f"{model.__name__}.{name}" for model, name in NUMERIC}
    assert {
        "Data.classes", "PreprocessTable.spacing_mm", "Recipe.seeds", "UNet3DOptions.patch",
        "Bounds.above", "BlendGroup.factors", "SegmentTable.folds", "CycleGANOptions.blocks",
        "VanCittertOptions.relaxation", "SelfTrainingOptions.tolerance", "Limits.max_voxels",
    } <= seen  # fmt: skip


PATTERNS = [
    "../../x/{case}.nii.gz",
    "a/../../{case}.nii.gz",
    "/etc/{case}.nii.gz",
    "~/{case}.nii.gz",
    "~root/{case}.nii.gz",
    "C:/x/{case}.nii.gz",
    "..\\\\{case}.nii.gz",
    "a\\u0000/{case}.nii.gz",
    "",
    "a/b.nii.gz",
    "{case}{case}.nii.gz",
    "t/x{case}{case}/{case}.nii.gz",
    "./t/{case}.nii.gz",
    "t/./{case}.nii.gz",
    "t//{case}.nii.gz",
    "t/{case}/",
    "a" * 300 + "/{case}.nii.gz",
    "t/{case}" + "ä" * 128,
    "t/{case}" + "/a" * 3000,
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_r04_patterns_that_leave_the_data_folder_or_name_no_file_are_refused(
    pattern: str, tmp_path: Path
) -> None:
    path = write(tmp_path, changed("t/{case}.nii.gz", pattern))
    for allow_outside in (False, True):
        with pytest.raises(RecipeError, match=f"{path}:5: data.target.images: "):
            load(path, allow_outside=allow_outside)
    message = refusal(write(tmp_path, BASE + f'[evaluate]\nlabels = "{pattern}"\n'))
    assert f"{path}:15: evaluate.labels: " in message


@pytest.mark.parametrize(
    "pattern", ["t/x*{case}.nii.gz", "t/{case}**.nii.gz", "**/{case}.nii.gz", "t/[/{case}.nii.gz"]
)
def test_r04_stars_and_brackets_in_patterns_are_letters(pattern: str, tmp_path: Path) -> None:
    path = write(tmp_path, changed("t/{case}.nii.gz", pattern))
    scan(tmp_path / "t" / "a.nii.gz")
    found = load(path).recipe.data.target.images
    refuse_links(tmp_path, [found])
    with pytest.raises(DataError, match="no scan matches"):
        find_scans(tmp_path, found, None, EVERYONE)
    scan(tmp_path / pattern.format(case="b"))
    assert [one.case for one in find_scans(tmp_path, found, None, EVERYONE)] == ["b"]


def test_r04_extends_stays_in_the_folder_of_the_recipe_the_current_one_or_those_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = write(tmp_path, BASE, "outside.toml")
    (tmp_path / "work" / "in").mkdir(parents=True)
    (tmp_path / "work" / "in" / "link.toml").symlink_to(outside)
    (tmp_path / "work" / "in" / "fine.toml").symlink_to("r.toml")
    monkeypatch.chdir(tmp_path / "work" / "in")
    for named in ("../../outside.toml", str(outside), "link.toml", "/etc/passwd", "/dev/zero"):
        path = write(tmp_path, f'\nextends = "{named}"\n', "work/in/r.toml")
        message = refusal(path)
        assert message.startswith(f"{path}:2: extends '{named}', which is /"), message
        assert "--allow-outside" in message
    for named in ("~/x.toml", "\\u0000"):
        path = write(tmp_path, f'extends = "{named}"\n', "work/in/r.toml")
        assert "cannot be" in refusal(path)
    for named in ("../../outside.toml", str(outside), "link.toml"):
        path = write(tmp_path, f'extends = "{named}"\n', "work/in/r.toml")
        assert load(path, allow_outside=True).recipe.title == "t"
    below = write(tmp_path, BASE, "work/base.toml")
    path = write(tmp_path, 'extends = "../base.toml"\n', "work/in/r.toml")
    assert "which is" in refusal(path)
    monkeypatch.chdir(tmp_path / "work")
    assert load(path).recipe.title == "t"
    path = write(tmp_path, f'extends = "{below}"\n', "work/r.toml")
    assert load(path).recipe.title == "t"
    path = write(tmp_path, f'extends = "{SMOKE}"\n', "r.toml")
    assert load_all(path)


def test_r04_a_recipe_cannot_say_where_results_go(tmp_path: Path) -> None:
    for line in ('out = "../../x"', 'store = "/x"', 'runs = "~/x"'):
        message = refusal(write(tmp_path, f"{line}\n{BASE}"))
        assert f"r.toml:1: {line.split()[0]}: unknown key" in message


def test_r06_a_profile_has_no_variants(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a profile has no variants"):
        read_profile(write(tmp_path, "[variants.a]\n"))


def scan(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)
    return path


def test_r04_links_out_of_the_data_folder_are_refused(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    scan(root / "t" / "a.nii.gz")
    (root / "t" / "b.nii.gz").symlink_to("a.nii.gz")
    (tmp_path / "named").symlink_to(root)
    for folder in (root, tmp_path / "named"):  # links inside, and a root that is one
        refuse_links(folder, ["t/{case}.nii.gz", "s/{case}.nii.gz"])
    file = scan(elsewhere / "c.nii.gz")
    (root / "t" / "c.nii.gz").symlink_to(file)
    (root / "t" / "loop.nii.gz").symlink_to("loop.nii.gz")
    (root / "s").symlink_to(elsewhere)
    with pytest.raises(DataError) as caught:
        refuse_links(root, ["t/{case}.nii.gz", "s/{case}.nii.gz"])
    for text in (f"{root / 't' / 'c.nii.gz'} leads to {file}", f"{root / 's'} leads to", "loop"):
        assert text in str(caught.value)
    assert "b.nii.gz" not in str(caught.value)


def test_r04_links_are_seen_in_folders_whose_names_have_brackets(tmp_path: Path) -> None:
    outside = scan(tmp_path / "elsewhere" / "c.nii.gz")
    (tmp_path / "data" / "l[x]").mkdir(parents=True)
    (tmp_path / "data" / "l[x]" / "c.nii.gz").symlink_to(outside)
    with pytest.raises(DataError, match="links lead out of the data folder"):
        refuse_links(tmp_path / "data", ["l[x]/{case}.nii.gz"])


def test_r04_the_program_follows_links_only_when_told(tmp_path: Path) -> None:
    recipe = write(tmp_path, BASE, "elsewhere/base.toml")
    path = write(tmp_path, f'extends = "{recipe}"\n', "work/r.toml")
    work = path.parent
    refused = program("run", path, "--out", work / "out", cwd=work, code=2)
    assert f"{path}:1: extends '{recipe}'" in refused.stderr
    program("check", path, "--allow-outside", cwd=work, code=0)
    for name in ("s/a", "s/a_l", "t/b"):
        scan(work / "data" / f"{name}.nii.gz")
    target = scan(tmp_path / "elsewhere" / "c.nii.gz")
    (work / "data" / "t" / "c.nii.gz").symlink_to(target)
    path.write_text(BASE, encoding="utf-8")
    for command in (["check", path], ["run", path, "--out", work / "out"]):
        refused = program(*command, "--data", work / "data", cwd=work, code=3)
        assert f"{work / 'data' / 't' / 'c.nii.gz'} leads to {target}" in refused.stderr
    followed = program("check", path, "--data", work / "data", "--allow-outside", cwd=work, code=3)
    assert "leads to" not in followed.stderr
    assert sorted(item.name for item in work.iterdir()) == ["data", "r.toml"]


EVIL = [
    "",
    "../../evil",
    "a/b",
    "a\\b",
    ".hidden",
    "-rf",
    "a" * 300,
    "ä" * 150,
    "CON",
    "con.nii",
    "Lpt1",
    "COM¹",
    "a\n",
    "a\x1b[31m",
    "a\u202eb",
    "a\u200bb",
    "a\udcff",
    "a:b",
    "a*",
    "a ",
    " a",
    "a.",
    "<script>",
]


@pytest.mark.parametrize("case", EVIL, ids=ascii)
def test_r05_case_ids_that_cannot_name_files_have_a_fault(case: str) -> None:
    fault = fault_of_case(case)
    assert fault.isascii()
    assert fault.isprintable()
    assert fault
    [problem] = faults_of_cases([case])
    assert fault in problem
    assert problem.isprintable()


@pytest.mark.parametrize(
    "case",
    ["crossmoda2022_etz_1", "sub-01_ses-2", "a+small-x0.6", "東京 1", "ä" * 100, "a" * 200, "CONy"],
)
def test_r05_usual_case_ids_have_none(case: str) -> None:
    assert fault_of_case(case) == ""


@given(st.text(max_size=250))
def test_r05_a_case_id_without_fault_names_a_file_in_its_folder(case: str) -> None:
    if not fault_of_case(case):
        path = Path("/folder") / f"{case}.nii.gz"
        assert path.parent == Path("/folder")
        assert len(os.fsencode(path.name)) <= 255
        assert os.path.normpath(path) == str(path)


def test_r05_lookalikes_are_refused_together() -> None:
    pairs = [
        ("case", "Case"),
        ("é", "e\u0301"),
        ("\uff431", "c1"),
        ("ﬁ", "fi"),
        ("STRASSE", "straße"),
    ]
    for first, second in pairs:
        [problem] = faults_of_cases([first, "other", second])
        assert "look alike" in problem


def test_r05_every_way_in_refuses_bad_case_ids_in_one_report(tmp_path: Path) -> None:
    names = ["CON", "a", "A", "-b", "a:b", "x\x1b[2J", "c+d"]
    for name in names:
        scan(tmp_path / "t" / f"{name}.nii.gz")
        scan(tmp_path / "raw" / "imagesTr" / f"{name}_0000.nii.gz")
    write(tmp_path, '{"channel_names": {"0": "T1"}, "labels": {}}', "raw/dataset.json")
    ways = (
        lambda: find_scans(tmp_path, "t/{case}.nii.gz", None, EVERYONE),
        lambda: read_raw(tmp_path / "raw", None),
        lambda: find_scan_files([tmp_path / "t"]),
    )
    for way in ways:
        with pytest.raises(DataError) as caught:
            way()
        message = str(caught.value)
        for text in ("CON: ", "A and a: ", "-b: ", "a:b: ", "'x\\x1b[2J': "):
            assert text in message.replace("a and A", "A and a")
    with pytest.raises(DataError, match=r"c\+d: \+ is reserved for augmented copies"):
        ways[0]()


def test_r06_an_unknown_plugin_or_table_is_named_with_the_known_ones(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, changed('"cyclegan"', '"os.system"') + "[transalte.x]\n"))
    assert "r.toml:11: translate.gan.use: no plugin is called 'os.system'" in message
    assert "allowed: cyclegan, repaint, van-cittert" in message
    assert "r.toml:14: transalte: unknown key 'transalte'" in message
    assert "did you mean 'translate'?" in message
    for name in ("../../x", "a/b", "", "x" * 100):
        message = refusal(write(tmp_path, BASE + f"[translate.'{name}']\nuse = 'cyclegan'\n"))
        assert f"translate.{name}: String should match pattern" in message


def test_r06_extending_in_a_circle_is_refused_with_the_chain(tmp_path: Path) -> None:
    write(tmp_path, 'extends = "b.toml"', "a.toml")
    write(tmp_path, 'extends = "a.toml"', "b.toml")
    write(tmp_path, 'extends = "self.toml"', "self.toml")
    assert "in a circle: a.toml -> b.toml -> a.toml" in refusal(tmp_path / "a.toml")
    assert "in a circle: self.toml -> self.toml" in refusal(tmp_path / "self.toml")
    for i in range(20):
        write(tmp_path, f'extends = "{i + 1}.toml"', f"{i}.toml")
    assert "more than 10 times: 0.toml -> 1.toml" in refusal(tmp_path / "0.toml")


TEXTS = [
    "<script>alert(1)</script>",
    "{{7*7}}{% raw %}",
    "$(touch x) `touch x`; touch x && touch x | touch x",
    "[red]bold[/red] [/nothing] :warning: %s {0}",
    "\x1b[2J\x1b]0;title\x07\x9b31m\u202egnirts",
    "漢字" * 300,
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_r08_strings_of_a_recipe_are_shown_literally(text: str, tmp_path: Path) -> None:
    from crossmod.console import visible

    quoted = "".join(f"\\u{ord(c):04x}" for c in text)
    path = write(tmp_path, changed('title = "t"', f'title = "{quoted}"'))
    shown = program("check", path, cwd=tmp_path, code=0, FORCE_COLOR="1").stdout
    assert visible(text) in shown
    path = write(tmp_path, BASE + f'"{quoted}" = 1\naverage = "{quoted}"\n')
    refused = program("check", path, cwd=tmp_path, code=2, LANG="C", PYTHONUTF8="0").stderr
    for printed in (shown, refused):
        assert not set(printed) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert not (tmp_path / "x").exists()
    assert [item.name for item in tmp_path.iterdir()] == ["r.toml"]


def test_r08_names_of_classes_are_shown_literally() -> None:
    from rich.console import Console
    from scored import scored

    from crossmod.console import summary_tables

    numbers = (0.5, 1.0, 2.0, 0.5, 0.1, 500.0)
    scores = [scored("target", "translated", "a", text, text, *numbers) for text in TEXTS[:4]]
    with (console := Console(width=1000)).capture() as shown:
        for table in summary_tables(scores, TEXTS[:4]):
            console.print(table, emoji=False)
    assert all(text.split(" :warning:")[0] in shown.get() for text in TEXTS[:4])


@pytest.mark.parametrize("name", ["", "a\\u001b[2J", "a\\nb", "a\\u202eb", "a" * 41])
def test_r08_names_that_cannot_be_shown_are_refused(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, changed("{ tumor = 1 }", f'{{ tumor = 1, "{name}" = 2 }}'))
    assert f"{path}:7: data.classes." in refusal(path)
    path = write(tmp_path, changed('{ ldn = "*" }', f'{{ "{name}" = "*" }}'))
    assert f"{path}:6: data.centers." in refusal(path)


def test_r08_nothing_of_a_recipe_can_be_executed() -> None:
    """What reads recipes has no means to run code, to unpickle, or to import by a path."""
    names = ["data/cases", "data/folder", "data/grids", "options", "recipe/files", "recipe/load",
             "recipe/model", "recipe/names", "recipe/problems", "recipe/text"]  # fmt: skip
    forbidden = {"eval", "exec", "compile", "__import__", "import_module", "system", "popen"}
    modules = {"yaml", "pickle", "marshal", "shelve", "subprocess", "importlib", "os", "runpy"}
    for name in names:
        tree = ast.parse((ROOT / "crossmod" / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called in ("re.compile",) or called.split(".")[-1] not in forbidden
            if isinstance(node, ast.Import | ast.ImportFrom):
                found = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
                assert not {one.split(".")[0] for one in found} & modules


def test_r09_a_newer_schema_is_said_before_anything_else(tmp_path: Path) -> None:
    newer = 'schema = 2\ntitel = "t"\n[dta]\n'
    path = write(tmp_path, newer)
    message = refusal(path)
    assert message.startswith(f"{path}:1: is written for schema 2; this crossmod reads 1")
    assert "titel" not in message
    path = write(tmp_path, newer, "base.toml")
    above = write(tmp_path, 'extends = "base.toml"\nschema = 1\n')
    assert refusal(above).startswith(f"{path}:1: is written for schema 2")
    for wrong in ("0", "-1", "true", "1.0", "'1'"):
        message = refusal(write(tmp_path, f"\nschema = {wrong}\n" + BASE))
        assert "r.toml:2: schema " in message
        assert "allowed: 1" in message
    checked = load(write(tmp_path, "schema = 1\n" + BASE))
    assert "\nschema = 1\n" in locked(checked)


@pytest.mark.parametrize("split", ["target", "validation"])
def test_p06_labels_of_the_unlabeled_domain_are_refused(split: str, tmp_path: Path) -> None:
    table = f'{split} = {{ images = "t/{{case}}.nii.gz", labels = "t/{{case}}_l.nii.gz" }}'
    path = write(tmp_path, changed('target.images = "t/{case}.nii.gz"', f"""\
{table if split == "target" else 'target.images = "t/{case}.nii.gz"'}
{table if split == "validation" else ""}"""))  # fmt: skip
    message = refusal(path)
    assert f"data.{split}.labels: the target domain is unlabeled; put the pattern of" in message
    assert "evaluate.labels" in message
    assert "unknown key" not in message
