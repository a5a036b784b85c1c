"""TOML files to one merged document that remembers where each key was written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from crossmod.errors import RecipeError
from crossmod.options import Location, model_in, sides
from crossmod.recipe.names import ENDING, SHIPPED, recipe_file, shipped
from crossmod.recipe.text import MAX_DEPTH, parse_value, read_tables
from crossmod.stages.tables import CORE_KEYS

SCHEMA = 1
"""The version of the recipe language; raised when an older recipe would mean something else."""

MAX_EXTENDS = 10
"""Recipes that extend each other in one chain."""

MAX_VARIANTS = 200
"""Variants of one recipe."""

SETTING = "--set"
"""Where a key was written that the command line sets."""

VARIANT_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


@dataclass(frozen=True)
class Document:
    """The merged tables of a recipe and where each key stands.

    Attributes:
        path: the recipe file.
        tables: nested tables as tomllib reads them.
        origins: location of a key -> "file:line".
        files: the recipe file and all that it extends.
    """

    path: Path
    tables: Mapping[str, Any]
    origins: Mapping[Location, str]
    files: tuple[Path, ...]

    def problem(
        self, location: Location, text: str, *, allowed: str = "", near: str = "", fix: str = ""
    ) -> str:
        """A message for the key at ``location``: where, what, what is allowed, what to do."""
        key = ".".join(map(str, location))
        origin = self.origin(location)
        lines = [
            f"{origin}: {text}" if origin == f"{SETTING} {key}" else f"{origin}: {key}: {text}"
        ]
        lines += [f"    allowed: {allowed}"] if allowed else []
        lines += [f"    did you mean '{near}'?"] if near else []
        lines += [f"    {fix}"] if fix else []
        return "\n".join(lines)

    def origin(self, location: Location) -> str:
        """File and line of a key, or of the closest table around it."""
        for end in range(len(location), 0, -1):
            if location[:end] in self.origins:
                return self.origins[location[:end]]
        return str(self.path)


def read_documents(
    path: Path, settings: Sequence[str], *, allow_outside: bool = False
) -> dict[str, Document]:
    """Read a recipe with everything it extends, once for each of its variants.

    Settings ``a.b=c`` change the recipe as if they stood in it: what a variant changes itself is
    set by ``variants.NAME.a.b=c``.

    Args:
        path: the TOML file.
        settings: later ones win.
        allow_outside: let it extend recipes outside its folder, the current one and those shipped.

    Returns:
        Name of the variant -> document; the name is empty where the recipe has no variants.

    Raises:
        RecipeError: unreadable file, TOML syntax, another schema, `extends` in a circle or to the
            outside, a malformed setting, or variants that are not tables.
    """
    files: list[Path] = []
    tables, origins = _read_chain(path, None if allow_outside else path.parent, files)
    for setting in settings:
        tables, origins = _apply(setting, tables, origins)
    variants = _variants(tables.pop("variants", {}), origins)
    if not variants:
        return {"": Document(path, tables, origins, tuple(files))}
    documents = {}
    for name, changes in variants.items():
        places = {**origins, **_moved(origins, name)}
        documents[name] = Document(path, merge(tables, changes), places, tuple(files))
    return documents


def _variants(found: Any, origins: Mapping[Location, str]) -> dict[str, Mapping[str, Any]]:
    """The variants that `false` has not removed."""
    kept = {} if found is False else found
    for name, changes in kept.items() if isinstance(kept, Mapping) else [("", kept)]:
        if not isinstance(changes, Mapping) and changes is not False:
            raise RecipeError(
                "a variant is a table of changes, or false",
                where=origins.get(("variants", name), "variants"),
                allowed="[variants.NAME]",
            )
        if not VARIANT_NAME.fullmatch(name):
            raise RecipeError(
                f"'{name}' cannot name a folder",
                where=origins.get(("variants", name), "variants"),
                allowed="letters, digits, - and _",
            )
    if len(kept) > MAX_VARIANTS:
        raise RecipeError(f"has {len(kept)} variants", where="variants", allowed=f"{MAX_VARIANTS}")
    return {name: changes for name, changes in kept.items() if changes is not False}


def _moved(origins: Mapping[Location, str], variant: str) -> dict[Location, str]:
    """Where the keys that a variant changes were written."""
    start = ("variants", variant)
    return {key[2:]: place for key, place in origins.items() if key[:2] == start and key[2:]}


def _read_chain(
    path: Path, home: Path | None, seen: list[Path]
) -> tuple[dict[str, Any], dict[Location, str]]:
    """The tables of a recipe over those of the recipes it extends, which are added to ``seen``."""
    tables, origins = read_tables(path)
    resolved = path.resolve()
    if resolved in seen or len(seen) > MAX_EXTENDS:
        chain = " -> ".join(one.name for one in (*seen, resolved))
        how = "in a circle" if resolved in seen else f"more than {MAX_EXTENDS} times"
        raise RecipeError(f"recipes extend each other {how}: {chain}", where=str(path))
    seen.append(resolved)
    _check_schema(tables.pop("schema", SCHEMA), origins.get(("schema",), str(path)))
    if "extends" not in tables:
        return tables, origins
    base = _base(path, tables.pop("extends"), home, origins.get(("extends",), str(path)))
    under, under_origins = _read_chain(base, home, seen)
    return merge(under, tables), {**under_origins, **origins}


def _check_schema(found: Any, where: str) -> None:
    if type(found) is not int or found < 1:
        raise RecipeError(f"schema {found!r} does not exist", where=where, allowed=str(SCHEMA))
    if found > SCHEMA:
        raise RecipeError(
            f"is written for schema {found}; this crossmod reads {SCHEMA}",
            where=where,
            fix="install a newer crossmod",
        )


def _base(path: Path, named: Any, home: Path | None, where: str) -> Path:
    """The recipe that another one extends, below home or anywhere; links are followed."""
    if not isinstance(named, str):
        raise RecipeError("'extends' must be a file name", where=where)
    found = recipe_file(named, path.parent, path)
    base = found or path.parent / named
    try:
        leads_to = base.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, NUL in the name
        raise RecipeError(f"extends cannot be followed: {error}", where=where) from error
    if home is not None:
        _require_inside(named, leads_to, home, where)
    itself = path.resolve()
    if found is None and itself in (leads_to, Path(f"{leads_to}{ENDING}")):
        return path  # a circle, which is said later
    if found is None:
        raise RecipeError(
            f"extends {named!r}, which cannot be found",
            where=where,
            allowed=f"a file beside it, or one that came with crossmod: {', '.join(shipped())}",
        )
    return base


def _require_inside(named: str, leads_to: Path, home: Path, where: str) -> None:
    roots = [folder.resolve() for folder in (home, Path.cwd(), *SHIPPED)]
    if not any(leads_to.is_relative_to(root) for root in roots):
        raise RecipeError(
            f"extends {named!r}, which is {leads_to}",
            where=where,
            allowed="recipes below the folder of the recipe or the current one, and shipped ones",
            fix="if you trust it, add --allow-outside",
        )


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merge key by key; `false` removes a table.

    Where another plugin is named, the options of the old one go. A new key comes last, or before
    the next key of ``over`` that is in ``under``, too: translators are applied in their order.

    Example:
        >>> under = {"segment": {"use": "one", "epochs": 500, "folds": 5}, "augment": {}}
        >>> merge(under, {"segment": {"epochs": 2}, "augment": False})
        {'segment': {'use': 'one', 'epochs': 2, 'folds': 5}}
        >>> merge(under, {"segment": {"use": "another"}})["segment"]
        {'folds': 5, 'use': 'another'}
        >>> list(merge({"gan": {}, "sharpen": {}}, {"before": {}, "gan": {}}))
        ['before', 'gan', 'sharpen']
    """
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            swapped = "use" in value and value["use"] != old.get("use")
            kept = {k: v for k, v in old.items() if k in CORE_KEYS} if swapped else old
            merged[key] = merge(kept, value)
        elif isinstance(old, Mapping) and value is False:
            del merged[key]
        else:
            merged[key] = value
    return {key: merged[key] for key in _order(under, over) if key in merged}


