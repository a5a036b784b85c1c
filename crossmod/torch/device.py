"""Device, number format, memory allocator and seeds of a training process."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crossmod.errors import MachineError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names of glibc's mallopt

DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

TENSOR_CORES = 7
"""Compute capability from which fp16 is faster than fp32."""


def resolve_device(wanted: str = "auto") -> str:
    """The device to use: "auto" is the first GPU that torch can use, else the CPU.

    Args:
        wanted: "auto", "cpu", "cuda" or "cuda:n".

    Raises:
        MachineError: there is no such device, or this build of torch cannot compute on it.
    """
    if not DEVICE.fullmatch(wanted):
        raise MachineError(
            f'"{wanted}" is not a device',
            where="device",
            allowed='"auto", "cpu", "cuda" and, for one of several GPUs, "cuda:0", "cuda:1", ...',
        )
    usable = usable_gpus(wanted)
    if wanted == "auto":
        return f"cuda:{usable[0]}".removesuffix(":0") if usable else "cpu"
    if wanted != "cpu" and not usable:
        raise MachineError(
            gpu_fault(int(wanted.partition(":")[2] or 0)),
            where=f'device = "{wanted}"',
            fix='use device = "auto" or "cpu", another machine, or a build of PyTorch for this GPU',
        )
    return wanted


def usable_gpus(device: str) -> list[int]:
    """The GPUs that ``device`` may mean and torch can compute on, as this process counts them."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return []
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = [int(number)] if number else range(count)
    return [index for index in wanted if not gpu_fault(index)]


def gpu_fault(index: int) -> str:
    """Why torch cannot use GPU ``index`` of those that this process sees; empty if it can."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return "this machine has no GPU that PyTorch can use"
    if index >= count:
        return f"this machine has cuda:0 to cuda:{count - 1}"
    major, minor = torch.cuda.get_device_capability(index)
    kernels = torch.cuda.get_arch_list()
    if torch.version.hip or _runs((major, minor), kernels):
        return ""
    name = torch.cuda.get_device_name(index)
    return (
        f"PyTorch {torch.__version__} has no kernels for {name} (compute capability"
        f" {major}.{minor}); it has {', '.join(kernels)}"
    )


def _runs(capability: tuple[int, int], kernels: list[str]) -> bool:
    """Whether a card runs one of these kernels, or can translate one for itself.

    Machine code (sm) runs on cards of the same generation from its own revision on; intermediate
    code (compute) on every later card. Code for one card only has a suffix, such as sm_90a.
    """
    for kernel in kernels:
        kind, _, digits = kernel.partition("_")
        exact = digits.endswith("a")
        number = digits.rstrip("af")
        built = int(number[:-1] or 0), int(number[-1:] or 0)
        if exact:
            fits = built == capability
        elif kind == "compute":
            fits = built <= capability
        else:
            fits = built[0] == capability[0] and built[1] <= capability[1]
        if fits:
            return True
    return False


def resolve_precision(wanted: str, device: str) -> str:
    """The number format to use.

    "auto" is bf16 where the device computes it natively, fp16 on GPUs that have tensor cores but
    no bf16 (Volta, Turing), else fp32.
    """
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return "bf16"
            return "fp16" if torch.cuda.get_device_capability()[0] >= TENSOR_CORES else "fp32"
    return "bf16" if _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    # Without AVX512_BF16 or AMX, autocast to bf16 is slower than fp32.
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: str, precision: str, *, fp16_is_safe: bool = False) -> torch.autocast:
    """A context in which networks compute in ``precision``.

    Args:
        device: a torch device.
        precision: "fp32", "bf16" or "fp16".
        fp16_is_safe: as it is in prediction, and in training with `loss_scaler`. Elsewhere small
            gradients would vanish, and fp32 is used in its place.
    """
    wanted = "fp32" if precision == "fp16" and not fp16_is_safe else precision
    number_format = HALVES.get(wanted)
    return torch.autocast(torch.device(device).type, number_format, number_format is not None)


def loss_scaler(device: str, precision: str) -> LossScaler:
    """Scales the loss where a network trains in fp16; in other formats it does nothing.

    It is one of the parts that `resumable` keeps.
    """
    return LossScaler(torch.device(device).type, enabled=precision == "fp16")


class LossScaler(torch.amp.GradScaler):
    """Torch's own, but that a training may resume in another number format."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from such a state; one of another number format is empty and changes nothing."""
        if state_dict:
            super().load_state_dict(state_dict)


def send(tensor: Tensor, device: str | torch.device) -> Tensor:
    """A tensor on a device. Nothing waits for a GPU: it fetches a copy from pinned memory itself.

    Args:
        tensor: on the CPU or on the device; what lies there already is not copied.
        device: a torch device.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
    return tensor.to(device, non_blocking=True)


def prepare(seed: int) -> None:
    """Seed torch and keep large activations in the process instead of returning them.

    glibc hands every large block back to the kernel and faults it in again; keeping it makes a
    training step on CPU up to 1.5 times faster.
    """
    torch.manual_seed(seed)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc only
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
