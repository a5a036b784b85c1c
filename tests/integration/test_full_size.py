"""Every stage of the challenge recipe at the sizes of the challenge data, with tiny counts.

Nothing is learned; what is shown is that full-size scans pass through full-size networks on every
grid, in how much memory, and at what time per step. Counts of iterations, predictions without
mirroring and with little overlap make it affordable: half an hour on one core.

The scans are the embedded anatomy on the grids of the challenge. Its template is a slab of 64 mm,
scans here are 120 and 80 mm high: above and below the slab there is air, with the noise of the
scanner. In plane the template ends up to 13 mm before the field of view; its border is repeated.

With CROSSMOD_FULL_SIZE=DIR everything is kept in DIR, and a second run goes on where the first
ended. DIR/steps.txt then holds the seconds and the memory of each step.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import nibabel
import numpy as np
import pytest
from crossmod_singan_gba.pyramid import sides_of
from crossmod_unet3d.plan import Plan
from processor import AFFINE_MM, rounding
from program import ROOT, Result

from crossmod.data.nifti import write_nifti
from crossmod.data.state import State, load_state
from crossmod.phantom.anatomy import TEMPLATE_ORIGIN_MM, Frame, draw_frame, template
from crossmod.phantom.cohort import IMAGES, LABELS
from crossmod.phantom.patient import draw_patient
from crossmod.phantom.scanner import LONDON, TILBURG, Center, acquire, draw_contrast

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3 * 3600),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc"),
]

RECIPE = ROOT / "recipes" / "crossmoda2022.toml"
LIMIT_BYTES = 8 * 2**30

GRIDS = {
    "ceT1": ((512, 512, 120), (0.41, 0.41, 1.0)),
    "hrT2": ((448, 448, 80), (0.5, 0.5, 1.0)),
}
"""Voxels and their size in mm. On the common grid: 256 x 256 x 120 and 256 x 256 x 80."""

SMALL_MM, LARGE_MM = 3.5, 9.5
"""Tumor radii: 180 and 3590 mm3, so that one tumor falls into each group of the recipe."""

SETTINGS = {
    "precision": "bf16",  # what a GPU computes in; on CPUs without it slower, not different
    "translate.gan.iterations": "2",
    "augment.tumors.iterations": "2",
    # As the recipe's, but for the spread of intensity: it says nothing after two iterations.
    "augment.tumors.groups": "["
    '{ name = "large", where = { center = "etz", volume_mm3 = { above = 2340 } },'
    " factors = [0.7, 1.2, 1.5] },"
    '{ name = "small", where = { volume_mm3 = { below = 288 } }, factors = [0.6, 0.8, 1.2] }]',
    "segment.folds": "1",
    "segment.iterations": "2",
    "segment.mirror_predictions": "false",
    "segment.overlap": "0.25",
    "pseudo_label.rounds": "2",
    "pseudo_label.keep_empty": "true",  # an untrained network may find no tumor
    "evaluate.labels": "'hidden/{case}_Label.nii.gz'",  # the challenge withholds its own
}

STEPS = {
    "prepare-source", "prepare-target", "prepare-validation",
    "translate-gan-fit", "translate-gan", "translate-sharpen-fit", "translate-sharpen", "survival",
    "augment-tumors-fit", "augment-tumors",
    "train-augmented", "predict-augmented-target",
    "predict-augmented-validation", "score-augmented-validation",
    "pseudo-label-1", "train-round-1", "predict-round-1-target",
    "predict-round-1-validation", "score-round-1-validation",
    "pseudo-label-2", "prepare-target-last", "prepare-validation-last", "regrid-2",
    "train-round-2", "predict-round-2-validation", "score-round-2-validation",
}  # fmt: skip

STAGES = ["augmented", "round-1", "round-2"]
SINGAN_SIDES = [25, 29, 33, 39, 45, 52, 60, 69, 80, 93, 107, 124, 143, 166, 191, 221, 256]
PATCHES = {
    "train-augmented": (192, 160, 80),  # of 256 x 256 x 120 voxels of 0.6 x 0.6 x 1.0 mm
    "train-round-1": (192, 160, 80),
    "train-round-2": (224, 224, 40),  # of 384 x 384 x 80 voxels of 0.4 x 0.4 x 1.0 mm
}


@dataclass(frozen=True)
class Scan:
    """One scan to write: split, case, center and radius of the tumor in mm."""

    split: str
    case: str
    center: Center
    radius_mm: float

    def write(self, root: Path) -> None:
        """Write image and labels where CrossMoDA 2022 keeps them; hidden labels apart."""
        given = self.center.source if self.split == "source" else self.center.target
        shape, spacing_mm = GRIDS[given.suffix]
        protocol = replace(given, shape=shape, spacing_mm=spacing_mm)
        rng = np.random.default_rng(list(self.case.encode()))
        frame = draw_frame(rng, shape, spacing_mm)
        contrast = draw_contrast(rng, protocol)
        ideal, labels = draw_patient(rng, frame, self.center, contrast, self.radius_mm)
        ideal[outside_template(frame)] = 0
        image = np.clip(np.rint(acquire(rng, ideal, frame, protocol)), 0, 32767).astype(np.int16)
        affine = np.diag([*spacing_mm, 1.0])
        write_nifti(
            root / IMAGES[self.split] / f"{self.case}_{protocol.suffix}.nii.gz", image, affine
        )
        write_nifti(root / LABELS[self.split] / f"{self.case}_Label.nii.gz", labels, affine)


SCANS = [
    Scan("source", "crossmoda2021_ldn_1", LONDON, SMALL_MM),
    Scan("source", "crossmoda2022_etz_0", TILBURG, LARGE_MM),
    Scan("target", "crossmoda2021_ldn_106", LONDON, 6.0),
    Scan("target", "crossmoda2022_etz_105", TILBURG, 6.0),
    Scan("validation", "crossmoda2021_ldn_211", LONDON, 6.0),
    Scan("validation", "crossmoda2022_etz_210", TILBURG, 6.0),
]


def outside_template(frame: Frame) -> np.ndarray:
    """Voxels ``(I, J, K)`` above or below the slab, but for the smooth warp."""
    across, along, up = frame.axes_mm()
    _, _, (by_i, by_j, by_k) = frame.pose
    height = by_i * across[:, None, None] + by_j * along[:, None] + by_k * up + frame.center_mm[2]
    bottom = TEMPLATE_ORIGIN_MM[2]
    return (height < bottom) | (height > bottom + template("t1").shape[2] - 1)


@dataclass
class Watched:
    """A run of the program under observation.

    Attributes:
        result: what the run left behind.
        samples: (seconds since 1970, resident bytes of all its processes).
    """

    result: Result
    samples: list[tuple[float, int]] = field(default_factory=list)

    def run(self, *arguments: str | Path) -> None:
        """Run `crossmod` to its end; note its memory twenty times a second."""
        program = Path(sys.executable).parent / "crossmod"
        with (self.result.folder.parent / "output.txt").open("w") as output:
            process = subprocess.Popen(
                [str(program), *map(str, arguments)], stdout=output, stderr=output
            )
            while process.poll() is None:
                self.samples.append((time.time(), resident_bytes(process.pid)))
                time.sleep(0.05)
        began = (self.result.folder / "events.jsonl").exists()
        assert began, Path(output.name).read_text()
        self.write_table(self.result.folder.parent / "steps.txt")
        assert process.returncode == 0, Path(output.name).read_text()

    def write_table(self, path: Path) -> None:
        """Add what each step took to a file, for people."""
        rows = [f"{step:32} {s:7.1f} s {size / 1e9:6.2f} GB\n" for step, s, size in self.steps()]
        with path.open("a") as file:
            file.writelines(rows)

    def steps(self) -> list[tuple[str, float, int]]:
        """Every step that was made with its seconds and its largest memory in bytes."""
        began: dict[str, float] = {}
        found = []
        for event in self.result.events():
            now = datetime.fromisoformat(event["time"]).timestamp()
            began.setdefault(event["step"], now)
            if event["event"] == "finished":
                inside = [size for at, size in self.samples if began[event["step"]] <= at <= now]
                found.append((event["step"], float(event["seconds"]), max(inside, default=0)))
        return found

    def state(self, step: str) -> State:
        """What a step has learned."""
        [folder] = self.result.folder.glob(f"[0-9][0-9]-{step}")
        return load_state(folder)


def resident_bytes(process: int) -> int:
    """Memory of a process and all it started; 0 once it has ended."""
    folder = Path("/proc") / str(process)
    try:
        pages = int((folder / "statm").read_text().split()[1])
        children = " ".join(path.read_text() for path in folder.glob("task/*/children")).split()
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGESIZE") + sum(resident_bytes(int(child)) for child in children)


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A finished run at full size."""
    kept = os.environ.get("CROSSMOD_FULL_SIZE")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("full-size")
    if not (folder / "cohort").exists():
        for scan in SCANS:
            scan.write(folder / "draft")
        (folder / "draft").rename(folder / "cohort")
    events = folder / "run" / "events.jsonl"
    before = len(events.read_text().splitlines()) if events.exists() else 0
    watched = Watched(Result(folder / "run", "", before))
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    watched.run("run", RECIPE, "--data", folder / "cohort", "--out", folder / "run", *settings)
    return watched


