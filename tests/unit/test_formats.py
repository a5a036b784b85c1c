"""NRRD, MetaImage and MGH: the same scan in every format, and files that must not be trusted."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from bombs import gzipped
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from crossmod import DataError
from crossmod.data.grids import Grid
from crossmod.intake import Inspector, Intake, Limits, load_grid, load_labels, load_scan, on_grid
from crossmod.intake.formats.read import digest_of_image
from crossmod.intake.labels import FileFault

LPS = np.diag([-1.0, -1.0, 1.0])
WITH_ITK = (".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
WITH_NIBABEL = (".mgh", ".mgz")

NIFTI_MM = 1e-4
"""NIfTI and MGH hold affines in single precision: 24 bits of some 100 mm are 1e-5 mm."""


def oblique(degrees: tuple[float, float, float], sizes: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * sizes
    affine[:3, 3] = [12.5, -41.0, 77.25]
    return affine


AFFINE = oblique((10, -20, 30), (0.5, 1.25, 2.0))


def voxels(kind: str = "int16") -> np.ndarray:
    return np.random.default_rng(3).integers(0, 200, (7, 6, 5)).astype(kind)


def write(path: Path, data: np.ndarray, affine: np.ndarray, *, packed: bool = True) -> Path:
    """One image as another program writes it."""
    if path.suffix in WITH_NIBABEL:
        nibabel.save(nibabel.MGHImage(data, affine), path)
        return path
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing(sizes.tolist())
    image.SetDirection((LPS @ (affine[:3, :3] / sizes)).ravel().tolist())
    image.SetOrigin((LPS @ affine[:3, 3]).tolist())
    sitk.WriteImage(image, str(path), packed)
    return path


def refused(path: Path, *words: str, options: Intake | None = None) -> None:
    for read in (load_scan, load_labels):
        with pytest.raises(DataError) as caught:
            read(path, options or Intake())
        for word in (path.name, *words):
            assert word in str(caught.value)


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("ending", [*WITH_ITK, *WITH_NIBABEL])
def test_every_format_gives_the_same_scan(ending: str, kind: str, tmp_path: Path) -> None:
    data = voxels(kind)
    for packed in (True, False):
        path = write(tmp_path / f"{packed}{ending}", data, AFFINE, packed=packed)
        found = load_scan(path)
        np.testing.assert_array_equal(found.data, data)
        np.testing.assert_allclose(found.affine, AFFINE, atol=NIFTI_MM)
        np.testing.assert_array_equal(load_grid(path).affine, found.affine)
        np.testing.assert_array_equal(load_labels(path).labels, data)
        assert found.digest == digest_of_image(path) == load_labels(path).digest
        assert not found.remarks


@given(
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
    sizes=st.tuples(*[st.floats(0.3, 4)] * 3),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
)
@settings(max_examples=15, deadline=None)
def test_every_format_lies_where_simpleitk_puts_it(
    degrees: tuple[float, float, float],
    sizes: tuple[float, float, float],
    flips: tuple[int, int, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    affine = oblique(degrees, sizes) @ np.diag([*flips, 1])
    folder = tmp_path_factory.mktemp("formats")
    for ending in (".nrrd", ".mha"):
        path = write(folder / f"a{ending}", voxels(), affine)
        image = sitk.ReadImage(str(path))
        for index in ((0, 0, 0), (6, 0, 3), (1, 5, 4)):
            known = LPS @ image.TransformIndexToPhysicalPoint(index)
            ours = (load_scan(path).affine @ [*index, 1])[:3]
            np.testing.assert_allclose(ours, known, atol=1e-3)  # headers hold some ten digits


def nrrd(path: Path, body: bytes = b"", **changes: str | None) -> Path:
    """A small NRRD by hand, fields changed, added or left out."""
    fields: dict[str, str | None] = {
        "type": "uint8",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "3 4 2",
        "space directions": "(2,0,0) (0,2,0) (0,0,2)",
        "encoding": "raw",
        "space origin": "(1,2,3)",
    }
    fields |= {name.replace("_", " "): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    head = "\n".join(["NRRD0005", "# by hand", *lines]) + "\n\n"
    path.write_bytes(head.encode() + (body or bytes(range(24))))
    return path


@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (-1, -1, 1)), ("RAS", (1, 1, 1)), ("LAS", (-1, 1, 1))],
)
def test_spaces_of_nrrd(space: str, signs: tuple[int, int, int], tmp_path: Path) -> None:
    found = load_scan(nrrd(tmp_path / "a.nrrd", space=space))
    np.testing.assert_array_equal(found.affine[:3, :3], np.diag(signs) * 2)
    np.testing.assert_array_equal(found.affine[:3, 3], np.array(signs) * [1, 2, 3])
    assert found.data[1, 2, 1] == 1 + 2 * 3 + 12


DAMAGED = {
    "scanner": ({"space": "scanner-xyz"}, "space: 'scanner-xyz'"),
    "no space": ({"space": None}, "space: is missing"),
    "no directions": ({"space_directions": None}, "orientation is unknown"),
    "no origin": ({"space_origin": None}, "space origin"),
    "singular": ({"space_directions": "(2,0,0) (2,0,0) (0,0,2)"}, "no usable affine"),
    "sheared": ({"space_directions": "(2,0,0) (1,2,0) (0,0,2)"}, "not perpendicular"),
    "infinite": ({"space_directions": "(2,0,0) (0,inf,0) (0,0,2)"}, "3 finite numbers"),
    "far away": ({"space_origin": "(1e9,0,0)"}, "from the origin"),
    "microns": ({"space_units": '"um" "um" "um"'}, "space units"),
    "colors": (
        {
            "dimension": "4",
            "sizes": "3 4 2 1",
            "space_directions": "none (2,0,0) (0,2,0) (0,0,2)",
        },
        "3 values for each voxel",
    ),
    "two dimensions": ({"dimension": "2", "sizes": "6 4"}, "dimension: '2'"),
    "flat": ({"sizes": "3 8 1"}, "one 3D image"),
    "huge": ({"sizes": "30000 30000 30000"}, "limits.max_voxels"),
    "huge for its size": ({"sizes": "300 300 300"}, "truncated"),
    "cut": ({"sizes": "3 4 3"}, "truncated"),
    "followed": ({"sizes": "3 4 1"}, "one 3D image"),
    "block": ({"type": "block"}, "type: 'block'"),
    "no order": ({"type": "short", "sizes": "3 2 2"}, "endian: is missing"),
    "text": ({"encoding": "ascii"}, "raw or gzip"),
    "skips": ({"byte_skip": "-1"}, "byte skip"),
    "outside": ({"data_file": "../secret.raw"}, "beside the header"),
    "absolute": ({"data_file": "/etc/passwd"}, "beside the header"),
    "several": ({"data_file": "LIST"}, "one file that holds all voxels"),
    "numbered": ({"data_file": "a%03d.raw 1 3 1"}, "one file that holds all voxels"),
    "both": ({"data_file": "b.raw"}, "bytes follow a header whose voxels lie"),
    "not packed": ({"encoding": "gzip"}, "damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_nrrd_that_cannot_be_trusted_is_refused(name: str, tmp_path: Path) -> None:
    changes, words = DAMAGED[name]
    refused(nrrd(tmp_path / "a.nrrd", **changes), words)


def test_fields_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"# by hand", b"sizes: 2 2 6"))
    refused(path, "each field once")
    path.write_bytes(b"NRRD0005\n" + b"# long\n" * 200_000)
    refused(path, "is missing")
    for ending, name in ((".nrrd", "NRRD"), (".mha", "MetaImage"), (".mgh", "MGH")):
        for content in (b"", b"\x1f\x8b", b"\x5c\x01\0\0" + bytes(400)):
            (tmp_path / f"b{ending}").write_bytes(content)
            refused(tmp_path / f"b{ending}", "gzip" if content[:1] == b"\x1f" and name == "MGH"
                    else "empty" if not content else f"not {name}")  # fmt: skip


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mgz", ".nhdr", ".mhd"])
@pytest.mark.parametrize("packed", [True, False])
def test_every_missing_or_changed_end_is_seen(ending: str, packed: bool, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{ending}", voxels(), AFFINE, packed=packed)
    data = next((one for one in tmp_path.iterdir() if one != path), path)
    whole = data.read_bytes()
    for count in (1, 9, 100):
        data.write_bytes(whole[:-count])
        refused(path)
    if ending != ".mgz":
        data.write_bytes(whole + b"\1")
        refused(path)
    if packed:
        middle = len(whole) - 60
        data.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
        refused(path)


def test_voxels_beside_a_header_count_in_its_digest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mhd", voxels(), AFFINE, packed=False)
    before = Inspector(Intake(), tmp_path / "memory").facts(path, "scan")
    raw = tmp_path / "a.raw"
    raw.write_bytes(bytes([raw.read_bytes()[0] ^ 1]) + raw.read_bytes()[1:])
    after = Inspector(Intake(), tmp_path / "memory").facts(path, "scan")
    assert before.digest != after.digest
    assert before.pixels != after.pixels


def test_a_header_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write(inside / "a.mhd", voxels(), AFFINE, packed=False)
    (inside / "a.raw").rename(tmp_path / "a.raw")
    refused(path, "a.raw does not exist")
    (inside / "a.raw").symlink_to(tmp_path / "a.raw")
    refused(path, "is a link to another folder")
    text = path.read_text()
    for name in ("../a.raw", str(tmp_path / "a.raw")):
        path.write_text(text.replace("= a.raw", f"= {name}"))
        refused(path, "beside the header")


@pytest.mark.parametrize("ending", [".nrrd", ".mgz"])
def test_what_unpacks_to_more_than_the_header_says_is_refused(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{ending}", voxels("uint8"), AFFINE)
    if ending == ".nrrd":
        head = path.read_bytes().partition(b"\n\n")[0] + b"\n\n"
        path.write_bytes(head + gzipped(b"", 1 << 26))
    else:
        path.write_bytes(gzipped(gzip.decompress(path.read_bytes()), 1 << 26))
    refused(path, "the file continues after")


@pytest.mark.parametrize("ending", [*WITH_ITK, *WITH_NIBABEL])
def test_limits_and_values_hold_for_every_format(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{ending}", voxels(), AFFINE)
    refused(path, "max_voxels", options=Intake(limits=Limits(max_voxels=209)))
    data = voxels("float32")
    data[1, 2, 3] = np.nan
    with pytest.raises(DataError, match=r"1 of 210 are NaN .* first at \(1, 2, 3\)"):
        load_scan(write(tmp_path / f"b{ending}", data, AFFINE))
    refused_labels = write(tmp_path / f"c{ending}", voxels("float32") + 0.5, AFFINE)
    with pytest.raises(DataError, match="whole numbers from 0 to 255"):
        load_labels(refused_labels)


def test_colors_complex_numbers_and_series_are_refused(tmp_path: Path) -> None:
    colors = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    series = sitk.GetImageFromArray(np.zeros((2, 4, 5, 6), np.uint8), isVector=False)
    for name, image in (("colors", colors), ("series", series)):
        for ending in (".nrrd", ".mha"):
            sitk.WriteImage(image, str(tmp_path / f"{name}{ending}"))
            refused(tmp_path / f"{name}{ending}")
    frames = nibabel.MGHImage(np.zeros((4, 5, 6, 2), np.float32), AFFINE)
    nibabel.save(frames, tmp_path / "frames.mgz")
    refused(tmp_path / "frames.mgz", "4 x 5 x 6 x 2", "one 3D image")


def test_metaimage_without_a_place_is_refused_and_parts_get_their_defaults(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mha", voxels(), AFFINE, packed=False)
    whole = path.read_bytes()

    def without(*names: bytes) -> None:
        content = whole
        for name in names:
            content = re.sub(rb"(?m)^" + name + rb" = .*\n", b"", content)
        path.write_bytes(content)

    without(b"TransformMatrix", b"Offset")
    refused(path, "orientation is unknown")
    without(b"TransformMatrix")
    found = load_scan(path)
    np.testing.assert_allclose(found.affine[:3, :3], np.diag([-0.5, -1.25, 2]), atol=1e-9)
    assert found.remarks == ("TransformMatrix: is missing; using the default of MetaImage",)
    without(b"ElementSpacing")
    refused(path, "ElementSpacing: is missing")
    for old, new in (
        (b"ElementType = MET_SHORT", b"ElementType = MET_LONG"),
        (b"BinaryData = True", b"BinaryData = False"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = LIST"),
        (b"NDims = 3", b"NDims = 4"),
    ):
        path.write_bytes(whole.replace(old, new))
        refused(path)


# Segmentations of 3D Slicer, which cover a part of the voxels of their scan.

SCAN = Grid((9, 8, 7), np.diag([-2.0, -2.0, 2.0, 1.0]))


def segmentation(path: Path, labels: np.ndarray, start: tuple[int, int, int]) -> Path:
    """A segmentation whose extent begins at a voxel of `SCAN`."""
    x, y, z = (2 * n for n in start)
    sizes = " ".join(map(str, labels.shape))
    return nrrd(path, labels.tobytes(order="F"), sizes=sizes, space_origin=f"({x},{y},{z})",
                Segment0_LabelValue="=1")  # fmt: skip


def test_a_segmentation_with_its_own_extent_is_brought_to_the_scan(tmp_path: Path) -> None:
    labels = np.random.default_rng(1).integers(0, 3, (3, 4, 2)).astype(np.uint8)
    found = load_labels(segmentation(tmp_path / "a.seg.nrrd", labels, (5, 2, 4)))
    whole, remarks = on_grid(found, SCAN, resample=False)
    expected = np.zeros(SCAN.shape, np.uint8)
    expected[5:8, 2:6, 4:6] = labels
    np.testing.assert_array_equal(whole, expected)
    assert remarks == [
        "dim: covers 3 x 4 x 2 of the scan's 9 x 8 x 7 voxels; the rest is background"
    ]


def test_a_segmentation_may_reach_beyond_the_scan_only_where_it_is_empty(tmp_path: Path) -> None:
    labels = np.zeros((3, 4, 2), np.uint8)
    labels[1:, 1:] = 1
    path = segmentation(tmp_path / "a.seg.nrrd", labels, (-1, -1, 0))
    whole, _ = on_grid(load_labels(path), SCAN, resample=False)
    assert whole[:2, :3, :2].all()
    assert whole.sum() == labels.sum()
    path = segmentation(tmp_path / "b.seg.nrrd", labels, (-2, -1, 0))
    with pytest.raises(FileFault, match="6 labeled voxels lie outside the scan"):
        on_grid(load_labels(path), SCAN, resample=False)


def test_a_segmentation_between_the_voxels_of_the_scan_is_refused(tmp_path: Path) -> None:
    labels = np.ones((3, 4, 2), np.uint8)
    path = nrrd(tmp_path / "a.seg.nrrd", labels.tobytes(), space_origin="(1,0,0)")
    with pytest.raises(FileFault, match="3 x 4 x 2 voxels"):
        on_grid(load_labels(path), SCAN, resample=False)


def layered(path: Path, layers: np.ndarray, **keys: str) -> Path:
    """A segmentation in layers, which run fastest in the file."""
    sizes = " ".join(map(str, layers.shape))
    directions = "none (2,0,0) (0,2,0) (0,0,2)"
    return nrrd(path, layers.tobytes(order="F"), dimension="4", sizes=sizes,
                space_directions=directions, **keys)  # fmt: skip


def test_layers_become_one_label_map_unless_they_overlap(tmp_path: Path) -> None:
    layers = np.zeros((2, 3, 4, 2), np.uint8)
    layers[0, 0], layers[1, 2] = 1, 2
    path = tmp_path / "a.seg.nrrd"
    keys = {"Segment0_LabelValue": "=1", "Segment0_Layer": "=0",
            "Segment1_LabelValue": "=2", "Segment1_Layer": "=1"}  # fmt: skip

    def write_layers(**changes: str) -> Path:
        text = {**keys, **changes}
        layered(path, layers)
        added = "".join(f"{name}:{value}\n" for name, value in text.items())
        path.write_bytes(path.read_bytes().replace(b"# by hand\n", added.encode()))
        return path

    np.testing.assert_array_equal(load_labels(write_layers()).labels, layers.max(axis=0))
    refused(write_layers(Segment1_LabelValue="=1"), "layers share the value 1")
    layers[1, 0, 0, 0] = 2
    refused(write_layers(), "segments overlap in 1 voxels")
