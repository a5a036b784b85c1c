"""What a notebook shows of volumes and cohorts."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossmod import Cohort, DataError, Volume, animate
from crossmod.data.cohorts import CohortWriter


def scan(case: str) -> Volume:
    data = np.zeros((1, 20, 10, 4), np.float32)
    data[0, 12:, :5] = 1  # on the patient's right, behind
    return Volume.of(data, np.diag([1.0, 1.0, 3.0, 1.0]), case=case, center="a & b")


def pictures(text: str) -> list[tuple[np.ndarray, int, int]]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)" width="(\d+)" height="(\d+)"', text)
    return [
        (np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))), int(width), int(height))
        for png, width, height in found
    ]


def test_a_volume_is_a_slice_and_a_table() -> None:
    text = scan("<case>")._repr_html_()
    [(gray, width, height)] = pictures(text)
    assert (width, height) == (200, 100)  # as many mm to the side as the scan has
    assert gray.shape == (10, 20)
    assert gray[-1, 0] == 255  # right is on the left, back is down
    assert gray[0, 0] == gray[-1, -1] == 0
    assert "&lt;case&gt;" in text
    assert "20 x 10 x 4" in text
    assert "1 x 1 x 3 mm" in text


def test_a_cohort_is_its_first_slices_and_a_table(tmp_path: Path) -> None:
    writer = CohortWriter(tmp_path, {"tumor": 1})
    for number in range(6):
        writer.add(scan(f"case-{number}"))
    text = writer.close()._repr_html_()
    assert len(pictures(text)) == 4
    assert "a &amp; b 6" in text
    assert "0 of 6" in text
    assert "0 of 0" in Cohort((), {})._repr_html_()


def test_an_animation_scrolls_up_side_by_side(tmp_path: Path) -> None:
    rising = scan("a").data.copy()
    rising[0] *= np.arange(4)
    animation = animate(scan("a"), scan("a").with_data(rising))
    animation.save(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.size) == (4, (20 + 4 + 20, 10))
        image.seek(3)
        last = np.asarray(image.convert("L"))
        image.seek(0)
        first = np.asarray(image.convert("L"))
    assert first[9, 0] > 200  # the same in every slice
    assert first[9, 24] == 0
    assert last[9, 24] > 200
    assert "image/gif" in animation._repr_html_()
    with pytest.raises(DataError, match="nothing to animate"):
        animate()


@pytest.mark.parametrize("name", ["a.mp4", "a", "a.gif.png"])
def test_an_animation_is_written_under_no_other_ending(tmp_path: Path, name: str) -> None:
    animation = animate(scan("a"))
    with pytest.raises(DataError, match="written as a GIF"):
        animation.save(str(tmp_path / name))
    assert not list(tmp_path.iterdir())
    animation.save(str(tmp_path / "a.GIF"))
