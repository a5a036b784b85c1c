"""Writing the cohort in the layout of CrossMoDA 2022, one case per process."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crossmod.phantom import structures
from crossmod.phantom.anatomy import (
    ANATOMY,
    FloatArray,
    Frame,
    draw_frame,
    sample,
    template,
    template_positions,
)
from crossmod.phantom.scanner import CENTERS, Center, Protocol, acquire, draw_contrast

TUMOR, COCHLEA = 1, 2
TRAINING = Path("crossmoda2022_training")
SPLITS = ("source", "target", "validation")
IMAGES = {
    "source": TRAINING / "training_source",
    "target": TRAINING / "training_target",
    "validation": Path("crossmoda2022_validation") / "validation",
}
LABELS = {"source": IMAGES["source"], "target": Path("hidden"), "validation": Path("hidden")}

# Template values (0 to 255, as sharpened) of the tissues that are planted or compared with.
WHITE_MATTER = {"t1": 196, "t2": 95}
BRAINSTEM = {"t1": 184, "t2": 102}
FLUID = {"t1": 50, "t2": 232}

README = """\
Vestibular schwannoma, contrast-enhanced T1 to high-resolution T2: the cohort embedded in crossmod.

These are not patients. Each case is the MNI ICBM 2009c template (an average of 152 people), tilted,
scaled and warped at random, with a planted tumor and planted inner ears, seen by a simulated
scanner of one of two centers. All cases share one anatomy: a score on them measures the transfer of
appearance from T1 to T2, not generalization over people. The folders and names are those of
CrossMoDA 2022, so that a recipe for one reads the other.

Labels: 1 tumor (VS), 2 cochlea. `hidden/` holds the labels of target and validation cases; they are
for scoring only.

