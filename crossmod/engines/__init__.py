"""Where tasks run: on this machine, or in an engine that comes through an entry point.

An engine imports these names and those of `crossmod`; docs/how-to/write-an-engine.md explains them.
"""

from crossmod.errors import Interrupted, with_extra
from crossmod.lanes import cores
from crossmod.machine import THREAD_VARIABLES, gpus
from crossmod.run.engine import Engine
from crossmod.run.execute import Maker, forward_warnings, killed_for_memory
from crossmod.run.task import Advance, Event, Machine, Outcome, Remark, Task
from crossmod.store.store import Store

__all__ = [
    "THREAD_VARIABLES",
    "Advance",
    "Engine",
    "Event",
    "Interrupted",
    "Machine",
    "Maker",
    "Outcome",
    "Remark",
    "Store",
    "Task",
    "cores",
    "forward_warnings",
    "gpus",
    "killed_for_memory",
    "with_extra",
]
