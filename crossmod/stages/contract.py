"""What the core checks of everything that a stage returns, so that no plugin has to.

The right type of object, the same case, the same grid, finite values, known labels, valid
probabilities. Messages name the plugin, the case and the field. Images and probabilities that pass
are float32 arrays in memory, label maps are uint8. Case, center, patient and geometry are those of
the input, whatever a plugin returns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from crossmod.data.cases import copied_from, fault_of_case, shown
from crossmod.data.cohorts import Case
from crossmod.data.nifti import read_grid
from crossmod.data.overlap import BoolArray
from crossmod.data.state import State
from crossmod.data.volumes import Affine, LabelArray, Pair, Prediction, Volume
from crossmod.errors import NotFinite, PluginError

ItemT = TypeVar("ItemT", Volume, Pair, Prediction)

NEAR_ONE = 1e-2
"""Tolerance for probabilities and their sum: networks compute in half precision."""

NUMBERS = "biuf"
"""Numpy's kinds of arrays that hold real numbers."""

WIDEST_BYTES = 8
"""Most bytes of a number in files of learned arrays, complex ones included."""

LONGEST_NOTES = 10_000_000
"""Most characters of the notes as JSON; the header of such a file holds 100 MB, names included."""

RESERVED = "__metadata__"
"""A name that such files do not allow for an array."""


def learned(state: object, who: str) -> State:
    """What a stage has learned, as it can be stored.

    Raises:
        PluginError: it is not a mapping or cannot be stored.
        NotFinite: it holds NaN or infinite values.
    """
    notes = _notes(state.notes, who) if isinstance(state, State) else {}
    if not isinstance(state, Mapping):
        _refuse(who, "", f"fit returned {_kind(state)}", "a mapping of names to arrays")
    for name in state:
        if not isinstance(name, str) or not _can_be_stored(name):
            what = f"fit returned an array called {name!r}"
            _refuse(who, "", what, f"names that are text, but not {RESERVED}")
    arrays = {
        name: _array(value, f"'{name}'", NUMBERS + "c", who, "") for name, value in state.items()
    }
    for name, array in arrays.items():
        if array.dtype.itemsize > WIDEST_BYTES:
            what = f"'{name}' holds values of type {array.dtype}"
            _refuse(who, "", what, "numbers of at most 8 bytes")
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        text = f"{len(broken)} of {len(arrays)} learned arrays hold NaN or infinite values"
        raise NotFinite(
            text,
            where=f"{who}, {broken[0]}",
            fix="lower the learning rate, or inspect the images; nothing was stored",
        )
    return State(arrays, notes)


