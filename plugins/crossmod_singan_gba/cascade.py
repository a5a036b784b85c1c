"""A trained SinGAN: the generators of all scales, run from any scale on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossmod_singan_gba.networks import Generator
from crossmod_singan_gba.pyramid import Side, resize, sides_of, through_eight_bits

Arrays = Mapping[str, NDArray[np.generic]]


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

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All that is needed to run it again, as named arrays."""
        arrays: dict[str, NDArray[np.generic]] = {
            "ratios": np.array(self.ratios),
            "amplitudes": np.array(self.amplitudes),
        }
        for scale, generator in enumerate(self.generators):
            for name, tensor in generator.state_dict().items():
                arrays[f"generator.{scale}.{name}"] = tensor.cpu().numpy().copy()
        return arrays

    @classmethod
    def load(cls, arrays: Arrays, *, device: str, eight_bit: bool) -> Cascade:
        """Rebuild it; width and kernel of each generator are those of its weights."""
        generators = []
        for scale in range(len(arrays["ratios"])):
            prefix = f"generator.{scale}."
            weights = {
                name.removeprefix(prefix): torch.from_numpy(np.array(array))
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            width, _, kernel, _ = weights["layers.0.0.weight"].shape
            generator = Generator(width, kernel)
            generator.load_state_dict(weights)
            generators.append(generator.to(device).requires_grad_(False).eval())
        ratios, amplitudes = arrays["ratios"].tolist(), arrays["amplitudes"].tolist()
        return cls(ratios, generators, amplitudes, eight_bit)
