"""Which file the name of a recipe means: one in that place, or one that came with crossmod."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from crossmod.errors import RecipeError

PACKAGE = Path(__file__).parents[1]

SHIPPED = (PACKAGE / "_recipes", PACKAGE.parent / "recipes")
"""Where the recipes lie that come with crossmod: installed, or in a checkout."""

ENDING = ".toml"


def shipped() -> dict[str, Path]:
    """Name -> file of the recipes that come with crossmod."""
    return {path.stem: path for folder in SHIPPED for path in sorted(folder.glob(f"*{ENDING}"))}


def find_recipe(recipe: Path, others: str = "") -> Path:
    """The file a user means: a path, or the name of a recipe that came with crossmod.

    Args:
        recipe: what was named.
        others: what the command takes besides recipes, for the message.

    Raises:
        RecipeError: the file does not exist.
    """
    found = recipe_file(str(recipe), Path())
    if found is None:
        names = sorted(shipped())
        near = get_close_matches(recipe.name, names, n=1)
        raise RecipeError(
            _fault_of(recipe),
            where=str(recipe),
            allowed=f"{others}a .toml file, or a recipe of crossmod: {', '.join(names)}",
            fix=f"did you mean '{near[0]}'?" if near else "",
        )
    return found


def _fault_of(recipe: Path) -> str:
    """Why something is not a recipe."""
    with suppress(OSError):  # a name may be too long for the file system
        if recipe.is_dir():
            return "is a folder, not a recipe"
        if recipe.exists():
            return f"is not a recipe: its name does not end with {ENDING}"
    return "does not exist"


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
