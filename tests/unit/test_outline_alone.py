"""One scan given to a model in Python: whatever goes wrong is an error that says what to do.

What an array must be is in `tests/integration/test_api.py`, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from test_model import Level, _level, a_run, a_scan, offer  # noqa: F401  # the plugin "level"

from crossmod import CrossmodError, DataError, MachineError, Model, PluginError, load_model
from crossmod.model import alone, queue
from crossmod.model.label_files import predict_files
from crossmod.model.package import package

SCAN = np.arange(480.0).reshape(12, 10, 4)
SPACING_MM = (2.0, 2.0, 2.0)


def failing(monkeypatch: pytest.MonkeyPatch, folder: Path, error: Exception) -> Model:
    """A model whose segmenter raises an error for every scan."""

    class Failing(Level):
        """Fails."""

        def predict(self, volumes: Any, state: Any, ctx: Any) -> Iterator[Any]:
            for volume in volumes:
                raise error
                yield volume

    offer(monkeypatch, Failing)
    package(a_run(folder / "run"), folder / "model")
    return load_model(folder / "model")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    package(a_run(tmp_path / "run"), tmp_path / "model")
    return load_model(tmp_path / "model")


SHORT = "CUDA out of memory. Tried to allocate 2 GiB\nand more"


@pytest.mark.parametrize(
    ("error", "kind", "what"),
    [
        (RuntimeError("out of luck"), PluginError, "RuntimeError: out of luck"),
        (KeyError("level"), PluginError, "KeyError: 'level'"),
        (MemoryError(), MachineError, "not enough memory"),
        (RuntimeError(SHORT), MachineError, f"not enough memory: {SHORT.splitlines()[0]}"),
        (DataError("no", where="here"), DataError, "no"),
    ],
)
def test_what_the_segmenter_raises_is_told_alike_of_arrays_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type, what: str
) -> None:
    model = failing(monkeypatch, tmp_path, error)
    with pytest.raises(CrossmodError) as caught:
        model.predict(SCAN, SPACING_MM, device="cpu")
    scan = a_scan(tmp_path / "scans", "a").path
    [failed] = predict_files(model.folder, [scan], tmp_path / "out", device="cpu").failed
    for told in (caught.value, failed.error):
        assert type(told) is kind
        assert told.what.splitlines()[0] == what
        assert told.where == "here" or "plugin 'level'" in told.where


@pytest.mark.parametrize(
    ("error", "kind"), [(MemoryError(), MachineError), (RuntimeError("from ITK"), DataError)]
)
@pytest.mark.parametrize("scan", ["array", "file"])
def test_a_scan_that_is_too_much_is_told(
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scan: str,
    error: Exception,
    kind: type,
) -> None:
    def too_much(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(queue, "to_common", too_much)
    given = (SCAN, SPACING_MM) if scan == "array" else (a_scan(tmp_path / "scans", "a").path,)
    with pytest.raises(kind):
        model.predict(*given, device="cpu")


def test_a_precision_that_does_not_exist_is_refused(model: Model, tmp_path: Path) -> None:
    scan = a_scan(tmp_path / "scans", "a").path
    for ask in (
        lambda: model.predict(SCAN, SPACING_MM, precision="fp64"),
        lambda: model.predict_files(scan, tmp_path / "out", precision="fp64"),
    ):
        with pytest.raises(MachineError, match='"fp64" is not a precision') as caught:
            ask()
        assert caught.value.allowed == "auto, fp32, bf16, fp16"


@pytest.mark.parametrize(
    "spacing_mm", [1.0, (1, 1), "abc", (1, "a", 1), (1, np.nan, 1), [[1, 1, 1]]]
)
def test_a_spacing_that_is_none_is_refused(model: Model, spacing_mm: Any) -> None:
    with pytest.raises(DataError, match="spacing_mm is") as caught:
        model.predict(SCAN, spacing_mm)
    assert caught.value.allowed.startswith("three sizes above 0")


@pytest.mark.parametrize("affine", [1.0, "RAS", [[1], [1, 2]], np.eye(3)])
def test_an_affine_that_is_none_is_refused(model: Model, affine: Any) -> None:
    with pytest.raises(DataError, match="has no usable affine"):
        model.predict(SCAN, affine=affine)


@pytest.mark.parametrize("scan", [None, 3, [[[1], [1, 2]]], {"a": 1}])
def test_what_is_no_array_is_refused(model: Model, scan: Any) -> None:
    with pytest.raises(DataError) as caught:
        model.predict(scan, SPACING_MM)
    assert caught.value.where == alone.IN_MEMORY
    assert caught.value.allowed == "real numbers (I, J, K)"


@pytest.mark.parametrize(
    ("geometry", "what"),
    [
        ({"spacing_mm": (1000, 1, 1)}, r"spacing_mm is \(1000, 1, 1\)"),
        ({"affine": np.diag([1, 60, 1, 1])}, r"says that voxels are \(1, 60, 1\)"),
        ({"spacing_mm": (0.01, 0.01, 0.01)}, "the scan is 0.12 mm long"),
        ({"affine": [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}, "not perpendicular"),
    ],
)
def test_voxels_of_no_scan_are_refused_as_those_of_files(
    model: Model, geometry: dict[str, Any], what: str
) -> None:
    with pytest.raises(DataError, match=what) as caught:
        model.predict(SCAN, **geometry)
    assert caught.value.allowed


def test_an_image_of_nibabel_is_told_how_to_pass_it(model: Model) -> None:
    image = nibabel.Nifti1Image(SCAN, np.eye(4))
    with pytest.raises(DataError, match="is an image of nibabel") as caught:
        model.predict(image)
    assert "np.asarray(image.dataobj), affine=image.affine" in caught.value.fix


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_replaced_in_the_array(model: Model, bad: float) -> None:
    scan = SCAN.copy()
    scan[0, 0, 0] = bad
    with pytest.raises(DataError, match="1 of 480 are NaN or infinite") as caught:
        model.predict(scan, SPACING_MM)
    assert caught.value.fix == alone.ZEROED


def test_both_spacing_and_affine_are_one_too_many(model: Model) -> None:
    with pytest.raises(DataError, match="has both spacing_mm and affine") as caught:
        model.predict(SCAN, SPACING_MM, affine=np.eye(4))
    assert "leave out spacing_mm" in caught.value.fix


def test_what_is_asked_in_vain_of_files_names_the_argument(model: Model, tmp_path: Path) -> None:
    scan = a_scan(tmp_path / "scans", "a").path
    model.predict_files(scan, tmp_path / "out", device="cpu").require()
    for scans, settings, what in [
        ([], {}, "scans: names no scan"),
        ([scan, None], {}, "scans: None is not a path"),
        ([scan], {"layout": "png"}, "layout: 'png' cannot be written"),
        ([scan], {"device": "tpu", "overwrite": True}, "\ndevice tpu: "),
        ([scan], {}, "or pass overwrite=True"),
    ]:
        with pytest.raises(CrossmodError) as caught:
            model.predict_files(scans, tmp_path / "out", **settings)  # type: ignore[arg-type]
        assert what in f"\n{caught.value}"
