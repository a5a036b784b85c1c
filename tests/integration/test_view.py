"""`crossmod view` on a finished run, and the page in a browser where there is one."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tiny import Tiny

from crossmod.data.cohorts import Cohort
from crossmod.errors import DataError
from crossmod.report.view import Shown, ViewContent, write_view
from crossmod.run.view import gather, view

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def a_case(run: Path, step: str) -> str:
    [folder] = run.glob(f"*-{step}")
    return Cohort.load(folder).cases[0].case


def test_a_scan_of_the_target_has_its_outlines(undisturbed: Tiny) -> None:
    run = undisturbed.result.folder
    content = gather(run, a_case(run, "prepare-validation"))
    assert [one.name for one in content.images] == ["scan"]
    names = [re.sub(r" \(.*\)", "", one.name) for one in content.maps]
    assert names == ["reference", "augmented", "round-1"]
    for one in content.maps:
        assert ("empty" in one.name) == (not one.data.any())
    assert [one.chosen for one in content.maps] == [True, False, True]
    [reference] = [one for one in content.maps if one.name == "reference"]
    assert {*np.unique(reference.data)} == {0, *content.classes.values()}
    assert not content.remarks


def test_a_scan_of_the_source_has_its_translations(undisturbed: Tiny) -> None:
    run = undisturbed.result.folder
    content = gather(run, a_case(run, "prepare-source"))
    names = [one.name for one in content.images]
    assert names[:3] == ["scan", "translate-gan", "translate-sharpen"]
    assert all(name.startswith("augment-tumors +") for name in names[3:])
    assert [one.name for one in content.maps] == ["reference"]


def test_command_lines_name_files_that_exist(undisturbed: Tiny) -> None:
    run = undisturbed.result.folder
    for step in ("prepare-source", "prepare-target", "prepare-validation"):
        content = gather(run, a_case(run, step))
        commands = dict(content.files.commands())
        snap, slicer, napari = commands.values()
        assert [name.partition(" (")[0] for name in commands] == ["ITK-SNAP", "3D Slicer", "napari"]
        images, _, maps = (part.split() for part in snap[len("itksnap -g ") :].partition(" -s "))
        images = [file for file in images if file != "-o"]
        shapes = {nibabel.load(file).shape for file in (*images, *maps)}
        assert len(maps) == (1 if step == "prepare-source" else 2)
        assert len(shapes) == 1  # ITK-SNAP opens outlines on the grid of the scan only
        for line in (slicer, napari):
            assert json.dumps(images) in line
            [pattern] = re.findall(r'glob\((?:abspath\()?"(.*?)"', line)
            assert sorted(map(str, Path("/").glob(pattern.removeprefix("/")))) == maps[::-1]


def test_what_cannot_be_shown_is_said(copied: Tiny, tmp_path: Path) -> None:
    run = copied.result.folder
    case = a_case(run, "prepare-validation")
    for file in (*run.glob(f"*-phantom/hidden/{case}*"),):
        file.unlink()
    content = gather(run, case)
    assert "reference" not in [one.name for one in content.maps]
    assert re.search(r"The reference is not shown: .*_Label\.nii\.gz is missing", *content.remarks)
    with pytest.raises(DataError, match="has no case nobody"):
        gather(run, "nobody")
    with pytest.raises(DataError, match=r"has no run\.json"):
        gather(tmp_path, case)
    (run.parent / "link").symlink_to(run)
    with pytest.raises(DataError, match="holds several runs") as caught:
        gather(run.parent, case)
    assert caught.value.allowed == f"{run.parent / 'link'}, {run}"
    with pytest.raises(DataError, match="belongs to the run of"):
        view(run, case, run / "page.html")


def test_another_reference_is_not_shown(copied: Tiny) -> None:
    run = copied.result.folder
    case = a_case(run, "prepare-validation")
    [file] = run.glob(f"*-phantom/hidden/{case}_Label.nii.gz")
    nibabel.save(nibabel.load(file).slicer[:-1], file)
    content = gather(run, case)
    assert re.search(r"_Label\.nii\.gz is not the file that the run scored", *content.remarks)


def test_a_data_folder_that_is_missing_is_refused(undisturbed: Tiny, tmp_path: Path) -> None:
    run = undisturbed.result.folder
    for step in ("prepare-source", "prepare-validation"):
        with pytest.raises(DataError, match="does not exist"):
            gather(run, a_case(run, step), tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is not a folder"):
        gather(run, a_case(run, "prepare-source"), tmp_path / "file")


def test_command_lines_name_no_file_of_another_data_folder(
    undisturbed: Tiny, tmp_path: Path
) -> None:
    run = undisturbed.result.folder
    content = gather(run, a_case(run, "prepare-validation"), tmp_path)
    commands = [line for _, line in content.files.commands()]
    assert str(tmp_path) not in str(commands)
    assert "-g DIR/" in commands[0]
    reference, scan, stands = content.remarks
    assert "The reference is not shown" in reference
    assert f"{tmp_path}/" in scan
    assert scan.endswith("is missing.")
    assert stands == "In the command lines, DIR stands for the data folder of the run."


def test_what_the_environment_names_may_be_missing(
    copied: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied.result.folder
    case = a_case(run, "prepare-validation")
    [phantom] = run.glob("*-phantom")
    phantom.rename(tmp_path / "data")
    monkeypatch.setenv("CROSSMOD_DATA", str(tmp_path / "none"))
    first, *_ = gather(run, case).remarks
    assert first == f"$CROSSMOD_DATA names {tmp_path / 'none'}, which is not a folder."
    monkeypatch.setenv("CROSSMOD_DATA", str(tmp_path / "data"))
    assert not gather(run, case).remarks


def test_the_terminal_says_what_is_left_out(copied: Tiny, tmp_path: Path) -> None:
    run = copied.result.folder
    case = a_case(run, "prepare-validation")
    shown = copied("view", run, case, "--data", tmp_path).stdout
    assert "The reference is not shown" in shown
    assert "  itksnap -g DIR/" in shown
    assert f" -s {run.relative_to(copied.folder)}/" in shown  # where the command was called
    assert str(run) not in shown
    refused = copied("view", run, case, "--data", tmp_path / "none", code=3).stderr
    assert "does not exist" in refused


def in_browser(page: Path, folder: Path) -> str:
    """The page's DOM when it is ready; virtual time does not wait for volumes to be unpacked."""
    assert BROWSER is not None
    for attempt in range(5):
        done = subprocess.run(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,800",
                f"--user-data-dir={folder / str(attempt)}",
                "--virtual-time-budget=20000", "--dump-dom", page.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        if 'data-ready="yes"' in done.stdout:
            return done.stdout
    pytest.fail(f"the page is not ready: {done.stdout[-2000:]}")


USER = """<script>
new MutationObserver((_, observer) => {  // at once: time may end with the page being ready
  observer.disconnect();
  const act = (name, event) =>
    (name ? document.getElementById(name) : document.body).dispatchEvent(event);
  act("", new KeyboardEvent("keydown", { key: "2", bubbles: true }));
  act("axial", new WheelEvent("wheel", { deltaY: -1 }));
  act("coronal", new KeyboardEvent("keydown", { key: "ArrowDown" }));
  const box = document.getElementById("axial").getBoundingClientRect();
  const clientX = box.left + box.width * 20.5 / 24, clientY = box.top + box.height * 3.5 / 20;
  act("axial", new PointerEvent("pointermove", { buttons: 1, clientX, clientY }));
}).observe(document.body, { attributeFilter: ["data-ready"] });
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = np.zeros(IMAGE.shape, np.uint8)
    labels[4:9, 6:10, 7] = 1
    shown = [Shown("scan", IMAGE, chosen=True), Shown("fake", 1 - IMAGE)]
    maps = [Shown("reference", labels, "#f4e04d", chosen=True), Shown("drawn", labels, "#45c4ff")]
    affine = np.diag([-1.0, -1, 2, 1])  # the axes already run to left, back and head
    file = tmp_path_factory.mktemp("page") / "page.html"
    write_view(file, ViewContent("case", "a scan", affine, {"tumor": 1}, shown, maps))
    return file


IMAGE = np.linspace(0, 1, 24 * 20 * 12, dtype=np.float32).reshape(24, 20, 12)


def here(dom: str) -> list[str]:
    [found] = re.findall(r'<output id="here"[^>]*>(.*?)</output>', dom, re.DOTALL)
    return html.unescape(found).splitlines()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_a_browser_shows_the_page(page: Path, tmp_path: Path) -> None:
    dom = in_browser(page, tmp_path)
    assert here(dom) == [
        "-4.0, -6.0, 14.0 mm (RAS+)",
        f"intensity {IMAGE[4, 6, 7]:.2f}",
        "reference: tumor",
        "drawn: tumor",
    ]
    assert re.findall(r'<output id="axial-number">(.*?)</output>', dom) == ["8 / 12"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_a_user_moves_through_the_page(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("</body>", f"{USER}</body>")
    used = tmp_path / "used.html"
    used.write_text(text, encoding="utf-8")
    dom = in_browser(used, tmp_path)
    assert here(dom) == ["-20.0, -3.0, 16.0 mm (RAS+)", f"intensity {1 - IMAGE[20, 3, 8]:.2f}"]
    assert re.findall(r'<output id="axial-number">(.*?)</output>', dom) == ["9 / 12"]


PLACES = """<script>
new MutationObserver((_, observer) => {
  observer.disconnect();
  const boxes = ["axial", "coronal", "sagittal"].map((name) =>
    document.getElementById(name).getBoundingClientRect());
  document.body.dataset.places = boxes.flatMap((box) => [box.left, box.right]).map(Math.round);
}).observe(document.body, { attributeFilter: ["data-ready"] });
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_planes_leave_no_corner_of_the_window_blank(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("</body>", f"{PLACES}</body>")
    measured = tmp_path / "measured.html"
    measured.write_text(text, encoding="utf-8")
    [found] = re.findall(r'data-places="(.*?)"', in_browser(measured, tmp_path))
    left, right, *others = map(int, found.split(","))
    assert others[:2] == others[2:]  # one below the other
    assert right < others[0]  # beside the axial plane, which is larger
    assert right - left > 1.9 * (others[1] - others[0])
