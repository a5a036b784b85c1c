"""Damage NIfTI files at random, load them, and count what happens.

    python tests/unit/nifti_damage.py FILE... [--count 10000] [--seed 0]

A load is silent if it returns without a remark although voxels or geometry differ from those of the
intact file. There must be none, nor any exception but DataError, nor a load that does not end.
"""

from __future__ import annotations

import argparse
import resource
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from nifti_files import same

from crossmod import DataError
from crossmod.intake import Loaded, load_scan

SECONDS = 20.0
"""A load that takes longer counts as one that does not end."""

BAD = ("silent", "another exception", "does not end")

Rng = np.random.Generator


def _span(size: int, rng: Rng) -> tuple[int, int]:
    """A part of up to 64 KB."""
    length = int(2 ** rng.uniform(0, min(16, np.log2(size / 2))))
    at = int(rng.integers(size - length + 1))
    return at, at + length


def cut(whole: bytes, rng: Rng) -> bytes:
    return whole[: int(rng.integers(len(whole)))]


def flip(whole: bytes, rng: Rng) -> bytes:
    """One to eight bytes changed."""
    changed = bytearray(whole)
    for at in rng.integers(len(whole), size=rng.integers(1, 9)):
        changed[at] ^= int(rng.integers(1, 256))
    return bytes(changed)


def zero(whole: bytes, rng: Rng) -> bytes:
    at, end = _span(len(whole), rng)
    return whole[:at] + bytes(end - at) + whole[end:]


def swap(whole: bytes, rng: Rng) -> bytes:
    """Two parts of the same length have changed places."""
    at, end = _span(len(whole) // 2, rng)
    other = int(rng.integers(end, len(whole) - (end - at) + 1))
    last = other + end - at
    return whole[:at] + whole[other:last] + whole[end:other] + whole[at:end] + whole[last:]


def repeat(whole: bytes, rng: Rng) -> bytes:
    at, end = _span(len(whole), rng)
    return whole[:end] + whole[at:]


def drop(whole: bytes, rng: Rng) -> bytes:
    at, end = _span(len(whole), rng)
    return whole[:at] + whole[end:]


def append(whole: bytes, rng: Rng) -> bytes:
    return whole + rng.bytes(int(rng.integers(1, 4096)))


DAMAGES = (cut, flip, zero, swap, repeat, drop, append)


class _NoEnd(BaseException):
    pass


def outcome(path: Path, intact: Loaded, load: Callable[[Path], Loaded] = load_scan) -> str:
    """What loading a damaged file comes to."""

    def stop(number: int, frame: object) -> None:
        raise _NoEnd

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        found = load(path)
    except DataError:
        return "refused"
    except _NoEnd:
        return "does not end"
    except Exception:
        return "another exception"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if same(found, intact):
        return "the same voxels"
    return "a remark" if found.remarks else "silent"


def attack(
    files: Sequence[Path],
    count: int,
    seed: int,
    damages: Iterable[Callable[[bytes, Rng], bytes]] = DAMAGES,
) -> tuple[Counter[tuple[str, str]], float]:
    """Damage and load files in turn.

    Returns:
        (kind of damage, what came of it) -> how often; and by how many MB the peak of resident
        memory rose above that of loading the intact files.
    """
    rng = np.random.default_rng(seed)
    kinds = list(damages)
    counts: Counter[tuple[str, str]] = Counter()
    wholes = [(path.read_bytes(), load_scan(path), path.name) for path in files]
    for path in files:
        load_scan(path)
    before = _peak_mb()
    with TemporaryDirectory() as folder:
        for number in range(count):
            whole, intact, name = wholes[number % len(wholes)]
            kind = kinds[number // len(wholes) % len(kinds)]
            path = Path(folder) / name
            if (changed := kind(whole, rng)) == whole:
                changed = whole[:-1]
            path.write_bytes(changed)
            result = outcome(path, intact)
            counts[kind.__name__, result] += 1
            if result in BAD:
                path.rename(Path.cwd() / f"{result.replace(' ', '-')}-{number}-{name}")
    return counts, _peak_mb() - before


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    counts, memory = attack(asked.files, asked.count, asked.seed)
    results = ["refused", "the same voxels", "a remark", *BAD]
    print(" | ".join(["| damage", *results]) + " |\n" + "|---" * 7 + "|")  # noqa: T201
    for kind in DAMAGES:
        numbers = [str(counts[kind.__name__, result]) for result in results]
        print(" | ".join([f"| {kind.__name__}", *numbers]) + " |")  # noqa: T201
    print(f"\nthe peak of memory rose by {memory:.0f} MB over that of the intact files")  # noqa: T201


if __name__ == "__main__":
    main()
