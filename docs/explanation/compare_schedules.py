"""Both schedules of singan-gba on the embedded cohort; prints the tables of singan-schedules.md.

    python docs/explanation/compare_schedules.py [--seeds 3] [--panel FILE] [--middle]

Half of the T2 scans serve as labeled images, as a perfect translator would make them. Their tumors
lose half of their texture, are made darker and brighter, and are redrawn by SinGANs that have
learned a slice of the other half. What comes out is compared with the real tumors of that half.
"""

from __future__ import annotations

import argparse
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import process_time
from typing import Any

import nibabel
import numpy as np
import torch
from crossmod_singan_gba import SinganGba, SinganGbaOptions
from crossmod_singan_gba.panels import LesionView
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from crossmod import Cohort, Context, FloatArray, Pair, Volume, rescale
from crossmod.data.cohorts import CohortWriter
from crossmod.data.grids import Preprocess, closest_canonical, to_common
from crossmod.phantom import write_cohort
from crossmod.torch import resolve_precision

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.toml"
MIDDLE = {
    "spacing_mm": 1.0,
    "options": {
        "width": 8,
        "width_doubles_every": 2,
        "iterations": 120,
        "start_scales": [4],
        "mask_radius": 3,
        "mask_sigma": 2.0,
    },
}
GROUPS = [{"name": "all", "factors": [0.8, 1.0, 1.25], "texture": 0.5}]
SCHEDULES = ("paper", "fast")
NAMES = ("mean", "spread", "edge", "slope")

Mask = NDArray[np.bool_]


def pairs_of(folder: Path, spacing_mm: float, count: int) -> list[Pair]:
    """T2 scans of the embedded cohort with their tumors, prepared as in the quickstart."""
    write_cohort(folder, source=0, target=count, validation=0, seed=2022)
    crop = (round(108 / spacing_mm), round(72 / spacing_mm))
    common = Preprocess(
        spacing_mm=(spacing_mm, spacing_mm, 1.5),
        crop=crop,
        center="head",
        clip_fractions=(0, 0.999),
    )
    found = []
    for path in sorted(folder.rglob("*_hrT2.nii.gz")):
        case = path.name.removesuffix("_hrT2.nii.gz")
        image, labels = (
            nibabel.load(p) for p in (path, folder / "hidden" / f"{case}_Label.nii.gz")
        )
        upright, affine = closest_canonical(image.get_fdata(dtype=np.float32), image.affine)
        marks, _ = closest_canonical(np.asarray(labels.dataobj), labels.affine)
        data, marks, affine = to_common(upright, marks, affine, common)
        volume = Volume.of(data[np.newaxis], affine, case=case)
        found.append(Pair(volume, marks * (marks == 1), case))
    return found


def cohort(folder: Path, pairs: list[Pair], *, labeled: bool) -> Cohort:
    """Scans as a stage gets them."""
    writer = CohortWriter(folder, {"tumor": 1})
    for pair in pairs:
        writer.add(pair.image, labels=pair.labels if labeled else None)
    return writer.close()


def features(image: FloatArray, mask: Mask) -> tuple[float, ...]:
    """Mean, spread, edge and spectrum of a lesion in an image ``(I, J, K)``."""
    inside = image[mask]
    return float(inside.mean()), float(inside.std()), edge(image, mask), slope(image, mask)


def edge(image: FloatArray, mask: Mask) -> float:
    """Mean in-plane gradient, per voxel, where the lesion touches what is around it."""
    cross = ndimage.generate_binary_structure(2, 1)[:, :, None]
    rim = ndimage.binary_dilation(mask, cross) & ~ndimage.binary_erosion(mask, cross)
    across, along = np.gradient(image, axis=(0, 1))
    return float(np.hypot(across, along)[rim].mean())


def slope(image: FloatArray, mask: Mask) -> float:
    """Exponent by which power falls off with frequency inside the lesion's largest slice."""
    index = int(mask.sum(axis=(0, 1)).argmax())
    (box,) = ndimage.find_objects(mask[:, :, index].astype(int))
    inside = mask[:, :, index][box]
    values = np.where(inside, image[:, :, index][box], 0)
    weights = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    weights = np.minimum(weights / 3, 1)  # fades within three voxels of the rim
    values = (values - np.average(values, weights=weights)) * weights
    power = np.abs(np.fft.rfft2(values, (32, 32))) ** 2
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32))
    bands = np.linspace(0.1, 0.5, 9)
    places = np.digitize(frequency, bands)
    mean = [power[places == band].mean() for band in range(1, bands.size)]
    return float(np.polyfit(np.log((bands[1:] + bands[:-1]) / 2), np.log(mean), 1)[0])


def redrawn(
    options: Mapping[str, Any], labeled: Cohort, target: Cohort, folder: Path, seed: int
) -> tuple[dict[str, Pair], float]:
    """Copies by name, and the CPU seconds of learning."""
    stage = SinganGba(SinganGbaOptions(**options))
    folder.mkdir(parents=True)
    ctx = Context(
        folder, seed=seed, classes={"tumor": 1}, precision=resolve_precision("auto", "cpu")
    )
    start = process_time()
    state = stage.fit(labeled, target, ctx)
    seconds = process_time() - start
    return {pair.case: pair for pair in stage.augment(labeled.pairs(), state, ctx)}, seconds


