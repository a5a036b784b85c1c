"""What a stage keeps in this process: a run uses what it has learned in another one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

Owner = type | ModuleType

UNSET = object()

CACHE = type(cache(len))
"""What `functools.cache` and `functools.lru_cache` return."""


class Memory:
    """Variables of a stage's classes and modules, as they are at first.

    Args:
        stage: the class of the stage.
    """

    def __init__(self, stage: type) -> None:
        self.owners = list(_owners(stage))
        self.before = [_variables(owner) for owner in self.owners]

    def changed(self) -> list[str]:
        """The variables that have changed, as a message names them."""
        return [f"`{name}` of {_called(owner)}" for owner, name, _ in self._changes()]

    def restore(self) -> None:
        """Put back what has changed, as if the process had just begun."""
        for owner, name, old in list(self._changes()):
            if old is UNSET:
                delattr(owner, name)
                continue
            value, content = old
            setattr(owner, name, value)
            _refill(value, content)
        for owner in self.owners:
            for value in list(vars(owner).values()):
                if isinstance(value, CACHE):
                    value.cache_clear()

    def _changes(self) -> Iterator[tuple[Owner, str, Any]]:
        for owner, before in zip(self.owners, self.before, strict=True):
            now = _variables(owner)
            for name in {**before, **now}:
                old, new = before.get(name, UNSET), now.get(name, UNSET)
                if not _same(old, new):
                    yield owner, name, old


def attributes_set(before: dict[str, Any], instance: object) -> list[str]:
    """The attributes of an instance that are not what they were, as a message names them."""
    now = vars(instance)
    who = type(instance).__name__
    return [f"`{name}` of {who}" for name in now if before.get(name, UNSET) is not now[name]]


def _owners(stage: type) -> Iterator[Owner]:
    """The classes of a stage that are not crossmod's, and the modules around them."""
    classes = [one for one in stage.__mro__ if _top(one.__module__) not in NOT_OURS]
    yield from classes
    tops = {_top(one.__module__) for one in classes}
    for name, module in list(sys.modules.items()):
        if _top(name) in tops and isinstance(module, ModuleType):
            yield module


NOT_OURS = {"crossmod", *sys.stdlib_module_names} - {"__main__"}


def _top(module: str) -> str:
    return module.partition(".")[0]


def _called(owner: Owner) -> str:
    return f"module {owner.__name__}" if isinstance(owner, ModuleType) else owner.__name__


def _variables(owner: Owner) -> dict[str, tuple[Any, Any]]:
    """Name -> value and, of a container, its content."""
    found = {n: v for n, v in vars(owner).items() if not n.startswith(("__", "_abc_"))}
    return {n: (v, v.copy() if type(v) in (dict, list, set) else None) for n, v in found.items()}


def _same(old: Any, new: Any) -> bool:
    """Whether the value is the same object, and holds the same objects."""
    if old is UNSET or new is UNSET or old[0] is not new[0]:
        return False
    contents = [list(c.items()) if isinstance(c, dict) else list(c or ()) for c in (old[1], new[1])]
    return _ids(contents[0]) == _ids(contents[1])


def _ids(content: list[Any]) -> list[Any]:
    return [tuple(map(id, one)) if isinstance(one, tuple) else id(one) for one in content]


def _refill(value: Any, content: Any) -> None:
    """Give a container its content back."""
    if content is not None:
        value.clear()
        getattr(value, "extend" if isinstance(value, list) else "update")(content)
