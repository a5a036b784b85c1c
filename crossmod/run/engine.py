"""What every engine is: something that makes tasks and says how they end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from crossmod.options import HasOptions, OptionsT
from crossmod.run.task import Event, Machine, Task
from crossmod.store.store import Store


class Engine(HasOptions[OptionsT], ABC):
    """Makes tasks, at least once each; their results are looked up in the store.

    An engine may report the end of a task too early, or lose the task and repeat it:
    correctness never depends on its reports.

    Attributes:
        options: what the profile says, of the class that is the type parameter.
        store: where results go.
        machine: how to compute.
    """

    on_shared_disk: ClassVar[bool] = False
    """Whether tasks are made on other machines, which see the disk of the store: locks there are
    then files that every machine respects, whatever the file system looks like from here."""

    def __init__(self, options: OptionsT, store: Store, machine: Machine) -> None:
        self.options, self.store, self.machine = options, store, machine

    @abstractmethod
    def takes(self, task: Task, beside: Sequence[Task] = ()) -> bool:
        """Whether there is room for a task now.

        Args:
            task: to be submitted.
            beside: what will be submitted together with it.
        """

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> None:
        """Take tasks that can be made now; `takes` has said that there is room for them."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Event]:
        """What happened since the last call; returns early when something does."""

    @abstractmethod
    def stop(self) -> None:
        """Ask all tasks to save their state and end; `wait` brings the outcomes."""

    @abstractmethod
    def close(self) -> None:
        """End at once and free everything; called at the end of every run, perhaps twice."""
