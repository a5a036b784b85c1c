"""Take the pictures of the gallery in headless Chromium.

    python docs/images/photograph.py runs/quickstart runs/what-works

A finished run, and one with variants and seeds. Pictures are written beside this file.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECTIONS = {
    "scores": ("#summary", 800),
    "translation": ("#translation", 870),
    "predictions": ("#predictions", 850),
    "training": ("#training", 900),
}
"""Picture -> section of the report, and how much of it is shown, in pixels."""

WIDTH, TABLE, VIEW = 1120, 900, (1280, 860)
PLAIN = "h2 { border: 0 !important; margin-top: 0 !important; padding-top: 0 !important }"
CURVES = "translate-gan-fit"
"""The training whose curves are shown."""

GRAYS, SATURATED = 208, 24


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """The upper part of a page as a PNG of 256 colors, without the empty rest below."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"needs one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as room:
        raw = Path(room) / "raw.png"
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={room}/profile", f"--window-size={width},{height}",
                "--virtual-time-budget=20000", f"--screenshot={raw}", page.resolve().as_uri(),
            ],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        image = Image.open(raw).convert("RGB")
    empty = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    _, top, _, bottom = ImageChops.difference(image, empty).getbbox() or (0, 0, *image.size)
    shown = image.crop((0, max(0, top - 16), image.width, min(image.height, bottom + 16)))
    few = shown.quantize(palette=palette_of(shown), dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def palette_of(image: Image.Image) -> Image.Image:
    """256 colors: mostly grays, as scans have, and those of the outlines."""
    pixels = np.asarray(image).reshape(-1, 3)
    colored = pixels[np.ptp(pixels, axis=1) > SATURATED]
    colors = Image.fromarray(colored[None]).quantize(256 - GRAYS).getpalette() or []
    grays = np.linspace(0, 255, GRAYS).astype(int).repeat(3).tolist()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*grays, *colors[: 3 * (256 - GRAYS)]])
    return palette


def only(report: Path, section: str, page: Path) -> None:
    """Write a report without its header and without all sections but one."""
    style = f"body > :not({section}) {{ display: none }} {PLAIN}"
    text = re.sub(r"<details open", "<details", report.read_text(encoding="utf-8"))
    text = re.sub(rf"<details(>\s*<summary>{CURVES})", r"<details open\1", text)
    page.write_text(text.replace("</head>", f"<style>{style}</style></head>"), encoding="utf-8")


def main(run: Path, variants: Path) -> None:
    """Write all pictures."""
    with tempfile.TemporaryDirectory() as room:
        page = Path(room) / "page.html"
        for name, (section, height) in SECTIONS.items():
            only(run / "report.html", section, page)
            photograph(page, HERE / f"report-{name}.png", WIDTH, height)
        only(variants / "report.html", "section", page)
        photograph(page, HERE / "comparison.png", WIDTH, TABLE)
        scores = (run / "metrics.csv").read_text(encoding="utf-8")
        found = re.search(r"^validation,[^,]*,([^,]*)", scores, re.MULTILINE)
        assert found is not None
        program = Path(sys.executable).with_name("crossmod")
        page.unlink()
        subprocess.run([program, "view", run, found[1], "--out", page], check=True)
        photograph(page, HERE / "view.png", *VIEW)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
