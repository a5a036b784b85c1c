"""What this machine has: cores, memory within the limits set for us, GPUs; what memory we hold."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from crossmod.errors import MachineError
from crossmod.stages.guard import text_of

GIB = 2**30

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")  # fmt: skip
"""Environment variables that set how many threads libraries use."""

OF_GPU = ("CUDA", "CUDNN", "CUBLAS", "HIP")
"""Words in messages of libraries when GPU memory ran out."""


def memory_limit(mounted: Path = CGROUPS, own: Path = OWN_GROUPS) -> int:
    """Bytes this process and its children may hold: the machine's, or a container's if less.

    Args:
        mounted: where Linux shows control groups, of either version.
        own: the file that says to which ones a process belongs.
    """
    limits = [total_memory()]
    for folder, name in _groups(mounted, own):
        with suppress(OSError, ValueError):  # "max" is not a number
            limits.append(int((folder / name).read_text("ascii")))
    return min(limits)


def _groups(mounted: Path, own: Path) -> list[tuple[Path, str]]:
    """The folders of our control groups up to the root, and the name of the file of a limit."""
    found = [(mounted, "memory.max"), (mounted / "memory", "memory.limit_in_bytes")]
    with suppress(OSError):
        for line in own.read_text("utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds in ("", "memory"):
                root, name = found[0] if kinds == "" else found[1]
                inner = root / path.lstrip("/")
                found += [(folder, name) for folder in (inner, *inner.parents)
                          if folder.is_relative_to(root)]  # fmt: skip
    return found


def available_memory() -> int:
    """Bytes that can be taken now without swapping."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, memory_limit())
    return memory_limit()


def total_memory() -> int:
    """Memory of this machine, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gpu_memory(device: str) -> int:
    """Memory, bytes, of the smallest GPU that a recipe's ``device`` may use; 0 without one."""
    import torch

    from crossmod.torch.device import usable_gpus

    found = [torch.cuda.get_device_properties(n).total_memory for n in usable_gpus(device)]
    return min(found, default=0)


def gpu_model(device: str) -> str:
    """Name and memory of the first GPU that a recipe's ``device`` may use; empty without one."""
    import torch

    from crossmod.torch.device import usable_gpus

    for number in usable_gpus(device):
        gpu = torch.cuda.get_device_properties(number)
        return f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB"
    return ""


def gpus(device: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES can name of the GPUs that a recipe's ``device`` may use.

    GPUs that torch cannot compute on are left out.
    """
    if not _may_have_gpus(device):
        return []
    from crossmod.torch.device import usable_gpus

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else []
    return [names[number] if names else str(number) for number in usable_gpus(device)]


def unused_gpus(device: str) -> list[str]:
    """Why GPUs that a recipe's ``device`` would allow are left out, a line for each."""
    if ":" in device or not _may_have_gpus(device):
        return []
    import torch

    from crossmod.torch.device import gpu_fault

    return [fault for n in range(torch.cuda.device_count()) if (fault := gpu_fault(n))]


def _may_have_gpus(device: str) -> bool:
    """Whether loading torch may find a GPU."""
    nodes = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()
    return device != "cpu" and (sys.platform != "linux" or nodes)


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
        error: the exception.
        where: the step.
        case: the case at work; empty if unknown.
    """
    what = text_of(error).partition("\n")[0]
    return memory_short(where, case, held_at(error), what)


def memory_short(where: str, case: str, held: str, what: str) -> MachineError:
    """The error for a step that needs more memory than there is.

    Args:
        where: the step.
        case: the case at work; empty if unknown.
        held: what its process held, in words.
        what: the message; empty if it says nothing.
    """
    at = f", at case {case}" if case else ""
    return MachineError(
        f"out of memory: {what}" if what else "out of memory",
        where=where + at,
        allowed=held,
        fix="use a smaller patch, batch or crop, a lower memory_gb or cache_gb, or fewer workers "
        "(--workers 1), then rerun to resume",
    )


def forget_peak() -> None:
    """Reset the memory peak, where Linux can."""
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


def forget_gpu_peak(device: str) -> None:
    """Give back the memory of a GPU that nothing uses, and reset the peak."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def gpu_peak_bytes(device: str) -> int:
    """The most that this process held of a GPU since `forget_gpu_peak`; 0 on a CPU."""
    import torch

    return int(torch.cuda.max_memory_reserved(device)) if device.startswith("cuda") else 0


def resident_bytes() -> int:
    """The memory this process holds now; 0 where Linux does not tell."""
    with suppress(OSError):
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
        return int(pages) * 4096
    return 0
