"""What a stage gives back is checked before anything is published.

Row G03 of the fault matrix; `tests/integration/test_plugin_mistakes.py` has whole runs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crossmod import (
    Case,
    Pair,
    PluginError,
    Prediction,
    Volume,
)
from crossmod.data.cohorts import CohortWriter
from crossmod.data.state import load_state, save_state
from crossmod.stages import contract

# --- G03: what a stage gives back ---------------------------------------------------------------

CLASSES = {"tumor": 1}
SHAPE = (1, 4, 5, 6)
P = "plugin 'p' (p 1)"


def volume(data: Any = None, affine: Any = None, case: Any = "a") -> Volume:
    data = np.full(SHAPE, 0.5, np.float32) if data is None else data
    return Volume(case, "", np.eye(4) if affine is None else affine, lambda: data)  # unchecked


def elsewhere() -> torch.Tensor:
    """A tensor on another device; "meta" is one that every machine has."""
    return torch.zeros(SHAPE, device="meta")


WRONG_VOLUMES = {
    "none": (lambda: None, "yielded None"),
    "array": (lambda: np.zeros(SHAPE), "yielded a ndarray"),
    "tuple": (lambda: ("a", np.zeros(SHAPE)), "yielded a tuple"),
    "device": (lambda: volume(elsewhere()), "data is a Tensor, not an array"),
    "gradient": (lambda: volume(torch.zeros(SHAPE, requires_grad=True)), "data is a Tensor"),
    "bf16": (lambda: volume(torch.zeros(SHAPE, dtype=torch.bfloat16)), "data is a Tensor"),
    "object": (lambda: volume(np.full(SHAPE, None)), "data holds values of type object"),
    "complex": (lambda: volume(np.zeros(SHAPE, complex)), "data holds values of type complex"),
    "text": (lambda: volume(np.full(SHAPE, "x")), "data holds values of type <U1"),
    "ragged": (lambda: volume([[1], [1, 2]]), "data is a list, not an array"),
    "infinite": (lambda: volume(np.full(SHAPE, np.inf)), "120 values that are NaN or infinite"),
    "affine shape": (lambda: volume(affine=np.eye(3)), r"affine of shape \(3, 3\)"),
    "affine NaN": (lambda: volume(affine=np.eye(4) * np.nan), "changed the affine"),
    "affine text": (lambda: volume(affine="RAS"), "affine holds values of type"),
    "case": (lambda: volume(case=7), "yielded an int as case"),
    "other case": (lambda: volume(case="b"), "yielded case 'b'"),
}


@pytest.mark.parametrize("name", WRONG_VOLUMES)
def test_g03_a_translator_that_yields_something_else(name: str) -> None:
    make, words = WRONG_VOLUMES[name]
    with pytest.raises(PluginError, match=words) as caught:
        list(contract.translations([volume()], [make()], P))  # type: ignore[list-item]
    assert P in str(caught.value)


@pytest.mark.parametrize("given", [None, 7, "text", {"a": 1}])
def test_g03_a_stage_that_does_not_yield(given: Any) -> None:
    for check in (
        lambda: contract.translations([volume()], given, P),
        lambda: contract.predictions([volume()], given, CLASSES, P),
        lambda: contract.copies({}, given, CLASSES, P),
        lambda: contract.selections({}, given, CLASSES, P),
    ):
        with pytest.raises(PluginError, match=r"returned|yielded") as caught:
            list(check())  # type: ignore[no-untyped-call]
        assert P in str(caught.value)


def test_g03_images_and_labels_come_out_as_their_types_say() -> None:
    [one] = contract.translations([volume()], [volume(torch.full(SHAPE, 0.5).double())], P)
    assert (type(one.data), one.data.dtype) == (np.ndarray, np.float32)
    shares = np.full((2, *SHAPE[1:]), 0.5, np.float16)
    [guess] = contract.predictions([volume()], [Prediction(volume(), shares)], CLASSES, P)
    assert guess.probabilities.dtype == np.float32


@pytest.mark.parametrize("center", ["../evil<b>\x1b[2J", None, 7])
def test_g03_center_and_patient_are_those_that_were_given(center: Any, tmp_path: Path) -> None:
    given = replace(volume(), center="ldn")
    [one] = contract.translations([given], [replace(volume(), center=center)], P)
    assert one.center == "ldn"
    moved = pair(image=replace(volume(), center=center), patient="P2")
    [chosen] = contract.selections(labeled(tmp_path), [moved], CLASSES, P)
    assert (chosen.center, chosen.patient) == ("etz", "P1")
    copy = replace(moved, patient="P1").copy_as("x", np.zeros(SHAPE, np.float32))
    [added] = contract.copies(labeled(tmp_path / "2"), [copy], CLASSES, P)
    assert (added.case, added.center, added.patient) == ("a+x", "etz", "P1")


@pytest.mark.parametrize(
    "affine", [np.eye(4) + 4 * np.eye(4, k=3), 2 * np.eye(4), np.eye(4) * np.nan]
)
def test_g03_a_prediction_stays_where_its_image_is(affine: Any) -> None:
    shares = np.full((2, *SHAPE[1:]), 0.5, np.float32)
    with pytest.raises(PluginError, match="changed the affine"):
        list(
            contract.predictions(
                [volume()], [Prediction(volume(affine=affine), shares)], CLASSES, P
            )
        )
    given, other = volume(), volume(np.zeros((1, 2, 2, 2), np.float32))
    [guess] = contract.predictions([given], [Prediction(other, shares)], CLASSES, P)
    assert guess.image is given


def test_g03_a_volume_that_is_read_late_is_read_once() -> None:
    reads = []

    def read() -> Any:
        reads.append(1)
        return np.zeros(SHAPE)

    [one] = contract.translations([volume()], [Volume("a", "", np.eye(4), read)], P)
    assert one.data.max() == 0
    assert len(reads) == 1


WRONG_SHARES = {
    "above 1": (np.full((2, *SHAPE[1:]), 1.5), r"probabilities in \[1.5, 1.5\]"),
    "scores": (np.stack([np.full(SHAPE[1:], -3.0), np.full(SHAPE[1:], 4.0)]), r"in \[-3, 4\]"),
    "sum": (np.full((2, *SHAPE[1:]), 0.4), "whose sum is off by 0.2"),
    "NaN": (np.full((2, *SHAPE[1:]), np.nan), "NaN"),
    "classes": (np.full((3, *SHAPE[1:]), 1 / 3), r"probabilities of shape \(3, 4, 5, 6\)"),
    "object": (np.full((2, *SHAPE[1:]), None), "probabilities holds values of type object"),
    "none": (None, "probabilities holds values of type object"),
}


@pytest.mark.parametrize("name", WRONG_SHARES)
def test_g03_a_segmenter_whose_probabilities_are_none(name: str) -> None:
    shares, words = WRONG_SHARES[name]
    guess = Prediction(volume(), shares)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match=words) as caught:
        list(contract.predictions([volume()], [guess], CLASSES, P))
    assert f"{P}, case a" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_g03_probabilities_in_half_precision_are_near_enough(dtype: torch.dtype) -> None:
    scores = 8 * torch.randn(2, 40, 40, 40, generator=torch.Generator().manual_seed(0))
    shares = scores.to(dtype).softmax(0).float().numpy()
    image = volume(np.zeros((1, 40, 40, 40), np.float32))
    found = contract.predictions([image], [Prediction(image, shares)], CLASSES, P)
    assert len(list(found)) == 1


def labeled(folder: Path) -> dict[str, Case]:
    writer = CohortWriter(folder, CLASSES)
    image = replace(volume(), center="etz")
    writer.add(image, labels=np.ones(SHAPE[1:], np.uint8), patient="P1")
    return {case.case: case for case in writer.close().cases}


def pair(labels: Any = None, case: str = "a", patient: str = "P1", image: Any = None) -> Pair:
    labels = np.ones(SHAPE[1:], np.uint8) if labels is None else labels
    return Pair(volume(case=case) if image is None else image, labels, patient)


WRONG_PAIRS = {
    "float labels": (pair(np.ones(SHAPE[1:])), "labels holds values of type float64"),
    "unknown labels": (pair(np.full(SHAPE[1:], 300)), r"labels \[300\]"),
    "negative labels": (pair(np.full(SHAPE[1:], -1)), r"labels \[-1\]"),
    "shape of labels": (pair(np.ones((2, 2, 2), int)), r"labels of shape \(2, 2, 2\)"),
    "no labels": (pair(labels="none"), "labels holds values of type"),
    "no image": (pair(image=np.ones(3)), "as image of a Pair"),
    "NaN": (pair(image=volume(np.full(SHAPE, np.nan))), "NaN"),
}


@pytest.mark.parametrize("name", WRONG_PAIRS)
def test_g03_pairs_that_are_none(name: str, tmp_path: Path) -> None:
    wrong, words = WRONG_PAIRS[name]
    with pytest.raises(PluginError, match=words):
        list(contract.selections(labeled(tmp_path), [wrong], CLASSES, P))


@pytest.mark.parametrize("suffix", ["../x", "a/b", "x\x00y", "x\ny", "a\\b", "x" * 300, "x."])
def test_g03_a_copy_whose_name_cannot_be_one_of_a_file(suffix: str, tmp_path: Path) -> None:
    copy = pair().copy_as(suffix, np.zeros(SHAPE, np.float32))
    with pytest.raises(PluginError, match="cannot be a case id"):
        list(contract.copies(labeled(tmp_path), [copy], CLASSES, P))


def test_g03_copies_belong_to_their_patient_and_selections_come_once(tmp_path: Path) -> None:
    stranger = pair(patient="P2").copy_as("x", np.zeros(SHAPE, np.float32))
    with pytest.raises(PluginError, match="yielded patient 'P2'"):
        list(contract.copies(labeled(tmp_path), [stranger], CLASSES, P))
    with pytest.raises(PluginError, match="twice"):
        list(contract.selections(labeled(tmp_path), [pair(), pair()], CLASSES, P))


WRONG_STATES: dict[str, tuple[Any, str]] = {
    "none": (None, "fit returned None"),
    "list": ([np.zeros(2)], "fit returned a list"),
    "names": ({3: np.zeros(2)}, "an array called 3"),
    "object": ({"network": object()}, "'network' holds values of type object"),
    "device": ({"w": torch.zeros(2, device="meta")}, "'w' is a Tensor, not an array"),
    "NaN": ({"w": np.array([np.nan])}, "1 of 1 learned arrays hold NaN"),
    "complex": ({"w": np.ones(2, complex)}, "'w' holds values of type complex128"),
    "long": ({"w": np.ones(2, np.longdouble)}, "'w' holds values of type float128"),
    "surrogate": ({"\udcff": np.zeros(2)}, r"an array called '\\udcff'"),
    "reserved": ({"__metadata__": np.zeros(2)}, "an array called '__metadata__'"),
}


@pytest.mark.parametrize("name", WRONG_STATES)
def test_g03_a_state_that_cannot_be_stored(name: str) -> None:
    state, words = WRONG_STATES[name]
    with pytest.raises(PluginError, match=words) as caught:
        contract.learned(state, P)
    assert P in str(caught.value)


@pytest.mark.parametrize("learned", [np.float32(3), 4, True, np.ones((2, 3)).T, np.ones((0, 3))])
def test_g03_a_state_comes_back_as_it_was(learned: Any, tmp_path: Path) -> None:
    save_state(tmp_path, contract.learned({"w": learned}, P))
    found = load_state(tmp_path)["w"]
    assert (found.shape, found.dtype) == (np.shape(learned), np.asarray(learned).dtype)
    assert np.array_equal(found, learned)


@pytest.mark.parametrize("done", [None, 1, 0.5, "yes", np.zeros(2)])
def test_g03_a_pseudo_labeler_says_whether_it_is_done(done: Any) -> None:
    with pytest.raises(PluginError, match="done returned"):
        contract.decision(done, P)
    assert contract.decision(np.True_, P) is True
