"""What the core tells a stage as it works: its folder, seed, device, and who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from crossmod.data.crossmoda import DEFAULT_CLASSES
from crossmod.data.state import State
from crossmod.data.volumes import FloatArray
from crossmod.stages import running
from crossmod.store.checkpoints import Checkpoints

ItemT = TypeVar("ItemT")


class Progress(Protocol):
    """Shows the progress of a loop."""

    def __call__(
        self, items: Iterable[ItemT], *, total: int | None = None, label: str = ""
    ) -> Iterator[ItemT]:
        """Yield the items; ``total`` if they have no length, ``label`` names the work."""
        ...


def silent_progress(
    items: Iterable[ItemT], *, total: int | None = None, label: str = ""
) -> Iterator[ItemT]:
    """Shows nothing."""
    del total, label
    yield from items


@dataclass(frozen=True)
class Context:
    """What a stage may know of the run it is part of.

    Attributes:
        folder: where the stage may write files of its own (figures, samples).
        seed: the seed of this step.
        classes: class name -> label in label maps.
        device: "cpu", "cuda" or "cuda:1".
        precision: "fp32", "bf16" or "fp16"; see `crossmod.torch.autocast`.
        cores: how many cores of the CPU the stage may use at the moment; more as other steps end.
            See `crossmod.torch.side_by_side`.
        start: what the segmenter learned in the previous round, to start from; None trains from
            scratch.
        checkpoints: where `crossmod.torch.resumable` keeps its states; None keeps none.
        progress: wrap a long loop in it to show time left.
        log: notes a line of text, for the report. A line that starts with "warning: " is shown
            during the run too.
        metric: notes numbers by name, and texts that say of what, in ``training.jsonl``, e.g.
            ``metric(step=10, loss=0.3)``, ``metric(case="a", dark=0.1)``.
    """

    folder: Path
    seed: int = 0
    classes: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_CLASSES))
    device: str = "cpu"
    precision: str = "fp32"
    cores: Callable[[], int] = lambda: 1
    start: State | None = None
    checkpoints: Checkpoints | None = None
    progress: Progress = silent_progress
    log: Callable[[str], None] = lambda text: None
    metric: Callable[..., None] = lambda **values: None

    def rng(self, *name: object) -> np.random.Generator:
        """A generator that depends on the seed and the name alone, e.g. ``rng("epoch", 3)``."""
        words = " ".join(map(str, name)).encode()
        return np.random.default_rng([self.seed, *words])

    def panel(self, name: str, rows: list[list[FloatArray]]) -> None:
        """Save gray images as one PNG, ``panels/{name}.png``.

        Args:
            name: file name without ending.
            rows: 2D images ``(H, W)`` in [0, 1], all of one shape, row by row.
        """
        from PIL import Image

        path = self.folder / "panels" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mosaic = np.vstack([np.hstack(row) for row in rows])
        Image.fromarray((np.clip(mosaic, 0, 1) * 255).astype(np.uint8)).save(path)

    @cached_property
    def keep(self) -> Path:
        """A folder that is there again when the step has failed or was stopped, and starts anew.

        It is for what a program needs to resume: preprocessed data, checkpoints of its own. When a
        machine stops, a file may be there in part. The folder is removed when the step is done.
        """
        return running.room(self)

    def run(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run another program to its end, one at a time.

        Each line that it prints is logged. It ends with this step, together with all that it has
        started, however the step ends. When the run is stopped, so is the program, within seconds.

        Args:
            command: the program and its arguments; no shell reads them. A name is looked up beside
                the Python of this environment, then on PATH.
            cwd: the folder it works in; `folder` if it is None.
            env: environment variables that it gets besides those of this process.

        Raises:
            PluginError: it ended with another exit code than 0; holds that and its last lines.
            MachineError: it is not installed, or cannot be started.
            Interrupted: the run was asked to stop.
        """
        running.run(self, command, cwd, env or {})
