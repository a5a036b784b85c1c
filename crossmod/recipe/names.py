"""Which file the name of a recipe means: one in that place, or one that came with crossmod."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from crossmod.errors import RecipeError

PACKAGE = Path(__file__).parents[1]

SHIPPED = (PACKAGE / "_recipes", PACKAGE.parent / "recipes")
"""Where the recipes lie that come with crossmod: installed, or in a checkout."""

ENDING = ".toml"


def shipped() -> dict[str, Path]:
    """Name -> file of the recipes that come with crossmod."""
    return {path.stem: path for folder in SHIPPED for path in sorted(folder.glob(f"*{ENDING}"))}


def find_recipe(recipe: Path) -> Path:
    """The file a user means: a path, or the name of a recipe that came with crossmod.

    Raises:
        RecipeError: the file does not exist.
    """
    found = recipe_file(str(recipe), Path())
    if found is None:
        what = "is not a file"
        with suppress(OSError):  # a name may be too long for the file system
            what = "does not end with .toml" if recipe.is_file() else what
        raise RecipeError(what, where=str(recipe), allowed=", ".join(sorted(shipped())))
    return found


def recipe_file(named: str, folder: Path, extending: Path | None = None) -> Path | None:
    """The file that a recipe's name means, with or without `.toml`.

    What lies there comes first, then what came with crossmod, as `quickstart` or
    `recipes/quickstart`. A recipe does not mean itself: one that is called like a shipped one may
    extend it by that name.

    Args:
        named: the name or path, as written.
        folder: what it is relative to.
        extending: the recipe that names it, if one does.

    Returns:
        The file, or None if there is no such recipe.
    """
    for path in _places(Path(named), folder):
        with suppress(OSError):  # a name may be too long for the file system
            if path.is_file() and not (extending and path.samefile(extending)):
                return path
    return None


def _places(named: Path, folder: Path) -> Iterator[Path]:
    """Where to look, in order of precedence."""
    if named.suffix:  # else a file beside it, e.g. one called smoke, would hide a recipe
        yield folder / named
    bare = named.name.removesuffix(ENDING)
    if not bare:
        return
    yield folder / named.with_name(bare + ENDING)
    if named.parent in (Path(), Path("recipes")) and bare in (found := shipped()):
        yield found[bare]
