"""Counts the operations of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiplications and additions, each as one, by torch's own formulas.

    It counts in the thread that entered it, second derivatives included, which torch's own
    `FlopCounterMode` refuses.

    Attributes:
        total: of convolutions and products of matrices; everything else counts as nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call one of torch's functions and count what it does."""
        named = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None:
            with self:  # in inference mode, functions come whole
                parts = func.decompose(*args, **named)
            return func(*args, **named) if parts is NotImplemented else parts
        result = func(*args, **named)
        self.total += count(*args, **named, out_val=result)
        return result
