"""A recipe to begin with: it extends another, whose lines it shows as comments."""

from __future__ import annotations

import json
import os
import re
from itertools import dropwhile
from pathlib import Path

from crossmod.errors import RecipeError
from crossmod.files.outputs import Inputs, Outputs
from crossmod.recipe.load import load_all
from crossmod.recipe.names import ENDING, find_recipe, shipped
from crossmod.recipe.schema import recipe_schema

SCHEMA_FILE = "recipe.schema.json"
"""What a recipe names in its first line, for editors."""

OF_FILES = re.compile(r"(extends|title|schema)\s*=")
"""Keys that the new recipe has itself."""

HEAD = """\
#:schema ./{schema}
# Starts from {base}, whose lines stand below as comments. To change one, remove the # before it and
# before the header of its table; all else stays as {base} has it.
#   crossmod check {file}
#   crossmod run {file} --data DIR

extends = "{extends}"
title = "{title}"
"""


def begin_recipe(file: Path, base: Path) -> list[Path]:
    """Write a recipe that extends another, and the schema that editors complete it with.

    Args:
        file: the recipe to write; `.toml` may be left out.
        base: a recipe file, or the name of one that came with crossmod.

    Returns:
        The files that were written.

    Raises:
        RecipeError: the base does not exist or is not valid, or the name does not suit a file.
        DataError: a file of that name exists, and the base is or extends it, or it was not written
            by this command.
        MachineError: a file cannot be written.
    """
    file = file if file.suffix == ENDING else file.with_name(file.name + ENDING)
    source = find_recipe(base)
    read = load_all(source, allow_outside=True)[0].document.files
    outputs = Outputs(file.parent, "crossmod new recipe", Inputs(read))
    outputs.require([file.name], fix="choose another name")
    written = write_schema(file.parent / SCHEMA_FILE)
    with outputs.file(file.name) as draft:
        draft.write_text(extension(file, source), encoding="utf-8")
    return [file, written]


def write_schema(file: Path) -> Path:
    """Write the schema of recipes, with the options of the plugins that are installed now.

    Raises:
        DataError: a file of that name exists, and was not written by this command.
        MachineError: it cannot be written.
    """
    outputs = Outputs(file.parent, "crossmod schema")
    outputs.require([file.name], fix="name another file")
    with outputs.file(file.name) as draft:
        draft.write_text(json.dumps(recipe_schema(), indent=1) + "\n", encoding="utf-8")
    return file


def extension(file: Path, base: Path) -> str:
    """The text of a recipe that extends another.

    Raises:
        RecipeError: its title could not be written.
    """
    own = shipped().get(base.stem)
    known = own is not None and own.samefile(base)
    named = base.stem if known else Path(os.path.relpath(base, file.parent)).as_posix()
    if not file.stem.isprintable() or {'"', "\\"} & {*file.stem, *named}:
        raise RecipeError("cannot be named in a recipe", where=str(file), fix="rename it")
    head = HEAD.format(
        schema=SCHEMA_FILE, base=base.stem, file=file.name, extends=named, title=file.stem
    )
    lines = base.read_text(encoding="utf-8").splitlines()
    body = dropwhile(lambda line: not line or line.startswith("#"), lines)  # what the base is
    shown = [f"# {line}".rstrip() if line else "" for line in body if not OF_FILES.match(line)]
    return "\n".join([head, *dropwhile(lambda line: not line, shown), ""])
