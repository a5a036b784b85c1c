"""Outline files of scans into a folder: a label map for each, and confidence.csv."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from crossmod.data.form import write_outline
from crossmod.errors import DataError, MachineError, counted
from crossmod.files.outputs import Inputs, Outputs
from crossmod.intake import NotAScan, ScanFile, find_scan_files
from crossmod.intake.dicom import require_extra, write_seg
from crossmod.intake.find import PREDICT
from crossmod.model.confidence import Confidence, write_confidence
from crossmod.model.facts import ModelFacts
from crossmod.model.load import Model, load_model
from crossmod.model.predict import Failed, Outlined, predict
from crossmod.stages.base import Context, Progress, silent_progress
from crossmod.stages.guard import programs

CONFIDENCE = "confidence.csv"
ENDINGS = {"nifti": ".nii.gz", "dicom-seg": ".dcm"}


@dataclass
class Predicted:
    """What came of a prediction.

    Attributes:
        scans: how many there were.
        confidence: how sure the model is of each structure of those that it outlined.
        failed: those without a label map.
    """

    scans: int
    confidence: list[Confidence] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def require(self) -> None:
        """Raise unless every scan was outlined.

        Raises:
            CrossmodError: names the others; a DataError where any of the scans is to blame.
        """
        if not self.failed:
            return
        errors = [one.error for one in self.failed]
        kind = DataError if any(isinstance(e, DataError) for e in errors) else type(errors[0])
        count = f"{counted(len(errors), 'scan')} could not be outlined:"
        raise kind("\n".join([count, *(f"{one.scan.case}: {one.error}" for one in self.failed)]))


def predict_files(
    model: Path,
    scans: Sequence[Path],
    out: Path,
    *,
    ending: str = "",
    series: str = "",
    layout: Literal["nifti", "dicom-seg"] = "nifti",
    name: str = "{case}",
    overwrite: bool = False,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent_progress,
    tell: Callable[[str], None] = lambda text: None,
) -> Predicted:
    """Outline scans with a model; `CONFIDENCE` grows with every label map that is written.

    Args:
        model: a model folder.
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
        tell: takes a line about what is odd, "warning: " or "note: " before it.

    Raises:
        DataError: names every path that is not a scan and every file in the way, before any work;
            or the model folder is damaged.
        PluginError: the model's plugin is not installed.
        MachineError: the device does not exist, the extra `dicom` is not installed, or a file
            cannot be written.
    """
    if not names_each_case(name):
        raise DataError(f"'{name}' is not a file name with {{case}} in it", where="name")
    found = find_scan_files(scans, ending, series, lambda text: tell(f"note: {text}"))
    if layout == "dicom-seg":
        _require_dicom(found)
    outputs = Outputs(out, PREDICT, _inputs(model, scans, found))
    name = name.removesuffix(ENDINGS[layout])
    files = {scan: f"{name}{ENDINGS[layout]}".replace("{case}", scan.case) for scan in found}
    _require_free(outputs, [*files.values(), CONFIDENCE], overwrite)
    loaded = load_model(model)
    for remark in loaded.remarks:
        tell(f"warning: {remark}; outlines may differ")
    who = loaded.ensemble.use.who
    with (
        _context(loaded, device, precision) as ctx,
        programs.ended(who, lambda text: tell(f"warning: {text}")),
    ):
        results = predict(loaded, found, ctx)
        return _write_all(progress(results, total=len(found)), files, outputs, loaded.facts, tell)


def names_each_case(name: str) -> bool:
    """Whether a name is one of files in the folder itself, another for every case."""
    return name.count("{case}") == 1 and Path(name).name == name


def _require_dicom(scans: Sequence[ScanFile]) -> None:
    """Refuse other scans: a DICOM segmentation refers to the slices it was made from."""
    others = [str(scan.path) for scan in scans if not scan.is_dicom]
    if others:
        raise DataError(
            "\n".join(["--format dicom-seg needs folders of DICOM files; these are not:", *others]),
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


@contextmanager
def _context(model: Model, device: str, precision: str) -> Iterator[Context]:
    """What the segmenter may know; files of its own go to a folder that is not kept."""
    from crossmod.torch import resolve_device, resolve_precision

    try:
        found = resolve_device(device)
    except MachineError as error:
        where = f"--device {device}"
        raise MachineError(error.what, where=where, allowed=error.allowed, fix=error.fix) from error
    with TemporaryDirectory() as folder:
        yield Context(
            folder=Path(folder),
            classes=model.ensemble.classes.labels,
            device=found,
            precision=resolve_precision(precision, found),
        )


def _write_all(
    results: Iterator[Outlined | Failed],
    files: Mapping[ScanFile, str],
    outputs: Outputs,
    facts: ModelFacts,
    tell: Callable[[str], None],
) -> Predicted:
    """Write the label map of every scan, and the table as it grows."""
    done = Predicted(len(files))
    for result in results:
        if not isinstance(result, Outlined):
            _note_failed(result, done, tell)
            continue
        try:
            with outputs.file(files[result.scan]) as draft:
                _write(draft, result, facts)
        except DataError as error:  # of the source that a segmentation refers to
            done.failed.append(Failed(result.scan, error))
            continue
        for remark in result.remarks:
            tell(f"note: {result.scan.path}: {remark}")
        done.confidence += result.confidence
        with outputs.file(CONFIDENCE) as draft:
            write_confidence(draft, done.confidence)
    return done


def _note_failed(result: Failed, done: Predicted, tell: Callable[[str], None]) -> None:
    """A label map that lay beside scans was not meant."""
    if isinstance(result.error, NotAScan) and result.scan.found:
        done.scans -= 1
        tell(f"note: {result.error}; skipped")
    else:
        done.failed.append(result)


def _write(path: Path, result: Outlined, facts: ModelFacts) -> None:
    """Write one label map; the ending says what it will be."""
    if path.suffix != ENDINGS["dicom-seg"]:
        write_outline(path, result.labels, result.grid.affine, result.form)
        return
    write_seg(
        path,
        result.labels,
        result.grid.affine,
        {name: values[0] for name, values in facts.classes.items()},
        folder=result.scan.path,
        series=result.scan.series,
        title=facts.title,
    )
