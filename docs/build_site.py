"""Build the pages as a site with search: `python docs/build_site.py site`; open site/index.html.

It needs Zensical (the extra `docs`) and no network. The pages lie in the site as they lie in the
repository, so that their links lead to each other in both; the navigation follows the folders.
Notebooks become pages with their results.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomlkit

ROOT = Path(__file__).parents[1]

SECTIONS = {
    "Tutorials": "docs/tutorials/*.*",
    "How to": "docs/how-to/*.md",
    "Reference": "docs/reference/*.md",
    "Explanation": "docs/explanation/*.md",
    "Plugins": "plugins/*/README.md",
    "Project": "*.md",
}
"""Title -> its pages; a page stands in the first section that has it."""

HOME = "README.md"

WORKER = ROOT / "docs" / "iframe-worker.js"
"""Lets pages that are opened from a disk search."""

LINK = re.compile(r"\]\(\s*<?([^)\s>#]*)(#[^)\s>]*)?>?[^)]*\)")
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """All pages of the site."""
    found = {ROOT / HOME, *(path for glob in SECTIONS.values() for path in ROOT.glob(glob))}
    return sorted(found)


def text_of(page: Path) -> str:
    """The Markdown of a page; a notebook's cells one after the other."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    return "\n\n".join(part for cell in json.loads(text)["cells"] for part in _parts_of(cell))


def _parts_of(cell: Mapping[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
    for output in cell.get("outputs", ()):
        shown = {kind: "".join(data) for kind, data in output.get("data", {}).items()}
        picture = re.search(r"<svg.*", shown.get("image/svg+xml", ""), re.DOTALL)
        rich = shown.get("text/html") or (picture and picture[0])
        if rich:  # one line: Markdown would end the block at an empty one
            yield f"<div>{' '.join(rich.split())}</div>"
        elif "text/plain" in shown:
            yield f"```text\n{shown['text/plain']}\n```"


def title_of(page: Path) -> str:
    """The first heading of a page."""
    found = re.search(r"^# (.+)$", text_of(page), re.MULTILINE)
    return found[1].replace("`", "") if found else page.stem


def links_of(page: Path) -> list[tuple[Path, str]]:
    """The file and the anchor that each link of a page leads to, other sites left out."""
    text = FENCE.sub("", text_of(page))
    return [
        ((page.parent / target).resolve() if target else page, anchor)
        for target, anchor in LINK.findall(text)
        if not re.match(r"\w+:", target)
    ]


def place_of(page: Path) -> Path:
    """Where the Markdown of a page lies in the site's sources."""
    return page.relative_to(ROOT).with_suffix(".md")


def navigation() -> list[dict[str, Any]]:
    """The home page, and each section with its pages by title."""
    nav: list[dict[str, Any]] = [{"Home": HOME}]
    seen = {ROOT / HOME}
    for section, glob in SECTIONS.items():
        own = sorted({*ROOT.glob(glob)} - seen, key=title_of)
        seen |= {*own}
        nav.append({section: [{title_of(one): place_of(one).as_posix()} for one in own]})
    return nav


def build(out: Path) -> None:
    """Build the site into a folder that must not exist."""
    if out.exists():
        raise SystemExit(f"{out} exists already")
    with tempfile.TemporaryDirectory() as room:
        staged = Path(room) / "pages"
        files = {*pages(), WORKER, *(link for page in pages() for link, _ in links_of(page))}
        for path in sorted(one for one in files if one.is_file()):
            target = staged / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        for page in pages():
            text = re.sub(r"\.ipynb\)", ".md)", text_of(page))
            (staged / place_of(page)).write_text(text, encoding="utf-8")
        project = {
            "site_name": "crossmod",
            "site_description": "Teach a segmentation model a modality nobody has labeled.",
            "docs_dir": "pages",
            "site_dir": "site",
            "use_directory_urls": False,  # so that it works from a disk
            "nav": navigation(),
            "plugins": {"offline": {}},  # and the search, too; by name, in place of one on the net
            "extra": {"polyfills": [WORKER.relative_to(ROOT).as_posix()]},
            "theme": {"font": False, "features": ["navigation.sections", "content.code.copy"]},
        }
        config = tomlkit.dumps({"project": project})
        (Path(room) / "zensical.toml").write_text(config, encoding="utf-8")
        subprocess.run([sys.executable, "-m", "zensical", "build"], cwd=room, check=True)
        shutil.copytree(Path(room) / "site", out)


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "site"))
