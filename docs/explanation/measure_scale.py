"""What crossmod takes besides the work of stages, by the number of scans; prints scale.md's tables.

    python docs/explanation/measure_scale.py FOLDER [--cases 10 100 1000] [--entries 10000]

Scans are tiny and stages do next to nothing, so that what is left is finding, checking, keying,
linking and showing. Commands are programs of their own: starting Python is part of each figure.
Processor seconds count all processes of a command, workers included, and do not depend on what
else the machine does; FOLDER must be new.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import nibabel
import numpy as np

from crossmod.files.atomic import published
from crossmod.files.digests import digest_of_bytes
from crossmod.files.outputs import Outputs
from crossmod.store.runs import recorded
from crossmod.store.store import Store

SHAPE, SPACING_MM = (12, 12, 8), (1.0, 1.0, 2.0)

CENTERS = ("oslo", "bern", "lund", "graz")

SHARES = {"source": 0.4, "target": 0.3, "validation": 0.3}
"""Of all scans."""

RECIPE = """\
title = "Many scans"
determinism = "exact"
[data]
source.images = "source/{case}.nii.gz"
source.labels = "source_labels/{case}.nii.gz"
target.images = "target/{case}.nii.gz"
validation.images = "validation/{case}.nii.gz"
centers = { oslo = "oslo*", bern = "bern*", lund = "lund*", graz = "graz*" }
classes = { tumor = 1 }
[preprocess]
spacing_mm = [1.0, 1.0, 2.0]
[translate.brighter]
use = "brighter"
[augment.tumors]
use = "naive-rescale"
[[augment.tumors.groups]]
name = "all"
factors = [0.8]
[segment]
use = "threshold"
[pseudo_label]
use = "self-training"
rounds = 1
keep_empty = true
[evaluate]
labels = "references/{case}.nii.gz"
structure = "tumor"
splits = ["target", "validation"]
"""
"""Every kind of step, with stages that learn nothing."""

STAGES = {
    "brighter": """\
from crossmod import Options, Translator, hookimpl

class Brighter(Translator[Options]):
    '''Makes images a little brighter.'''
    def translate(self, volumes, state, ctx):
        for volume in volumes:
            yield volume.with_data(0.9 * volume.data + 0.1)

@hookimpl
def crossmod_stage():
    return Brighter
""",
    "threshold": """\
import numpy as np

from crossmod import Options, Prediction, Segmenter, hookimpl

class Threshold(Segmenter[Options]):
    '''Bright voxels are tumor.'''
    def fit(self, train, validation, ctx):
        return {"level": np.array([0.6])}

    def predict(self, volumes, state, ctx):
        for volume in volumes:
            tumor = np.clip(volume.data[0] - float(state["level"][0]) + 0.5, 0, 1)
            yield Prediction(volume, np.stack([1 - tumor, tumor]).astype(np.float32))

@hookimpl
def crossmod_stage():
    return Threshold
""",
}
"""Name -> code of plugins that take no time."""


def write_plugins(site: Path) -> None:
    """Put the stages into a folder of packages as pip would."""
    for name, code in STAGES.items():
        about = site / f"{name}-1.dist-info"
        about.mkdir(parents=True)
        (site / f"{name}.py").write_text(code, encoding="utf-8")
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[crossmod.plugins]\n{name} = {name}\n")


def write_scans(root: Path, cases: int) -> None:
    """Write a data folder with this number of scans in all splits together."""
    rng = np.random.default_rng(cases)
    for split, share in SHARES.items():
        maps = "source_labels" if split == "source" else "references"
        for number in range(max(2, round(share * cases))):
            case = f"{CENTERS[number % len(CENTERS)]}_{split}_{number:05d}"
            labels = np.zeros(SHAPE, np.uint8)
            middle = [int(rng.integers(3, side - 3)) for side in SHAPE]
            labels[tuple(slice(place - 1, place + 2) for place in middle)] = 1
            image = rng.uniform(0, 300, SHAPE) + 500.0 * labels
            _write(root / split / f"{case}.nii.gz", image.astype(np.float32))
            if split != "target" or number % 3:  # some references are missing, as they often are
                _write(root / maps / f"{case}.nii.gz", labels)


def _write(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([*SPACING_MM, 1.0])), path)


def write_store(folder: Path, entries: int, runs: int = 100, files: int = 20) -> Store:
    """A store of many small results; every tenth is of no run, every tenth has checkpoints."""
    store = Store(folder / "store")
    keys = [digest_of_bytes(str(number))[:40] for number in range(entries)]
    for number, key in enumerate(keys):
        with published(store.path(key), {"step": "step", "key": key, "content": {}}) as draft:
            for name in range(files):
                (draft / f"{name}.nii").write_bytes(b"voxels")
        if number % 10 == 1:
            store.checkpoints(key).mkdir(parents=True)
        with store.lock(key):
            pass
    used = [key for number, key in enumerate(keys) if number % 10]
    share = -(-len(used) // runs)
    for number in range(runs):
        out = folder / f"run-{number}"
        Outputs(out, "the run of a recipe").claim()
        own = used[number * share : (number + 1) * share]
        with recorded(store, out, "Many", {"": {f"step-{n}": key for n, key in enumerate(own)}}):
            pass
    return store


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        cpu_s: processor seconds of all its processes.
        wall_s: seconds.
        peak_mb: memory of its largest process.
    """

    cpu_s: float
    wall_s: float
    peak_mb: float


