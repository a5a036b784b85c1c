"""Leaf functions for plugins that train networks: device, precision, losses, weights, resume.

No callbacks, no base class: every plugin owns its loop.
"""

from crossmod.stages.guard import is_out_of_memory
from crossmod.torch.compiling import compiled_if_faster
from crossmod.torch.determinism import set_up
from crossmod.torch.device import (
    autocast,
    loss_scaler,
    prepare,
    resolve_device,
    resolve_precision,
    send,
)
from crossmod.torch.lanes import side_by_side, sum_gradients, thread_pool
from crossmod.torch.layout import channels_last
from crossmod.torch.losses import Means, to_numbers
from crossmod.torch.norms import InstanceNorm
from crossmod.torch.resume import resumable
from crossmod.torch.snapshot import Part, Stateful, require_finite
from crossmod.torch.weights import load_weights, weights_of

__all__ = [
    "InstanceNorm",
    "Means",
    "Part",
    "Stateful",
    "autocast",
    "channels_last",
    "compiled_if_faster",
    "is_out_of_memory",
    "load_weights",
    "loss_scaler",
    "prepare",
    "require_finite",
    "resolve_device",
    "resolve_precision",
    "resumable",
    "send",
    "set_up",
    "side_by_side",
    "sum_gradients",
    "thread_pool",
    "to_numbers",
    "weights_of",
]
