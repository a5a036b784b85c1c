"""A stand-in accelerator: tensors that say they lie elsewhere and refuse to mix.

A build of torch without CUDA cannot show that a `.to(device)` was forgotten. These tensors can:
they compute on the CPU, but as on a GPU an operation raises where some of its tensors lie here and
some there, and `numpy()` needs `cpu()` first. What adds in no fixed order raises, too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "standin"

MOVES = {"aten::_to_copy", "aten::copy_", "aten::to"}
"""What may read from one device and write to the other."""

RAISING = {
    "_cdist_backward", "_ctc_loss_backward", "_embedding_bag_dense_backward",
    "adaptive_avg_pool2d_backward", "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d_backward", "avg_pool3d_backward", "bincount", "cumsum",
    "fractional_max_pool2d_backward", "fractional_max_pool3d_backward",
    "grid_sampler_2d_backward", "grid_sampler_3d_backward", "histc", "kthvalue",
    "max_unpool2d", "max_unpool3d", "median", "nanmedian", "nll_loss2d_backward",
    "nll_loss2d_forward", "nll_loss_backward", "nll_loss_forward", "put_",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward",
    "upsample_bicubic2d_backward", "upsample_bilinear2d_backward",
    "upsample_linear1d_backward", "upsample_trilinear3d_backward",
    "_upsample_bicubic2d_aa_backward", "_upsample_bilinear2d_aa_backward",
}  # fmt: skip
"""What `torch.use_deterministic_algorithms` lists as raising on CUDA, by the names of ATen."""

INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
"""Whose indices CUDA takes from the CPU, too."""


class Elsewhere(torch.Tensor):
    """A tensor on the stand-in; `raw` is where its numbers are."""

    raw: torch.Tensor
    operations = 0

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> Elsewhere:
        tensor: Elsewhere = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
        )
        tensor.raw = raw
        return tensor

    def tolist(self) -> Any:
        """The numbers; torch gives them for tensors of its own class only."""
        return self.raw.tolist()

    def __repr__(self, **unused: Any) -> str:
        return f"{NAME}({self.raw!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.operations += 1
        kwargs = dict(kwargs or {})
        refuse_unordered(func)
        leaves, spec = tree_flatten((args, kwargs))
        if func._schema.name not in MOVES:
            _refuse_mixture(func, leaves)
        targets = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
        raw_args, raw_kwargs = tree_unflatten([_raw(leaf) for leaf in leaves], spec)
        answer = func(*raw_args, **raw_kwargs)
        if func._schema.name == "aten::copy_":
            return args[0]
        stays = all(target.type == NAME for target in targets)
        results, shape = tree_flatten(answer)
        with torch.inference_mode(False):
            found = [Elsewhere(r) if isinstance(r, torch.Tensor) and stays else r for r in results]
        wrapped = tree_unflatten(found, shape)
        if torch.is_inference_mode_enabled():  # nothing is differentiated, so nothing is tracked
            return wrapped
        return return_and_correct_aliasing(func, args, kwargs, wrapped)


class OnlyDeterministic(TorchDispatchMode):
    """Refuses on the CPU, too, what has no deterministic kernel on CUDA."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        refuse_unordered(func)
        return func(*args, **(kwargs or {}))


def refuse_unordered(func: Any) -> None:
    """As CUDA does where the same bits are asked for."""
    name = func._schema.name.removeprefix("aten::")
    if name in RAISING:
        raise RuntimeError(f"{name} does not have a deterministic implementation on CUDA")


def _raw(leaf: Any) -> Any:
    """What an operation on the CPU is given instead."""
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.raw if isinstance(leaf, Elsewhere) else leaf


def _refuse_mixture(func: Any, leaves: list[Any]) -> None:
    """As CUDA does: a tensor on the CPU may only stand beside others if it is a single number."""
    here = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    here = [leaf for leaf in here if not isinstance(leaf, Elsewhere) and leaf.dim() > 0]
    if func._schema.name in INDEXED:
        here = [leaf for leaf in here if leaf.is_floating_point()]
    if here:
        raise RuntimeError(
            f"{func}: expected all tensors to be on the same device, but found at least two"
            f" devices, cpu {tuple(here[0].shape)} and {NAME}:0"
        )


class _Module(_DummyBackendModule):  # type: ignore[misc]
    """What torch asks of a device."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """The number formats of autocast."""
        return [torch.bfloat16, torch.float16]


@cache
def register() -> str:
    """Make the stand-in known to torch; returns what to write for ``device``."""
    _setup_privateuseone_for_python_backend(NAME, _Module())
    library = torch.library.Library("aten", "IMPL")

    def empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **unused: Any) -> Any:
        kind = memory_format or torch.contiguous_format
        return Elsewhere(torch.empty(size, dtype=dtype, memory_format=kind))

    def empty_strided(size: Any, stride: Any, *, dtype: Any = None, **unused: Any) -> Any:
        return Elsewhere(torch.empty_strided(size, stride, dtype=dtype))

    library.impl("empty.memory_format", empty, "PrivateUse1")
    library.impl("empty_strided", empty_strided, "PrivateUse1")
    _kept.append(library)
    return NAME


_kept: list[Any] = []
