"""Damages a series in many ways in one process and prints what reading says: a program.

``python dicom_damage.py FOLDER KIND COUNT``: for each damage one line of JSON.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from crossmod.intake.dicom.bounds import limit
from crossmod.intake.dicom.child import answered

MEMORY = 3 * 10**9


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flip(content: bytes, chance: random.Random) -> bytes:
    """One bit, more often where tags are than where voxels are."""
    changed = bytearray(content)
    end = chance.choice([400, 1200, len(content)])
    changed[chance.randrange(min(end, len(content)))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def outcome(folder: Path) -> dict[str, object]:
    with TemporaryDirectory() as name:
        room = Path(name)
        request = {"folder": str(folder), "series": "", "max_voxels": 10**7,
                   "memory_bytes": MEMORY, "may_take_bytes": MEMORY}  # fmt: skip
        answer = answered("read", request, room)
        if "error" in answer:
            return {"error": answer["error"]}
        data = np.load(room / "data.npy", allow_pickle=False)
        return {"shape": data.shape, "affine": answer["affine"], "sum": float(data.sum())}


def run(folder: Path, kind: str, count: int) -> None:
    chance = random.Random(2022)
    files = sorted(folder.rglob("*.dcm"))
    for _ in range(count):
        victim = chance.choice(files)
        whole = victim.read_bytes()
        victim.write_bytes({"cut": cut, "flip": flip}[kind](whole, chance))
        sys.stdout.write(json.dumps(outcome(folder)) + "\n")
        victim.write_bytes(whole)


if __name__ == "__main__":
    limit(MEMORY, seconds=600)
    run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
