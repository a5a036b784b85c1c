"""The page of a case holds what it should, turned upright, and loads nothing."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shlex
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossmod.report.view import Shown, ViewContent, write_view
from crossmod.report.view_files import ViewFiles
from crossmod.run.view import noted

SHAPE = (3, 4, 5)
TURNS = [(axes, signs) for axes in permutations(range(3)) for signs in ((1, 1, 1), (-1, 1, -1))]


def affine_of(axes: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    """Voxels of 1, 2 and 3 mm along axes that run anywhere."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for voxel, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, voxel] = sign * (voxel + 1)
    affine[:3, 3] = (-7, 20, 4)
    return affine


def page(folder: Path, affine: np.ndarray, **changes: Any) -> str:
    rng = np.random.default_rng(1)
    image = rng.random(SHAPE, dtype=np.float32)
    labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
    content = {
        "title": "case_</script><b>7",
        "subtitle": "a scan",
        "affine": affine,
        "classes": {"tumor": 1, "cochlea": 2},
        "images": [Shown("scan", image, chosen=True), Shown("fake", image * 2)],
        "maps": [Shown("reference", labels, "#f4e04d", chosen=True)],
        "files": ViewFiles([Path("a b.nii")], []),
        **changes,
    }
    write_view(folder / "page.html", ViewContent(**content))
    return (folder / "page.html").read_text(encoding="utf-8")


def voxels(text: str) -> dict[str, Any]:
    [found] = re.findall(r'<script type="application/json" id="voxels">(.*?)</script>', text)
    scene: dict[str, Any] = json.loads(found)
    for one in (*scene["images"], *scene["maps"]):
        raw = gzip.decompress(base64.b64decode(one["voxels"]))
        one["data"] = np.frombuffer(raw, np.uint8).reshape(scene["shape"], order="F")
    return scene


@pytest.mark.parametrize(("axes", "signs"), TURNS)
def test_voxels_stay_where_they_are(
    axes: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    affine = affine_of(axes, signs)
    scene = voxels(page(tmp_path, affine))
    shown = np.asarray(scene["affine"])
    assert (shown[0, 0] < 0, shown[1, 1] < 0, shown[2, 2] > 0) == (True, True, True)  # L, P, S
    assert np.linalg.norm(shown[:, :3], axis=0).tolist() == pytest.approx(scene["spacing_mm"])
    labels = np.random.default_rng(1)
    labels.random(SHAPE, dtype=np.float32)
    drawn = labels.integers(0, 3, SHAPE).astype(np.uint8)
    to_page = np.linalg.inv(np.vstack([shown, [0, 0, 0, 1]])) @ affine
    for place in np.ndindex(SHAPE):
        i, j, k = np.rint(to_page @ [*place, 1])[:3].astype(int)
        assert scene["maps"][0]["data"][i, j, k] == drawn[place]


def test_gray_levels_are_those_of_the_unit_range(tmp_path: Path) -> None:
    scene = voxels(page(tmp_path, np.diag([-1.0, -1, 1, 1])))
    image = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    once, twice = (one["data"].astype(int) for one in scene["images"])
    assert np.abs(once - image * 255).max() <= 0.5 + 1e-4  # rounding, and single precision
    assert np.abs(twice - np.minimum(image * 2, 1) * 255).max() <= 0.5 + 1e-4


def test_the_page_is_alone(tmp_path: Path) -> None:
    text = page(tmp_path, np.eye(4))
    assert not re.findall(r"""(?:src|href|url|import)\s*[=(]\s*["']?(?!data:)[\w/.]""", text)
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text
    assert "case_&lt;/script&gt;&lt;b&gt;7" in text
    assert text.count("</script>") == 2


def test_command_lines_keep_odd_names_whole(tmp_path: Path) -> None:
    run = tmp_path / "my [run]"
    maps = [run / f"0{n}-predict" / "labels" / "it's.nii.gz" for n in (1, 2)]
    for file in maps:
        file.parent.mkdir(parents=True)
        file.touch()
    files = ViewFiles([tmp_path / "a b.nii"], maps).seen_from(tmp_path)
    (name, snap), *others = files.commands()
    assert name == "ITK-SNAP (before 4.2, it opens the outlines of the last stage only)"
    assert shlex.split(snap) == [
        "itksnap", "-g", "a b.nii", "-s",
        "my [run]/02-predict/labels/it's.nii.gz", "my [run]/01-predict/labels/it's.nii.gz",
    ]  # fmt: skip
    for _, line in others:
        code = shlex.split(line)[2]
        compile(code, "command", "exec")
        [pattern] = re.findall(r'glob\((?:abspath\()?"(.*?)"', code)
        assert sorted(tmp_path.glob(pattern)) == maps


def test_a_label_map_without_outlines_is_noted() -> None:
    empty, full = np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.uint8)
    assert noted("round-1", empty, "Dice 0.00") == "round-1 (empty, Dice 0.00)"
    assert noted("reference", empty) == "reference (empty)"
    assert noted("round-1", full, "Dice 0.90") == "round-1 (Dice 0.90)"
    assert noted("reference", full) == "reference"


def test_a_page_needs_an_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one image"):
        page(tmp_path, np.eye(4), images=[])
