"""One digest of all code that decides what a plugin computes. None of it is imported.

It is the plugin's own distribution, and every module its code names that is neither part of Python
nor listed by another distribution, such as a helper that lies beside it. Parts of crossmod
count if they compute numbers for plugins: `crossmod.torch`, and the modules behind `NUMBERS`.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distributions
from importlib.util import find_spec, resolve_name
from io import BufferedIOBase, BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from warnings import catch_warnings, simplefilter

from packaging.utils import canonicalize_name

import crossmod
from crossmod.files.digests import digest_of_bytes

CORE = "crossmod"

NUMBERS = frozenset({
    "agreement", "dice", "in_voxels", "keep_largest", "match_groups", "mean_shift_mm", "measure",
    "rescale", "touching",
})  # fmt: skip
"""Public functions that compute what a plugin gives. The modules they come from count; those of
data classes, options, stages and errors do not, or every edit there would rerun every plugin."""

NO_CODE = re.compile(r"__pycache__|\..*|.*~|.*\.(md|rst|pyi|dist-info|egg-info)|py\.typed")
"""Names of files and folders that change no result."""

INSTALLERS = re.compile(r"_?_editable_.*|.*\.pth")
"""Files of an installation that hold the path of a project."""

NAME = re.compile(r"[\w-][\w./-]{0,99}", re.ASCII)
"""Text that may name a file or a module."""


class Place(NamedTuple):
    """Where a module, a package or a file lies.

    Attributes:
        path: a file, a folder, or an archive with all that is in it.
        within: the packages around what is in the path.
    """

    path: Path
    within: tuple[str, ...] = ()


class Code:
    """Collects code, and what is named in it.

    Args:
        own: the distribution it belongs to, where that is known.
    """

    def __init__(self, own: Distribution | None) -> None:
        self.own = _name_of(own) if own else ""
        self.digests: dict[str, str] = {}
        self._taken: set[Path] = set()

    def take(self, place: Place, follow: bool = True) -> None:
        """Take what lies at a place and, to follow it, what its code names."""
        if place.path in self._taken:
            return
        self._taken.add(place.path)
        loose = place.path.parent if place.path.suffix == ".py" else None
        for inner, file in _contents(place.path):
            name = PurePosixPath(*place.within, inner)
            with file:
                self.digests[str(name)] = hashlib.file_digest(file, "sha256").hexdigest()
                if follow and name.suffix == ".py":
                    file.seek(0)
                    self._follow(file.read(), name.parent.parts, loose)

    def distribution(self, whole: Distribution, follow: bool = True) -> None:
        """Take all that a distribution lists."""
        for name in (whole.read_text("top_level.txt") or "").split():
            if place := place_of(name):
                self.take(place, follow)
        for file in whole.files or ():
            top = file.parts[0]
            if not NO_CODE.fullmatch(top) and not INSTALLERS.fullmatch(top) and top != "/":
                self.take(_listed(whole, file), follow)

    def core(self, inner: str) -> None:
        """Take the parts of crossmod that a name in it stands for; `*` for all public names.

        They count by content alone, without imports from crossmod: to move or rename a module
        changes no digest.
        """
        for path in {*_parts_of_core(inner)} - self._taken:
            self._taken.add(path)
            for name, file in _contents(path):
                with file:
                    content = file.read()
                content = _without_core(content) if name.endswith(".py") else content
                digest = digest_of_bytes(content)
                self.digests[f"{CORE}/{digest}"] = digest

    def is_foreign(self, top: str, path: Path) -> bool:
        """Whether a module of this name, at this place, is Python's or another distribution's."""
        if top in sys.stdlib_module_names:
            return True
        owners = _owners().get(top, ())
        here = [one for one in owners if path.is_relative_to(str(one.locate_file("")))]
        return bool(here) and self.own not in map(_name_of, here)

    def digest(self) -> str:
        """One digest of all names and contents."""
        lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(self.digests.items()))
        return digest_of_bytes(lines)

    def _follow(self, source: bytes, package: tuple[str, ...], loose: Path | None) -> None:
        with catch_warnings(), suppress(SyntaxError, ValueError, RecursionError):  # not for us
            simplefilter("ignore")
            for node in ast.walk(ast.parse(source)):
                for name in _imported(node, ".".join(package)):
                    self._import(name)
                if loose and isinstance(node, ast.Constant) and isinstance(node.value, str):
                    self._mention(node.value, loose, package)

    def _import(self, name: str) -> None:
        top, _, inner = name.partition(".")
        if top == CORE:
            self.core(inner)
            return
        place = None if top in sys.stdlib_module_names else place_of(name)
        if place and not self.is_foreign(top, place.path):
            self.take(place)

    def _mention(self, text: str, folder: Path, package: tuple[str, ...]) -> None:
        """Take the file or module of this name beside a module that is in no regular package."""
        if not NAME.fullmatch(text) or ".." in text:
            return
        place = _inside(folder, text, package)
        if place and not self.is_foreign((*package, text.partition(".")[0])[0], place.path):
            self.take(place)


def code_digest(entry: EntryPoint, stage: type, declared: tuple[str, ...], alone: bool) -> str:
    """A digest of the code of a plugin.

    Args:
        entry: where it comes in.
        stage: its class; the code of base classes counts, too.
        declared: modules, distributions, and paths beside the module that count besides.
        alone: whether its distribution has no other plugin. Where it has, what its own code names
            counts, not the rest.

    Raises:
        LookupError: something that is declared does not exist; holds its name.
    """
    code = Code(entry.dist)
    for module in dict.fromkeys([entry.module, *(base.__module__ for base in stage.__mro__)]):
        top = module.partition(".")[0]
        place = None if top in (CORE, *sys.stdlib_module_names) else place_of(module)
        if place:
            code.take(place, follow=not code.is_foreign(top, place.path))
    if alone and entry.dist:
        code.distribution(entry.dist)
    for name in declared:
        beside = _beside(stage, name)
        if beside:
            code.take(beside)
        _declare(code, name, beside is not None)
    return code.digest()


def _beside(stage: type, text: str) -> Place | None:
    """The file or folder of this name beside the module whose class declares it."""
    declaring = next(base for base in stage.__mro__ if "code_of" in vars(base))
    module = getattr(sys.modules.get(declaring.__module__), "__file__", None)
    name = PurePosixPath(text)
    if not module or not name.parts or name.is_absolute() or ".." in name.parts:
        return None
    path = Path(module).parent / name
    if path.is_dir():
        return Place(path, name.parts)
    return Place(path, name.parent.parts) if path.is_file() else None


def _declare(code: Code, name: str, found: bool) -> None:
    """Take a module or a distribution, whomever it belongs to."""
    if place := place_of(name):
        code.take(place, follow=not code.is_foreign(name.partition(".")[0], place.path))
        return
    before = len(code.digests)
    with suppress(PackageNotFoundError, ValueError):
        code.distribution(Distribution.from_name(name), follow=False)
    if len(code.digests) == before and not found:
        raise LookupError(name)


def place_of(module: str) -> Place | None:
    """The outermost regular package that holds a module, else its file; None if neither exists."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        spec = None
        with suppress(ImportError, ValueError, AttributeError):  # no module, or one without a file
            spec = find_spec(".".join(parts[:depth]))
        if spec is None:
            return None
        if spec.origin and spec.has_location:
            return _existing(Path(spec.origin), tuple(parts[:depth]))
        if not spec.submodule_search_locations:
            return None
    return None


