"""The memory of the process while a large network trains on a CPU."""

from __future__ import annotations

import ctypes
import sys

from crossmod_unet3d.plan import REFERENCE_FEATURES, Plan, feature_values

MMAP_THRESHOLD, MMAP_MAX = -3, -4  # names of glibc's mallopt
LARGE_BYTES = 32 * 2**20  # the highest threshold that glibc takes
MANY = 65_536  # glibc's own limit of such blocks


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
