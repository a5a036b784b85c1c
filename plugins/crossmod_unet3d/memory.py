"""Memory: what a large network on a CPU gives back, and what is free for training volumes."""

from __future__ import annotations

import ctypes
import sys

import torch

from crossmod_unet3d.plan import REFERENCE_FEATURES, Plan, feature_values

MMAP_THRESHOLD, MMAP_MAX = -3, -4  # names of glibc's mallopt
LARGE_BYTES = 32 * 2**20  # the highest threshold that glibc takes
MANY = 65_536  # glibc's own limit of such blocks

GIB = 2**30
BESIDE = 1.5  # of the memory a training is planned for: workspaces and the gaps between blocks


def is_large(plan: Plan) -> bool:
    """Whether a batch takes more than half of the 8 GB that a network is planned for."""
    values = feature_values(plan.patch, plan.strides, plan.channels, outputs=2)
    return values * plan.batch > REFERENCE_FEATURES


def give_back_large_blocks() -> None:
    """Return blocks from 32 MB on to the system as soon as they are free, and all that are free.

    `crossmod.torch.prepare` keeps them, which makes steps a quarter faster. But what is free then
    lies between what is used, in pieces that fit nothing: the network of the paper takes 9.4 GB
    instead of 7.5, and 12 GB after other steps in the same process.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc only
        libc.mallopt(MMAP_MAX, MANY)
        libc.mallopt(MMAP_THRESHOLD, LARGE_BYTES)
        libc.malloc_trim(0)


def room_for_cases(device: str, memory_gb: float, cache_gb: float) -> dict[str, float]:
    """Bytes that training volumes may take, by device, in the order in which they are filled.

    On a GPU, half of what is free beside the training, so that another one may begin there.

    Args:
        device: of the training.
        memory_gb: what the training is planned for.
        cache_gb: of main memory.
    """
    room = {"cpu": cache_gb * GIB}
    if torch.device(device).type != "cuda":
        return room
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + unused
    return {device: (free - BESIDE * memory_gb * GIB) / 2, **room}
