"""Recipes: TOML that reads like a methods section, validated down to the options of plugins.

All problems of a recipe are reported at once, each with file, line, key and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from crossmod.data.grids import Preprocess
from crossmod.errors import PluginError, RecipeError, counted
from crossmod.options import Location
from crossmod.recipe.files import SETTING, Document, merge, read_documents, unset
from crossmod.recipe.lookup import Names
from crossmod.recipe.model import KINDS, Recipe
from crossmod.recipe.problems import MAX_PROBLEMS, contradictions, explain, guide_problems, nearest
from crossmod.stages import find
from crossmod.stages.base import PseudoLabeler, Segmenter
from crossmod.stages.find import StageUse
from crossmod.stages.tables import SegmentTable

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Segmentation:
    """How the segmenter is trained and used.

    Attributes:
        use: the segmenter.
        table: what the core reads of [segment].
        preprocess: the grid and intensity range of the scans it is applied to.
    """

    use: StageUse
    table: SegmentTable
    preprocess: Preprocess


@dataclass(frozen=True)
class Checked:
    """A valid recipe with its stages resolved.

    Attributes:
        variant: name of the variant; empty where the recipe has none.
        label: variant and, where there are several seeds, the seed.
        recipe: the tables.
        uses: (kind, name) -> stage, in the order written; the name of an only one is empty.
        segmentation: how every round segments.
        last: how the last round segments, as [pseudo_label.last] says.
        document: where everything stands.
    """

    variant: str
    label: str
    recipe: Recipe
    uses: Mapping[tuple[str, str], StageUse]
    segmentation: Segmentation
    last: Segmentation
    document: Document

    @property
    def translators(self) -> tuple[StageUse, ...]:
        """Those of [translate]."""
        return tuple(use for (kind, _), use in self.uses.items() if kind == "translate")

    @property
    def augmenters(self) -> tuple[StageUse, ...]:
        """Those of [augment]."""
        return tuple(use for (kind, _), use in self.uses.items() if kind == "augment")


def load(path: Path, settings: Sequence[str] = (), *, allow_outside: bool = False) -> Checked:
    """Read a recipe that describes one run; arguments as for `load_all`.

    Raises:
        RecipeError: as `load_all`, or the recipe has variants or seeds.
    """
    first, *others = load_all(path, settings, allow_outside=allow_outside)
    if others:
        raise RecipeError("describes several runs", where=str(path), fix="choose one of them")
    return first


def load_all(
    path: Path, settings: Sequence[str] = (), *, allow_outside: bool = False
) -> list[Checked]:
    """Read, extend, override and validate a recipe: every variant, with every seed.

    Args:
        path: the TOML file.
        settings: ``a.b=c`` overrides, later ones win.
        allow_outside: let it extend recipes outside its folder, the current one and those shipped.

    Raises:
        RecipeError: names every problem with file, line, key and what is allowed.
    """
    found = examine(path, settings, allow_outside=allow_outside)
    found.require()
    return found.runs


@dataclass(frozen=True)
class Examined:
    """A recipe with all its variants, valid or not.

    Attributes:
        path: the recipe file.
        recipes: the variants whose tables are valid.
        checked: the variants whose stages and names are valid, too.
        problems: a message for each problem.
    """

    path: Path
    recipes: Sequence[Recipe]
    checked: Sequence[Checked]
    problems: Sequence[str]

    @property
    def runs(self) -> list[Checked]:
        """Every valid variant with every seed."""
        return [one for checked in self.checked for one in _seeded(checked)]

    def require(self, more: Sequence[str] = ()) -> None:
        """Refuse a recipe with problems, and tell others besides.

        Raises:
            RecipeError: names every problem.
        """
        if self.problems:
            problems = [*self.problems, *more]
            count = counted(len(problems), "problem")
            if len(problems) > MAX_PROBLEMS:
                count = f"more than {MAX_PROBLEMS} problems, the first of them"
            of_settings = all(one.startswith(f"{SETTING} ") for one in problems)
            where = SETTING if of_settings else self.path
            raise RecipeError("\n".join([f"{where}: {count}", *problems[:MAX_PROBLEMS]]))


def examine(path: Path, settings: Sequence[str] = (), *, allow_outside: bool = False) -> Examined:
    """Read and validate a recipe; arguments as for `load_all`.

    Raises:
        RecipeError: the file cannot be read, is not TOML, or extends another that cannot be read.
    """
    problems: list[str] = []
    documents = read_documents(path, settings, allow_outside=allow_outside)
    found = [_check(name, document, problems) for name, document in documents.items()]
    return Examined(
        path,
        [recipe for recipe, _ in found if recipe],
        [checked for _, checked in found if checked],
        list(dict.fromkeys(problems)),  # variants share most of their lines
    )


def _seeded(checked: Checked) -> list[Checked]:
    """The same recipe once for each seed."""
    recipe = checked.recipe
    return [
        replace(
            checked,
            recipe=recipe.model_copy(update={"seed": seed, "seeds": ()}),
            label="-".join(filter(None, [checked.variant, f"seed-{seed}"])),
        )
        for seed in recipe.seeds
    ] or [checked]


def _check(
    variant: str, document: Document, problems: list[str]
) -> tuple[Recipe | None, Checked | None]:
    document = replace(document, tables=unset(document.tables, Recipe))
    tables, names = document.tables, Names.of(document)
    resolver = Resolver(document, names, problems)
    recipe: Recipe | None = None
    try:
        recipe = names.resolved(Recipe.model_validate(tables), (), problems)
    except ValidationError as error:
        problems += explain(error, (), Recipe, document)
        names.check_parts(problems)
    uses = {
        (name, step): use
        for name, kind in KINDS.items()
        for step, table in kind.tables(tables.get(name))
        if (use := resolver.use(name, step, table))
    }
    if recipe is None:
        return None, None
    problems += contradictions(recipe, document)
    problems += guide_problems(recipe, uses, document)
    segmenter = uses.get(("segment", ""))
    if segmenter is None:
        return recipe, None
    if recipe.pseudo_label and recipe.pseudo_label.warm_start:
        resolver.require_warm_start(segmenter)
    usual = Segmentation(segmenter, recipe.segment, recipe.preprocess.of("target"))
    last = resolver.last(recipe, usual)
    if labeler := uses.get(("pseudo_label", "")):
        resolver.require_weighing(labeler, {segmenter.who: segmenter, last.use.who: last.use})
    return recipe, Checked(variant, variant, recipe, uses, usual, last, document)


@dataclass(frozen=True)
class Resolver:
    """Loads the plugins that a document names and validates their options.

    Problems are added to `problems`.
    """

    document: Document
    names: Names
    problems: list[str]

    def use(
        self,
        kind: str,
        name: str,
        table: Mapping[str, Any],
        location: Location = (),
        concerns: Callable[[Location], bool] = lambda within: True,
    ) -> StageUse | None:
        """The plugin of a stage table with its options, or None where something is wrong.

        Args:
            kind: the kind of stage.
            name: its name; empty for an only one.
            table: what the recipe says of it.
            location: where, if not in the table of that name.
            concerns: whether a location within the table is looked up, as for `Names.resolved`.
        """
        location = location or ((kind, name) if name else (kind,))
        wanted = table.get("use")
        if not isinstance(wanted, str):
            return None  # the core model has said so
        plugin = self._plugin(kind, wanted, (*location, "use"))
        if plugin is None:
            return None
        core = KINDS[kind].table.model_fields
        own = {key: value for key, value in table.items() if key not in core}
        model = plugin.stage.options_type
        extra = [key for key in core if key not in own]
        options = self._validated(model, own, location, extra, concerns)
        return StageUse(f"{kind}-{name}" if name else kind, plugin, options) if options else None

    def last(self, recipe: Recipe, usual: Segmentation) -> Segmentation:
        """How the last round segments: as usual, with what [pseudo_label.last] changes."""
        changes = recipe.pseudo_label.last if recipe.pseudo_label else None
        if changes is None:
            return usual
        where = ("pseudo_label", "last")
        tables = self.document.tables
        grid = usual.preprocess.with_changes(changes.preprocess)
        preprocess = self._validated(Preprocess, grid, (*where, "preprocess"))
        segment, at = merge(tables["segment"], changes.segment), (*where, "segment")

        def concerns(within: Location) -> bool:
            return within[0] in changes.segment  # of the others, [segment] has been looked at

        table = self._validated(SegmentTable, segment, at, concerns=concerns)
        use = self.use("segment", "", segment, at, concerns)
        if not (preprocess and table and use):
            return usual  # problems have been noted
        return Segmentation(use, table, preprocess)

    def require_warm_start(self, segmenter: StageUse) -> None:
        """Note a problem if the segmenter cannot start from earlier weights."""
        stage = segmenter.plugin.stage
        if issubclass(stage, Segmenter) and not stage.warm_starts:
            text = f"{segmenter.who} cannot start from earlier weights"
            where = ("pseudo_label", "warm_start")
            self.problems.append(self.document.problem(where, text, allowed="false"))

    def require_weighing(self, labeler: StageUse, segmenters: Mapping[str, StageUse]) -> None:
        """Note a problem if a segmenter would pass over the weights of pseudo-labels."""
        if not labeler_of(labeler).gives_weights:
            return
        for who, segmenter in segmenters.items():
            if not segmenter.plugin.stage.weighs_cases:  # type: ignore[attr-defined]
                text = (
                    f"these options of {labeler.who} give cases weights or mask voxels, but {who}"
                    " learns from all voxels of all cases alike"
                )
                allowed = "options without weights and masks, or another segmenter"
                self.problems.append(
                    self.document.problem(("pseudo_label",), text, allowed=allowed)
                )

    def _plugin(self, kind: str, wanted: str, location: Location) -> find.Plugin | None:
        try:
            plugin = find.load(wanted)
        except PluginError as error:
            known = find.available()
            fitting = _names_of(kind)
            near = "" if wanted in known else nearest(wanted, fitting)
            allowed = error.allowed if wanted in known else ", ".join(fitting)
            text = ": ".join(filter(None, [error.where, error.what]))
            problem = self.document.problem(location, text, allowed=allowed, near=near)
            self.problems.append(problem)
            return None
        if plugin.kind == kind:
            return plugin
        text, allowed = f"'{wanted}' is a plugin for [{plugin.kind}]", ", ".join(_names_of(kind))
        self.problems.append(self.document.problem(location, text, allowed=allowed))
        return None

    def _validated(
        self,
        model: type[ModelT],
        values: Mapping[str, Any],
        location: Location,
        extra: Sequence[str] = (),
        concerns: Callable[[Location], bool] = lambda within: True,
    ) -> ModelT | None:
        try:
            options = model.model_validate(unset(values, model))
        except ValidationError as error:
            self.problems.extend(explain(error, location, model, self.document, extra))
            return None
        return self.names.resolved(options, location, self.problems, concerns)


def labeler_of(use: StageUse) -> PseudoLabeler[Any]:
    """The pseudo-labeler of a recipe, ready to say what it needs."""
    return cast("PseudoLabeler[Any]", use.stage())


def _names_of(kind: str) -> list[str]:
    """The plugins of a stage that can be used."""
    return [name for name in find.available() if _kind_of(name) == kind]


def _kind_of(name: str) -> str:
    try:
        return find.load(name).kind
    except PluginError:
        return ""