def _existing(origin: Path, name: tuple[str, ...]) -> Place | None:
    if origin.is_file():
        whole = origin.stem == "__init__"
        return Place(origin.parent, name) if whole else Place(origin, name[:-1])
    archive = next((one for one in origin.parents if one.exists()), None)
    return Place(archive) if archive and archive.is_file() else None


def _listed(whole: Distribution, file: PurePosixPath) -> Place:
    """A file of a distribution, or its package: there, more may lie than is listed."""
    for depth in range(1, len(file.parts)):
        folder = Path(str(whole.locate_file(PurePosixPath(*file.parts[:depth]))))
        if (folder / "__init__.py").is_file():
            return Place(folder, file.parts[:depth])
    return Place(Path(str(whole.locate_file(file))), file.parts[:-1])


def _inside(folder: Path, text: str, package: tuple[str, ...]) -> Place | None:
    file, module = folder / text, folder / f"{text}.py"
    if (file / "__init__.py").is_file():
        return Place(file, (*package, text))
    if file.is_file():
        return Place(file, (*package, *PurePosixPath(text).parent.parts))
    return Place(module, package) if module.is_file() else None


def _parts_of_core(inner: str) -> list[Path]:
    """The files and packages of crossmod that count for a dotted name in it; `*` is every name."""
    folder = Path(crossmod.__file__).parent
    homes = {home.partition(".")[2]: set(names) for home, names in crossmod._HOMES.items()}
    first = inner.partition(".")[0]
    public = [
        home
        for home, names in homes.items()
        if inner in ("*", home) or first in names or inner.startswith(f"{home}.")
    ]
    if public:
        files = [folder.joinpath(*home.split(".")).with_suffix(".py") for home in public]
        return [file for home, file in zip(public, files, strict=True) if homes[home] & NUMBERS]
    place = folder
    for part in inner.split("."):
        if part and (place / f"{part}.py").is_file():
            return [place / f"{part}.py"]
        if not part or not (place / part / "__init__.py").is_file():
            break
        place /= part
    return [] if place == folder else [place]


