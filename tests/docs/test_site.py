"""The pages lead to each other, every one is in the navigation, and the site is built offline."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "build_site.py"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_site", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site = load()


def anchors(page: Path) -> set[str]:
    """What GitHub and the site call the headings of a page."""
    text = site.FENCE.sub("", site.text_of(page))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    bare = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in bare}


@pytest.mark.parametrize("page", site.pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in site.links_of(page):
        assert target.exists(), f"{page.name} links to {target}"
        if anchor and target in site.pages():
            assert anchor[1:] in anchors(target), f"{page.name} links to {target.name}{anchor}"


def test_every_page_is_in_the_navigation_once() -> None:
    def files(node: Any) -> list[str]:
        if isinstance(node, str):
            return [node]
        return [file for inner in (node.values() if isinstance(node, dict) else node)
                for file in files(inner)]  # fmt: skip

    listed = files(site.navigation())
    written = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert len(listed) == len({*listed})
    assert written <= {*listed}
    assert {*listed} == {site.place_of(path).as_posix() for path in site.pages()}


def test_pictures_are_small() -> None:
    for picture in (ROOT / "docs" / "images").glob("*.png"):
        assert picture.stat().st_size < 300_000, picture.name


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "site"
    subprocess.run([sys.executable, SCRIPT, out], check=True, capture_output=True)
    return out


def html_of(built: Path, page: Path) -> str:
    name = page.relative_to(ROOT).with_suffix(".html").as_posix()
    return (built / name.replace("README", "index")).read_text(encoding="utf-8")


def test_links_lead_to_places_of_the_site(built: Path) -> None:
    for page in site.pages():
        for target, anchor in site.links_of(page):
            if anchor and target in site.pages():
                assert f'id="{anchor[1:]}"' in html_of(built, target), f"{page} links to {anchor}"


def test_a_notebook_is_a_page_with_its_results(built: Path) -> None:
    text = html_of(built, ROOT / "docs" / "tutorials" / "explore-a-run.ipynb")
    assert "<svg" in text
    assert "<table" in text
    assert 'href="../tutorials/explore-a-run.html"' in html_of(
        built, ROOT / "docs" / "how-to" / "python.md"
    )


def test_the_site_is_built_offline(built: Path) -> None:
    for page in site.pages():
        text = html_of(built, page)
        assert site.title_of(page) in re.sub(r"<[^>]*>", "", text)
        assert not re.findall(r'<(?:script|img)[^>]*\ssrc="https?:', text)
        assert not re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="https?:', text)
    assert "Van Cittert" in (built / "search.json").read_text(encoding="utf-8")


OPEN = """<head><script>
const attach = Element.prototype.attachShadow, roots = [];
Element.prototype.attachShadow = function () {
  return roots[roots.push(attach.call(this, { mode: "open" })) - 1];
};
</script>"""
USER = """<script>
setTimeout(() => {
  document.querySelector(".md-search__button").click();
  setTimeout(() => {
    const input = roots.map((root) => root.querySelector("input")).find((one) => one);
    input.value = "cittert";
    input.dispatchEvent(new Event("input", { bubbles: true }));
    setTimeout(() => {
      const links = roots.flatMap((root) => [...root.querySelectorAll("a")]);
      document.title = "found: " + links.map((link) => link.href).join(" ");
    }, 3000);
  }, 1000);
}, 1000);
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_a_site_on_a_disk_can_be_searched(built: Path, tmp_path: Path) -> None:
    assert BROWSER is not None
    text = (built / "index.html").read_text(encoding="utf-8")
    page = built / "used.html"
    page.write_text(text.replace("<head>", OPEN, 1).replace("</body>", USER, 1), encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=20000", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    [found] = re.findall("<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert "plugins/crossmod_van_cittert/index.html" in found
