"""Device, number format, memory allocator and seeds of a training process."""

from __future__ import annotations

import ctypes
import sys
import warnings
from pathlib import Path

import torch

from crossmod.errors import MachineError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names of glibc's mallopt

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

TENSOR_CORES = 7
"""Compute capability from which fp16 is faster than fp32."""


def resolve_device(wanted: str = "auto") -> str:
    """The device to use: "auto" is the first GPU that torch can use, else the CPU.

    Args:
        wanted: "auto", "cpu", "cuda" or "cuda:n".

    Raises:
        MachineError: there is no such GPU, or this build of torch cannot compute on it.
    """
    kind, _, number = wanted.partition(":")
    if kind == "cuda":
        if reason := gpu_fault(int(number or 0)):
            raise MachineError(reason, where=f'device = "{wanted}"', fix=_OTHER_DEVICE)
        return wanted
    if wanted != "auto":
        return wanted
    if not torch.cuda.is_available():
        return "cpu"
    if reason := gpu_fault(0):
        warnings.warn(f"the CPU is used, because {reason}", stacklevel=2)
        return "cpu"
    return "cuda"


_OTHER_DEVICE = 'use device = "auto" or "cpu", another machine, or a build of PyTorch for this GPU'


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
    code (compute) on every later card. Code with a suffix, such as sm_90a, is for one card only.
    """
    for kernel in kernels:
        kind, _, digits = kernel.partition("_")
        exact = not digits.isdecimal()
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


def autocast(device: str, precision: str, *, fp16: bool = False) -> torch.autocast:
    """A context in which networks compute in ``precision``.

    Args:
        device: a torch device.
        precision: "fp32", "bf16" or "fp16".
        fp16: whether fp16 is safe here: in prediction, and in training with `loss_scaler`. Where
            it is not, small gradients would vanish, and fp32 is used instead.
    """
    number_format = HALVES.get(precision) if fp16 or precision != "fp16" else None
    kind = torch.device(device).type
    return torch.autocast(
        kind, dtype=number_format or torch.bfloat16, enabled=number_format is not None
    )


def loss_scaler(device: str, precision: str) -> torch.amp.GradScaler:
    """Scales the loss of a training in fp16, so that gradients do not vanish; else does nothing.

    It is a part of the training that `resumable` keeps.
    """
    return torch.amp.GradScaler(torch.device(device).type, enabled=precision == "fp16")


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
