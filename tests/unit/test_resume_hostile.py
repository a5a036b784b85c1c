"""Files that are made to harm: no code runs, no memory is taken, the error says which file."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import again, assert_same, killed, overwrite, seal

from crossmod import DataError, PluginError
from crossmod.data.state import load_state, save_state
from crossmod.stages import contract


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


class Swells:
    """Takes 1 GB when it is unpickled."""

    def __reduce__(self):
        return bytearray, (10**9,)


def archive(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zip_bomb():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\0" * 2 * 10**7)
    return buffer.getvalue()


def safetensors_of(header, *, size=None, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def floats(first, last):
    return {"dtype": "F32", "shape": [(last - first) // 4], "data_offsets": [first, last]}


HOSTILE_STATES = {
    "os.system": lambda marker: archive({"parts": Runs(marker), "random": {}}),
    "a bare pickle": lambda marker: pickle.dumps(Runs(marker)),
    "a foreign pickle": lambda marker: archive({"parts": np.zeros(3), "random": {}}),
    "a large array": lambda marker: archive({"parts": Swells(), "random": {}}),
    "a zip bomb": lambda marker: zip_bomb(),
    "other content": lambda marker: archive([1, 2]),
    "nothing": lambda marker: b"",
}
HOSTILE_WEIGHTS = {
    "a header of 2^63 bytes": safetensors_of({}, size=2**63),
    "a header of 1 GB": safetensors_of({}, size=10**9),
    "overlaps": safetensors_of({"a": floats(0, 8), "b": floats(4, 12)}, data=bytes(12)),
    "more than there is": safetensors_of({"a": floats(0, 4 * 10**9)}, data=bytes(12)),
    "an overflow": safetensors_of(
        {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}
    ),
    "a type without numpy": safetensors_of(
        {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, data=bytes(4)
    ),
    "no header": b"\0",
}


@contextmanager
def little_memory():
    """Fails if the block takes 50 MB or more, where Linux can tell."""

    def peak():
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    linux = Path("/proc/self/clear_refs").exists()
    if linux:
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
    yield
    if linux:
        assert peak() - before < 50_000


@pytest.fixture(scope="module")
def torch_is_warm():
    """What the first reading of such files loads is not counted."""
    torch.load(io.BytesIO(archive({})), weights_only=True)


@pytest.mark.usefixtures("torch_is_warm")
@pytest.mark.parametrize("name", HOSTILE_STATES)
def test_a_hostile_state_is_refused_and_runs_nothing(name, tmp_path):
    watched, marker = killed(tmp_path / "killed"), tmp_path / "marker"
    folder = watched.folder / "000000004"
    overwrite(folder / "state.pt", HOSTILE_STATES[name](marker))
    seal(folder)
    with little_memory(), pytest.raises(DataError, match="cannot be read: ") as error:
        again(watched)
    assert error.value.where == str(folder)
    assert not marker.exists()


@pytest.mark.usefixtures("torch_is_warm")
@pytest.mark.parametrize("name", HOSTILE_WEIGHTS)
def test_hostile_weights_are_refused(name, tmp_path):
    watched = killed(tmp_path)
    folder = watched.folder / "000000004"
    overwrite(folder / "weights.safetensors", HOSTILE_WEIGHTS[name])
    seal(folder)
    with little_memory(), pytest.raises(DataError, match="cannot be read: "):
        again(watched)


def test_a_description_that_is_none_is_refused(tmp_path):
    watched = killed(tmp_path)
    folder = watched.folder / "000000004"
    for text in (b"[]", b"{", b"\xff", b'{"total": 6, "weights": {"network.first.weight": 3}}'):
        overwrite(folder / "about.json", text)
        seal(folder)
        with pytest.raises(DataError, match="cannot be read: "):
            again(watched)


@pytest.mark.parametrize("name", HOSTILE_WEIGHTS)
def test_a_hostile_result_is_refused(name, tmp_path):
    (tmp_path / "state.safetensors").write_bytes(HOSTILE_WEIGHTS[name])
    with little_memory(), pytest.raises(DataError, match="not a file of learned arrays") as error:
        load_state(tmp_path)
    assert error.value.where == str(tmp_path / "state.safetensors")


def test_a_result_with_a_header_of_1_gb_is_refused(tmp_path):
    with (tmp_path / "state.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 10**9))
        file.truncate(10**9 + 100)
    with little_memory(), pytest.raises(DataError, match="header too large"):
        load_state(tmp_path)


def test_results_are_numbers(tmp_path):
    state = {"plan": np.arange(3), "weight": np.array([1.0, np.nan]), "names": np.zeros(0)}
    with pytest.raises(PluginError, match="1 of 3 learned arrays hold NaN") as error:
        contract.learned(state, "plugin 'p'")
    assert error.value.where == "plugin 'p', weight"
    state["weight"][1] = 2
    save_state(tmp_path, contract.learned(state, "plugin 'p'"))
    assert_same(dict(sorted(load_state(tmp_path).items())), dict(sorted(state.items())))
