"""JSON Schema of recipes, for editors: every key with type, range, default and meaning.

It holds the options of the plugins that are installed. An editor sees one file at a time: keys that
are required are asked for only where no other recipe is extended, and what several keys say
together is left to `crossmod check`. Draft 7, since Taplo reads no later one; the forms are those
that it completes and explains: a `$ref` stands alone, and no table is composed with `allOf`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from crossmod.errors import PluginError
from crossmod.options import annotation_of, model_in, names_in, sides
from crossmod.recipe.files import MAX_EXTENDS, MAX_VARIANTS, SCHEMA, VARIANT_NAME
from crossmod.recipe.model import KINDS, Recipe
from crossmod.stages import find
from crossmod.stages.tables import LastRound

DRAFT = "http://json-schema.org/draft-07/schema#"

DEFINITION = "#/definitions/{model}"

Json = dict[str, Any]


class Generator(GenerateJsonSchema):
    """Options as a part of a recipe writes them: nothing required, `false` for the default."""

    schema_dialect = DRAFT

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Keys are their own titles."""
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """TOML has no null."""
        return self.generate_inner(schema["schema"])

    def tuple_schema(self, schema: core_schema.TupleSchema) -> JsonSchemaValue:
        """Draft 7 lists the types of items under `items`."""
        written = super().tuple_schema(schema)
        if "prefixItems" in written:
            written["items"] = written.pop("prefixItems")
        return written

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """What a name stands for can be unset, too."""
        written = super().dict_schema(schema)
        if isinstance(values := written.get("additionalProperties"), dict):
            written["additionalProperties"] = _or_unset(values)
        return written

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Of a table, each key has a default of its own; and TOML has no null."""
        written = super().default_schema(schema)
        if written.get("default") is None or isinstance(written["default"], dict):
            written.pop("default", None)
        return written

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Any key may be left to the recipe below; those with a default may be unset.

        So may the table, wherever it stands. Names of classes and centers are plain text in types
        of JSON; their descriptions say so.
        """
        written = super().model_schema(schema)
        required = written.pop("required", ())
        for key, field in schema["cls"].model_fields.items():
            mark = next(names_in(annotation_of(field)), None)
            if mark and (told := written.get("properties", {}).get(key)):
                about = f"{told.get('description', '')} A name in [data.{mark.table}]."
                told["description"] = about.strip()
        written["properties"] = {
            key: value if key in required else _or_unset(value)
            for key, value in written.get("properties", {}).items()
        }
        return _or_unset(written)


def recipe_schema() -> Json:
    """The JSON Schema of recipe files, with the options of all plugins that can be loaded."""
    plugins = _plugins()
    models: list[type[BaseModel]] = [Recipe, LastRound, *map(_table_of, Recipe.model_fields)]
    models += [one.stage.options_type for one in plugins.values()]
    references, written = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)],
        ref_template=DEFINITION,
        schema_generator=Generator,
    )
    definitions: Json = written["$defs"]
    names = {model: _last(references[model, "validation"]) for model in models}
    for kind, how in KINDS.items():
        options = {
            name: _references(names[one.stage.options_type], definitions)
            for name, one in plugins.items()
            if one.kind == kind
        }
        summaries = {name: plugins[name].summary for name in options}
        table = names[how.table]
        definitions[table] = _stage(definitions[table], options, summaries, definitions)
    _open_last_round(definitions[names[LastRound]]["properties"], names)
    keys = definitions[names[Recipe]]["properties"]
    schema = {
        "$schema": DRAFT,
        "title": "crossmod recipe",
        "description": "What a recipe of crossmod may say with the plugins that are installed.",
        "type": "object",
        "properties": {**_of_files({"$ref": DEFINITION.format(model=names[Recipe])}), **keys},
        "additionalProperties": False,
        "if": {"not": {"anyOf": [{"required": ["extends"]}, {"required": ["variants"]}]}},
        "then": _complete(Recipe),
        "definitions": definitions,
    }
    return cast("Json", _inlined(schema, definitions))


def _plugins() -> dict[str, find.Plugin]:
    """The plugins that can be loaded, by name."""
    loaded = {}
    for name in sorted(find.available()):
        try:
            loaded[name] = find.load(name)
        except PluginError:
            continue  # `crossmod plugins` says what is wrong with it
    return loaded


def _of_files(recipe: Json) -> Json:
    """The keys that are read before tables merge; a variant is what a recipe is."""
    return {
        "schema": {
            "type": "integer",
            "minimum": 1,
            "maximum": SCHEMA,
            "default": SCHEMA,
            "description": "The version of the recipe language.",
        },
        "extends": {
            "type": "string",
            "description": "The recipe to start from: a file beside this one, or the name of one"
            f" that came with crossmod. At most {MAX_EXTENDS} extend each other.",
        },
        "variants": {
            "description": "Changes to run beside each other: a table of them for each variant.",
            **_or_unset(
                {
                    "type": "object",
                    "propertyNames": {"pattern": f"^{VARIANT_NAME.pattern}$"},
                    "maxProperties": MAX_VARIANTS,
                    "additionalProperties": recipe,
                }
            ),
        },
    }


