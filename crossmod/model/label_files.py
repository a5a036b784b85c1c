"""Outline files of scans into a folder: a label map for each, and confidence.csv."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread

from crossmod.errors import DataError, listed
from crossmod.files.outputs import Inputs, Outputs
from crossmod.intake import ScanFile, find_scan_files
from crossmod.intake.dicom import require_extra
from crossmod.intake.find import PREDICT
from crossmod.model.behind import Behind
from crossmod.model.context import prediction_context
from crossmod.model.label_maps import CONFIDENCE, ENDINGS, LabelMaps, Layout, Naming, Predicted
from crossmod.model.load import Model, load_model
from crossmod.model.predict import Found, Outlined, predict
from crossmod.model.queue import Failed, Listed, Queue, Source
from crossmod.model.watch import Arrivals
from crossmod.stages.context import Progress, silent_progress
from crossmod.stages.guard import programs

Tell = Callable[[str], None]

UNCALIBRATED = f"{CONFIDENCE} has no expected Dice: the model was packaged without --calibrate"


def predict_files(
    model: Path | Model,
    scans: Sequence[Path],
    out: Path,
    *,
    ending: str = "",
    series: str = "",
    layout: Layout = "nifti",
    name: str = "{case}",
    overwrite: bool = False,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent_progress,
    tell: Tell = lambda text: None,
) -> Predicted:
    """Outline scans with a model; `CONFIDENCE` grows with every label map that is written.

    While the network works on one scan, the next is read and the label map of the last written.

    Args:
        model: a model folder, or a model that was read from one.
        scans: image files, folders of them or of folders with one each, or folders of DICOM files.
        out: the folder for label maps and `CONFIDENCE`.
        ending: take only files whose names end so, and leave it out of the case.
        series: which series of DICOM folders.
        layout: what to write; "dicom-seg" for folders of DICOM files only.
        name: what label maps are called, with one ``{case}`` in it, without ``.nii.gz``.
        overwrite: replace what was written there before.
        device: "auto", "cpu", "cuda" or "cuda:n".
        precision: "auto", "fp32", "bf16" or "fp16".
        progress: wraps the iteration over scans.
        tell: takes a line about what is odd, "warning: " or "note: " before it; called in another
            thread, too.

    Raises:
        DataError: names every path that is not a scan and every file in the way, before any work;
            or `scans` is empty, or the model folder is damaged.
        PluginError: the model's plugin is not installed.
        MachineError: the device does not exist, the extra `dicom` is not installed, or a file
            cannot be written.
    """
    naming = _naming(name, layout)
    if not scans:
        raise DataError("names no scan", where="scans", allowed="files or folders, at least one")
    found = find_scan_files(scans, ending, series, lambda text: tell(f"note: {text}"))
    if layout == "dicom-seg":
        _require_dicom(found)
    folder = model.folder if isinstance(model, Model) else model
    outputs = Outputs(out, PREDICT, _inputs(folder, scans, found))
    _require_free(outputs, [*map(naming, found), CONFIDENCE], overwrite)
    loaded = model if isinstance(model, Model) else _loaded(model)
    maps = LabelMaps(outputs, naming, loaded, Predicted(len(found)), tell)
    shown = partial(progress, total=len(found))
    _outline_all(Listed(found), maps, Behind(maps.keep), device, precision, shown)
    return maps.done


def watch_folders(
    model: Path,
    folders: Sequence[Path],
    out: Path,
    *,
    ending: str = "",
    series: str = "",
    layout: Layout = "nifti",
    name: str = "{case}",
    overwrite: bool = False,
    device: str = "auto",
    precision: str = "auto",
    tell: Tell = lambda text: None,
    hear: Callable[[Outlined | Failed], None] = lambda result: None,
) -> None:
    """Outline the scans that lie in folders and all that come, until the caller is interrupted.

    A scan that has a label map from before is passed over; its rows stay in `CONFIDENCE`. A scan
    that changes once it was outlined, or has failed, is outlined again.

    Args:
        model: a model folder.
        folders: where image files, folders of DICOM files and those of patients appear.
        out: the folder for label maps and `CONFIDENCE`; not within the others.
        ending: as in `predict_files`.
        series: as in `predict_files`.
        layout: as in `predict_files`.
        name: as in `predict_files`.
        overwrite: outline scans that have a label map from before once more.
        device: as in `predict_files`.
        precision: as in `predict_files`.
        tell: takes a line about what is odd, "warning: " or "note: " before it.
        hear: takes each result; called in another thread.

    Raises:
        DataError: a path is not a folder, `CONFIDENCE` is not crossmod's own, or the model folder
            is damaged.
        PluginError: the model's plugin is not installed.
        MachineError: as `predict_files`.
    """
    naming = _naming(name, layout)
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise DataError("is not a folder that can be watched", where=", ".join(missing))
    if layout == "dicom-seg":
        require_extra("seg")
    outputs = Outputs(out, PREDICT, Inputs(searched=(model, *folders)))
    outputs.require([CONFIDENCE])
    maps = LabelMaps(outputs, naming, _loaded(model), Predicted(0), tell, hear)
    maps.take_up()

    def wants(scan: ScanFile, again: bool) -> bool:
        if layout == "dicom-seg":
            _require_dicom([scan])
        if outputs.owns(naming(scan)) and not (again or overwrite):
            return False
        outputs.require([naming(scan)])
        return True

    behind = Behind(maps.keep)
    arrivals = Arrivals(folders, ending, series, wants, tell, behind.check)
    _outline_all(arrivals, maps, behind, device, precision)


def names_each_case(name: str) -> bool:
    """Whether a name is one of files in the folder itself, another for every case."""
    return name.count("{case}") == 1 and Path(name).name == name


def _naming(name: str, layout: Layout) -> Naming:
    if not names_each_case(name):
        raise DataError(f"'{name}' is not a file name with {{case}} in it", where="name")
    if layout not in ENDINGS:
        raise DataError(
            f"{layout!r:.80} cannot be written", where="layout", allowed=listed([*ENDINGS])
        )
    return Naming(name, layout)


def _require_dicom(scans: Sequence[ScanFile]) -> None:
    """Refuse other scans: a DICOM segmentation refers to the slices it was made from."""
    others = [str(scan.path) for scan in scans if not scan.is_dicom]
    if others:
        raise DataError(
            "\n".join(["dicom-seg needs folders of DICOM files; these are not:", *others]),
            fix="name folders of DICOM files, or leave the format at nifti",
        )
    require_extra("seg")


def _inputs(model: Path, scans: Sequence[Path], found: Sequence[ScanFile]) -> Inputs:
    """What is read: files, folders of files, and folders with all in them."""
    files = tuple(scan.path for scan in found if not scan.is_dicom)
    series = tuple(scan.path for scan in found if scan.is_dicom)
    folders = {path for path in scans if path.is_dir()} - set(series)
    listed = folders | {scan.path.parent for scan in found if scan.found}
    return Inputs(files, tuple(listed), (model, *series))


def _require_free(outputs: Outputs, names: Sequence[str], overwrite: bool) -> None:
    outputs.require(names)
    taken = [one for one in names if outputs.owns(one)]
    if taken and not overwrite:
        raise DataError(
            f"already holds files with these names: {', '.join(taken)}",
            where=str(outputs.folder),
            fix="name another folder, or pass --overwrite",
        )


def _loaded(folder: Path) -> Model:
    """The model; torch, which takes a second or two, is imported in another thread meanwhile."""

    def import_torch() -> None:
        with suppress(Exception):  # raised again where it is needed
            import_module("torch")

    Thread(target=import_torch).start()
    return load_model(folder)


def _outline_all(
    source: Source,
    maps: LabelMaps,
    behind: Behind[Found | Failed],
    device: str,
    precision: str,
    progress: Progress = silent_progress,
) -> None:
    """Let scans pass the model; before, beside and behind it they are read, outlined, written."""
    model = maps.model
    for remark in model.remarks:
        maps.tell(f"warning: {remark}; outlines may differ")
    if not model.facts.calibration:
        maps.tell(f"note: {UNCALIBRATED}")
    who = model.ensemble.use.who
    with (
        Queue(source, model.facts.intake, model.facts.preprocess) as queue,
        prediction_context(model.ensemble, device, precision) as ctx,
        programs.ended(who, lambda text: maps.tell(f"warning: {text}")),
        behind,
    ):
        for found in progress(predict(model, queue, ctx)):
            behind(found)
