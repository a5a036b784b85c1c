"""One patient: the template with room made for a tumor, inner ears, vessels, and the labels."""

from __future__ import annotations

import numpy as np

from crossmod.phantom import structures
from crossmod.phantom.anatomy import (
    Box,
    ByteArray,
    FloatArray,
    Frame,
    sample,
    template,
    template_positions,
)
from crossmod.phantom.scanner import Center, Contrast

TUMOR, COCHLEA = 1, 2


def draw_radius(rng: np.random.Generator, center: Center) -> float:
    """Draw the radius of the sphere of a tumor's volume, mm, as tumors are at this center."""
    return _log_uniform(rng, center.radius_mm)


def draw_patient(
    rng: np.random.Generator, frame: Frame, center: Center, contrast: Contrast, radius_mm: float
) -> tuple[FloatArray, ByteArray]:
    """Draw one patient as an ideal scanner would show it.

    Args:
        rng: source of the patient.
        frame: grid of the scan.
        center: where the patient is seen.
        contrast: how tissues look.
        radius_mm: radius of the sphere of the tumor's volume.

    Returns:
        Tissue values, 0 to about 1.5, and labels, both ``(I, J, K)``.
    """
    positions = template_positions(rng, frame)
    cystic = rng.random() < center.cystic
    tumor = structures.grow_tumor(rng, frame, positions, radius_mm=radius_mm, cystic=cystic)
    room = structures.make_room(positions, frame, tumor.seat)
    ideal = sample(contrast.curve[template(contrast.modality)], room)
    labels = np.zeros(frame.shape, dtype=np.uint8)
    # Bone keeps the ears where they are; vessels move with the brain.
    _plant_ears(rng, ideal, labels, frame, positions, contrast)
    _plant_vessels(rng, ideal, frame, room, contrast)
    _plant_tumor(rng, ideal, labels, frame.voxel_mm, tumor, center, contrast)
    return ideal, labels


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Draw a positive number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _mix(ideal: FloatArray, box: Box, share: FloatArray, value: FloatArray | float) -> None:
    """Replace a share of what the voxels of a box hold by another tissue, in place."""
    ideal[box] += share * (value - ideal[box])


def _plant_ears(
    rng: np.random.Generator,
    ideal: FloatArray,
    labels: ByteArray,
    frame: Frame,
    positions: FloatArray,
    contrast: Contrast,
) -> None:
    """Fill both canals and both inner ears with fluid; label the cochleae."""
    size = rng.uniform(0.85, 1.05)
    for side in (np.ones(3), structures.MIRROR):
        snail, core = structures.cochlea_paths(side, size)
        canal = structures.CANAL * np.append(side, 1.0)
        for path in [snail, canal, *structures.semicircular_paths(side)]:
            box = frame.box(path[:, :3], path[:, 3].max())
            distance = structures.tube_distance(positions[:, *box], path)
            if path is snail:
                distance = np.minimum(distance, structures.tube_distance(positions[:, *box], core))
                labels[box][distance < 0] = COCHLEA
            _mix(ideal, box, structures.occupancy(distance, frame.voxel_mm), contrast.ear)


def _plant_vessels(
    rng: np.random.Generator,
    ideal: FloatArray,
    frame: Frame,
    positions: FloatArray,
    contrast: Contrast,
) -> None:
    """Add what else enhances on T1; on T2 arteries are black and sinuses dark gray."""
    for vessel in structures.VESSELS:
        if contrast.modality == "t1":
            value = contrast.tumor_reference * rng.uniform(1.1, 1.8)
        else:
            value = 0.08 if vessel.artery else rng.uniform(0.1, 0.4)
        path = vessel.path.copy()
        path[:, 3] *= rng.uniform(0.8, 1.2)
        box = frame.box(path[:, :3], path[:, 3].max())
        distance = structures.tube_distance(positions[:, *box], path)
        _mix(ideal, box, structures.occupancy(distance, frame.voxel_mm), value)


def _plant_tumor(
    rng: np.random.Generator,
    ideal: FloatArray,
    labels: ByteArray,
    voxel_mm: float,
    tumor: structures.Tumor,
    center: Center,
    contrast: Contrast,
) -> None:
    """Paint the tumor, its cysts and the cleft around it over what they replace; label it."""
    value = contrast.tumor_reference * _log_uniform(rng, contrast.tumor)
    strength = np.float32(rng.uniform(*center.texture))
    tissue = np.float32(value) * np.exp(strength * tumor.texture)
    cyst = structures.occupancy(tumor.cyst_mm, voxel_mm)
    tissue += cyst * (np.float32(contrast.fluid * rng.uniform(0.8, 1.1)) - tissue)
    _mix(ideal, tumor.box, tumor.cleft, contrast.fluid)
    _mix(ideal, tumor.box, structures.occupancy(tumor.distance_mm, voxel_mm), tissue)
    labels[tumor.box][tumor.distance_mm < 0] = TUMOR
