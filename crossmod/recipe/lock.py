"""The locked recipe: every default filled in, plugin versions noted, itself a valid recipe."""

from __future__ import annotations

import tomlkit

from crossmod.recipe.files import SCHEMA
from crossmod.recipe.load import Checked


def locked(checked: Checked) -> str:
    """The recipe as it ran, as TOML text."""
    tables = {"schema": SCHEMA, **checked.recipe.model_dump(mode="json", exclude_none=True)}
    for (kind, name), use in checked.uses.items():
        own = tables[kind][name] if name else tables[kind]
        own |= use.options.model_dump(mode="json", exclude_none=True)
    return _versions(checked) + tomlkit.dumps(tables)


def _versions(checked: Checked) -> str:
    """Plugin versions as comments: they record what ran and do not bind a rerun."""
    lines = []
    for use in checked.uses.values():
        identity = use.plugin.identity
        lines.append(f"# {use.name}: {identity['name']} of {identity['distribution']} "
                     f"{identity['version']}, code {identity['code'][:12]}")  # fmt: skip
    return "\n".join(lines) + "\n\n"