def _last(reference: Mapping[str, Any]) -> str:
    """The name at the end of a reference."""
    return str(reference["$ref"]).rpartition("/")[2]


def _references(model: str, definitions: Json) -> Json:
    """Option -> reference to it, of an options class."""
    path = f"{DEFINITION.format(model=model)}/properties"
    return {key: {"$ref": f"{path}/{key}"} for key in definitions[model].get("properties", {})}


def _stage(
    core: Json, options: Mapping[str, Json], summaries: Mapping[str, str], definitions: Json
) -> Json:
    """The table of a stage: keys of the core, and options of the plugin that `use` names.

    Where `use` is left to the recipe below, options of any plugin may stand.

    Args:
        core: the schema of the keys that the core reads.
        options: plugin -> option -> reference.
        summaries: plugin -> what it does.
        definitions: what references lead to.
    """
    use = {
        **core["properties"]["use"],
        "enum": list(options),
        "x-taplo": {"docs": {"enumValues": list(summaries.values())}},
    }
    keys = {**core["properties"], "use": use}
    offered: dict[str, dict[str, Json]] = {}
    for name, own in options.items():
        for key, reference in own.items():
            offered.setdefault(key, {})[name] = reference
    chain: Json = {"properties": {key: _any_of(found) for key, found in offered.items()}}
    for name, own in reversed(list(options.items())):
        chain = {
            "if": {"properties": {"use": {"const": name}}, "required": ["use"]},
            "then": {
                "properties": {**dict.fromkeys(keys, True), **own},
                "additionalProperties": False,
            },
            "else": chain,
        }
    if not options:
        chain = {}
    explained = {
        key: {"anyOf": [*_explained(key, found, definitions), True]}
        for key, found in offered.items()
    }
    return {
        **core,
        "properties": {**keys, **explained},
        "additionalProperties": False,
        **chain,
    }


def _any_of(found: Mapping[str, Json]) -> Json:
    """The option of any plugin; one alone stays alone, so that an editor says what is wrong."""
    schemas = list(found.values())
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _explained(key: str, found: Mapping[str, Json], definitions: Json) -> list[Json]:
    """An option of several plugins, each time with the name of the plugin."""
    if len(found) == 1:
        return list(found.values())
    each = {
        name: definitions[_owner(reference)]["properties"][key] for name, reference in found.items()
    }
    return [
        {**one, "description": f"{name}: {one.get('description', '')}"}
        for name, one in each.items()
    ]


def _owner(reference: Json) -> str:
    """The definition that an option is a property of."""
    return str(reference["$ref"]).removeprefix(DEFINITION.format(model="")).partition("/")[0]


def _open_last_round(changes: Json, names: Mapping[type[BaseModel], str]) -> None:
    """Let what the last round changes be keys of the tables that it changes."""
    for key in changes.keys() & Recipe.model_fields.keys():
        reference = DEFINITION.format(model=names[_table_of(key)])
        changes[key] = {"$ref": reference, "description": changes[key]["description"]}


def _table_of(key: str) -> type[BaseModel]:
    """The options class of a table of recipes; of any other key, the recipe itself."""
    return model_in(Recipe.model_fields[key].annotation) or Recipe


def _or_unset(value: JsonSchemaValue) -> Json:
    """A value, or `false`, written so that an editor points at what is wrong inside."""
    written = dict(value)
    kind = written.get("type")
    if "anyOf" in written:
        written["anyOf"] = [*written["anyOf"], {"const": False}]
    elif "enum" in written:
        written["enum"] = [*written["enum"], False]
        written.pop("type", None)
    elif isinstance(kind, str) and kind != "boolean":
        written |= {"type": [kind, "boolean"], "not": {"const": True}}
    return written


def _inlined(node: Any, definitions: Json, around: frozenset[str] = frozenset()) -> Any:
    """A schema whose references have nothing beside them, which draft 7 would ignore.

    Args:
        node: the schema, or a part of it.
        definitions: what references lead to.
        around: definitions that the part lies in, so that one within itself stays a reference.
    """
    if isinstance(node, list):
        return [_inlined(one, definitions, around) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node and len(node) > 1:
        name = node["$ref"].rpartition("/")[2]
        if name in around:
            return {"$ref": node["$ref"]}
        node = {**definitions[name], **{key: node[key] for key in node if key != "$ref"}}
        around = around | {name}
    return {key: _inlined(value, definitions, around) for key, value in node.items()}


def _complete(model: type[BaseModel]) -> Json:
    """The keys that a whole recipe must have, tables within tables included."""
    required: list[str] = []
    inner: Json = {}
    for key, field in model.model_fields.items():
        if field.is_required():
            required.append(key)
        _, entries = sides(field.annotation)
        table = model_in(field.annotation)
        if table and (below := _complete(table)):
            inner[key] = below if entries is Any else {"additionalProperties": below}
    return {key: part for key, part in (("required", required), ("properties", inner)) if part}
