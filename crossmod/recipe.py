"""Recipes: TOML that reads like a methods section, validated all the way down.

Every problem of a recipe is found at once, each with file, line, key and what is allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crossmod import plugins
from crossmod.errors import PluginError, RecipeError
from crossmod.lesions import FitOn
from crossmod.options import Count, Options
from crossmod.preprocess import Preprocess
from crossmod.recipe_files import Document, read_document
from crossmod.stages import Stage

Level = Literal["oracle", "no-adaptation", "translated"]


class LabeledFiles(Options):
    """Where labeled scans lie, relative to the data root; `{case}` stands for the case id."""

    images: str
    """Pattern of the images."""
    labels: str
    """Pattern of the label maps."""


class Files(Options):
    """Where unlabeled scans lie, relative to the data root; `{case}` stands for the case id."""

    images: str
    """Pattern of the images."""


class EmbeddedCohort(Options):
    """Size of the embedded cohort, made when no data folder is given."""

    source: Count
    """Labeled source scans, half from each center."""
    target: Count
    """Unlabeled target scans."""
    validation: Count
    """Target scans kept for scoring."""
    seed: int = 2022
    """Another seed makes other patients."""


class Data(Options):
    """Which scans take part."""

    source: LabeledFiles
    """Labeled scans of the source modality."""
    target: Files
    """Unlabeled scans of the target modality."""
    validation: Files | None = None
    """Scans of the target modality that no stage sees, to be scored."""
    centers: dict[str, str]
    """Center -> pattern of its case ids, with `*`; the first match counts."""
    classes: dict[str, Count]
    """Class -> its value in label maps, counted from 1."""
    phantom: EmbeddedCohort | None = None
    """Without a data folder, make the embedded cohort of this size."""


class Evaluate(Options):
    """What is scored, and what the method is compared with."""

    labels: str | None = None
    """Pattern of label maps of target scans that exist only to be scored against."""
    compare: tuple[Level, ...] = ("oracle", "no-adaptation", "translated")
    """Segmenters trained for comparison; they feed nothing."""
    structure: str = "tumor"
    """The class whose appearance the report follows."""


class StageTable(BaseModel):
    """One stage: `use` names the plugin, the core reads a few keys, the rest are its options."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    use: str
    """Name of the plugin, as `crossmod plugins` lists it."""


class LearningTable(StageTable):
    """A stage that may learn from a part of the cases only."""

    fit_on: FitOn = FitOn()
    """Which cases it learns from; it is applied to all."""


class AugmentTable(LearningTable):
    """A stage that adds labeled pairs."""

    keep_originals: bool = True
    """Train on the originals too; off where the translator made lesions look like something else,
    since originals would then teach that look."""


class SegmentTable(StageTable):
    """The segmenter."""

    folds: Count = 1
    """Models trained by cross-validation over patients and averaged; 1 trains one on all."""
    largest_component: tuple[str, ...] = ()
    """Classes of which only the largest connected component of a prediction is kept."""


class PseudoLabelTable(StageTable):
    """Self-training."""

    rounds: int = Field(default=1, ge=1, le=100)
    """Times the target scans are labeled and the segmenter trained again."""


class Recipe(Options):
    """The whole experiment."""

    title: str
    """What this experiment is."""
    seed: int = 2022
    """Every random number follows from it."""
    device: str = "auto"
    """"auto", "cpu", "cuda" or "cuda:n"."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """"auto" is bf16 where the device computes it natively."""
    data: Data
    preprocess: Preprocess
    translate: dict[str, LearningTable] = Field(default_factory=dict)
    augment: dict[str, AugmentTable] = Field(default_factory=dict)
    segment: SegmentTable
    pseudo_label: PseudoLabelTable | None = None
    evaluate: Evaluate = Evaluate()


@dataclass(frozen=True)
class StageUse:
    """A plugin with its validated options, under the name it has in the recipe."""

    name: str
    plugin: plugins.Plugin
    options: Options

    def stage(self) -> Stage[Any]:
        """The stage, ready to work."""
        return self.plugin.stage(self.options)


@dataclass(frozen=True)
class Checked:
    """A valid recipe with its stages resolved."""

    recipe: Recipe
    translators: tuple[StageUse, ...]
    augmenters: tuple[StageUse, ...]
    segmenter: StageUse
    pseudo_labeler: StageUse | None
    document: Document


def load(path: Path, settings: Sequence[str] = ()) -> Checked:
    """Read, extend, override and validate a recipe.

    Args:
        path: the TOML file.
        settings: ``a.b=c`` overrides, later ones win.

    Raises:
        RecipeError: names every problem with file, line, key and what is allowed.
    """
    document = read_document(path, settings)
    tables = document.tables
    problems: list[str] = []
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(tables)
    except ValidationError as error:
        problems += explain(error, (), Recipe, document)
    uses = _resolve(tables, document, problems)
    if recipe is not None:
        problems += _contradictions(recipe, document)
    if problems or recipe is None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise RecipeError("\n".join([f"{path}: {count}", *problems]))
    return Checked(
        recipe,
        tuple(use for (kind, _), use in uses.items() if kind == "translate"),
        tuple(use for (kind, _), use in uses.items() if kind == "augment"),
        uses["segment", ""],
        uses.get(("pseudo_label", "")),
        document,
    )


CORE_TABLES: Mapping[str, type[StageTable]] = {
    "translate": LearningTable,
    "augment": AugmentTable,
    "segment": SegmentTable,
    "pseudo_label": PseudoLabelTable,
}


def _stage_tables(tables: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(kind, step name, table) of every stage in the order written."""
    found: list[tuple[str, str, Mapping[str, Any]]] = []
    for kind in CORE_TABLES:
        table = tables.get(kind)
        if not isinstance(table, Mapping):
            continue
        many = kind in ("translate", "augment")
        named = table.items() if many else [("", table)]
        found += [(kind, name, one) for name, one in named if isinstance(one, Mapping)]
    return found


