"""Which device and number format a machine gives, and what it says of a GPU that cannot be used."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from crossmod import machine
from crossmod.cost.estimates import Estimate
from crossmod.cost.fits import Room, lacking_gpu
from crossmod.cost.fits import _memory as memory_problem
from crossmod.cost.preview import Preview
from crossmod.errors import MachineError
from crossmod.machine import gpu_memory, gpu_model, held_at, out_of_memory
from crossmod.run.task import Event, Machine, Remark
from crossmod.stages.guard import is_out_of_memory
from crossmod.torch import autocast, loss_scaler, resolve_device, resolve_precision, set_up

HOPPER = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.fixture
def card(monkeypatch):
    """Pretend that there are GPUs: (capability, kernels of torch, computes bf16 natively)."""

    def pretend(*capabilities, kernels=HOPPER, native=False):
        cuda = {
            "is_available": lambda: True,
            "device_count": lambda: len(capabilities),
            "get_device_capability": lambda index=0: capabilities[index],
            "get_device_name": lambda index=0: f"Card {index}",
            "get_arch_list": lambda: kernels,
            # torch says that it can where it only emulates it
            "is_bf16_supported": lambda including_emulation=True: including_emulation or native,
            "device": lambda device: nullcontext(),
            "current_device": lambda: 0,
            "max_memory_reserved": lambda: 70 * 2**30,
            "get_device_properties": lambda index: SimpleNamespace(
                name=f"Card {index}", total_memory=80 * 2**30
            ),
        }
        for name, function in cuda.items():
            monkeypatch.setattr(torch.cuda, name, function)

    return pretend


@pytest.mark.parametrize(
    ("capability", "native", "expected"),
    [
        ((9, 0), True, "bf16"),
        ((7, 5), False, "fp16"),
        ((7, 0), False, "fp16"),
        ((6, 1), False, "fp32"),
    ],
)
def test_bf16_only_where_it_is_not_emulated(card, capability, native, expected):
    card(capability, native=native)
    assert resolve_precision("auto", "cuda") == expected


@pytest.mark.parametrize(
    ("capability", "kernels", "runs"),
    [
        ((8, 6), HOPPER, True),
        ((8, 9), HOPPER, True),  # Ada runs the kernels of Ampere
        ((7, 0), HOPPER, False),  # a revision older than the oldest kernel of its generation
        ((3, 7), HOPPER, False),
        ((12, 1), HOPPER, True),
        ((13, 0), HOPPER, True),  # translates compute_120
        ((13, 0), ["sm_120"], False),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
    ],
)
def test_a_gpu_needs_kernels(card, capability, kernels, runs):
    card(capability, kernels=kernels)
    if runs:
        assert resolve_device("auto") == resolve_device("cuda") == "cuda"
        return
    with pytest.raises(MachineError, match=r"no kernels for Card 0 \(compute capability"):
        resolve_device("cuda")
    assert resolve_device("auto") == "cpu"


def test_a_gpu_that_is_not_there_is_named(card):
    card((9, 0), (9, 0))
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(MachineError, match="cuda:0 to cuda:1"):
        resolve_device("cuda:2")


def test_without_a_gpu_the_message_says_what_to_write(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError, match="no GPU that PyTorch can use") as error:
        resolve_device("cuda")
    assert 'device = "auto"' in error.value.fix


def test_the_engine_leaves_out_gpus_that_torch_cannot_use(card, monkeypatch):
    card((9, 0), (3, 7), (8, 0))
    monkeypatch.setattr(machine.Path, "glob", lambda *_: iter(["nvidia0"]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.gpus("auto") == machine.gpus("cuda") == ["0", "2"]
    assert machine.gpus("cuda:5") == []
    assert gpu_memory("auto") == 80 * 2**30
    assert gpu_memory("cuda:1") == gpu_memory("cuda:5") == 0
    assert gpu_model("auto") == "Card 0, 80 GiB"
    [reason] = machine.unused_gpus("auto")
    assert "no kernels for Card 1 (compute capability 3.7)" in reason
    assert machine.unused_gpus("cuda:0") == machine.unused_gpus("cpu") == []
    assert machine.gpus("cuda:2") == ["2"]
    assert machine.gpus("cuda:1") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    assert machine.gpus("auto") == ["4", "7"]


def test_auto_is_the_first_gpu_that_can_be_used(card):
    card((3, 7), (9, 0))
    assert resolve_device("auto") == "cuda:1"


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda:2", ""),
        ("cuda", ""),
        ("auto", ""),
        ("cuda:1", "no kernels for Card 1"),
        ("cuda:7", "this machine has cuda:0 to cuda:2"),
    ],
)
def test_a_plan_asks_for_the_gpu_that_the_recipe_names(card, monkeypatch, device, said):
    card((9, 0), (3, 7), (8, 0))
    monkeypatch.setattr(machine.Path, "glob", lambda *_: iter(["nvidia0"]))
    preview = object.__new__(Preview)
    preview.machine, preview.here = Machine(device=device), True
    preview.gpus = machine.gpus(device)
    room = Room(10**9, 10**9, {}, device, preview._gpu_fault)
    found = lacking_gpu(room)
    assert bool(found) == bool(said)
    assert all(said in text for text in found)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "mps", ""])
def test_what_is_not_a_device_is_said(device):
    with pytest.raises(MachineError, match="is not a device"):
        resolve_device(device)


def test_a_worker_names_its_only_gpu_as_it_sees_it():
    assert Machine(device="cuda:1").seen_by_worker().device == "cuda"
    assert Machine(device="auto").seen_by_worker().device == "auto"


def test_fp16_only_where_losses_are_scaled():
    images, layer = torch.ones(1, 4), torch.nn.Linear(4, 4)
    formats = {}
    for precision in ("fp32", "bf16", "fp16"):
        for scaled in (False, True):
            with autocast("cpu", precision, fp16_is_safe=scaled):
                formats[precision, scaled] = layer(images).dtype
    assert formats == {
        ("fp32", False): torch.float32,
        ("fp32", True): torch.float32,
        ("bf16", False): torch.bfloat16,
        ("bf16", True): torch.bfloat16,
        ("fp16", False): torch.float32,
        ("fp16", True): torch.float16,
    }
    assert loss_scaler("cpu", "fp16").is_enabled()
    assert not loss_scaler("cpu", "bf16").is_enabled()


@pytest.mark.parametrize("before", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("after", ["fp32", "bf16", "fp16"])
def test_a_training_may_resume_in_another_number_format(before, after):
    """As when `auto` finds another GPU: the scale of the loss starts anew."""
    state = loss_scaler("cpu", before).state_dict()
    scaler = loss_scaler("cpu", after)
    scaler.load_state_dict(state)
    assert scaler.is_enabled() == (after == "fp16")
    assert float(scaler.scale(torch.ones(()))) == (65536 if after == "fp16" else 1)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_the_memory_of_the_gpu_is_said(card, error):
    card((9, 0), native=True)
    assert is_out_of_memory(error)
    explained = out_of_memory(error, "step train", "case-1")
    assert explained.allowed == "the process held 70.0 GiB of the 80.0 GiB of the GPU, Card 0"
    assert explained.where == "step train, at case case-1"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")],
)
def test_the_memory_of_the_machine_is_said_although_there_is_a_gpu(card, error):
    card((9, 0), native=True)
    assert is_out_of_memory(error)
    assert "GPU" not in held_at(error)


def test_a_plan_that_needs_more_than_the_gpu_has_is_refused():
    room = Room(64 * 10**9, 60 * 10**9, {}, "auto", gpu_bytes=24 * 10**9)
    fits = Estimate(source="probe", memory_bytes=5 * 10**9, gpu_bytes=20 * 10**9)
    assert memory_problem(fits, room) == ""
    large = Estimate(source="probe", memory_bytes=5 * 10**9, gpu_bytes=30 * 10**9)
    assert "needs 30 GB of the GPU" in memory_problem(large, room)
    assert "its GPU has 24 GB" in memory_problem(large, room)


def test_a_warning_is_told_once_although_python_forgets_that_it_was_shown():
    import warnings

    from crossmod.run.execute import forward_warnings

    told: list[Event] = []
    before = warnings.showwarning
    try:
        forward_warnings("key", told.append)
        for _ in range(3):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn("x_backward_cuda has no deterministic implementation", stacklevel=1)
        warnings.warn("another", stacklevel=1)
    except UserWarning:
        pass
    finally:
        warnings.showwarning = before
    assert [type(one) for one in told] == [Remark]


@pytest.mark.parametrize(
    ("level", "deterministic", "warns", "times", "rounds"),
    [
        ("exact", True, False, False, False),
        ("seeded", True, True, True, False),
        ("free", False, False, True, True),
    ],
)
def test_what_each_level_allows_a_gpu(level, deterministic, warns, times, rounds):
    """cuDNN may choose by its clock among deterministic algorithms only, and not in "exact"."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    try:
        set_up(level, "cuda")
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        assert torch.is_deterministic_algorithms_warn_only_enabled() is warns
        assert cudnn.benchmark is times
        assert cudnn.allow_tf32 is matmul.allow_tf32 is rounds
    finally:
        torch.use_deterministic_algorithms(False)
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before
