"""`crossmod data`: create, check and convert data folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crossmod.commands import data_check

if TYPE_CHECKING:
    from crossmod.exchange.data_folder import Imported, Role

Format = Annotated[Literal["nnunet"], typer.Option("--format", help="The layout to write.")]

app = typer.Typer(help="Create, check and convert data folders.", no_args_is_help=True)
app.command()(data_check.check)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="The folder to write into; must not exist.")],
    source: Annotated[int, typer.Option(min=1, help="Labeled ceT1 scans.")] = 24,
    target: Annotated[int, typer.Option(min=1, help="Unlabeled hrT2 scans.")] = 24,
    validation: Annotated[int, typer.Option(min=1, help="hrT2 scans for scoring.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Each seed gives different patients.")] = 1,
) -> None:
    """Write the embedded cohort as a CrossMoDA 2022 data folder."""
    from crossmod import console
    from crossmod.files.outputs import require_new
    from crossmod.phantom import write_cohort

    require_new(out)
    with console.Bar("phantom") as bar:
        write_cohort(
            out,
            source=source,
            target=target,
            validation=validation,
            seed=seed,
            progress=lambda items, total: bar(items, total=total),
        )
    console.out.print(f"{source + target + validation} scans in {out}", markup=False)


@app.command("import")
def import_(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="The data set, e.g. nnUNet_raw/Dataset501_Name, or a folder of DICOM folders."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The data folder to import into.")],
    layout: Annotated[
        Literal["nnunet", "dicom"], typer.Option("--format", help="The layout of the data set.")
    ] = "nnunet",
    role: Annotated[
        Literal["source", "target", "validation"] | None,
        typer.Option(
            "--as", help="The role of its scans. Default: source if labeled, else target."
        ),
    ] = None,
    channel: Annotated[
        int | None, typer.Option(min=0, help="nnunet: the channel to import, if there are several.")
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(help="dicom: the series to import, by UID or description, e.g. *T2*."),
    ] = None,
) -> None:
    """Import a data set of another program, or DICOM series, into a data folder."""
    from crossmod.exchange.data_folder import Role, import_raw
    from crossmod.exchange.nnunet_raw import read_raw
    from crossmod.files.outputs import Inputs

    other = {"--series": series} if layout == "nnunet" else {"--channel": channel}
    for option, value in other.items():
        if value is not None:
            raise typer.BadParameter(f"does not apply to --format {layout}", param_hint=option)
    wanted = Role(role) if role else None
    if layout == "dicom":
        _show_import(_import_dicom(dataset, out, wanted or Role.TARGET, series or ""), out)
    else:
        inputs = Inputs(searched=(dataset,))
        _show_import(import_raw(read_raw(dataset, channel), out, wanted, inputs), out)


def _import_dicom(folder: Path, out: Path, role: Role, series: str) -> Imported:
    from crossmod import console
    from crossmod.exchange.dicom_folder import import_series

    with console.Bar("import") as bar:
        return import_series(folder, out, role, series, bar)


def _show_import(done: Imported, out: Path) -> None:
    from crossmod import console
    from crossmod.exchange.data_folder import REFERENCES, TABLE

    for remark in done.remarks:
        console.out.print(f"note: {remark}", markup=False, soft_wrap=True)
    console.out.print(f"{done.scans} scans in {out / done.role}", markup=False)
    if done.references:
        text = f"{done.references} label maps to score against in {out / REFERENCES}"
        console.out.print(text, markup=False)
    if done.left_out:
        console.out.print(f"{done.left_out} scans of imagesTs skipped: source scans need labels")
    console.out.print(f"Copy this into a recipe; it is also in {out / TABLE}:\n", markup=False)
    console.out.print(done.table, markup=False, soft_wrap=True)


@app.command()
def export(
    cohorts: Annotated[
        list[Path],
        typer.Argument(
            help="Step folders of a run, e.g. runs/x/06-translate-sharpen; their scans are joined."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The folder to write the data set into.")],
    dataset: Annotated[int, typer.Option(help="Number of the data set, 1 to 999.")],
    name: Annotated[str, typer.Option(help="Name of the data set.")],
    layout: Format = "nnunet",
    channel_name: Annotated[str, typer.Option(help="Name of the image channel.")] = "T2",
) -> None:
    """Export scans of a run for another program; labeled ones become training cases."""
    from crossmod import console
    from crossmod.exchange.nnunet_export import export_raw, load_joined
    from crossmod.files.outputs import Inputs

    cohort = load_joined(cohorts)
    inputs = Inputs(searched=tuple(cohorts))
    with console.Bar("export") as bar:
        done = export_raw(
            cohort,
            out,
            number=dataset,
            name=name,
            channel=channel_name,
            inputs=inputs,
            progress=bar,
        )
    text = f"{done.training} labeled and {done.test} other scans in {done.folder}"
    console.out.print(text, markup=False)
    if done.splits:
        console.out.print(
            f"Several show the same patient. To keep them in one fold, copy {done.splits} to"
            f" nnUNet_preprocessed/{done.folder.name}/ before training.",
            soft_wrap=True,
        )
