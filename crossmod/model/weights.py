"""The bytes of a weights file, which anybody may have made, as arrays."""

from __future__ import annotations

from crossmod.data.volumes import State


def arrays_in(content: bytes) -> State:
    """The arrays of a safetensors file.

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
