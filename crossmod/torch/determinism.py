"""What is promised about numbers, as torch's settings."""

from __future__ import annotations

import os

import torch


def set_up(level: str, device: str) -> None:
    """Let torch keep a promise in this process.

    Args:
        level: "exact": only kernels that give the same bits every time, an error where there is
            none; on a CPU the number of threads must be fixed too, which the engine does.
            "seeded": such kernels where there are any; cuDNN times them and keeps the fastest,
            perhaps another one in another process. "free": the fastest ones.
        device: "cpu", "cuda" or "cuda:n".
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(level != "free", warn_only=level == "seeded")
    # Filling costs time, and networks here read nothing that they have not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.startswith("cuda"):
        torch.backends.cudnn.benchmark = level != "exact"
        torch.backends.cudnn.allow_tf32 = level == "free"
        torch.backends.cuda.matmul.allow_tf32 = level == "free"