def _notes(notes: object, who: str) -> dict[str, Any]:
    """Notes as they come back from a file."""
    if not isinstance(notes, Mapping):
        _refuse(who, "", f"fit returned {_kind(notes)} as notes", "a mapping of names to JSON")
    try:
        text = json.dumps(dict(notes), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        allowed = "texts, finite numbers, true, false, None, and lists and dictionaries of these"
        _refuse(who, "", f"fit returned notes that are not JSON: {error}", allowed)
    if len(text) > LONGEST_NOTES:
        what = f"fit returned notes of {len(text)} characters"
        _refuse(who, "", what, f"{LONGEST_NOTES}; store numbers as arrays")
    found: dict[str, Any] = json.loads(text)
    return found


def _can_be_stored(name: str) -> bool:
    """Whether a name is Unicode text and free."""
    return name != RESERVED and not any("\ud800" <= letter <= "\udfff" for letter in name)


def decision(done: object, who: str) -> bool:
    """Whether self-training is done, as a pseudo-labeler says."""
    if not isinstance(done, bool | np.bool_):
        _refuse(who, "", f"done returned {_kind(done)}", "true or false")
    return bool(done)


def translations(given: Iterable[Volume], yielded: Iterable[Volume], who: str) -> Iterator[Volume]:
    """Pass on translated volumes that match the given ones, in order, in [0, 1]."""
    for before, after in _in_step(given, yielded, Volume, who):
        _same_case(before.case, after.case, who)
        image = _on_grid(before.data.shape[1:], before.affine, after, who)
        _within_unit(image.data, after.case, "values", who)
        yield replace(image, case=before.case, center=before.center)


def pair_translations(
    given: Mapping[str, Case], yielded: Iterable[Pair], classes: Mapping[str, int], who: str
) -> Iterator[Pair]:
    """Pass on translated pairs in [0, 1] with the labels of the given ones, at least one of each.

    A translation has the case identifier of what was given, a further one is a copy of that.
    """
    seen: set[str] = set()
    missing = dict(given)
    for pair in _items(yielded, Pair, who):
        original = pair.case if pair.case in given else copied_from(pair.case, given)
        if original is None:
            allowed = "pairs from Pair.with_data or Pair.copy_as"
            _refuse(who, pair.case, "is not a translation of a given case", allowed)
        _named_once(pair.case, seen, who)
        found = _labeled(pair, given[original], classes, who)
        _within_unit(found.image.data, pair.case, "values", who)
        _own_patient(pair, given[original], who)
        if not np.array_equal(found.labels, given[original].pair().labels):
            _refuse(who, pair.case, "changed the labels", "the label map of the given pair")
        missing.pop(original, None)
        yield found
    for case in missing:
        _refuse(who, case, "yielded nothing for this case", "at least one translation of each")


def copies(
    given: Mapping[str, Case], yielded: Iterable[Pair], classes: Mapping[str, int], who: str
) -> Iterator[Pair]:
    """Pass on augmented pairs that are copies of given ones, each with its own name."""
    seen: set[str] = set()
    for pair in _items(yielded, Pair, who):
        original = copied_from(pair.case, given)
        if original is None:
            _refuse(who, pair.case, "is not a copy of a given case", "pairs from Pair.copy_as")
        _named_once(pair.case, seen, who)
        _own_patient(pair, given[original], who)
        yield _labeled(pair, given[original], classes, who)


def predictions(
    given: Iterable[Volume], yielded: Iterable[Prediction], classes: Mapping[str, int], who: str
) -> Iterator[Prediction]:
    """Pass on predictions with one probability channel for the background and each class."""
    for before, after in _in_step(given, yielded, Prediction, who):
        _same_case(before.case, after.case, who)
        _same_place(before.affine, after.image, who)
        shares = _array(after.probabilities, "probabilities", NUMBERS, who, after.case)
        _shaped(shares, (1 + len(classes), *before.grid), "probabilities", after.case, who)
        _within_unit(shares, after.case, "probabilities", who, NEAR_ONE)
        sums = shares.sum(axis=0, dtype=np.float32)
        if (far := max(1 - sums.min(), sums.max() - 1)) > NEAR_ONE:
            _refuse(who, after.case, f"yielded probabilities whose sum is off by {far:.3g}",
                    "a sum of 1 in every voxel")  # fmt: skip
        yield Prediction(before, shares.astype(np.float32, copy=False))


def selections(
    given: Mapping[str, Case], yielded: Iterable[Pair], classes: Mapping[str, int], who: str
) -> Iterator[Pair]:
    """Pass on pseudo-labeled pairs whose images are given ones."""
    seen: set[str] = set()
    for pair in _items(yielded, Pair, who):
        if pair.case not in given:
            _refuse(who, pair.case, "was not among the predictions", ", ".join(given))
        _once(pair.case, seen, "each case at most once", who)
        yield _labeled(pair, given[pair.case], classes, who)


def _in_step(
    given: Iterable[Volume], yielded: object, kind: type[ItemT], who: str
) -> Iterator[tuple[Volume, ItemT]]:
    end: Any = object()
    for before, after in zip_longest(given, _items(yielded, kind, who), fillvalue=end):
        if after is end:
            _refuse(who, before.case, "yielded nothing for this case", "one result for each volume")
        if before is end:
            _refuse(who, after.case, "yielded more results than volumes", "one for each volume")
        yield before, after


def _items(yielded: object, kind: type[ItemT], who: str) -> Iterator[ItemT]:
    """Objects of one kind, each with a case identifier."""
    if not isinstance(yielded, Iterable):
        _refuse(who, "", f"returned {_kind(yielded)}", f"`yield` for each {kind.__name__}")
    for item in yielded:
        if not isinstance(item, kind):
            _refuse(who, "", f"yielded {_kind(item)}", f"a {kind.__name__}")
        image: object = item if isinstance(item, Volume) else item.image
        if not isinstance(image, Volume):
            _refuse(who, "", f"yielded {_kind(image)} as image of a {kind.__name__}", "a Volume")
        if not isinstance(image.case, str):
            _refuse(who, "", f"yielded {_kind(image.case)} as case", "a case identifier")
        yield item


def _same_case(expected: str, found: str, who: str) -> None:
    if found != expected:
        _refuse(who, expected, f"yielded case {found!r}", "the cases in the order given")


def _named_once(case: str, seen: set[str], who: str) -> None:
    if fault := fault_of_case(case):
        _refuse(who, case, f"cannot be a case id: it {fault}", "plain words as suffix")
    _once(case, seen, "one suffix for each copy", who)


def _own_patient(pair: Pair, original: Case, who: str) -> None:
    if pair.patient != original.patient:
        what = f"yielded patient {pair.patient!r}"
        _refuse(who, pair.case, what, f"that of the original, '{original.patient}'")


def _once(case: str, seen: set[str], allowed: str, who: str) -> None:
    if case in seen:
        _refuse(who, case, "was yielded twice", allowed)
    seen.add(case)


def _labeled(pair: Pair, case: Case, classes: Mapping[str, int], who: str) -> Pair:
    """A pair on the grid of a case, with labels of known classes."""
    image = _on_grid(*read_grid(case.image), pair.image, who)
    labels = _array(pair.labels, "labels", "biu", who, pair.case)
    _shaped(labels, image.grid, "labels", pair.case, who)
    unknown = set(np.unique(labels).tolist()) - {0, *classes.values()}
    if unknown:
        _refuse(who, pair.case, f"yielded labels {sorted(unknown)}", f"0 and {dict(classes)}")
    known: LabelArray = labels.astype(np.uint8, copy=False)
    weight, ignore = _weight(pair, who), _ignored(pair, image.grid, who)
    return Pair(replace(image, center=case.center), known, case.patient, weight, ignore)


def _weight(pair: Pair, who: str) -> float:
    """How much a pair counts."""
    value: object = pair.weight
    if not isinstance(value, int | float | np.number) or not 0 < float(value) < math.inf:
        _refuse(who, pair.case, f"has the weight {value!r}", "a finite number above 0")
    return float(value)


def _ignored(pair: Pair, shape: tuple[int, ...], who: str) -> BoolArray | None:
    """The voxels of a pair that nothing is learned from; None where there are none."""
    if pair.ignore is None:
        return None
    mask = _array(pair.ignore, "ignore", "b", who, pair.case)
    _shaped(mask, shape, "ignore", pair.case, who)
    return mask if mask.any() else None


def _on_grid(shape: tuple[int, ...], affine: Affine, after: Volume, who: str) -> Volume:
    """A volume on a grid, with finite values, read once and for all."""
    raw = vars(after).get("data")  # where the plugin has looked at it already
    data = _array(after.read() if raw is None else raw, "data", NUMBERS, who, after.case)
    _shaped(data, (1, *shape), "", after.case, who)
    _same_place(affine, after, who)
    array = data.astype(np.float32, copy=False)
    _finite(array, after.case, who)
    return Volume(after.case, after.center, affine, lambda: array)


def _same_place(affine: Affine, after: Volume, who: str) -> None:
    """Refuse an image that a plugin has moved."""
    geometry = _array(after.affine, "affine", NUMBERS, who, after.case)
    _shaped(geometry, (4, 4), "affine", after.case, who)
    if not np.allclose(affine, geometry, atol=1e-4):
        _refuse(who, after.case, "changed the affine", "the geometry of the input")


def _array(value: object, field: str, kinds: str, who: str, case: str) -> NDArray[Any]:
    """What a plugin gave, as an array of numbers."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, ragged lists
        what = f"{field} is {_kind(value)}, not an array: {error}"
        _refuse(who, case, what, "a numpy array")
    if array.dtype.kind not in kinds:
        allowed = {"b": "bool"}.get(kinds, "integers" if "f" not in kinds else "numbers")
        _refuse(who, case, f"{field} holds values of type {array.dtype}", allowed)
    return array


def _shaped(array: NDArray[Any], shape: tuple[int, ...], field: str, case: str, who: str) -> None:
    if array.shape != shape:
        of = f"{field} of " if field else ""
        _refuse(who, case, f"yielded {of}shape {array.shape}", f"shape {shape}")


def _within_unit(array: NDArray[Any], case: str, field: str, who: str, slack: float = 0.0) -> None:
    low, high = array.min(), array.max()
    if not (low >= -slack and high <= 1 + slack):  # neither is true of NaN
        _finite(array, case, who)
        _refuse(who, case, f"yielded {field} in [{low:.3g}, {high:.3g}]", "[0, 1]")


def _finite(data: NDArray[Any], case: str, who: str) -> None:
    broken = ~np.isfinite(data)
    if broken.any():
        what = f"yielded {int(broken.sum())} values that are NaN or infinite"
        raise NotFinite(what, where=f"{who}, case {shown(case)}", allowed="finite values")


def _kind(thing: object) -> str:
    """An object in words: a tuple, None."""
    if thing is None:
        return "None"
    name = type(thing).__name__
    return f"an {name}" if name[0].lower() in "aeio" else f"a {name}"


def _refuse(who: str, case: str, what: str, allowed: str) -> NoReturn:
    where = f"{who}, case {shown(case)}" if case else who
    raise PluginError(what, where=where, allowed=allowed)