def _without_core(source: bytes) -> bytes:
    """Code of crossmod without the lines that import from crossmod."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if any(name.partition(".")[0] == CORE for name in _imported(node, CORE)):
            assert isinstance(node, ast.stmt)
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = b""
    return b"".join(lines)


def _imported(node: ast.AST, package: str) -> list[str]:
    """The modules that a statement may import, by their full names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        binds = [one for one in node.names if one.name.split(".")[0] == CORE and not one.asname]
        return [*names, f"{CORE}.*"] if binds or CORE in names else names
    if not isinstance(node, ast.ImportFrom):
        return []
    name = node.module or ""
    if node.level:
        try:
            name = resolve_name("." * node.level + name, package)
        except ImportError:
            return []
    return [name, *(f"{name}.{alias.name}" for alias in node.names)]


def _contents(path: Path) -> Iterator[tuple[str, BufferedIOBase]]:
    """The files at a place by their names there, opened one after the other."""
    if path.is_dir():
        for file in _below(path, set()):
            yield file.relative_to(path).as_posix(), file.open("rb")
    elif path.suffix != ".py" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not name.endswith("/") and not any(map(NO_CODE.fullmatch, name.split("/"))):
                    yield name, BytesIO(archive.read(name))
    elif path.is_file():
        yield path.name, path.open("rb")


def _below(folder: Path, seen: set[str]) -> Iterator[Path]:
    """All files of a folder; links are followed, each folder once."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    for path in sorted(folder.iterdir()):
        if not NO_CODE.fullmatch(path.name):
            if path.is_dir():
                yield from _below(path, seen)
            elif path.is_file():
                yield path


@cache
def _owners() -> dict[str, list[Distribution]]:
    """Name of a module or package -> the distributions that list it."""
    owners: dict[str, list[Distribution]] = {}
    for one in distributions():
        lines: list[str] = []
        with suppress(Exception):  # metadata that is not text
            lines = (one.read_text("RECORD") or one.read_text("top_level.txt") or "").splitlines()
        tops = {line.partition(",")[0].partition("/")[0].partition(".")[0] for line in lines}
        for top in tops or {_name_of(one).replace("-", "_")}:
            owners.setdefault(top, []).append(one)
    return owners


def _name_of(one: Distribution) -> str:
    with suppress(Exception):  # metadata that is not text, or none at all
        return canonicalize_name(one.metadata["Name"])
    return ""
