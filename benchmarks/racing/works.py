"""The works that are raced, and who does them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """Another program that does the work.

    Attributes:
        name: as the table shows it.
        call: ``module:function``.
        settings: keyword arguments.
        checkout: the option that names its source, where no registry has it.
    """

    name: str
    call: str
    settings: Settings = field(default_factory=dict)
    checkout: str = ""


@dataclass(frozen=True)
class Work:
    """Something to do.

    Attributes:
        name: for the command line.
        title: for the table.
        call: how crossmod does it, ``module:function``.
        settings: keyword arguments.
        small: those of a smoke run that differ.
        peers: others that do it.
        threads: that every contestant may use; 0 means all cores.
        takes_threads: whether crossmod's side has an argument ``threads``.
        limit: what bounds it: operations of a network, or the ``moved_bytes``.
        moved_bytes: to read and write at least.
        rounds: unless the command line says otherwise.
        long: whether it is left out unless asked for, and needs no turn to warm up.
    """

    name: str
    title: str
    call: str
    settings: Settings = field(default_factory=dict)
    small: Settings = field(default_factory=dict)
    peers: tuple[Peer, ...] = ()
    threads: int = 0
    takes_threads: bool = False
    limit: Literal["", "network", "memory"] = ""
    moved_bytes: float = 0.0
    rounds: int = 5
    long: bool = False


def works() -> tuple[Work, ...]:
    """All works, in the order of the table."""
    return (*_segmentation(), *_translation(), *_blending(), *_data(), *_programs())


NNUNET_PATCH = (128, 128, 48)
"""What nnU-Net plans for volumes of this shape; its own order of axes is the reverse."""


def _segmentation() -> Iterator[Work]:
    tiny = {"shape": (16, 16, 16), "patch": (16, 16, 16), "base_channels": 4}
    tiny_window = {"patch": (16, 16, 16), "base_channels": 4}
    yield Work(
        "unet-step",
        "U-Net, a step of 2 patches of 128 x 128 x 48",
        "ours.unet3d:step",
        {"shape": NNUNET_PATCH, "patch": NNUNET_PATCH, "batch_size": 2},
        tiny,
        (Peer("nnU-Net", "peers.nnunet:step"),),
        takes_threads=True,
        limit="network",
    )
    yield Work(
        "unet-step-challenge",
        "U-Net, a step of crossmoda2022.toml: 2 patches of 192 x 160 x 80",
        "ours.unet3d:step",
        {
            "recipe": "crossmoda2022.toml",
            "shape": (192, 160, 80),
            "patch": (192, 160, 80),
            "batch_size": 2,
        },
        tiny,
        takes_threads=True,
        limit="network",
        long=True,
    )
    yield Work(
        "unet-step-quickstart",
        "U-Net, a step of quickstart.toml, one thread",
        "ours.unet3d:step",
        {"recipe": "quickstart.toml", "shape": (72, 48, 40), "spacing_mm": (1.5, 1.5, 1.5)},
        tiny,
        threads=1,
        takes_threads=True,
        limit="network",
    )
    yield Work(
        "unet-window",
        "U-Net, one window of 128 x 128 x 48",
        "ours.unet3d:window",
        {"patch": NNUNET_PATCH},
        tiny_window,
        (Peer("nnU-Net", "peers.nnunet:window"),),
        takes_threads=True,
        limit="network",
    )
    yield Work(
        "patches",
        "2 patches of 128 x 128 x 48, cut and augmented, one thread",
        "ours.unet3d:patches",
        {"shape": NNUNET_PATCH, "patch": NNUNET_PATCH, "batch_size": 2},
        {"shape": (16, 16, 16), "patch": (16, 16, 16)},
        (Peer("nnU-Net (batchgeneratorsv2)", "peers.nnunet:patches"),),
        threads=1,
        rounds=15,
    )


def _translation() -> Iterator[Work]:
    tiny = {"sides": (32, 32), "base_channels": 4, "blocks": 1, "discriminator_channels": 4}
    size = {"sides": (256, 256)}
    yield Work(
        "cyclegan-step",
        "CycleGAN, a step of 256 x 256",
        "ours.cyclegan:step",
        size,
        tiny,
        (Peer("authors' code", "peers.cyclegan:step", {"side": 256}, "cyclegan"),),
        takes_threads=True,
        limit="network",
    )
    yield Work(
        "cyclegan-step-quickstart",
        "CycleGAN, a step of quickstart.toml, one thread",
        "ours.cyclegan:step",
        {"recipe": "quickstart.toml", "sides": (72, 48)},
        tiny,
        threads=1,
        takes_threads=True,
        limit="network",
    )
    yield Work(
        "cyclegan-slice",
        "CycleGAN, one slice of 256 x 256",
        "ours.cyclegan:translate",
        size,
        tiny,
        (Peer("authors' code", "peers.cyclegan:translate", {"side": 256}, "cyclegan"),),
        takes_threads=True,
        limit="network",
    )


def _blending() -> Iterator[Work]:
    peers = (
        Peer("authors' code", "peers.singan:fit", {"side": 256}, "singan"),
        Peer("ConSinGAN", "peers.consingan:fit", {"side": 256}, "consingan"),
    )
    for schedule in ("paper", "fast"):
        yield Work(
            f"singan-{schedule}",
            f'SinGAN, schedule "{schedule}", a slice of 250 x 250 with 10 scales',
            "ours.singan:fit",
            {"side": 256, "scale_factor": 0.75, "max_size": 250, "schedule": schedule},
            {"side": 48, "min_size": 25, "max_size": 40, "width": 4, "kept": 1},
            peers,
            takes_threads=True,
            limit="network",
            rounds=1,
            long=True,
        )


def _data() -> Iterator[Work]:
    for size, radius in (("tumor", 0.15), ("large structure", 0.6)):
        settings = {"shape": (256, 256, 80), "radius": radius}
        yield Work(
            f"metrics-{size.split()[0]}",
            f"Dice and surface distance of a {size} in 256 x 256 x 80",
            "ours.metrics:dice_and_assd",
            settings,
            {"shape": (24, 24, 12)},
            (Peer("MedPy", "peers.medpy_metrics:dice_and_assd", settings),),
        )
    for interpolation in ("linear", "cubic"):
        resampled = {
            "shape": (448, 448, 80),
            "spacing_mm": (0.41, 0.41, 1.5),
            "new_spacing_mm": (0.6, 0.6, 1.0),
            "interpolation": interpolation,
        }
        yield Work(
            f"resampling-{interpolation}",
            f"{interpolation} resampling of 448 x 448 x 80 to 306 x 306 x 120",
            "ours.resampling:to_grid",
            resampled,
            {"shape": (24, 24, 12)},
            (Peer("SimpleITK", "peers.simpleitk:to_grid", resampled),),
            limit="memory",
            moved_bytes=4.0 * (448 * 448 * 80 + 306 * 306 * 120),
        )
    for ending in (".nii", ".nii.gz"):
        for verb in ("write", "read"):
            file = {"shape": (256, 256, 80), "ending": ending}
            yield Work(
                f"{verb}{ending.replace('.', '-')}",
                f"{verb} {ending} of 256 x 256 x 80",
                f"ours.files:{verb}",
                file,
                {"shape": (16, 16, 8)},
                (
                    Peer("SimpleITK", f"peers.simpleitk:{verb}", file),
                    Peer("NiBabel", f"peers.nibabel_files:{verb}", file),
                ),
                limit="memory",
                moved_bytes=2 * 4.0 * 256 * 256 * 80,
                rounds=9,
            )


def _programs() -> Iterator[Work]:
    asked = {"name": "nnUNetv2_predict", "arguments": ["-h"]}
    yield Work(
        "help",
        "print the help of the program",
        "ours.programs:command",
        {"arguments": ["--help"]},
        {},
        (Peer("nnU-Net", "peers.nnunet:program", asked),),
    )
    yield Work(
        "check",
        "check quickstart.toml",
        "ours.programs:command",
        {"arguments": ["check", "quickstart"]},
    )
    shape = {"shape": list(NNUNET_PATCH)}
    yield Work(
        "predict",
        "outline a scan of 128 x 128 x 48, the whole program",
        "ours.programs:predict",
        shape,
        {},
        (Peer("nnU-Net", "peers.nnunet:predict", shape),),
        long=True,
    )
