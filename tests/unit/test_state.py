"""What a stage has learned comes back from its file as it was: arrays, and notes as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from crossmod import DataError, PluginError, State
from crossmod.data.state import STATE, load_state, parse_state, save_state
from crossmod.stages import contract

WHO = "plugin 'p'"
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}


@given(notes=st.dictionaries(st.text(), PLAIN, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # one file, written anew
def test_notes_come_back_as_they_were(tmp_path: Path, notes: dict[str, Any]) -> None:
    save_state(tmp_path, contract.learned(State(WEIGHTS, notes), WHO))
    content = (tmp_path / STATE).read_bytes()
    for found in (load_state(tmp_path), parse_state(content)):
        assert found.notes == notes
        assert list(found) == ["w"]
        assert np.array_equal(found["w"], WEIGHTS["w"])


def test_a_state_without_notes_is_a_file_as_before_there_were_any(tmp_path: Path) -> None:
    save_state(tmp_path, contract.learned(WEIGHTS, WHO))
    assert (tmp_path / STATE).read_bytes() == save(WEIGHTS)
    assert load_state(tmp_path).notes == {}


def test_metadata_of_other_programs_are_no_notes() -> None:
    assert parse_state(save(WEIGHTS, {"format": "pt"})).notes == {}


def test_tuples_come_back_as_lists() -> None:
    assert contract.learned(State(WEIGHTS, {"patch": (1, 2)}), WHO).notes == {"patch": [1, 2]}


@pytest.mark.parametrize("text", ["{", "[1]", "3", "[" * 100_000])
def test_notes_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    content = save(WEIGHTS, {"notes": text})
    with pytest.raises(ValueError, match="holds notes that are not"):
        parse_state(content)
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(DataError, match="holds notes that are not"):
        load_state(tmp_path)


WRONG_NOTES: dict[str, tuple[Any, str]] = {
    "array": ({"widths": np.ones(2)}, "notes that are not JSON: .* ndarray"),
    "NaN": ({"rate": float("nan")}, "notes that are not JSON"),
    "list": ([1, 2], "a list as notes"),
    "large": ({"text": "a" * contract.LONGEST_NOTES}, "notes of 10000012 characters"),
}


@pytest.mark.parametrize("name", WRONG_NOTES)
def test_notes_that_cannot_be_stored_are_the_mistake_of_the_plugin(name: str) -> None:
    notes, words = WRONG_NOTES[name]
    with pytest.raises(PluginError, match=words) as caught:
        contract.learned(State(WEIGHTS, notes), WHO)
    assert WHO in str(caught.value)


def test_the_longest_notes_can_be_read(tmp_path: Path) -> None:
    notes = {"text": "a" * (contract.LONGEST_NOTES - len(json.dumps({"text": ""})))}
    save_state(tmp_path, contract.learned(State(WEIGHTS, notes), WHO))
    assert load_state(tmp_path).notes == notes
