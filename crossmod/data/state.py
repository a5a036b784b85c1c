"""What a stage has learned, as a file of named arrays; no pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crossmod.data.volumes import State
from crossmod.errors import DataError

STATE = "state.safetensors"
"""The file in the folder of a step."""


def save_state(folder: Path, state: State) -> None:
    """Store what a stage has learned."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in state.items()}
    (folder / STATE).write_bytes(save(arrays))  # as bytes: a full disk is an OSError then


def load_state(folder: Path) -> State:
    """What a stage has learned.

    Raises:
        DataError: the file is not one that `save_state` wrote.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        state: State = load_file(folder / STATE)
    except (SafetensorError, TypeError) as error:  # TypeError: a type that numpy does not have
        raise DataError(
            f"not a file of learned arrays: {error}",
            where=str(folder / STATE),
            fix="remove this folder and run again to make it anew",
        ) from error
    return state


def arrays_in(content: bytes) -> State:
    """The arrays of a safetensors file, which anybody may have made.

    Raises:
        ValueError: it is none, or holds numbers that numpy does not have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: State = load(content)
    except SafetensorError as error:
        raise ValueError(f"is no safetensors file: {error}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"holds numbers of the type {error}, which cannot be read") from error
    return arrays
