"""Checks on a real GPU: `pytest -m gpu -n 0 tests/gpu`; about a quarter of an hour on an H200."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture
def note(capsys):
    """Shows a line of figures at once."""

    def show(text):
        with capsys.disabled():
            sys.stdout.write(f"\n  {text}\n")
            sys.stdout.flush()

    return show


@pytest.fixture(autouse=True)
def _as_before():
    """Settings of torch and the memory of the GPU, as they were."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()