def _resolve(
    tables: Mapping[str, Any], document: Document, problems: list[str]
) -> dict[tuple[str, str], StageUse]:
    """Load the plugin of every stage table and validate its options."""
    uses: dict[tuple[str, str], StageUse] = {}
    for kind, name, table in _stage_tables(tables):
        location = (kind, name) if name else (kind,)
        wanted = table.get("use")
        if not isinstance(wanted, str):
            continue  # the core model has said so
        try:
            plugin = plugins.load(wanted)
        except PluginError as error:
            problems.append(_plugin_problem(error, wanted, (*location, "use"), document))
            continue
        if plugin.kind != kind:
            known = [n for n in plugins.available() if _kind_of(n) == kind]
            problems.append(
                document.problem(
                    (*location, "use"),
                    f"'{wanted}' is a plugin for [{plugin.kind}]",
                    allowed=", ".join(known),
                )
            )
            continue
        core = CORE_TABLES[kind].model_fields
        own = {key: value for key, value in table.items() if key not in core}
        try:
            options = plugin.stage.options_type.model_validate(own)
        except ValidationError as error:
            extra = [key for key in core if key not in own]
            problems += explain(error, location, plugin.stage.options_type, document, extra)
            continue
        uses[kind, name] = StageUse(f"{kind}-{name}" if name else kind, plugin, options)
    return uses


def _kind_of(name: str) -> str:
    try:
        return plugins.load(name).kind
    except PluginError:
        return ""


def _plugin_problem(
    error: PluginError, wanted: str, location: tuple[str, ...], document: Document
) -> str:
    known = plugins.available()
    near = "" if wanted in known else nearest(wanted, known)
    return document.problem(location, error.what, allowed=error.allowed, near=near)


def _contradictions(recipe: Recipe, document: Document) -> list[str]:
    """Problems that no single key has by itself."""
    problems = []
    values = sorted(recipe.data.classes.values())
    if values != list(range(1, len(values) + 1)):
        problems.append(document.problem(("data", "classes"), "label values must be 1, 2, 3, …"))
    if recipe.evaluate.structure not in recipe.data.classes:
        problems.append(
            document.problem(
                ("evaluate", "structure"),
                f"no class is called '{recipe.evaluate.structure}'",
                allowed=", ".join(recipe.data.classes),
            )
        )
    for name in recipe.segment.largest_component:
        if name not in recipe.data.classes:
            problems.append(
                document.problem(
                    ("segment", "largest_component"),
                    f"no class is called '{name}'",
                    allowed=", ".join(recipe.data.classes),
                )
            )
    for kind in ("translate", "augment"):
        for name, table in getattr(recipe, kind).items():
            center = table.fit_on.center
            if center is not None and center not in recipe.data.centers:
                problems.append(
                    document.problem(
                        (kind, name, "fit_on", "center"),
                        f"no center is called '{center}'",
                        allowed=", ".join(recipe.data.centers),
                        near=nearest(center, recipe.data.centers),
                    )
                )
    return problems


def nearest(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """The known name that looks most like ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return close[0] if close else ""


def explain(
    error: ValidationError,
    prefix: tuple[str, ...],
    model: type[BaseModel],
    document: Document,
    extra: Sequence[str] = (),
) -> list[str]:
    """One message for each error pydantic found, located in the recipe file."""
    problems = []
    for found in error.errors(include_url=False):
        location = (*prefix, *found["loc"])
        if found["type"] == "extra_forbidden":
            known = [*extra, *_fields_at(model, found["loc"][:-1])]
            word = str(found["loc"][-1])
            message = f"unknown key '{word}'"
            near, allowed = nearest(word, known), ", ".join(known)
        else:
            message, near, allowed = found["msg"], "", ""
            if found["type"] != "missing":
                message += f", found {found['input']!r}"[:120]
        problems.append(document.problem(location, message, allowed=allowed, near=near))
    return problems


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at a location inside ``model`` takes."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = _models_in(field.annotation) if field else None
        # Indices of lists and names in mappings stay at the same model.
    return list(current.model_fields) if current is not None else []


def _models_in(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model inside a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _models_in(argument)
        if found is not None:
            return found
    return None
