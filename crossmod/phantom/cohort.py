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

from crossmod.errors import DataError
from crossmod.phantom.anatomy import ANATOMY, Frame, draw_frame
from crossmod.phantom.patient import draw_patient, draw_radius
from crossmod.phantom.scanner import CENTERS, Center, Protocol, acquire, draw_contrast

TRAINING = Path("crossmoda2022_training")
SPLITS = ("source", "target", "validation")
IMAGES = {
    "source": TRAINING / "training_source",
    "target": TRAINING / "training_target",
    "validation": Path("crossmoda2022_validation") / "validation",
}
LABELS = {"source": IMAGES["source"], "target": Path("hidden"), "validation": Path("hidden")}

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

    Raises:
        DataError: The folder holds images of another cohort, which would mix with these.
    """
    plans = _plans(folder, (source, target, validation), seed)
    _make_folders(folder, plans)
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


def _make_folders(folder: Path, plans: list[Plan]) -> None:
    """Make the folders of the layout; refuse those that hold cases of another cohort."""
    names = {plan.name for plan in plans}
    for name in sorted({*IMAGES.values(), *LABELS.values()}):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in sorted((folder / name).glob("*.nii.gz")):
            if file.name.rsplit("_", 1)[0] not in names:
                raise DataError(f"{file} is not of the cohort to be written; use an empty folder")


def write_case(plan: Plan) -> int:
    """Write one case; return the Koos grade of its tumor."""
    key = (plan.seed, SPLITS.index(plan.split), plan.index)
    patient_rng, scanner_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(key).spawn(2)
    )
    protocol = plan.protocol
    frame = draw_frame(patient_rng, protocol.shape, protocol.spacing_mm)
    contrast = draw_contrast(scanner_rng, protocol)
    radius_mm = draw_radius(patient_rng, plan.center)
    ideal, labels = draw_patient(patient_rng, frame, plan.center, contrast, radius_mm)
    image = acquire(scanner_rng, ideal, frame, protocol)
    affine = _affine(scanner_rng, frame, plan.center)
    stored = np.clip(np.rint(image), 0, 32767).astype(np.int16)
    images, label_folder = plan.folder / IMAGES[plan.split], plan.folder / LABELS[plan.split]
    _save(images / f"{plan.name}_{protocol.suffix}.nii.gz", stored, affine, plan.center)
    _save(label_folder / f"{plan.name}_Label.nii.gz", labels, affine, plan.center)
    # Koos: within the canal, into the cistern, touching the brainstem, pushing it.
    return 1 + int(np.searchsorted([4.0, 6.5, 9.0], radius_mm))


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