def call(folder: Path, site: Path, *words: str | Path) -> Cost:
    """Run `crossmod` in a folder."""
    program = Path(sys.executable).with_name("crossmod")
    given = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    given.pop("CROSSMOD_DATA", None)
    with (folder / "printed.txt").open("ab") as printed:
        start = perf_counter()
        process = subprocess.Popen(
            [program, *words], cwd=folder, env=given, stdout=printed, stderr=printed
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((folder / "printed.txt").read_text(encoding="utf-8")[-5000:])
    return Cost(used.ru_utime + used.ru_stime, perf_counter() - start, used.ru_maxrss / 1e3)


def measure_cases(folder: Path, site: Path, cases: int) -> dict[str, Cost]:
    """What every command takes with this number of scans."""
    write_scans(folder / "data", cases)
    (folder / "many.toml").write_text(RECIPE, encoding="utf-8")
    named = ("many.toml", "--data", "data")
    found = {"check": call(folder, site, "check", *named)}
    found["run --dry-run"] = call(folder, site, "run", *named, "--dry-run")
    found["first run"] = call(folder, site, "run", *named, "--workers", "1")
    found["run again"] = call(folder, site, "run", *named)
    (folder / "runs" / "many" / ".report-key").unlink()
    found["run again, new report"] = call(folder, site, "run", *named)
    return found


def seconds_of_steps(run: Path) -> float:
    """What the steps of a run say that they took."""
    manifests = run.glob("*/manifest.json")
    return sum(json.loads(one.read_text(encoding="utf-8"))["seconds"] for one in manifests)


def measure_store(folder: Path, site: Path, entries: int) -> dict[str, Cost]:
    """What `runs` and `gc` take in a store of this number of results."""
    write_store(folder, entries)
    found = {
        "runs": call(folder, site, "runs", "--store", "store"),
        "gc --dry-run": call(folder, site, "gc", "--store", "store", "--dry-run"),
        "gc, first": call(folder, site, "gc", "--store", "store"),
        "gc again": call(folder, site, "gc", "--store", "store"),
    }
    shutil.rmtree(folder)
    return found


def table(columns: Mapping[str, Mapping[str, Cost]], unit: str) -> Iterator[str]:
    """A Markdown table with a column for each size."""
    yield " | ".join(["| command", *(f"{size} {unit}" for size in columns)]) + " |"
    yield "|---" * (1 + len(columns)) + "|"
    for name in next(iter(columns.values())):
        costs = [column[name] for column in columns.values()]
        cells = [f"{c.cpu_s:.1f} s ({c.wall_s:.1f} s), {c.peak_mb:.0f} MB" for c in costs]
        yield " | ".join([f"| `{name}`", *cells]) + " |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--entries", type=int, nargs="+", default=[1000, 10_000])
    asked = parser.parse_args(arguments)
    site = asked.folder.absolute() / "site"
    write_plugins(site)
    found: dict[str, dict[str, Cost]] = {}
    print("| scans | report, MB | files in the run folder | in steps, s |\n" + "|---" * 4 + "|")
    for cases in asked.cases:
        folder = asked.folder / f"cases-{cases}"
        folder.mkdir()
        found[str(cases)] = measure_cases(folder, site, cases)
        run = folder / "runs" / "many"
        size, files = (run / "report.html").stat().st_size / 1e6, sum(1 for _ in run.rglob("*"))
        print(f"| {cases} | {size:.2f} | {files} | {seconds_of_steps(run):.1f} |", flush=True)
    print("", *table(found, "scans"), sep="\n", flush=True)
    stores = {}
    for entries in asked.entries:
        folder = asked.folder / f"entries-{entries}"
        folder.mkdir()
        stores[str(entries)] = measure_store(folder, site, entries)
    print("", *table(stores, "results"), sep="\n")


if __name__ == "__main__":
    main()
