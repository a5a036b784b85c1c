"""TOML files to one merged document that remembers where each key was written."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmod.errors import RecipeError

Location = tuple[str | int, ...]
MAX_BYTES = 1_000_000
MAX_EXTENDS = 10


@dataclass(frozen=True)
class Document:
    """The merged tables of a recipe and where each key stands.

    Attributes:
        path: the recipe file.
        tables: nested tables as tomllib reads them.
        origins: location of a key -> "file:line".
    """

    path: Path
    tables: Mapping[str, Any]
    origins: Mapping[Location, str]

    def problem(self, location: Location, text: str, *, allowed: str = "", near: str = "") -> str:
        """A message for the key at ``location``: where, what, what is allowed, nearest name."""
        key = ".".join(map(str, location))
        lines = [f"{self.origin(location)}: {key}: {text}"]
        lines += [f"    allowed: {allowed}"] if allowed else []
        lines += [f"    did you mean '{near}'?"] if near else []
        return "\n".join(lines)

    def origin(self, location: Location) -> str:
        """File and line of a key, or of the closest table around it."""
        for end in range(len(location), 0, -1):
            if location[:end] in self.origins:
                return self.origins[location[:end]]
        return str(self.path)


def read_documents(path: Path, settings: Sequence[str]) -> dict[str, Document]:
    """Read a recipe with everything it extends, once for each of its variants.

    Settings ``a.b=c`` change the recipe as if they stood in it: what a variant changes itself is
    set by ``variants.NAME.a.b=c``.

    Returns:
        Name of the variant -> document; the name is empty where the recipe has no variants.

    Raises:
        RecipeError: unreadable file, TOML syntax, circular `extends`, a malformed setting, or
            variants that are not tables.
    """
    tables, origins = _read_chain(path, ())
    for setting in settings:
        tables, origins = _apply(setting, tables, origins)
    variants = _variants(tables.pop("variants", {}), origins)
    if not variants:
        return {"": Document(path, prune(tables), origins)}
    documents = {}
    for name, changes in variants.items():
        places = {**origins, **_moved(origins, name)}
        documents[name] = Document(path, prune(merge(tables, changes)), places)
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
    return {name: changes for name, changes in kept.items() if changes is not False}


def _moved(origins: Mapping[Location, str], variant: str) -> dict[Location, str]:
    """Where the keys that a variant changes were written."""
    start = ("variants", variant)
    return {key[2:]: place for key, place in origins.items() if key[:2] == start and key[2:]}


def _read_chain(path: Path, seen: tuple[Path, ...]) -> tuple[dict[str, Any], dict[Location, str]]:
    resolved = path.resolve()
    if resolved in seen or len(seen) > MAX_EXTENDS:
        chain = " -> ".join(str(one.name) for one in (*seen, resolved))
        raise RecipeError(f"recipes extend each other in a circle: {chain}", where=str(path))
    tables, origins = _read_one(path)
    base = tables.pop("extends", None)
    if base is None:
        return tables, origins
    if not isinstance(base, str):
        raise RecipeError("'extends' must be a file name", where=origins[("extends",)])
    under, under_origins = _read_chain(path.parent / base, (*seen, resolved))
    return merge(under, tables), {**under_origins, **origins}


def _read_one(path: Path) -> tuple[dict[str, Any], dict[Location, str]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if len(raw) > MAX_BYTES:
        raise RecipeError(f"is {len(raw)} bytes", where=str(path), allowed=f"{MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8")
        tables = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise RecipeError(f"is not UTF-8 at byte {error.start}", where=str(path)) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"is not TOML: {error}", where=str(path)) from error
    return tables, {key: f"{path}:{line}" for key, line in locate(text).items()}


CORE_KEYS = {
    "average",
    "fit_on",
    "folds",
    "keep_originals",
    "largest_component",
    "last",
    "rounds",
    "warm_start",
}
"""Keys of a stage table that the core reads; they outlive a change of plugin."""


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merge key by key; `false` removes a table.

    Where another plugin is named, the options of the old one go.
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
    return merged


def prune(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what `false` removes: a kind of stage, one step of it, a class or a center."""
    kept = {k: v for k, v in tables.items() if not (k in STAGES and v is False)}
    for kind in STAGES & kept.keys():
        if isinstance(kept[kind], Mapping) and "use" not in kept[kind]:
            kept[kind] = _without_false(kept[kind])
    data = kept.get("data")
    if isinstance(data, Mapping):
        named = {
            k: _without_false(data[k]) for k in NAMES & data.keys() if isinstance(data[k], Mapping)
        }
        kept["data"] = {**data, **named}
    return kept


def _without_false(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not False}


NAMES = {"classes", "centers"}
"""Tables in [data] of which `false` may remove an entry."""

STAGES = {"translate", "augment", "pseudo_label"}
"""The tables that `false` may remove."""


def _apply(
    setting: str, tables: dict[str, Any], origins: dict[Location, str]
) -> tuple[dict[str, Any], dict[Location, str]]:
    key, equals, text = setting.partition("=")
    parts = tuple(key.strip().split("."))
    if not equals or not all(parts):
        raise RecipeError(f"'{setting}' is not a setting", where="--set", allowed="a.b=c")
    nested: Any = _value(text.strip())
    for part in reversed(parts):
        nested = {part: nested}
    return merge(tables, nested), {**origins, parts: f"--set {key.strip()}"}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string: --set segment.use=unet3d


VARIANT_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
ENTRY = re.compile(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=(.*)$")


def locate(text: str) -> dict[Location, int]:
    """Line of every table header and key that starts a line, by location.

    tomllib gives no positions. Keys inside inline tables take the line of the key that holds them.
    """
    lines: dict[Location, int] = {}
    table: Location = ()
    counts: dict[Location, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := HEADER.match(line):
            table = _split_key(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines.setdefault(table, number)
        elif entry := ENTRY.match(line):
            lines.setdefault((*table, *_split_key(entry[1])), number)
    return lines


def _split_key(key: str) -> Location:
    return tuple(part.strip().strip("\"'") for part in key.split("."))
