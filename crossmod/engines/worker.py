"""A process that makes tasks for a run on the same machine.

It ends with its parent: when the connection breaks, training steps save their state and the process
leaves; what plugins have started ends with it. Ctrl-C in a terminal reaches every process of the
program; only the parent acts on it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from crossmod.errors import Interrupted
from crossmod.run.execute import Maker, forward_warnings
from crossmod.run.task import Task
from crossmod.stages.guard import programs

STOP = "stop"
PATIENCE_S = 25.0
"""Time for a task to reach a safe point after it was asked to stop."""


class Worker:
    """Makes tasks one by one.

    Args:
        connection: brings tasks, the number of cores to use, and "stop"; takes events.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.tasks: SimpleQueue[Task | None] = SimpleQueue()
        self.stopping = threading.Event()
        self.cores = 1

    def serve(self) -> None:
        """Make tasks until the parent hangs up."""
        threading.Thread(target=self._listen, daemon=True).start()
        while (task := self.tasks.get()) is not None:
            forward_warnings(task.key, self._tell)
            maker = Maker(task, self._tell, self.stopping.is_set, lambda: self.cores)
            self._tell(maker.outcome())

    def _listen(self) -> None:
        try:
            while True:
                message = self.connection.recv()
                if message == STOP:
                    self.stop()
                elif isinstance(message, int):
                    self.cores = message
                else:
                    self.tasks.put(message)
        except (EOFError, OSError):
            self.stop()
        finally:  # also where a plugin that was there for the parent cannot be imported here
            self.tasks.put(None)

    def stop(self, *unused: object) -> None:
        """Let the task at work end at the next safe point, or soon."""
        self.stopping.set()
        timer = threading.Timer(PATIENCE_S, _leave)
        timer.daemon = True
        timer.start()

    def _tell(self, event: Any) -> None:
        try:
            self.connection.send(event)
        except OSError:  # the parent is gone; `_listen` sees it too
            self.stopping.set()


def _leave() -> None:
    programs.end()
    os._exit(Interrupted.exit_code)


def main() -> None:
    """Serve the parent at the other end of the inherited connection."""
    programs.resume_without_parent()
    worker = Worker(Connection(int(sys.argv[1])))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, worker.stop)
    worker.serve()
    programs.end()  # those that threads of a plugin have started after its step


if __name__ == "__main__":
    main()
