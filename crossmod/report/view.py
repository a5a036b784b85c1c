"""One case as a page that needs nothing else: its images and label maps, scrolled in three planes.

The viewer is `view.js`, a canvas and some 250 lines: the smallest build of a viewer made for the
browser has several megabytes, which every page would carry. Voxels are kept as 8 bits, compressed;
the browser unpacks them.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from nibabel import orientations
from numpy.typing import NDArray

from crossmod.data.slices import Upright
from crossmod.data.volumes import Affine, FloatArray, LabelArray
from crossmod.report.templates import render
from crossmod.report.view_files import ViewFiles

COLORS = ("#45c4ff", "#ff7ac8", "#7ee08a", "#ffa24d", "#b79bff", "#5fe3d6", "#ff6b6b", "#c8d94a")
"""Of label maps that machines drew; the reference has a color of its own."""


@dataclass(frozen=True)
class Shown:
    """An image or a label map of a case.

    Attributes:
        name: how the page calls it.
        data: ``(I, J, K)`` on the grid of the page: intensities in [0, 1], or labels.
        color: of outlines; empty for an image.
        chosen: whether the page begins with it.
    """

    name: str
    data: FloatArray | LabelArray
    color: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class ViewContent:
    """All that the page shows.

    Attributes:
        title: of the page: the case.
        subtitle: what it is a case of.
        affine: voxel -> RAS+ mm, of all images and label maps.
        classes: class name -> label.
        images: of which one is seen at a time.
        maps: whose outlines are drawn over it.
        remarks: what is not shown and why, a line each.
        files: those of the case, for other viewers.
    """

    title: str
    subtitle: str
    affine: Affine
    classes: Mapping[str, int]
    images: Sequence[Shown]
    maps: Sequence[Shown]
    remarks: Sequence[str] = ()
    files: ViewFiles | None = None


def colored(names: Iterable[str]) -> dict[str, str]:
    """Name -> color of its outlines.

    Example:
        >>> colored(["translated", "augmented"])
        {'translated': '#45c4ff', 'augmented': '#ff7ac8'}
    """
    return {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}


def write_view(path: Path, content: ViewContent) -> None:
    """Write the page, one HTML file that loads nothing else.

    Raises:
        ValueError: `content` has no image.
    """
    if not content.images:
        raise ValueError("a page shows one image or more")
    shape = content.images[0].data.shape
    voxels = {
        "spacing_mm": Upright.of(content.images[0].data, content.affine).spacing_mm,
        "affine": _turned(content.affine, shape)[:3].tolist(),
        "shape": Upright.of(content.images[0].data, content.affine).data.shape,
        "classes": dict(content.classes),
        "images": [_packed(one, content.affine) for one in content.images],
        "maps": [_packed(one, content.affine) for one in content.maps],
    }
    text = json.dumps(voxels).replace("<", "\\u003c")  # which could end the script
    page = render("view.html.j2", content=content, voxels=Markup(text))
    path.write_text(page, encoding="utf-8")


def _packed(one: Shown, affine: Affine) -> dict[str, Any]:
    """What the script reads of an image or a label map."""
    turned = Upright.of(one.data, affine).data
    raw = np.asfortranarray(_bytes(turned)).tobytes(order="F")  # the first axis runs fastest
    packed = base64.b64encode(gzip.compress(raw, mtime=0)).decode("ascii")
    return {"name": one.name, "color": one.color, "chosen": one.chosen, "voxels": packed}


def _bytes(data: NDArray[Any]) -> NDArray[np.uint8]:
    """Labels as they are; intensities from 0 to 255."""
    if data.dtype == np.uint8:
        return data
    gray: NDArray[np.uint8] = np.rint(np.clip(data, 0.0, 1.0) * 255).astype(np.uint8)
    return gray


def _turned(affine: Affine, shape: tuple[int, ...]) -> Affine:
    """The affine of an array of this shape once it has been turned upright."""
    axes = orientations.io_orientation(affine)
    turn = orientations.ornt_transform(axes, orientations.axcodes2ornt("LPS"))
    turned: Affine = affine @ orientations.inv_ornt_aff(turn, shape)
    return turned