def test_every_stage_runs(full_size: Watched) -> None:
    made = {e["step"] for e in full_size.result.events() if e["event"] in ("finished", "found")}
    assert made == STEPS
    assert full_size.result.stages() == STAGES


def test_memory_stays_below_what_the_network_is_planned_for(full_size: Watched) -> None:
    assert max(size for _, size in full_size.samples) < LIMIT_BYTES


def test_images_lie_on_the_grids_of_the_paper(full_size: Watched) -> None:
    for step, shape, spacing_mm in [
        ("augment-tumors", (256, 256, 120), (0.6, 0.6, 1.0)),
        ("pseudo-label-2", (256, 256, 80), (0.6, 0.6, 1.0)),
        ("regrid-2", (384, 384, 80), (0.4, 0.4, 1.0)),
    ]:
        for path in full_size.result.folder.glob(f"*-{step}/images/*.nii"):
            image = nibabel.load(path)
            assert image.shape == shape
            np.testing.assert_allclose(image.header.get_zooms(), spacing_mm, rtol=rounding(8))


def test_each_group_makes_six_copies(full_size: Watched) -> None:
    copies = [path.stem for path in full_size.result.folder.glob("*-augment-tumors/images/*.nii")]
    assert sorted(copies) == sorted(
        f"{case}+{group}-x{factor:g}-s{start}"
        for case, group, factors in [
            ("crossmoda2021_ldn_1", "small", (0.6, 0.8, 1.2)),
            ("crossmoda2022_etz_0", "large", (0.7, 1.2, 1.5)),
        ]
        for factor in factors
        for start in (13, 15)
    )


