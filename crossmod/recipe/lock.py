"""The locked recipe: every default filled in, plugin versions noted, itself a valid recipe."""

from __future__ import annotations

from typing import Any

import tomlkit

from crossmod.recipe.files import SCHEMA
from crossmod.recipe.load import Checked
from crossmod.stages.find import StageUse


def locked(checked: Checked) -> str:
    """The recipe as it ran, as TOML text."""
    tables = {"schema": SCHEMA, **checked.recipe.model_dump(mode="json", exclude_none=True)}
    for kind, uses in (("translate", checked.translators), ("augment", checked.augmenters)):
        for (name, table), use in zip(tables.get(kind, {}).items(), uses, strict=True):
            tables[kind][name] = _filled(table, use)
    tables["segment"] = _filled(tables["segment"], checked.segmentation.use)
    if checked.pseudo_labeler is not None:
        tables["pseudo_label"] = _filled(tables["pseudo_label"], checked.pseudo_labeler)
    return _versions(checked) + tomlkit.dumps(tables)


def _filled(table: dict[str, Any], use: StageUse) -> dict[str, Any]:
    options = use.options.model_dump(mode="json", exclude_none=True)
    return {**table, **options}


def _versions(checked: Checked) -> str:
    """Plugin versions as comments: they say what ran without binding a rerun."""
    uses = [*checked.translators, *checked.augmenters, checked.segmentation.use]
    uses += [checked.pseudo_labeler] if checked.pseudo_labeler else []
    lines = []
    for use in uses:
        identity = use.plugin.identity
        lines.append(f"# {use.name}: {identity['name']} of {identity['distribution']} "
                     f"{identity['version']}, code {identity['code'][:12]}")  # fmt: skip
    return "\n".join(lines) + "\n\n"
