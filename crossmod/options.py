"""The base of every options class: strict, frozen, documented by attribute docstrings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

Fraction = Annotated[float, Field(strict=True, ge=0.0, le=1.0)]
"""A number from 0 to 1."""

Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
"""An integer from 1 that decides how long something takes: steps, epochs."""

Size = Annotated[int, Field(strict=True, ge=1, le=10_000)]
"""An integer from 1 that decides how much memory something takes: voxels along an axis, channels,
batch size."""

Positive = Annotated[float, Field(strict=True, gt=0.0, le=1_000_000_000.0)]
"""A number above 0."""

Rate = Annotated[float, Field(strict=True, gt=0.0, le=100.0)]
"""The step size of an optimizer."""

Weight = Annotated[float, Field(strict=True, ge=0.0, le=1_000_000.0)]
"""The weight of one term among several; 0 leaves it out."""

Length = Annotated[float, Field(strict=True, ge=0.001, le=1000.0)]
"""A length in mm."""

Spacing = tuple[Length, Length, Length]
"""Three lengths in mm along the voxel axes I, J, K."""

Seed = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
"""The seed of a random number generator."""

FileValue = Annotated[int, Field(strict=True, ge=1, le=255)]
"""The value of a class in the files of label maps."""


def _ascends(window: tuple[float, float]) -> tuple[float, float]:
    if window[0] >= window[1]:
        raise ValueError("the upper intensity of a window is above the lower one")
    return window


Intensity = Annotated[float, Field(strict=True, ge=-1e6, le=1e6)]
"""An intensity in the units of a scan."""

Window = Annotated[tuple[Intensity, Intensity], AfterValidator(_ascends)]
"""Two intensities, the lower one first."""

Determinism = Literal["exact", "seeded", "free"]
"""How closely a run can be repeated."""

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""What a device computes with; "auto" is the fastest that is safe on it."""

Average = Literal["probabilities", "logits"]
"""What is averaged over the folds."""


def _is_printable(name: str) -> str:
    if not name or len(name) > 40 or not name.isprintable():
        raise ValueError("a name has 1 to 40 printable characters")
    return name


Name = Annotated[str, AfterValidator(_is_printable)]
"""What a class or a center is called."""


@dataclass(frozen=True)
class NameIn:
    """Marks text in options that names something of [data], for `crossmod check` to look up.

    Attributes:
        table: the table that holds the name, "classes" or "centers".
        pattern: whether `*` may stand for any letters.
    """

    table: Literal["classes", "centers"]
    pattern: bool = False

    @property
    def singular(self) -> str:
        """What is named: "class" or "center"."""
        return {"classes": "class", "centers": "center"}[self.table]

    @property
    def words(self) -> str:
        """The mark as the type of an option."""
        more = " or a pattern with *" if self.pattern else ""
        return f"name of a {self.singular}{more}"


ClassName = Annotated[str, NameIn("classes")]
"""The name of a class of [data.classes]. The empty name, meant for defaults, stands for
`evaluate.structure`; the core replaces it before a stage sees its options."""

CenterName = Annotated[str, NameIn("centers")]
"""The name of a center of [data.centers]."""

CenterPattern = Annotated[str, NameIn("centers", pattern=True)]
"""The name of a center of [data.centers], or a pattern of such names with `*`."""


class Options(BaseModel):
    """Options of a stage or an engine, as they stand in its table of a recipe or profile.

    Unknown keys, NaN and infinity are refused; the docstring below an attribute is its help text.

    Raises:
        pydantic.ValidationError: a value is of the wrong type or out of range, or a validator
            raised `ValueError`. In a recipe, this becomes a `RecipeError` with file, line and key.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


OptionsT = TypeVar("OptionsT", bound=Options)


class HasOptions(Generic[OptionsT]):
    """Knows its options class from the type parameter, e.g. ``class Blur(Stage[BlurOptions])``."""

    options_type: ClassVar[type[Options]] = Options

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "options_type" in vars(cls):
            return
        for base in vars(cls).get("__orig_bases__", ()):  # its own: those above have been read
            ours = issubclass(get_origin(base) or object, HasOptions)
            parameters = get_args(base) if ours else ()
            if parameters and isinstance(parameters[0], type):
                cls.options_type = parameters[0]


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The first options class inside a type annotation, or None.

    Example:
        >>> class Group(Options):
        ...     factor: float = 1.0
        >>> model_in(tuple[Group, ...]).__name__
        'Group'
        >>> model_in(int | None) is None
        True
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = model_in(argument)
        if found is not None:
            return found
    return None


Location = tuple[str | int, ...]

Change = Callable[[NameIn, str, Location], str]

ModelT = TypeVar("ModelT", bound=BaseModel)


def with_names(options: ModelT, change: Change, location: Location = ()) -> ModelT:
    """Options with every name of a class or a center changed, nested tables included.

    Args:
        options: validated options.
        change: takes what a name names, the name, and its location; returns the new name.
        location: where the options stand.

    Example:
        >>> class Clean(Options):
        ...     keep: tuple[ClassName, ...] = ("", "cochlea")
        >>> with_names(Clean(), lambda kind, name, at: name or "tumor").keep
        ('tumor', 'cochlea')
    """
    changed = {}
    for name, field in type(options).model_fields.items():
        old = getattr(options, name)
        new = _with_names(old, annotation_of(field), change, (*location, name))
        if new is not old:
            changed[name] = new
    return options.model_copy(update=changed) if changed else options


def _with_names(value: Any, kind: Any, change: Change, location: Location) -> Any:
    if isinstance(value, BaseModel):
        return with_names(value, change, location)
    if isinstance(value, str):
        mark = next(names_in(kind), None)
        return change(mark, value, location) if mark else value
    new: Any = value
    if isinstance(value, Mapping):
        of_keys, of_values = sides(kind)
        new = {
            _with_names(key, of_keys, change, (*location, key)): _with_names(
                item, of_values, change, (*location, key)
            )
            for key, item in value.items()
        }
    elif isinstance(value, tuple | list):
        items = (_with_names(one, kind, change, (*location, n)) for n, one in enumerate(value))
        new = type(value)(items)
    return value if new == value else new


def names_in(kind: Any) -> Iterator[NameIn]:
    """The marks of names in a type, outermost first."""
    yield from (mark for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, NameIn))
    for inner in get_args(kind):
        yield from names_in(inner)


def annotation_of(field: FieldInfo) -> Any:
    """The type of a field as it was written, with its marks."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def sides(kind: Any) -> tuple[Any, Any]:
    """The types of keys and values of the first mapping inside a type; Any if it holds none."""
    arguments = get_args(kind)
    if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
        return arguments[0], arguments[1]
    inner = (sides(one) for one in arguments)
    return next((sides for sides in inner if sides != (Any, Any)), (Any, Any))


def problems_in(error: ValidationError) -> str:
    """The problems of a content, one line for each field."""
    found = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
    return "\n".join(f"{where}: {text}" if where else text for where, text in found)
