"""Draw tumor outlines before and after adaptation from a finished run on the embedded cohort.

    python docs/images/draw_outlines.py runs/quickstart no-adaptation round-1 quickstart.png

Per center the median validation case and the second best, by Dice after adaptation.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
from nibabel.orientations import aff2axcodes

matplotlib.use("Agg")
from matplotlib import pyplot as plt

CENTERS = {"ldn": "London", "etz": "Tilburg"}
MARGIN_MM = 26


def scores(run: Path, stage: str) -> dict[str, tuple[str, float]]:
    """Case -> (center, tumor Dice) on the validation scans."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return {
            row["case"]: (row["center"], float(row["dice"]))
            for row in csv.DictReader(file)
            if (row["split"], row["stage"], row["class"]) == ("validation", stage, "tumor")
        }


def chosen(after: dict[str, tuple[str, float]]) -> list[str]:
    """Per center the median case and the second best."""
    cases = []
    for center in CENTERS:
        ranked = sorted(
            (case for case in after if after[case][0] == center), key=lambda case: after[case][1]
        )
        cases += [ranked[len(ranked) // 2], ranked[-2]]
    return cases


def load(path: Path) -> nib.Nifti1Image:
    """An image with axes to the right, front and head."""
    image = nib.as_closest_canonical(nib.load(path))
    assert aff2axcodes(image.affine) == ("R", "A", "S")
    return image


def find(folder: Path, case: str, ending: str) -> Path:
    """The one file of a case."""
    [path] = [path for path in folder.rglob(f"{case}*{ending}") if path.is_file()]
    return path


def draw(axes: plt.Axes, run: Path, stage: str, case: str, title: str) -> None:
    """One slice: the scan, the hidden reference dashed, the prediction solid."""
    data = next(run.glob("01-phantom"))
    scan = load(find(data / "crossmoda2022_validation", case, "_hrT2.nii.gz"))
    truth = np.asarray(load(find(data / "hidden", case, "_Label.nii.gz")).dataobj) == 1
    folder = next(run.glob(f"*-predict-{stage}-validation"))
    found = np.asarray(load(find(folder / "labels", case, ".nii*")).dataobj) == 1
    image = np.asarray(scan.dataobj, np.float32)
    assert image.shape == truth.shape == found.shape
    level = int(truth.sum(axis=(0, 1)).argmax())
    middle = np.argwhere(truth[:, :, level]).mean(axis=0)
    half = MARGIN_MM / np.array(scan.header.get_zooms()[:2])
    low = np.clip((middle - half).astype(int), 0, None)
    part = tuple(slice(a, a + int(2 * h)) for a, h in zip(low, half, strict=True))
    shown = image[(*part, level)].T
    aspect = scan.header.get_zooms()[1] / scan.header.get_zooms()[0]
    axes.imshow(shown, cmap="gray", origin="lower", vmax=np.percentile(shown, 99.5), aspect=aspect)
    for mask, color, style in ((truth, "white", "dashed"), (found, "orange", "solid")):
        if mask[(*part, level)].any():
            outline = mask[(*part, level)].T
            axes.contour(outline, [0.5], colors=color, linestyles=style, linewidths=1.6)
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def main() -> None:
    """Two rows: before and after."""
    run, stages, target = Path(sys.argv[1]), sys.argv[2:4], Path(sys.argv[4])
    found = {stage: scores(run, stage) for stage in stages}
    cases = chosen(found[stages[1]])
    figure, rows = plt.subplots(2, len(cases), figsize=(11, 6))
    words = dict(zip(stages, ("without adaptation", "adapted"), strict=True))
    for row, stage in zip(rows, stages, strict=True):
        for axes, case in zip(row, cases, strict=True):
            center, dice = found[stage][case]
            draw(axes, run, stage, case, f"{CENTERS[center]}, {words[stage]}: Dice {dice:.2f}")
    figure.text(
        0.5,
        0.01,
        "Real T2 of the embedded cohort, tumor outlines: orange predicted, white dashed the hidden"
        " reference. Per center the median case and the second best.",
        ha="center",
        fontsize=8,
    )
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    main()