def test_the_networks_have_the_size_of_the_paper(full_size: Watched) -> None:
    generator = full_size.state("translate-gan-fit")
    assert generator["to_target.layers.1.weight"].shape == (64, 1, 7, 7)
    blocks = {name.split(".")[2] for name, array in generator.items()
              if name.startswith("to_target") and array.shape == (256, 256, 3, 3)}  # fmt: skip
    assert len(blocks) == 9
    ratios = full_size.state("augment-tumors-fit").notes["ratios"]
    assert [side for side, _ in sides_of((256, 256), ratios)] == SINGAN_SIDES


@pytest.mark.parametrize(("step", "patch"), PATCHES.items())
def test_patches_are_planned(full_size: Watched, step: str, patch: tuple[int, ...]) -> None:
    plan = Plan.of(full_size.state(step))
    assert plan.patch == patch
    assert plan.batch == 2
    assert plan.channels == (32, 64, 128, 256, 320, 320)


def test_predictions_lie_on_the_grid_of_the_scan(full_size: Watched) -> None:
    cohort = full_size.result.folder.parent / "cohort"
    for scan in SCANS[2:]:
        image = nibabel.load(cohort / IMAGES[scan.split] / f"{scan.case}_hrT2.nii.gz")
        assert image.shape == GRIDS["hrT2"][0]
        for stage in STAGES[: 3 if scan.split == "validation" else 2]:
            [path] = full_size.result.folder.glob(
                f"*-predict-{stage}-{scan.split}/labels/{scan.case}.nii.gz"
            )
            found = nibabel.load(path)
            assert found.shape == image.shape
            np.testing.assert_allclose(found.affine, image.affine, rtol=0, atol=AFFINE_MM)
