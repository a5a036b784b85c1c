"""The base of every options class: strict, frozen, documented by attribute docstrings."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

Fraction = Annotated[float, Field(strict=True, ge=0.0, le=1.0)]
"""A number from 0 to 1."""

Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
"""A whole number from 1 of what takes time: steps, epochs."""

Size = Annotated[int, Field(strict=True, ge=1, le=10_000)]
"""A whole number from 1 of what takes room: voxels along an axis, channels, patches at once."""

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
"""Where random numbers start."""

FileValue = Annotated[int, Field(strict=True, ge=1, le=255)]
"""The value of a class in the files of label maps."""

Determinism = Literal["exact", "seeded", "free"]
"""How closely a run can be repeated."""

Average = Literal["probabilities", "logits"]
"""What is averaged over the folds."""


def _is_printable(name: str) -> str:
    if not name or len(name) > 40 or not name.isprintable():
        raise ValueError("a name has 1 to 40 characters that can be printed")
    return name


Name = Annotated[str, AfterValidator(_is_printable)]
"""What a class or a center is called."""


class Options(BaseModel):
    """Options of a stage or an engine, as they stand in its table of a recipe or profile.

    Unknown keys, NaN and infinity are refused; the docstring below an attribute is its help text.
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


def problems_in(error: ValidationError) -> str:
    """What is wrong with a content: a line for each field."""
    found = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
    return "\n".join(f"{where}: {text}" if where else text for where, text in found)
