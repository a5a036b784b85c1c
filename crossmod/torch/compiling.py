"""Training steps as torch compiles them, where that turns out to be faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Generic, ParamSpec, TypeVar

import torch
from torch import nn

from crossmod.stages.context import Context

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")

WARM = 3
"""Steps before any is timed; the first one with the compiled form waits until it is compiled."""

TIMED = 8
"""Steps that are timed with each form."""


def compiled_if_faster(
    function: Callable[ArgumentsT, ResultT], ctx: Context, networks: Sequence[nn.Module] = ()
) -> Callable[ArgumentsT, ResultT]:
    """What computes the same up to rounding: the function, or what torch compiles from it.

    On a GPU the first steps are timed with each form, and the faster one is kept for the rest of
    the process; the log says which. A resumed training tries again. On a CPU the function itself
    comes back. So it does with ``determinism = "exact"``: a clock must not decide about bits; and
    where torch cannot compile, because there is no C compiler, for example: the log says why.

    Args:
        function: is called once in every step of a training, with tensors of the same shapes.
        ctx: the run.
        networks: what it calls; if there are any, they are compiled, and the function is not.
    """
    exact = (
        torch.are_deterministic_algorithms_enabled()
        and not torch.is_deterministic_algorithms_warn_only_enabled()
    )
    if torch.device(ctx.device).type != "cuda" or exact:
        return function
    if why := cannot_compile(ctx.device):
        ctx.log(f"PyTorch cannot compile networks here, so they run as they are: {why}")
        return function
    finish = partial(torch.cuda.synchronize, ctx.device)
    if not networks:
        return Trial(function, torch.compile(function, dynamic=False), finish, ctx.log)
    compile_in_place(networks)
    return Trial(as_written(function), function, finish, ctx.log)


def cannot_compile(device: str, backend: str = "inductor") -> str:
    """Why torch compiles nothing for a device, in one line; empty if it does."""
    try:
        torch.compile(torch.square, backend=backend)(torch.ones(2, device=device))
    except Exception as error:
        return next(iter(str(error).splitlines()), type(error).__name__)
    return ""


def compile_in_place(networks: Sequence[nn.Module], backend: str = "inductor") -> None:
    """Let networks run as ``backend`` compiles them, but in functions that are `as_written`."""
    for network in networks:
        forward = torch.compile(network.forward, dynamic=False, backend=backend)
        network.forward = forward


def as_written(function: Callable[ArgumentsT, ResultT]) -> Callable[ArgumentsT, ResultT]:
    """A function in which nothing runs compiled."""

    def plain(*args: ArgumentsT.args, **kwargs: ArgumentsT.kwargs) -> ResultT:
        with torch.compiler.set_stance("force_eager"):
            return function(*args, **kwargs)

    return plain


class Trial(Generic[ArgumentsT, ResultT]):
    """Tries two forms of a function, one after the other, and keeps the one with faster steps.

    Args:
        plain: the function.
        compiled: its other form.
        finish: waits until the device has finished.
        log: takes the line that says what was found.
        clock: seconds since some time.
    """

    def __init__(
        self,
        plain: Callable[ArgumentsT, ResultT],
        compiled: Callable[ArgumentsT, ResultT],
        finish: Callable[[], None],
        log: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.plain, self.compiled = plain, compiled
        self._finish, self._log, self._clock = finish, log, clock
        self._begun: list[float] = []
        self._kept: Callable[ArgumentsT, ResultT] | None = None

    def __call__(self, *args: ArgumentsT.args, **kwargs: ArgumentsT.kwargs) -> ResultT:
        """What the form that is due makes of the arguments."""
        if self._kept is None:
            self._finish()
            self._begun.append(self._clock())
            if len(self._begun) > 2 * (WARM + TIMED):
                self._kept = self._faster()
        if self._kept is not None:
            return self._kept(*args, **kwargs)
        form = self.plain if len(self._begun) <= WARM + TIMED else self.compiled
        return form(*args, **kwargs)

    def _faster(self) -> Callable[ArgumentsT, ResultT]:
        """The form whose steps were faster; a step ends where the next one begins."""
        spans = [end - begin for begin, end in pairwise(self._begun)]
        half = len(spans) // 2
        plain, compiled = (median(part[WARM:]) for part in (spans[:half], spans[half:]))
        times = f"{1000 * compiled:.0f} ms instead of {1000 * plain:.0f}"
        kept = "kept" if compiled < plain else "not kept"
        self._log(f"with compiled networks, a step takes {times}; they are {kept}")
        return self.compiled if compiled < plain else self.plain
