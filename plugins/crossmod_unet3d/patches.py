"""Batches of augmented patches, made ahead in background threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from crossmod import Context
from crossmod.torch import send, thread_pool
from crossmod_unet3d.augment import recolor
from crossmod_unet3d.contrast import restyle
from crossmod_unet3d.motion import draw_motion, move
from crossmod_unet3d.plan import Plan
from crossmod_unet3d.sampling import TrainingCases, cut, draw_center, is_forced

if TYPE_CHECKING:
    from crossmod_unet3d import UNet3DOptions

AHEAD = 2  # batches waiting besides those that threads work on
MOST_THREADS = 8  # as many as read two cases again, 0.4 s, in a step of 60 ms


@dataclass(frozen=True)
class Batch:
    """What one step learns from, on the device of the training.

    Attributes:
        images: float32 ``(B, 1, I, J, K)``, about mean 0 and standard deviation 1.
        labels: uint8 ``(B, I, J, K)``.
        names: the cases the patches come from.
        weights: float32 ``(B,)``, how much each patch counts; None where all count the same and
            no voxel is ignored.
    """

    images: Tensor
    labels: Tensor
    names: list[str]
    weights: Tensor | None = None


@dataclass(frozen=True)
class PatchSource:
    """Makes batches; batch n is the same whenever and in whatever thread it is made.

    Attributes:
        cases: where patches are cut from.
        plan: patch size, voxel size and patches per batch.
        options: what the recipe says.
        ctx: gives each patch its random numbers.
    """

    cases: TrainingCases
    plan: Plan
    options: UNet3DOptions
    ctx: Context

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        images, labels, names, weights = [], [], [], []
        for item in range(self.plan.batch):
            rng = self.ctx.rng("patch", step, item)
            index = int(rng.integers(len(self.cases)))
            image, outline = self._patch(index, item, rng)
            images.append(image)
            labels.append(outline)
            names.append(self.cases.names[index])
            weights += [self.cases.weights[index]] if self.cases.weights else []
        counted = send(torch.tensor(weights), self.ctx.device) if weights else None
        return Batch(torch.stack(images)[:, None], torch.stack(labels), names, counted)

    def _patch(self, index: int, item: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        options, patch, thick = self.options, self.plan.patch, self.plan.thick_axis
        device = self.ctx.device
        case, shape = self.cases[index], self.cases.shapes[index]
        forced = is_forced(item, self.plan.batch, options.foreground_fraction, rng)
        center = draw_center(shape, patch, self.cases.voxels[index], forced, rng)
        motion = draw_motion(thick, options.augmentation, rng)
        if motion:
            image, labels = move(case, center, patch, self.plan.spacing_mm, motion, device)
        else:
            image = send(cut(case.image, center, patch), device)
            labels = send(cut(case.labels, center, patch), device)
        image = restyle(image, labels, len(self.ctx.classes), options.augmentation, rng)
        image = recolor(image, thick, options.augmentation, rng)
        axes = tuple(axis for axis in options.mirror_axes if rng.random() < 0.5)
        return image.flip(axes), labels.flip(axes)

    @contextmanager
    def ahead(self, steps: int, threads: int) -> Iterator[Callable[[int], Batch]]:
        """Gives what makes the batch of a step, and meanwhile in threads those that follow.

        Each of these threads computes alone: teams of their own would compete with the network.
        """
        waiting: dict[int, Future[Batch]] = {}
        with thread_pool(threads, 1, "patches") as pool:

            def batch(step: int) -> Batch:
                for number in range(step, min(step + threads + AHEAD + 1, steps)):
                    if number not in waiting:
                        waiting[number] = pool.submit(self.batch, number)
                for passed in [number for number in waiting if number < step]:
                    waiting.pop(passed).cancel()
                return waiting.pop(step).result()

            try:
                yield batch
            finally:
                for future in waiting.values():
                    future.cancel()


def loader_threads(ctx: Context) -> int:
    """Threads that make batches: one beside a network on a CPU, as many as there are cores else."""
    return 1 if ctx.device == "cpu" else min(ctx.cores(), MOST_THREADS)
