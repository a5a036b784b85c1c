"""A trained SinGAN: the generators of all scales, run from any scale on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crossmod import State
from crossmod.torch import load_weights, weights_of
from crossmod_singan_gba.networks import Generator
from crossmod_singan_gba.pyramid import resize, sides_of, through_eight_bits
from crossmod_singan_gba.scales import Side


@dataclass
class Cascade:
    """The generators learned so far, coarsest first.

    Attributes:
        ratios: size of every scale relative to the training image.
        generators: one network per scale.
        amplitudes: how much noise each generator is given.
        eight_bit: whether images pass through 8 bits whenever they are resized.
    """

    ratios: list[float]
    generators: list[Generator]
    amplitudes: list[float]
    eight_bit: bool = False

    @property
    def last(self) -> int:
        """The number of the finest scale; the coarsest is 0."""
        return len(self.ratios) - 1

    def sides(self, shape: Side) -> list[Side]:
        """Height and width, pixels, of an image of this shape at every scale."""
        return sides_of(shape, self.ratios)

    def resize(self, images: Tensor, side: Side) -> Tensor:
        """Bring images ``(B, 1, H, W)`` in [-1, 1] to another size."""
        return resize(through_eight_bits(images) if self.eight_bit else images, side)

    def run(self, image: Tensor, noises: Sequence[Tensor], first: int = 0) -> Tensor:
        """Pass images through the generators of the scales ``first``, ``first + 1``, ...

        Args:
            image: ``(B, 1, H, W)`` in [-1, 1], of any size; resized to that of each scale.
            noises: unit noise for each scale, ``(B, 1, h, w)``; its size is that of the scale, and
                their number says how many scales to pass.
            first: the scale to start at.

        Returns:
            Images of the size of the last noise; not clamped.
        """
        for scale, noise in enumerate(noises, start=first):
            height, width = noise.shape[-2:]
            image = self.resize(image, (height, width))
            image = self.generators[scale](image + self.amplitudes[scale] * noise, image)
        return image

    def state(self) -> State:
        """All that is needed to run it again."""
        weights: dict[str, NDArray[np.generic]] = {}
        for scale, generator in enumerate(self.generators):
            weights |= weights_of(generator, f"generator.{scale}.")
        shapes = [{"width": one.width, "kernel": one.kernel} for one in self.generators]
        notes = {"ratios": self.ratios, "amplitudes": self.amplitudes, "generators": shapes}
        return State(weights, notes)

    @classmethod
    def load(cls, state: State, *, device: str, eight_bit: bool) -> Cascade:
        """Rebuild it on a device, no longer in training."""
        generators = []
        for scale, shape in enumerate(state.notes["generators"]):
            generator = Generator(**shape)
            load_weights(generator, state, f"generator.{scale}.")
            generators.append(generator.to(device).requires_grad_(False).eval())
        return cls(state.notes["ratios"], generators, state.notes["amplitudes"], eight_bit)
