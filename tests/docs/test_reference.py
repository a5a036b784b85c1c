"""The reference pages say what the code says. CROSSMOD_WRITE_DOCS=1 writes them anew."""

from __future__ import annotations

import os
import re
from itertools import groupby
from pathlib import Path

from crossmod.recipe.model import Recipe
from crossmod.scores.table import BUILT_IN
from crossmod.stages.explain import option_rows

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reference" / "recipe.md"
HEAD = """\
# The keys of a recipe

This page lists the keys that the core reads. A stage table (`[translate.NAME]`, `[augment.NAME]`,
`[segment]`, `[pseudo_label]`) also holds the options of its plugin; `crossmod plugins NAME` lists
them.

`extends = "other.toml"` starts from another recipe. Tables merge key by key; naming another plugin
with `use` drops the options of the old one; and `false` unsets what the other recipe sets: a table,
a class, a center, and any key that has a default, such as `crop = false`, `patch = false` or
`evaluate.labels = false`, which then has its default again. Where `false` is a value, as in
`flip = false`, it is that value.

Translators are applied in the order of their tables. A table that the other recipe does not have
comes last, or before the next table that both have: write `[translate.repaint]` and then an empty
`[translate.gan]` to put `repaint` before `gan`.

The name after `extends` is relative to this recipe, with or without `.toml`. A file there takes
precedence over the recipes that come with crossmod, so `extends = "quickstart"` works in any
folder. A recipe that is itself called `quickstart.toml` extends the shipped one by that name. The
other recipe must lie in or below the folder of this one or the current folder, or come with
crossmod; `--allow-outside` lifts this restriction. `crossmod run quickstart` searches in the same
order.

Options that name a class or a center are looked up in `[data.classes]` and `[data.centers]`;
options of stages that name a class mean `evaluate.structure` by default. `crossmod check RECIPE`
lists every name that is not there, and with `--data DIR` also what the options ask of the data and
the data do not have: centers without scans, patches deeper than the stack, start scales that a
slice does not have, groups that match no scan.

Groups of an augmenter that rescales lesions hold lists, `means` or `factors`, or say `"guided"`:
then the core chooses what each lesion gets from the pseudo-labels of each round, and `first` is the
list for the segmentation before there are any. This needs `[pseudo_label]`: [guided
augmentation](../how-to/guided-augmentation.md).

`schema = 1` is the version of this language, and the default. A crossmod that does not know the
version says so. `[variants.NAME]` holds the changes of a variant: [compare variants and
seeds](../how-to/variants.md).
"""


REPEATED = re.compile(r"data\.(\w+\.exclude|target\.cases|validation\.cases)\.")
"""Keys of lists of cases, which `source.cases` shows."""


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def reference() -> str:
    lines = [HEAD.rstrip()]
    rows = [row for row in option_rows(Recipe) if row[3] and not REPEATED.match(row[0])]
    for table, group in groupby(rows, key=lambda row: row[0].partition(".")[0] * ("." in row[0])):
        if table:
            name = f"{table}.NAME" if table in ("translate", "augment") else table
            lines += ["", f"## `[{name}]`"]
        lines += ["", "| key | type | default | meaning |", "|---|---|---|---|"]
        for key, kind, default, meaning in group:
            shown = f"`{default}`" if default not in ("required", "") else default
            name = key.removeprefix(f"{table}.")
            lines.append(f"| `{name}` | {cell(kind)} | {cell(shown)} | {cell(meaning)} |")
    return "\n".join(lines) + "\n"


def test_every_key_of_a_recipe_is_in_the_reference() -> None:
    if os.environ.get("CROSSMOD_WRITE_DOCS"):
        PAGE.write_text(reference(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_every_metric_is_in_the_reference() -> None:
    page = (DOCS / "how-to" / "evaluate.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for metric in BUILT_IN:
        assert any(row.startswith(f"| `{metric.column}` | {metric.meaning} |") for row in rows)
    assert ",".join(metric.column for metric in BUILT_IN) in page
