"""Leaf functions for plugins that train networks: device and precision, weights as state.

No callbacks, no base class: every plugin owns its loop.
"""

from crossmod.torch.device import autocast, prepare, resolve_device, resolve_precision
from crossmod.torch.weights import load_weights, weights_of

__all__ = [
    "autocast",
    "load_weights",
    "prepare",
    "resolve_device",
    "resolve_precision",
    "weights_of",
]
