"""How long loading a scan takes, compared with SimpleITK; prints the second table of safety.md.

    python docs/explanation/measure_loading.py FILE... [--repeats 15]

Readers load the same file in turn; ratios are medians of those of neighbors, so that they hold
where the speed of the machine drifts. Time is that of the processor, so that other programs count
little.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import SimpleITK

from crossmod.intake import load_scan

READERS = (
    load_scan,
    lambda path: SimpleITK.ReadImage(str(path)),
    lambda path: SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32),
)


def seconds(path: Path) -> list[float]:
    """What each reader takes."""
    marks = [process_time()]
    for reader in READERS:
        reader(path)
        marks.append(process_time())
    return np.diff(marks).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    asked = parser.parse_args()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    heads = ["file", "MB", "voxels, millions", "crossmod, s", "as stored", "as float32"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for path in asked.files:
        voxels = np.prod(load_scan(path).data.shape) / 1e6
        seconds(path)  # what is loaded first pays for the others
        rounds = [seconds(path) for _ in range(asked.repeats)]
        ours = median(times[0] for times in rounds)
        stored, single = (median(times[0] / times[n] for times in rounds) for n in (1, 2))
        name, size = path.name.removesuffix(".nii.gz"), path.stat().st_size / 1e6
        print(f"| {name} | {size:.1f} | {voxels:.1f} | {ours:.3f} | {stored:.2f} | {single:.2f} |")


if __name__ == "__main__":
    main()
