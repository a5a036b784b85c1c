"""Two hospitals and their protocols: grid, contrast, bias field, blur, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmod.phantom.anatomy import FloatArray, Frame, smooth_field

Range = tuple[float, float]
"""Smallest and largest value; drawn uniformly."""


@dataclass(frozen=True)
class Protocol:
    """How one hospital acquires one modality.

    Attributes:
        suffix: ending of the file name.
        modality: which template it looks like, "t1" or "t2".
        shape: voxels ``(I, J, K)``.
        spacing_mm: voxel size.
        gamma: exponent on tissue values; above 1 darkens all but the brightest.
        gain: image value of the brightest template tissue.
        noise: standard deviation of each noise channel, as a part of ``gain``.
        bias: standard deviation of the log bias field.
        tumor: tumor value as a factor: of white matter on T1, of brainstem on T2 (log-uniform).
    """

    suffix: str
    modality: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    gamma: Range
    gain: Range
    noise: Range
    bias: Range
    tumor: Range


@dataclass(frozen=True)
class Center:
    """A hospital: its names, its protocols, and the tumors that come to it.

    Attributes:
        name: name in the case table.
        prefix: start of its case names.
        first: number of its first case.
        lps: whether voxel axes run to the patient's left and back, else right and front.
        radius_mm: sphere-equivalent tumor radius, log-uniform.
        cystic: part of the tumors that hold fluid.
        texture: standard deviation of the log value inside a tumor.
        source: its contrast-enhanced T1.
        target: its high-resolution T2.
    """

    name: str
    prefix: str
    first: int
    lps: bool
    radius_mm: Range
    cystic: float
    texture: Range
    source: Protocol
    target: Protocol


LONDON = Center(
    name="London", prefix="crossmoda2021_ldn", first=1, lps=False,
    radius_mm=(3.0, 10.0), cystic=0.15, texture=(0.03, 0.10),
    source=Protocol(
        suffix="ceT1", modality="t1", shape=(208, 240, 32), spacing_mm=(0.9, 0.9, 1.5),
        gamma=(1.00, 1.25), gain=(900, 1200), noise=(0.012, 0.025), bias=(0.05, 0.12),
        tumor=(1.30, 1.75),
    ),
    target=Protocol(
        suffix="hrT2", modality="t2", shape=(192, 216, 32), spacing_mm=(1.0, 1.0, 1.5),
        gamma=(1.05, 1.30), gain=(800, 1100), noise=(0.015, 0.030), bias=(0.05, 0.15),
        tumor=(0.50, 1.80),
    ),
)  # fmt: skip
TILBURG = Center(
    name="Tilburg", prefix="crossmoda2022_etz", first=0, lps=True,
    radius_mm=(4.0, 12.0), cystic=0.40, texture=(0.08, 0.20),
    source=Protocol(
        suffix="ceT1", modality="t1", shape=(176, 200, 32), spacing_mm=(1.1, 1.1, 1.5),
        gamma=(0.75, 1.00), gain=(1700, 2600), noise=(0.025, 0.045), bias=(0.08, 0.18),
        tumor=(1.30, 1.70),
    ),
    target=Protocol(
        suffix="hrT2", modality="t2", shape=(208, 240, 48), spacing_mm=(0.9, 0.9, 1.0),
        gamma=(0.80, 1.00), gain=(1800, 2600), noise=(0.030, 0.055), bias=(0.08, 0.20),
        tumor=(0.50, 1.70),
    ),
)  # fmt: skip
CENTERS = (LONDON, TILBURG)


@dataclass(frozen=True)
class Contrast:
    """How tissues look in one scan.

    Attributes:
        modality: "t1" or "t2".
        curve: image value of each template value, ``(256,)``, rising from 0 to 1.
        tumor: tumor value as a factor of ``tumor_reference``, log-uniform.
    """

    modality: str
    curve: FloatArray
    tumor: Range

    @property
    def fluid(self) -> float:
        """Value of cerebrospinal fluid: on T1 clearly above bone, on T2 the brightest tissue."""
        return float(self.curve[80 if self.modality == "t1" else 235])

    @property
    def ear(self) -> float:
        """Value of the inner ear and canal: beside a schwannoma, protein and nerves raise T1."""
        return float(self.curve[140 if self.modality == "t1" else 235])

    @property
    def tumor_reference(self) -> float:
        """Value of white matter on T1, of the brainstem on T2."""
        return float(self.curve[208 if self.modality == "t1" else 84])


def draw_contrast(rng: np.random.Generator, protocol: Protocol) -> Contrast:
    """Draw the contrast of one scan.

    A gamma sets the contrast of the protocol; four uneven steps make every case weigh its tissues
    a little differently.
    """
    steps = np.concatenate([[0.0], np.cumsum(rng.uniform(0.85, 1.15, size=4))])
    curve = np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, 5), steps / steps[-1])
    curve = curve ** rng.uniform(*protocol.gamma)
    return Contrast(protocol.modality, curve.astype(np.float32), protocol.tumor)


def acquire(
    rng: np.random.Generator, ideal: FloatArray, frame: Frame, protocol: Protocol
) -> FloatArray:
    """Turn ideal tissue values (0 to about 1.5) into an image: grain, blur, bias, Rician noise.

    Returns:
        Magnitude image in the units of the protocol, ``(I, J, K)``.
    """
    grain = rng.standard_normal(ideal.shape, dtype=np.float32)
    image = ideal * (1 + np.float32(0.07) * grain)
    for axis in range(3):
        _blur(image, axis)
    bias = smooth_field(rng, frame.axes_mm(), scale_mm=70.0, fields=1)[0]
    image *= np.exp(np.float32(rng.uniform(*protocol.bias)) * bias)
    sigma = np.float32(rng.uniform(*protocol.noise))
    image += sigma * rng.standard_normal(ideal.shape, dtype=np.float32)
    other = sigma * rng.standard_normal(ideal.shape, dtype=np.float32)
    return np.asarray(np.hypot(image, other) * np.float32(rng.uniform(*protocol.gain)))


def _blur(image: FloatArray, axis: int) -> None:
    """Mix each voxel with its neighbors along one axis (weights 1, 5, 1), in place."""
    view = np.moveaxis(image, axis, 0)
    mixed = (view[:-2] + 5 * view[1:-1] + view[2:]) / 7
    view[1:-1] = mixed
