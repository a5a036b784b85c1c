"""An engine that somebody else wrote: it makes steps in the program itself, one after the other."""

from crossmod import Options
from crossmod.engines import Engine, Maker


class Here(Engine[Options]):
    """Makes steps in the program itself."""

    def __init__(self, options, store, machine):
        super().__init__(options, store, machine)
        self.waiting = []

    def takes(self, task, beside=()):
        return not self.waiting and not beside

    def submit(self, tasks):
        self.waiting += tasks

    def wait(self, seconds):
        events = []
        while self.waiting:
            events.append(Maker(self.waiting.pop(), events.append).outcome())
        return events

    def stop(self):
        self.waiting.clear()

    def close(self):
        self.waiting.clear()
