"""Draw what translators and copies make of tumors, and outlines from best to worst.

    python docs/images/draw_what_works.py runs/what-works

The run folder of recipes/what-works.toml, of its seeds the first. Pictures are written beside this
file.
"""

from __future__ import annotations

import sys
from functools import reduce
from io import BytesIO
from operator import add
from pathlib import Path

import matplotlib
import numpy as np
from draw_outlines import CENTERS, draw, scores
from PIL import Image

from crossmod import Cohort, Pair

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
LABEL = 1
SHOWN = {
    "ceT1": ("gba", "prepare-source"),
    "CycleGAN": ("cyclegan", "translate-sharpen"),
    "kept in place": ("in-place", "translate-sharpen"),
    "tumor repainted": ("repainted", "translate-sharpen"),
    "naive copy": ("naive", "augment-tumors"),
    "GBA copy": ("gba", "augment-*"),
    "real T2": ("gba", "prepare-oracle"),
}
"""What is shown -> variant and steps."""

QUANTILES = (1.0, 0.75, 0.5, 0.25, 0.0)
MARGIN = 14  # voxels around the middle of a tumor


def save(figure: plt.Figure, target: Path) -> None:
    """A PNG of 64 colors, which is small."""
    figure.tight_layout()
    with BytesIO() as room:
        figure.savefig(room, dpi=64)
        Image.open(room).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(
            target, optimize=True
        )


def cohort(run: Path, shown: str) -> Cohort:
    """Images with label maps; of the target those of the hidden references."""
    variant, step = SHOWN[shown]
    folders = sorted((run / f"{variant}-seed-1").glob(f"*-{step}"))
    made = [Cohort.load(folder) for folder in folders if not folder.name.endswith("-fit")]
    return reduce(add, made)


def sizes(given: Cohort) -> list[tuple[int, Pair]]:
    """Voxels of the tumor, and the case, largest first."""
    pairs = [(int((pair.labels == LABEL).sum()), pair) for pair in given.pairs()]
    return sorted((one for one in pairs if one[0]), key=lambda one: -one[0])


def show(axes: plt.Axes, pair: Pair, title: str) -> None:
    """The slice with most of the tumor, near it, and the outline of its label."""
    mask = pair.labels == LABEL
    level = int(mask.sum((0, 1)).argmax())
    middle = np.argwhere(mask[:, :, level]).mean(0).round().astype(int)
    part = tuple(slice(max(0, one - MARGIN), one + MARGIN) for one in middle)
    axes.imshow(pair.image.data[0][(*part, level)].T, cmap="gray", origin="lower", vmin=0, vmax=1)
    axes.contour(mask[(*part, level)].T, [0.5], colors="orange", linewidths=0.8)
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def tumors(run: Path, target: Path) -> None:
    """A large, a medium and a small tumor: source, translations, copies; and real ones as large."""
    cohorts = {name: cohort(run, name) for name in SHOWN}
    sources = sizes(cohorts["ceT1"])
    real = sizes(cohorts["real T2"])
    copies = {"naive copy": "-m0.35", "GBA copy": "-m0.35"}
    chosen = [sources[len(sources) * place // 10] for place in (1, 4, 7)]
    figure, rows = plt.subplots(len(chosen), len(SHOWN), figsize=(13, 6))
    for row, (size, pair) in zip(rows, chosen, strict=True):
        for axes, name in zip(row, SHOWN, strict=True):
            if name == "real T2":
                found = min(real, key=lambda one: abs(one[0] - size))[1]
            else:
                cases = [case for case in cohorts[name].cases if case.patient == pair.patient]
                ending = copies.get(name, "")
                found = next(case for case in cases if ending in case.case).pair()
            show(axes, found, name)
    save(figure, target)


def appearance(run: Path, target: Path) -> None:
    """Mean and standard deviation of the intensity inside every tumor."""
    names = [name for name in SHOWN if name != "ceT1"]
    figure, rows = plt.subplots(1, 2, figsize=(11, 3.6))
    for axes, what, measure in zip(rows, ("mean", "spread"), (np.mean, np.std), strict=True):
        for place, name in enumerate(names):
            inside = [
                pair.image.data[0][pair.labels == LABEL] for _, pair in sizes(cohort(run, name))
            ]
            values = np.array([measure(one) for one in inside])
            aside = np.random.default_rng(0).uniform(-0.25, 0.25, len(values))
            color = "black" if name == "real T2" else "C0"
            axes.plot(place + aside, values, ".", color=color, alpha=0.4)
            axes.plot([place - 0.35, place + 0.35], [values.mean()] * 2, color=color, linewidth=2)
        axes.set_xticks(
            range(len(names)), [name.replace(" ", "\n", 1) for name in names], fontsize=8
        )
        axes.set_ylabel(f"{what} of the intensity in a tumor")
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, target)


def outlines(run: Path, target: Path) -> None:
    """Validation cases from best to worst, after translation and after self-training."""
    stages = {"repainted": ("translated", "round-1"), "gba": ("augmented", "round-1")}
    figure, rows = plt.subplots(4, len(QUANTILES), figsize=(13, 11))
    places = iter(rows)
    for variant, each in stages.items():
        folder = run / f"{variant}-seed-1"
        last = scores(folder, each[-1])
        ranked = sorted(last, key=lambda case: last[case][1])
        cases = [ranked[round(quantile * (len(ranked) - 1))] for quantile in QUANTILES]
        for stage in each:
            found = scores(folder, stage)
            for axes, case in zip(next(places), cases, strict=True):
                center, dice = found[case]
                title = f"{variant}, {stage}\n{CENTERS[center]}: Dice {dice:.2f}"
                draw(axes, folder, stage, case, title)
    save(figure, target)


if __name__ == "__main__":
    run = Path(sys.argv[1])
    tumors(run, HERE / "what-works-tumors.png")
    appearance(run, HERE / "what-works-appearance.png")
    outlines(run, HERE / "what-works-outlines.png")
