"""Network weights as a stage's State: plain named arrays, never pickles."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from crossmod.data.state import Arrays


def weights_of(network: nn.Module, prefix: str = "") -> dict[str, np.ndarray]:
    """The parameters and buffers of a network as arrays named ``{prefix}{name}``."""
    return {
        f"{prefix}{name}": tensor.detach().cpu().numpy().copy()
        for name, tensor in network.state_dict().items()
    }


def load_weights(network: nn.Module, state: Arrays, prefix: str = "") -> None:
    """Put copies of arrays named ``{prefix}{name}`` into a network.

    One that was built on the device "meta", without numbers of its own, lies on the CPU then.

    Raises:
        RuntimeError: names or shapes differ; the message lists them.
    """
    own = {
        name.removeprefix(prefix): torch.from_numpy(np.array(array))
        for name, array in state.items()
        if name.startswith(prefix)
    }
    network.load_state_dict(own, assign=any(one.is_meta for one in network.parameters()))