def rows_of(title: str, found: list[NDArray[np.float64]]) -> Iterator[str]:
    """One line of the table: the mean over seeds and, of several, the range."""
    seeds = np.array(found)
    cells = []
    for column in seeds.T:
        low, high = column.min(), column.max()
        cells.append(f"{column.mean():.3f}" + (f" ({low:.3f} to {high:.3f})" if high > low else ""))
    yield f"| {title} | " + " | ".join(cells) + " |"


def panel(path: Path, rows: list[list[FloatArray]]) -> None:
    """Lesions before and after, one row each."""
    image = np.block([[np.clip(part, 0, 1) for part in row] for row in rows])
    Image.fromarray((image * 255).astype(np.uint8)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--panel", type=Path, help="where to save a picture of some tumors")
    parser.add_argument("--middle", action="store_true", help="voxels of 1 mm, 6 scales")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    recipe = tomllib.loads(QUICKSTART.read_text(encoding="utf-8"))["augment"]["tumors"]
    size: dict[str, Any] = MIDDLE if asked.middle else {"spacing_mm": 1.5, "options": {}}
    options = recipe | size["options"] | {"groups": GROUPS}
    del options["use"]
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), options, size["spacing_mm"], asked)


def compare(
    folder: Path, options: Mapping[str, Any], spacing_mm: float, asked: argparse.Namespace
) -> None:
    pairs = pairs_of(folder / "cohort", spacing_mm, asked.cases)
    originals = {pair.case: pair for pair in pairs[::2]}
    labeled = cohort(folder / "labeled", pairs[::2], labeled=True)
    target = cohort(folder / "target", pairs[1::2], labeled=False)
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in SCHEDULES}
    costs: dict[str, list[float]] = {name: [] for name in SCHEDULES}
    copies: dict[tuple[str, int], dict[str, Pair]] = {}
    for seed in range(1, asked.seeds + 1):
        for name in SCHEDULES:
            made, seconds = redrawn(
                {**options, "schedule": name}, labeled, target, folder / f"{name}-{seed}", seed
            )
            copies[name, seed] = made
            costs[name].append(seconds)
            found[name].append(average(made.values()))
    first = copies["paper", 1]
    naive = {case: unblended(originals, case) for case in first}
    print("| tumors | " + " | ".join(NAMES) + " |\n" + "|---" * (len(NAMES) + 1) + "|")
    lines = {
        "real, of the other half": [average(pairs[1::2])],
        "rescaled only": [average(naive.values())],
        **{f"redrawn, {name}": found[name] for name in SCHEDULES},
    }
    for title, values in lines.items():
        print(*rows_of(title, values), sep="\n")
    print(f"\nCPU seconds of learning: {costs}")
    for one, other in ((("paper", 1), ("paper", 2)), (("paper", 1), ("fast", 1))):
        if other in copies:
            print(
                f"{one} and {other} differ by {difference(copies[one], copies[other], naive):.3f}"
            )
    if asked.panel:
        shown = [case for case in first if case.endswith("x1.25-s" + case[-1])][:8]
        panel(asked.panel, [row_of(case, originals, naive, copies) for case in shown])


def average(pairs: Any) -> NDArray[np.float64]:
    """Features of tumors, averaged."""
    table = [features(pair.image.data[0], pair.labels == 1) for pair in pairs]
    return np.array(table).mean(axis=0)


def unblended(originals: Mapping[str, Pair], case: str) -> Pair:
    """The copy of that name before a SinGAN redrew it."""
    pair = originals[case.partition("+")[0]]
    factor = float(case.partition("-x")[2].partition("-s")[0])
    return pair.copy_as(case, rescale(pair, 1, factor, GROUPS[0]["texture"]))


def difference(
    one: Mapping[str, Pair], other: Mapping[str, Pair], naive: Mapping[str, Pair]
) -> float:
    """Mean difference inside tumors, as a share of what redrawing changes there."""
    changes, between = [], []
    for case, pair in one.items():
        mask = pair.labels == 1
        image = pair.image.data[0][mask]
        changes.append(np.abs(image - naive[case].image.data[0][mask]).mean())
        between.append(np.abs(image - other[case].image.data[0][mask]).mean())
    return float(np.mean(between) / np.mean(changes))


def row_of(
    case: str,
    originals: Mapping[str, Pair],
    naive: Mapping[str, Pair],
    copies: Mapping[tuple[str, int], Mapping[str, Pair]],
) -> list[FloatArray]:
    """A tumor in its scan, rescaled, and redrawn by each schedule."""
    pair = originals[case.partition("+")[0]]
    view = LesionView(pair.labels == 1, pair.image.spacing_mm)
    shown = [pair, naive[case], *(copies[name, 1][case] for name in SCHEDULES)]
    return [view(one.image.data) for one in shown]


if __name__ == "__main__":
    main()
