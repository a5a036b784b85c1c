"""Carry out an experiment, and tell how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from crossmod.engines.profile import Profile, open_engine
from crossmod.progress.board import Board
from crossmod.progress.follow import Follower
from crossmod.progress.observers import Observers
from crossmod.progress.state import RunState
from crossmod.run import api
from crossmod.run.schedule import Observer, StopSign
from crossmod.run.signals import stop_on_signal

if TYPE_CHECKING:
    from crossmod.cost.estimates import Estimates
    from crossmod.cost.preview import Preview


def carry_out(
    experiment: api.Experiment,
    preview: Preview,
    estimates: Estimates,
    profile: Profile,
    *observers: Observer,
    tell: Callable[[RunState], None] = lambda state: None,
) -> api.Executed:
    """Make all steps and reports; the first signal stops the run at the next checkpoint.

    Args:
        experiment: what to do.
        preview: of it.
        estimates: what steps take, as far as it is known.
        profile: where and how steps are made, and what is written besides.
        observers: receive all events.
        tell: called once a minute with how far it is.

    Raises:
        CrossmodError: as `crossmod.run.api.execute`; or what the engine or TensorBoard needs is
            not installed.
    """
    opened = open_engine(profile, experiment.store, preview.machine)
    sign = StopSign()
    known = {key: one.seconds for key, one in estimates.of.items() if one.seconds is not None}
    follower = Follower(experiment, known, preview.workers, tell)
    with ExitStack() as stack:
        if profile.log.tensorboard:
            observers = (*observers, stack.enter_context(Board()))
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(stop_on_signal(sign, opened.close))
        stack.enter_context(follower)
        return api.execute(
            experiment,
            preview.machine,
            opened,
            Observers(*observers, follower),
            memory_bytes=estimates.memory_bytes,
            gpu_bytes=estimates.gpu_bytes,
            stop_sign=sign,
        )
