"""What every engine is: something that makes tasks and says how they end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crossmod.run.task import Event, Task


class Engine(Protocol):
    """Makes tasks, at least once each; their results are looked up in the store.

    An engine may say that a task ended although it did not, or lose it and make it again:
    correctness never rests on what it says.
    """

    def takes(self, task: Task, beside: Sequence[Task] = ()) -> bool:
        """Whether there is room for a task now.

        Args:
            task: to be submitted.
            beside: what will be submitted together with it.
        """
        ...

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take tasks that can be made now; `takes` has said that there is room for them."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """What happened since the last call; returns early when something does."""
        ...

    def stop(self) -> None:
        """Ask all tasks to save their state and end; `wait` brings the outcomes."""
        ...

    def close(self) -> None:
        """End at once and free everything."""
        ...