Template: Fonov et al., NeuroImage 54(1):313-327, 2011; its notice is in COPYING.
"""


@dataclass(frozen=True)
class Plan:
    """One case to write.

    Attributes:
        folder: root of the cohort.
        split: "source", "target" or "validation".
        index: number of the case in its split; even cases come from London.
        name: case name.
        seed: seed of the cohort.
    """

    folder: Path
    split: str
    index: int
    name: str
    seed: int

    @property
    def center(self) -> Center:
        """The hospital it comes from."""
        return CENTERS[self.index % 2]

    @property
    def protocol(self) -> Protocol:
        """How it is acquired."""
        return self.center.source if self.split == "source" else self.center.target


def write_cohort(
    folder: Path,
    *,
    source: int,
    target: int,
    validation: int,
    seed: int,
    workers: int | None = None,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None,
) -> None:
    """Write a two-center cohort in the layout of CrossMoDA 2022.

    A case depends on the seed, its split and its number in the split alone, so it is the same to
    the byte whatever the number of workers and the size of the other splits.

    Args:
        folder: where to write; made if missing.
        source: labeled ceT1 cases, half from each center.
        target: hrT2 cases to train on; their labels go to ``hidden/``.
        validation: hrT2 cases to score on; their labels go to ``hidden/``.
        seed: what all random numbers derive from.
        workers: processes; all cores by default, and 1 stays in this process.
        progress: wraps the iteration over finished cases, given their number.
    """
    plans = _plans(folder, (source, target, validation), seed)
    for sub in {*IMAGES.values(), *LABELS.values()}:
        (folder / sub).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ANATOMY / "COPYING", folder / "COPYING")
    (folder / "README.txt").write_text(README, encoding="utf-8")
    workers = min(workers or os.cpu_count() or 1, max(1, len(plans)))
    wrap = progress or (lambda cases, _: cases)
    if workers == 1:
        grades = list(wrap(map(write_case, plans), len(plans)))
    else:
        # Spawned, because forking a process that runs threads or a GPU is unsafe.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            grades = list(wrap(pool.map(write_case, plans), len(plans)))
    rows = ["crossmoda_name,group,center,koos"] + [
        f"{plan.name},training_source,{plan.center.name},{grade}"
        for plan, grade in zip(plans, grades, strict=True)
        if plan.split == "source"
    ]
    table = folder / TRAINING / "infos_source_training.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _plans(folder: Path, counts: tuple[int, int, int], seed: int) -> list[Plan]:
    """All cases; numbers run on from source to target to validation, as in CrossMoDA."""
    number = {center.name: center.first for center in CENTERS}
    plans = []
    for split, count in zip(SPLITS, counts, strict=True):
        for index in range(count):
            center = CENTERS[index % 2]
            name = f"{center.prefix}_{number[center.name]}"
            number[center.name] += 1
            plans.append(Plan(folder, split, index, name, seed))
    return plans


def write_case(plan: Plan) -> int:
    """Write one case; return the Koos grade of its tumor."""
    key = (plan.seed, SPLITS.index(plan.split), plan.index)
    patient_rng, scanner_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(key).spawn(2)
    )
    protocol = plan.protocol
    frame = draw_frame(patient_rng, protocol.shape, protocol.spacing_mm)
    contrast = draw_contrast(scanner_rng, protocol)
    ideal, labels, radius_mm = draw_patient(patient_rng, frame, plan.center, protocol, contrast)
    image = acquire(scanner_rng, ideal, frame, protocol)
    affine = _affine(scanner_rng, frame, plan.center)
    stored = np.clip(np.rint(image), 0, 32767).astype(np.int16)
    images, label_folder = plan.folder / IMAGES[plan.split], plan.folder / LABELS[plan.split]
    _save(images / f"{plan.name}_{protocol.suffix}.nii.gz", stored, affine, plan.center)
    _save(label_folder / f"{plan.name}_Label.nii.gz", labels, affine, plan.center)
    # Koos: within the canal, into the cistern, touching the brainstem, pushing it.
    return 1 + int(np.searchsorted([4.0, 6.5, 9.0], radius_mm))


def draw_patient(
    rng: np.random.Generator,
    frame: Frame,
    center: Center,
    protocol: Protocol,
    contrast: FloatArray,
) -> tuple[FloatArray, NDArray[np.uint8], float]:
    """Draw one patient and how its tissues look in this contrast, before any scanner effect.

    Args:
        rng: source of the patient.
        frame: grid of the scan.
        center: where the patient is seen.
        protocol: which modality.
        contrast: value of each template value, ``(256,)``.

    Returns:
        Tissue values ``(I, J, K)``, labels ``(I, J, K)``, and the tumor's radius in mm.
    """
    positions = template_positions(rng, frame)
    radius_mm = log_uniform(rng, center.radius_mm)
    tumor, push = structures.grow_tumor(
        rng, frame, positions, radius_mm=radius_mm, cystic=rng.random() < center.cystic
    )
    room = positions.copy()
    push(room)
    ideal = sample(contrast[template(protocol.template)], room)
    labels = np.zeros(frame.shape, dtype=np.uint8)
    _plant_ears(rng, ideal, labels, frame, positions, contrast[FLUID[protocol.template]])
    _plant_vessels(rng, ideal, frame, room, protocol, contrast)
    _plant_tumor(rng, ideal, labels, frame, tumor, center, protocol, contrast)
    return ideal, labels, radius_mm


def log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Draw a positive number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _mix(ideal: FloatArray, box: Any, share: FloatArray, value: Any) -> None:
    """Replace a share of what the voxels of a box hold by another tissue, in place."""
    ideal[box] += share * (value - ideal[box])


def _voxel_mm(frame: Frame) -> float:
    return float(np.cbrt(np.prod(frame.spacing_mm)))


def _plant_ears(
    rng: np.random.Generator,
    ideal: FloatArray,
    labels: NDArray[np.uint8],
    frame: Frame,
    positions: FloatArray,
    fluid: np.float32,
) -> None:
    """Fill both canals and both inner ears with fluid; label the cochleae."""
    size, volume_mm3 = rng.uniform(0.95, 1.15), rng.uniform(65, 110)
    for side in (np.ones(3), structures.MIRROR):
        cochlea = structures.cochlea_path(side, size)
        canal = structures.CANAL * np.append(side, 1.0)
        for path in [cochlea, canal, *structures.semicircular_paths(side)]:
            box = frame.box(path[:, :3], structures.WARP_MARGIN_MM)
            distance = structures.tube_distance(positions[:, *box], path)
            if path is cochlea:
                voxel_mm3 = float(np.prod(frame.spacing_mm))
                distance = structures.with_volume(distance, voxel_mm3, volume_mm3)
                labels[box][distance < 0] = COCHLEA
            _mix(ideal, box, structures.occupancy(distance, _voxel_mm(frame)), fluid)


def _plant_vessels(
    rng: np.random.Generator,
    ideal: FloatArray,
    frame: Frame,
    positions: FloatArray,
    protocol: Protocol,
    contrast: FloatArray,
) -> None:
    """Add what else enhances on T1; on T2 arteries are black and sinuses dark gray."""
    for vessel in structures.VESSELS:
        if protocol.template == "t1":
            value = contrast[WHITE_MATTER["t1"]] * rng.uniform(1.1, 1.7)
        else:
            value = contrast[255] * (0.08 if vessel.artery else rng.uniform(0.1, 0.4))
        path = vessel.path.copy()
        path[:, 3] *= rng.uniform(0.8, 1.2)
        box = frame.box(path[:, :3], structures.WARP_MARGIN_MM + path[:, 3].max())
        distance = structures.tube_distance(positions[:, *box], path)
        _mix(ideal, box, structures.occupancy(distance, _voxel_mm(frame)), value)


def _plant_tumor(
    rng: np.random.Generator,
    ideal: FloatArray,
    labels: NDArray[np.uint8],
    frame: Frame,
    tumor: structures.Tumor,
    center: Center,
    protocol: Protocol,
    contrast: FloatArray,
) -> None:
    """Paint the tumor and its cysts over what they replace, and label them."""
    modality = protocol.template
    reference = WHITE_MATTER if modality == "t1" else BRAINSTEM
    value = contrast[reference[modality]] * log_uniform(rng, protocol.tumor)
    strength = np.float32(rng.uniform(*center.texture))
    tissue = np.float32(value) * np.exp(strength * tumor.texture)
    voxel_mm = _voxel_mm(frame)
    cyst = structures.occupancy(tumor.cyst_mm, voxel_mm)
    tissue += cyst * (contrast[FLUID[modality]] * np.float32(rng.uniform(0.8, 1.1)) - tissue)
    _mix(ideal, tumor.box, structures.occupancy(tumor.distance_mm, voxel_mm), tissue)
    labels[tumor.box][tumor.distance_mm < 0] = TUMOR


def _affine(rng: np.random.Generator, frame: Frame, center: Center) -> NDArray[np.float64]:
    """Voxel -> RAS+ mm of the stored array: every other case is a few degrees oblique."""
    tilt = rng.uniform(-1, 1, size=3) * (7.0, 4.0, 3.0) * (rng.random() < 0.5)
    axes = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() * frame.spacing_mm
    if center.lps:
        axes = axes * (-1, -1, 1)
    middle = (np.array(frame.shape) - 1) / 2
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = rng.uniform(-20, 20, size=3) - axes @ middle
    return affine


def _save(
    path: Path, values: NDArray[np.generic], affine: NDArray[np.float64], center: Center
) -> None:
    """Write a volume given along R, A, S in the voxel order of its center."""
    stored = values[::-1, ::-1] if center.lps else values
    image = nibabel.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm")
    # No time stamp, so that the same case is the same file.
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
