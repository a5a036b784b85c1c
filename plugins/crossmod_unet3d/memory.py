"""What is free for training volumes."""

from __future__ import annotations

import torch

GIB = 2**30
BESIDE = 1.5  # of the memory a training is planned for: workspaces and the gaps between blocks


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
