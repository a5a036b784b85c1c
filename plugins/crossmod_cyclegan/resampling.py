"""Reflected borders and doubled resolution, with gradients that are the same bits every time.

On GPUs, torch's own gradients of both add in an order that changes from run to run, and raise an
error where that is not allowed. Here every element is added in a fixed order there. Values are
those of `torch.nn.ReflectionPad2d` to the bit, and of bilinear `interpolate` but for rounding. On
a CPU torch's own are used, which have a fixed order and are faster channels last.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Reflection(nn.Module):
    """Continues images beyond their borders by their mirror image, the border itself once.

    Args:
        width: pixels on each side.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C, H + 2 width, W + 2 width)``."""
        return reflected(images, (self.width, self.width), (self.width, self.width))


class Doubling(nn.Module):
    """Doubles the resolution by bilinear interpolation; even pixels are the old ones.

    A convolution of three pixels with stride 2 is centered on even pixels, so this undoes it in
    place. Interpolation between the centers of pixels, as `torch.nn.Upsample` does, would move
    images by half a pixel in each direction, and anatomy with them.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C, 2 H, 2 W)``; the last row and column are repeated."""
        if images.device.type == "cpu":
            size = [2 * side - 1 for side in images.shape[-2:]]
            larger = functional.interpolate(images, size, mode="bilinear", align_corners=True)
            return functional.pad(larger, (0, 1, 0, 1), mode="replicate")
        return doubled_in_order(images)


def reflected(images: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Continue images ``(B, C, H, W)`` by their mirror image, the border itself once.

    Args:
        images: sides longer than what is added to them.
        rows: rows added before and after.
        columns: columns added before and after.
    """
    if images.device.type == "cpu":
        return functional.pad(images, (*columns, *rows), mode="reflect")
    return reflected_in_order(images, rows, columns)


def doubled_in_order(images: Tensor) -> Tensor:
    """Double the resolution of images ``(B, C, H, W)``; the gradient adds in a fixed order."""
    result: Tensor = _Doubled.apply(images)  # type: ignore[no-untyped-call]
    return result


def reflected_in_order(images: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """The same as `reflected`; the gradient adds in a fixed order on every device."""
    result: Tensor = _Reflected.apply(images, rows, columns)  # type: ignore[no-untyped-call]
    return result


class _Reflected(torch.autograd.Function):
    """Torch's own values; a gradient that folds the borders back, columns first."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Tensor:
        ctx.rows, ctx.columns = rows, columns
        return functional.pad(images, (*columns, *rows), mode="reflect")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _folded(_folded(gradients[0], 3, ctx.columns), 2, ctx.rows), None, None


class _Doubled(torch.autograd.Function):
    """Rows, then columns; the gradient is the transposed map."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        del ctx
        return _doubled(_doubled(images, 2), 3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        return _halved(_halved(gradients[0], 3), 2)


def _folded(gradient: Tensor, axis: int, width: tuple[int, int]) -> Tensor:
    first, last = width[0], gradient.shape[axis] - 1 - width[1]
    result = gradient.narrow(axis, first, last - first + 1).clone()
    for step in range(1, width[0] + 1):
        result.narrow(axis, step, 1).add_(gradient.narrow(axis, first - step, 1))
    for step in range(1, width[1] + 1):
        place = result.shape[axis] - 1 - step
        result.narrow(axis, place, 1).add_(gradient.narrow(axis, last + step, 1))
    return result


def _doubled(images: Tensor, axis: int) -> Tensor:
    """After each pixel the mean of it and the next; the last stands twice."""
    count = images.shape[axis] - 1
    left, right = images.narrow(axis, 0, count), images.narrow(axis, 1, count)
    between = torch.cat([torch.lerp(left, right, 0.5), images.narrow(axis, count, 1)], axis)
    return torch.stack([images, between], axis + 1).flatten(axis, axis + 1)


def _halved(gradient: Tensor, axis: int) -> Tensor:
    count = gradient.shape[axis] // 2 - 1
    shape = list(gradient.shape)
    shape[axis : axis + 1] = [count + 1, 2]
    even, odd = gradient.reshape(shape).unbind(axis + 1)
    result: Tensor = torch.add(even, odd, alpha=0.5)
    result.narrow(axis, 1, count).add_(odd.narrow(axis, 0, count), alpha=0.5)
    result.narrow(axis, count, 1).add_(odd.narrow(axis, count, 1), alpha=0.5)
    return result
