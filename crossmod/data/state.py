"""What a stage has learned, and its file: named arrays and notes; no pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossmod.errors import DataError, PluginError

Arrays: TypeAlias = Mapping[str, NDArray[np.generic]]
"""Arrays by name."""

STATE = "state.safetensors"
"""The file in the folder of a step."""

NOTES = "notes"
"""Where the metadata of that file keep the notes, as JSON."""

ILLEGAL = {"\\", ":", "\0"}
"""Letters that lead out of a folder on some system."""


@dataclass(frozen=True, eq=False)
class State(Arrays):
    """What a stage has learned: named arrays, and notes that say how to read them.

    It is a mapping of the arrays. A stage without notes may return a plain dictionary of arrays.

    Attributes:
        arrays: name -> numbers of at most 8 bytes, of any shape, finite.
        notes: what JSON can say of them, under names: texts, finite numbers, booleans, None, and
            lists and dictionaries of these. They come back as JSON has them: tuples as lists.

    Example:
        >>> state = State({"kernel": np.ones((3, 3))}, {"channels": [8, 16]})
        >>> state["kernel"].shape
        (3, 3)
        >>> state.notes["channels"]
        [8, 16]
    """

    arrays: Arrays = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    @classmethod
    def from_folder(cls, folder: str | Path, notes: Mapping[str, Any] | None = None) -> State:
        """The files of a folder, each as an array of its bytes, uint8 ``(N,)``.

        Args:
            folder: its files and those of its subfolders are read into memory; links are followed.
            notes: what to say of them.

        Raises:
            PluginError: the folder does not exist or holds no file.
        """
        folder = Path(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            raise PluginError("holds no file", where=str(folder), allowed="a folder with files")
        return cls(
            {
                path.relative_to(folder).as_posix(): np.frombuffer(path.read_bytes(), np.uint8)
                for path in files
            },
            notes or {},
        )

    def to_folder(self, folder: str | Path) -> None:
        """Write the files that `from_folder` has read.

        A model may come from elsewhere: do not unpickle what you have not trained yourself.

        Args:
            folder: made if missing; files of the same names are replaced.

        Raises:
            PluginError: an array is not the content of a file, or its name leaves the folder.
        """
        for name, array in self.items():
            parts = PurePosixPath(name).parts
            if (
                not parts
                or ".." in parts
                or parts[0] == "/"
                or any(set(p) & ILLEGAL for p in parts)
            ):
                raise PluginError(f"cannot name a file: {name!r}", where=str(folder))
            if array.dtype != np.uint8 or array.ndim != 1:
                raise PluginError(f"'{name}' is not the content of a file", where=str(folder))
            path = Path(folder, *parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(array.tobytes())


def save_state(folder: Path, state: State) -> None:
    """Store what a stage has learned."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in state.items()}
    metadata = {NOTES: json.dumps(state.notes)} if state.notes else None
    (folder / STATE).write_bytes(save(arrays, metadata))  # as bytes: a full disk is an OSError then


def load_state(folder: Path) -> State:
    """What a stage has learned.

    Raises:
        DataError: the file is not one that `save_state` wrote.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(folder / STATE)
        with (folder / STATE).open("rb") as file:
            return State(arrays, _notes_in(file))
    except (SafetensorError, TypeError, ValueError) as error:  # TypeError: numpy lacks the type
        raise DataError(
            f"not a file of learned arrays: {error}",
            where=str(folder / STATE),
            fix="delete this folder, then rerun to recompute it",
        ) from error


def parse_state(content: bytes) -> State:
    """The content of a safetensors file, which anybody may have made.

    Raises:
        ValueError: it is none, or holds numbers that numpy does not have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"holds numbers of the type {error}, which cannot be read") from error
    return State(arrays, _notes_in(BytesIO(content)))


def _notes_in(file: IO[bytes]) -> dict[str, Any]:
    """The notes in a file that safetensors could read; files from before they existed have none.

    Raises:
        ValueError: they are not as `save_state` wrote them.
    """
    size = int.from_bytes(file.read(8), "little")
    metadata = json.loads(file.read(size)).get("__metadata__") or {}
    try:
        notes = json.loads(metadata.get(NOTES, "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"holds notes that are not JSON: {error}") from error
    if not isinstance(notes, dict):
        raise ValueError("holds notes that are not a JSON object")
    return notes
