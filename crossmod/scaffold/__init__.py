"""What a plugin of one's own begins with: a project that installs, runs and tests itself.

The files lie in ``templates``: those of every project, and those of each kind of stage. ``PACKAGE``
in a path becomes the name of the package, ``dot_`` a leading dot, and ``.j2`` is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path, PurePath

from packaging.version import Version

from crossmod.errors import RecipeError
from crossmod.files.outputs import new_folder
from crossmod.stages import find

TEMPLATES = Path(__file__).with_name("templates")

EVERY = "every"
"""The folder of what all projects have."""

BASES = {
    "translator": "Translator",
    "augmenter": "Augmenter",
    "segmenter": "Segmenter",
    "pseudo-labeler": "PseudoLabeler",
}
"""Kind of stage -> the class it derives from."""

NAME = re.compile(r"(?=.{1,40}$)[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Names:
    """How things are called in a project.

    Attributes:
        name: the plugin, as `use` names it: "gray-levels".
        kind: the kind of its stage: "translator".
        distribution: "crossmod-gray-levels".
        package: "crossmod_gray_levels".
        stem: begins the names of classes: "GrayLevels".
        stage: the class of the stage: "GrayLevelsTranslator".
        versions: those of crossmod that it is made for: ">=0.1,<0.2".
    """

    name: str
    kind: str
    distribution: str
    package: str
    stem: str
    stage: str
    versions: str


def names_of(name: str, kind: str) -> Names:
    """How things are called in the project of a plugin.

    Args:
        name: of the plugin.
        kind: one of `BASES`.

    Raises:
        RecipeError: a plugin cannot have this name.

    Example:
        >>> names_of("gray-levels", "translator").stage
        'GrayLevelsTranslator'
    """
    _require_name(name)
    distribution = f"crossmod-{name}"
    stem, base = "".join(part.capitalize() for part in name.split("-")), BASES[kind]
    own = Version(version("crossmod"))
    return Names(
        name=name,
        kind=kind,
        distribution=distribution,
        package=distribution.replace("-", "_"),
        stem=stem,
        stage=stem if stem != base and stem.endswith(base) else stem + base,
        versions=f">={own.major}.{own.minor},<{own.major}.{own.minor + 1}",
    )


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        near = _nearest_name(Path(name).name)
        fix = f"did you mean '{near}'?" if near else ""
        if len(Path(name).parts) > 1:
            fix = f"change to the folder {Path(name).parent} first, then name it {near or 'alone'}"
        raise RecipeError(
            "cannot be the name of a plugin",
            where=name or "''",
            allowed="up to 40 lower-case letters, digits and single hyphens, beginning with a"
            " letter, as gray-levels",
            fix=fix,
        )
    if name.partition("-")[0] == "crossmod":
        raise RecipeError(
            "the package gets the prefix 'crossmod' by itself",
            where=name,
            fix=f"leave it out: {name.partition('-')[2] or 'gray-levels'}",
        )


def _nearest_name(word: str) -> str:
    """The name of a plugin that is written most like a word; empty if there is none.

    Example:
        >>> _nearest_name("CDF Curve"), _nearest_name("my.pl"), _nearest_name("3")
        ('cdf-curve', 'my-pl', '')
    """
    parts = re.findall(r"[a-z0-9]+", word.lower())
    near = "-".join(parts).lstrip("0123456789-")[:40].rstrip("-")
    return near if NAME.fullmatch(near) else ""


def require_free(names: Names) -> None:
    """Refuse the name of what is installed.

    Raises:
        RecipeError: a plugin or a package has it.
    """
    if names.name in find.available():
        raise RecipeError(
            "a plugin of this name is installed",
            where=names.name,
            allowed=f"any name but {', '.join(find.available())}",
        )
    if find_spec(names.package) is not None:
        raise RecipeError(
            f"a package {names.package} is installed", where=names.name, fix="choose another name"
        )


def files_of(names: Names) -> Iterator[tuple[PurePath, str]]:
    """Path in the project and content of every file."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # neither HTML nor anything from elsewhere
    )
    for folder in (EVERY, names.kind):
        for path in sorted(path for path in (TEMPLATES / folder).rglob("*") if path.is_file()):
            template = environment.get_template(path.relative_to(TEMPLATES).as_posix())
            place = path.relative_to(TEMPLATES / folder)
            if place.name != ABOUT:
                yield _placed(place, names), template.render(asdict(names))


ABOUT = "about.md.j2"
"""Part of the README of every project."""


def _placed(place: PurePath, names: Names) -> PurePath:
    parts = (part.replace("PACKAGE", names.package) for part in place.parts)
    return PurePath(*(re.sub("^dot_", ".", part.removesuffix(".j2")) for part in parts))


def write_project(names: Names, folder: Path) -> list[PurePath]:
    """Write a project into a new folder.

    Args:
        names: how things are called in it.
        folder: absent or empty; it appears when all files are written.

    Returns:
        The paths of the files in it.

    Raises:
        DataError: the folder holds something.
        MachineError: it cannot be written.
    """
    written = []
    with new_folder(folder) as draft:
        for place, content in files_of(names):
            (draft / place).parent.mkdir(parents=True, exist_ok=True)
            (draft / place).write_text(content, encoding="utf-8")
            written.append(place)
    return written
