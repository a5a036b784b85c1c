"""What memory a process holds, and what to say where it was too little."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from crossmod.errors import MachineError
from crossmod.stages.guard import text_of

GIB = 2**30

SIGNS = (
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Failed to allocate memory",
    "bad_alloc",
)
"""What libraries say where memory ran out."""

OF_GPU = ("CUDA", "CUDNN", "CUBLAS", "HIP")
"""What they name where it was the memory of a GPU."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, that of the machine or that of a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in text_of(error) for sign in SIGNS)


def held_at(error: BaseException) -> str:
    """What this process held of the memory that ran out, in words."""
    import torch

    if not _is_of_gpu(error) or not torch.cuda.is_available():
        return f"the process held {peak_bytes() / GIB:.1f} GiB"
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    held, whole = torch.cuda.max_memory_reserved() / GIB, gpu.total_memory / GIB
    return f"the process held {held:.1f} GiB of the {whole:.1f} GiB of the GPU, {gpu.name}"


def _is_of_gpu(error: BaseException) -> bool:
    return any(word in text_of(error) for word in OF_GPU)


def out_of_memory(error: BaseException, where: str, case: str) -> MachineError:
    """The error for a step in whose process memory ran out.

    Args:
        error: how it showed.
        where: the step.
        case: what it was at; empty if unknown.
    """
    what = text_of(error).partition("\n")[0]
    return memory_short(where, case, held_at(error), what)


def memory_short(where: str, case: str, held: str, what: str) -> MachineError:
    """The error for a step that needs more memory than there is.

    Args:
        where: the step.
        case: what it was at; empty if unknown.
        held: what its process held, in words.
        what: how it showed; empty if that says nothing.
    """
    at = f", at case {case}" if case else ""
    return MachineError(
        f"out of memory: {what}" if what else "out of memory",
        where=where + at,
        allowed=held,
        fix="a smaller patch, batch or crop, a lower memory_gb or cache_gb, or fewer workers "
        "(--workers 1); then run again to resume",
    )


def forget_peak() -> None:
    """Let the peak of memory count from now on, where Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The highest resident memory of this process since `forget_peak`."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def resident_bytes() -> int:
    """The memory this process holds now; 0 where Linux does not say."""
    with suppress(OSError):
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
        return int(pages) * 4096
    return 0
