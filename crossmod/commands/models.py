"""`crossmod package` and `crossmod predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""As `crossmod.options` has it, without its imports."""


def package(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    model: Annotated[Path, typer.Argument(help="The model folder to write.")],
    stage: Annotated[
        str | None,
        typer.Option(
            help="Which segmenter to package, e.g. augmented. Default: the last of the method."
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Learn which Dice to expect from the source scans that each fold left out;"
            " every fold segments all of them.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="For --calibrate: auto, cpu, cuda or cuda:n.")] = (
        "auto"
    ),
    precision: Annotated[Precision, typer.Option(help="For --calibrate.")] = "auto",
) -> None:
    """Write a model folder from a run: weights, recipe, scores and a model card."""
    from crossmod import console
    from crossmod.commands.model_tables import calibration_line
    from crossmod.errors import counted
    from crossmod.model.package import package as write

    with console.pausing(), console.Bar("calibrate") as bar:
        facts = write(
            run,
            model,
            stage,
            calibrated=calibrate,
            device=device,
            precision=precision,
            progress=bar,
        )
    folds = counted(len(facts.weights), "fold")
    console.out.print(f"{model}: stage {facts.stage}, {folds}", markup=False)
    console.out.print(calibration_line(facts), markup=False)


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder, from crossmod package.")],
    scans: Annotated[
        list[Path],
        typer.Argument(
            help="NIfTI, NRRD, MetaImage or MGH files, folders of them, patient folders,"
            " or folders of DICOM files."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The folder for label maps and confidence.csv.")],
    ending: Annotated[
        str,
        typer.Option(
            help="Use only files whose names end with this; it is not part of the case id."
        ),
    ] = "",
    series: Annotated[
        str,
        typer.Option(help="The series of each DICOM folder, by UID or description, e.g. *T2*."),
    ] = "",
    layout: Annotated[
        Literal["nifti", "dicom-seg"],
        typer.Option("--format", help="What to write; dicom-seg works with DICOM folders only."),
    ] = "nifti",
    name: Annotated[
        str, typer.Option(help="Name of each label map, without its ending.")
    ] = "{case}",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what predict wrote into OUT before.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Stay, and outline each scan that appears in the folders; Ctrl-C ends it.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:n.")] = "auto",
    precision: Annotated[Precision, typer.Option()] = "auto",
) -> None:
    """Outline scans with a model; it needs neither a data folder nor a store."""
    from crossmod import console
    from crossmod.model.label_files import names_each_case

    if not names_each_case(name):
        raise typer.BadParameter(
            f"'{name}' is not a file name with {{case}} in it", param_hint="--name"
        )
    settings = {
        "ending": ending,
        "series": series,
        "layout": layout,
        "name": name,
        "overwrite": overwrite,
        "device": device,
        "precision": precision,
        "tell": console.remark,
    }
    with console.pausing():
        (_watch if watch else _predict)(model, scans, out, settings)


def _predict(model: Path, scans: list[Path], out: Path, settings: dict[str, Any]) -> None:
    from crossmod import console
    from crossmod.commands.model_tables import confidence_table
    from crossmod.model.label_files import predict_files

    with console.Bar("predict") as bar:
        done = predict_files(model, scans, out, progress=bar, **settings)
    if done.confidence:
        console.show(confidence_table(done.confidence), keys=2)
    outlined = f"{done.scans - len(done.failed)} of {done.scans} scans outlined: {out}"
    console.out.print(outlined, markup=False)
    done.require()


def _watch(model: Path, folders: list[Path], out: Path, settings: dict[str, Any]) -> None:
    from crossmod import console
    from crossmod.commands.model_tables import result_line
    from crossmod.errors import Interrupted
    from crossmod.model.label_files import watch_folders

    console.out.print(f"watching {', '.join(map(str, folders))}; Ctrl-C ends it", markup=False)
    try:
        watch_folders(
            model,
            folders,
            out,
            hear=lambda result: console.out.print(result_line(result), markup=False),
            **settings,
        )
    except KeyboardInterrupt:
        console.out.print("stopped; run the same command to continue")
        raise typer.Exit(Interrupted.exit_code) from None
