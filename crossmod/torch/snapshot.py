"""The state of a training in a folder: weights as safetensors, the rest as plain data, no code.

Files may come from anywhere: what they say is checked before anything large is made of it.
"""

from __future__ import annotations

import io
import json
import pickletools
import random
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from crossmod.errors import CrossmodError, DataError, NotFinite, PluginError

WEIGHTS, STATE, ABOUT = "weights.safetensors", "state.pt", "about.json"
SHOWN = 8  # differences that an error names

TENSORS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
"""What a pickle of plain data and tensors names, besides kinds of storage."""


@runtime_checkable
class Stateful(Protocol):
    """Gives its state as plain data and tensors, and takes it back: optimizers, own classes."""

    def state_dict(self) -> Mapping[str, Any]:
        """Numbers, texts, None, tensors, and lists, tuples and dictionaries of them."""
        ...

    def load_state_dict(self, state: Any, /) -> object:
        """Go on from such a state; its tensors lie on the CPU."""
        ...


Part = nn.Module | np.random.Generator | Stateful
"""What a training changes step by step."""


def require_parts(parts: Mapping[str, object]) -> None:
    """Refuse what has no state that can be kept.

    Raises:
        PluginError: names the part.
    """
    allowed = "a network, an optimizer, a numpy Generator, or state_dict and load_state_dict"
    for name, part in parts.items():
        if isinstance(part, type) or not isinstance(part, np.random.Generator | Stateful):
            text = f"the part '{name}' of a training is {type(part).__name__}, which has no state"
            raise PluginError(text, allowed=allowed)


def write(folder: Path, parts: Mapping[str, Part], facts: Mapping[str, Any]) -> None:
    """Fill an empty folder with the state of all parts and of all global random numbers.

    Args:
        folder: where to.
        parts: by name.
        facts: numbers and texts that say what training this is.

    Raises:
        NotFinite: a weight is NaN or infinite.
        TypeError: the state of a part is not plain.
    """
    _require_finite_weights(parts)
    weights = _weights(parts)
    states = {
        name: _plain(_state_of(part), name)
        for name, part in parts.items()
        if not isinstance(part, nn.Module)
    }
    buffer = io.BytesIO()
    torch.save({"parts": states, "random": _random_state()}, buffer)
    copies = {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    # As bytes, since a full disk is an OSError then, with both libraries.
    (folder / WEIGHTS).write_bytes(to_safetensors(copies))
    (folder / STATE).write_bytes(buffer.getbuffer())
    about = {**facts, "weights": _shapes(weights)}
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def read(
    folder: Path, parts: Mapping[str, Part], facts: Mapping[str, Any], required: str
) -> dict[str, Any]:
    """Put a state into the parts, and back into the global random numbers.

    Args:
        folder: what `write` filled.
        parts: of the same names and shapes.
        facts: what this training is.
        required: the fact that must be the same.

    Returns:
        The facts of the training that was written.

    Raises:
        DataError: the files are damaged, hostile, or of another training.
    """
    with _explained(folder):
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        differences = _differences(about["weights"], _shapes(_weights(parts)))
        if about[required] != facts[required]:
            differences.append(f"{required}: {about[required]} there, {facts[required]} here")
        if differences:
            more = len(differences) - SHOWN
            text = "; ".join(differences[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
            raise DataError(
                f"this checkpoint is of another architecture: {text}",
                where=str(folder),
                fix="remove this folder to train from the start",
            )
        state = _load_plain(folder / STATE)
        weights = load_file(folder / WEIGHTS)
        for name, part in parts.items():
            _restore(part, name, weights, state["parts"])
        _restore_random(state["random"])
        return {name: about[name] for name in facts}


def require_finite(values: Mapping[str, float], where: str) -> None:
    """Stop a training whose losses are no longer numbers; its last checkpoint stays.

    Args:
        values: losses by name.
        where: the step and the cases it learned from.

    Raises:
        CrossmodError: one is NaN or infinite.
    """
    for name, value in values.items():
        if not np.isfinite(value):
            raise NotFinite(
                f"{name} is {value}",
                where=where,
                fix="lower learning_rate, or look at these images",
            )


def _require_finite_weights(parts: Mapping[str, Part]) -> None:
    for name, part in parts.items():
        weights = part.named_parameters() if isinstance(part, nn.Module) else ()
        broken = [key for key, weight in weights if not weight.isfinite().all()]
        if broken:
            raise NotFinite(
                f"weights of '{name}' are no longer numbers: {', '.join(broken[:SHOWN])}",
                fix="lower learning_rate; the last checkpoint is kept",
            )


def _weights(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    return {
        f"{part}.{name}": tensor.detach()
        for part, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    return {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in weights.items()
    }


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    def words(weight: Mapping[str, Any] | None) -> str:
        return f"{weight['dtype']} {tuple(weight['shape'])}" if weight else "nothing"

    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return [
        f"{name}: {words(there.get(name))} there, {words(here.get(name))} here" for name in names
    ]


def _state_of(part: Part) -> Any:
    if isinstance(part, np.random.Generator):
        return _as_json(part.bit_generator.state)
    assert not isinstance(part, nn.Module)
    return part.state_dict()


def _restore(part: Part, name: str, weights: dict[str, Tensor], states: Mapping[str, Any]) -> None:
    if isinstance(part, nn.Module):
        prefix = f"{name}."
        own = {key: tensor for key, tensor in weights.items() if key.startswith(prefix)}
        part.load_state_dict({key.removeprefix(prefix): own[key] for key in own})
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = json.loads(states[name])
    else:
        part.load_state_dict(states[name])


def _plain(value: Any, part: str) -> Any:
    """A copy that can be read without running code; a view is copied without what it views."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(inner, part) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        inside = [_plain(inner, part) for inner in value]
        return inside if isinstance(value, list) else tuple(inside)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"the state of '{part}' holds a {type(value).__name__}; use tensors and numbers"
    )


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": _as_json(random.getstate()),
        "numpy": _as_json(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def _restore_random(state: Mapping[str, Any]) -> None:
    version, internal, gauss = json.loads(state["python"])
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(json.loads(state["numpy"]))
    torch.set_rng_state(state["torch"])
    for device, one in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(one, device)


def _as_json(state: object) -> str:
    return json.dumps(state, default=lambda array: array.tolist())


def _load_plain(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(file.file_size for file in archive.infolist())
        if unpacked > path.stat().st_size:
            raise ValueError(f"{path.name} claims to hold {unpacked} bytes")
        [pickle] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        for code, argument, _ in pickletools.genops(archive.read(pickle)):
            if code.name in ("GLOBAL", "INST") and not _holds_data(str(argument)):
                raise ValueError(f"{path.name} names {argument}")
    return torch.load(path, map_location="cpu", weights_only=True)


def _holds_data(name: str) -> bool:
    module, _, kind = name.partition(" ")
    return name in TENSORS or (module == "torch" and kind.endswith("Storage"))


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Whatever goes wrong with files that are not what they should be is one error."""
    try:
        yield
    except (CrossmodError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"this checkpoint cannot be read: {type(error).__name__}: {error}",
            where=str(folder),
            fix="remove this folder to go on from an earlier one, or from the start",
        ) from error
