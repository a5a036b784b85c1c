"""`crossmod package` and `crossmod predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crossmod.errors import CrossmodError, DataError, MachineError

if TYPE_CHECKING:
    from crossmod.files.outputs import Inputs, Outputs
    from crossmod.intake import ScanFile
    from crossmod.model.confidence import Confidence
    from crossmod.model.facts import ModelFacts
    from crossmod.model.load import Model
    from crossmod.model.predict import Failed, Outlined
    from crossmod.stages.base import Context

CONFIDENCE = "confidence.csv"
ENDINGS = {"nifti": ".nii.gz", "dicom-seg": ".dcm"}


def package(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    model: Annotated[Path, typer.Argument(help="The model folder to write.")],
    stage: Annotated[
        str | None,
        typer.Option(help="Which segmenter, e.g. augmented. Default: the last of the method."),
    ] = None,
) -> None:
    """Make a model folder from a run: weights, recipe, scores and a model card."""
    from crossmod import console
    from crossmod.model.package import package as write

    facts = write(run, model, stage)
    count = len(facts.weights)
    folds = f"{count} fold{'s' if count > 1 else ''}"
    console.out.print(f"{model}: stage {facts.stage}, {folds}", markup=False)


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder, from crossmod package.")],
    scans: Annotated[
        list[Path],
        typer.Argument(help="NIfTI files, folders of them, or folders of DICOM files."),
    ],
    out: Annotated[Path, typer.Argument(help="The folder for label maps and confidence.csv.")],
    ending: Annotated[
        str, typer.Option(help="Take only files whose names end so, and leave it out of the case.")
    ] = "",
    series: Annotated[
        str,
        typer.Option(help="Which series of DICOM folders: its UID, or a description such as *T2*."),
    ] = "",
    layout: Annotated[
        Literal["nifti", "dicom-seg"],
        typer.Option("--format", help="What to write; dicom-seg for DICOM folders only."),
    ] = "nifti",
    name: Annotated[str, typer.Option(help="What label maps are called.")] = "{case}",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what predict wrote into OUT.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:n.")] = "auto",
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], typer.Option()] = "auto",
) -> None:
    """Outline scans with a model; needs no data folder and no store."""
    from crossmod.files.outputs import Outputs
    from crossmod.intake import find_scan_files
    from crossmod.intake.find import PREDICT
    from crossmod.model.load import load_model
    from crossmod.stages.guard import programs

    found = find_scan_files(scans, ending, series)
    if layout == "dicom-seg":
        _check_dicom(found)
    outputs = Outputs(out, PREDICT, _inputs(model, scans, found))
    files = _label_files(found, outputs, f"{name}{ENDINGS[layout]}", overwrite)
    loaded = load_model(model)
    for remark in loaded.remarks:
        _warn(f"{remark}; outlines may differ")
    who = loaded.ensemble.use.who
    with _context(loaded, device, precision) as ctx, programs.ended(who, _warn):
        rows, failed = _outline(loaded, files, outputs, ctx)
    _show(rows, f"{len(files) - len(failed)} of {len(files)} scans outlined: {out}")
    if failed:
        raise _summary(failed)


def _warn(text: str) -> None:
    from crossmod import console

    console.out.print(f"warning: {text}", style="yellow", markup=False)


def _inputs(model: Path, scans: Sequence[Path], found: Sequence[ScanFile]) -> Inputs:
    """What a prediction reads: files, folders of files, and folders with all in them."""
    from crossmod.files.outputs import Inputs

    files = tuple(scan.path for scan in found if not scan.is_dicom)
    series = tuple(scan.path for scan in found if scan.is_dicom)
    listed = {path.parent for path in files} & set(scans)
    return Inputs(files, tuple(listed), (model, *series))


def _label_files(
    scans: Sequence[ScanFile], outputs: Outputs, name: str, overwrite: bool
) -> dict[ScanFile, str]:
    """What the label map of each scan is called."""
    if name.count("{case}") != 1 or Path(name).name != name:
        raise typer.BadParameter(
            f"'{name}' is not a file name with {{case}} in it", param_hint="--name"
        )
    files = {scan: name.replace("{case}", scan.case) for scan in scans}
    names = [*files.values(), CONFIDENCE]
    outputs.require(names)
    taken = [one for one in names if outputs.owns(one)]
    if taken and not overwrite:
        raise DataError(
            f"has files of these names already: {', '.join(taken)}",
            where=str(outputs.folder),
            fix="name another folder or give --overwrite",
        )
    return files


def _check_dicom(scans: Sequence[ScanFile]) -> None:
    """A DICOM segmentation refers to the slices it was made from."""
    from crossmod.intake.dicom import require_extra

    others = [str(scan.path) for scan in scans if not scan.is_dicom]
    if others:
        raise DataError(
            "\n".join(["--format dicom-seg needs DICOM to refer to; these are NIfTI:", *others]),
            fix="name folders of DICOM files, or leave the format at nifti",
        )
    require_extra("seg")


@contextmanager
def _context(model: Model, device: str, precision: str) -> Iterator[Context]:
    """What the segmenter may know; files of its own go to a folder that is not kept."""
    from tempfile import TemporaryDirectory

    from crossmod.stages.base import Context
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


def _outline(
    model: Model, files: dict[ScanFile, str], outputs: Outputs, ctx: Context
) -> tuple[list[Confidence], list[Failed]]:
    """Write the label map of every scan, and the table as it grows."""
    from crossmod import console
    from crossmod.model.confidence import write_confidence
    from crossmod.model.predict import Failed, Outlined
    from crossmod.model.predict import predict as outline

    rows: list[Confidence] = []
    failed: list[Failed] = []
    with console.RunConsole() as watcher:
        bar = console.StepBar(watcher.progress, "predict")
        for result in bar(outline(model, list(files), ctx), total=len(files)):
            if not isinstance(result, Outlined):
                failed.append(result)
                continue
            try:
                with outputs.file(files[result.scan]) as draft:
                    _write(draft, result, model.facts)
            except DataError as error:  # of the source that a segmentation refers to
                failed.append(Failed(result.scan, error))
                continue
            for remark in result.remarks:
                note = f"note: {result.scan.path}: {remark}"
                console.out.print(note, style="yellow", markup=False, soft_wrap=True)
            rows += result.confidence
            with outputs.file(CONFIDENCE) as draft:
                write_confidence(draft, rows)
    return rows, failed


def _show(rows: Sequence[Confidence], text: str) -> None:
    from crossmod import console
    from crossmod.commands.model_tables import confidence_table

    if rows:
        console.out.print(confidence_table(rows))
    console.out.print(text, markup=False)


def _write(path: Path, result: Outlined, facts: ModelFacts) -> None:
    """Write one label map; the ending says what it will be."""
    from crossmod.data.volumes import write_nifti
    from crossmod.intake.dicom import write_seg

    if path.suffix != ENDINGS["dicom-seg"]:
        write_nifti(path, result.labels, result.grid.affine)
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


def _summary(failed: Sequence[Failed]) -> CrossmodError:
    """One error for all scans that failed; of the data where any scan is to blame."""
    kind = (
        DataError if any(isinstance(f.error, DataError) for f in failed) else type(failed[0].error)
    )
    lines = [f"{len(failed)} scan{'s' if len(failed) > 1 else ''} could not be outlined:"]
    return kind("\n".join([*lines, *(f"{one.scan.case}: {one.error}" for one in failed)]))