def _order(under: Iterable[str], over: Iterable[str]) -> list[str]:
    """The keys of both; a new one stands before the next known one of ``over``, else at the end."""
    order, followers = list(under), list(over)
    for place, key in enumerate(followers):
        if key not in order:
            known = [later for later in followers[place + 1 :] if later in order]
            order.insert(order.index(known[0]) if known else len(order), key)
    return order


def unset(table: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """Drop what `false` unsets: a step, a class, a center, and any key that has a default.

    Where `false` is a value of its own, as in `flip = false`, it stays.

    Args:
        table: the merged table, valid or not.
        kind: the class of its options, or the type that holds it.

    Example:
        >>> from crossmod.data.grids import Preprocess
        >>> unset({"spacing_mm": [1, 1, 1], "crop": False}, Preprocess)
        {'spacing_mm': [1, 1, 1]}
    """
    kept = {}
    types = _types_in(table, kind)
    for key, value in table.items():
        inner, is_required = types.get(key, (Any, True))
        if value is False and not is_required and not _holds_false(inner):
            continue
        if isinstance(value, Mapping):
            value = unset(value, inner)
        elif isinstance(value, list):
            value = [unset(one, inner) if isinstance(one, Mapping) else one for one in value]
        kept[key] = value
    return kept


def _types_in(table: Mapping[str, Any], kind: Any) -> dict[str, tuple[Any, bool]]:
    """Key -> type, and whether it is required, of what a table may hold."""
    _, entries = sides(kind)
    if entries is not Any:
        return dict.fromkeys(table, (entries, False))
    model = model_in(kind)
    fields = model.model_fields if model else {}
    return {key: (field.annotation, field.is_required()) for key, field in fields.items()}


def _holds_false(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return any(value is False for value in get_args(kind))
    if get_origin(kind) in (Annotated, Union, UnionType):
        return any(map(_holds_false, get_args(kind)))
    return kind in (bool, Any, object)


def _apply(
    setting: str, tables: dict[str, Any], origins: dict[Location, str]
) -> tuple[dict[str, Any], dict[Location, str]]:
    if any("\ud800" <= character <= "\udfff" for character in setting):  # bytes of no text
        raise RecipeError(f"{setting[:80]!a} is not UTF-8", where=SETTING)
    key, equals, text = setting.partition("=")
    parts = tuple(key.strip().split("."))
    if not equals or not all(parts) or len(parts) > MAX_DEPTH:
        raise RecipeError(f"'{setting[:80]}' is not a setting", where=SETTING, allowed="a.b=c")
    place = f"{SETTING} {key.strip()}"
    nested: Any = parse_value(text.strip(), place)
    set_here = dict.fromkeys(_places(nested, parts), place)
    for part in reversed(parts):
        nested = {part: nested}
    return merge(tables, nested), {**origins, **set_here}


def _places(value: Any, place: Location) -> Iterator[Location]:
    """Where a value stands, and everything in it."""
    yield place
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        yield from _places(inner, (*place, key))
