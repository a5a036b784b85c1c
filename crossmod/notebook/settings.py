"""Changes of a recipe given as Python values, written as `--set` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import tomlkit

from crossmod.errors import RecipeError


def written(settings: Mapping[str, Any]) -> list[str]:
    """Each change as ``a.b=c``, in TOML.

    Args:
        settings: key -> text, number, boolean, path, or an array, list or dictionary of these.

    Raises:
        RecipeError: `settings` is not a dictionary, or a value has the wrong type; names the key.

    Example:
        >>> written({"segment.folds": np.int64(2), "translate.gan.fit_on": {"center": "etz"}})
        ['segment.folds=2', 'translate.gan.fit_on={center = "etz"}']
    """
    if not isinstance(settings, Mapping):
        raise RecipeError(
            f"{settings!r:.80} is not a dictionary",
            where="set",
            allowed='changes of the recipe, as in {"segment.folds": 2}',
        )
    return [f"{_name(key, 'set')}={_toml(_plain(value, key))}" for key, value in settings.items()]


def _toml(value: Any) -> str:
    line = tomlkit.array()  # in which tomlkit writes tables inline
    line.append(value)
    return line.as_string()[1:-1]


def _plain(value: Any, key: str) -> Any:
    """A value in the types that TOML knows."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {_name(name, key): _plain(one, f"{key}.{name}") for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(one, f"{key}[{place}]") for place, one in enumerate(value)]
    raise RecipeError(
        f"a recipe cannot hold {value!r:.80}",
        where=key,
        allowed="texts, numbers, booleans, paths, and arrays, lists and dictionaries of these",
        fix="to unset a key, pass False" if value is None else "",
    )


def _name(name: Any, key: str) -> str:
    if isinstance(name, str):
        return name
    raise RecipeError(f"{name!r} cannot name a key", where=key, allowed="texts")
