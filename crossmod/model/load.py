"""A model folder, verified and ready to predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike
from pydantic import ValidationError

from crossmod.data.classes import Classes
from crossmod.data.state import State, parse_state
from crossmod.errors import DataError, PluginError, counted, reading
from crossmod.files.digests import digest_of_bytes
from crossmod.model.arguments import as_path, naming_arguments
from crossmod.model.ensemble import Ensemble
from crossmod.model.facts import (
    MODEL_FILE,
    Identity,
    ModelFacts,
    Setup,
    Weights,
    read_facts,
    require_usual_spacing,
)
from crossmod.options import problems_in
from crossmod.stages import find
from crossmod.stages.find import StageUse

if TYPE_CHECKING:
    from crossmod.model.label_maps import Predicted
    from crossmod.model.predict import Outlined


@dataclass(frozen=True, repr=False)
class Model:
    """A model ready to predict.

    Attributes:
        facts: what its folder says.
        ensemble: how the folds are used.
        states: what each fold has learned.
        remarks: why outlines may differ from those of the run.
        folder: where it was read from.
    """

    facts: ModelFacts
    ensemble: Ensemble
    states: tuple[State, ...]
    remarks: tuple[str, ...]
    folder: Path

    def predict(
        self,
        scan: ArrayLike | str | Path,
        spacing_mm: Sequence[float] | None = None,
        *,
        affine: ArrayLike | None = None,
        series: str = "",
        device: str = "auto",
        precision: str = "auto",
    ) -> Outlined:
        """Outline one scan; nothing is written.

        Args:
            scan: real numbers ``(I, J, K)`` in the units of the scanner, or the path of a NIfTI,
                NRRD, MetaImage or MGH file or of a folder of DICOM files.
            spacing_mm: of an array, the size of a voxel along I, J and K, whose axes then run to
                the patient's right, front and head; for other axes pass the affine.
            affine: of an array instead, ``(4, 4)`` voxel -> RAS+ mm.
            series: which series of a folder of DICOM files.
            device: "auto" (a GPU, if available), "cpu", "cuda" or "cuda:n".
            precision: "auto" (the fastest that the device supports), "fp32", "bf16" or "fp16".

        Returns:
            ``labels``, uint8 ``(I, J, K)`` on the grid of the scan with the values that the
            model's label files have, and ``confidence``, one row for each class.

        Raises:
            DataError: the array or the file is not a scan, or its geometry is missing.
            PluginError: the segmenter failed.
            MachineError: the device does not exist, or memory is short.
        """
        from crossmod.model.alone import outline_alone

        with naming_arguments():
            return outline_alone(self, scan, spacing_mm, affine, series, device, precision)

    def predict_files(
        self, scans: str | Path | Sequence[str | Path], out: str | Path, **settings: Any
    ) -> Predicted:
        """Outline files into a folder: a label map for each, and confidence.csv.

        Args:
            scans: one or several image files, folders of them, or folders of DICOM files.
            out: the folder to write.
            settings: ``device`` and ``precision`` as in `predict`; ``ending``, ``series``, ``name``
                and ``overwrite`` as the options of `crossmod predict`; ``layout`` as its
                ``--format``.

        Raises:
            DataError: names every path that is not a scan and every file in the way, before any
                work; or `scans` is empty.
            MachineError: the device does not exist, or a file cannot be written.
        """
        from crossmod.model.label_files import predict_files

        several = scans if isinstance(scans, Iterable) and not isinstance(scans, str) else [scans]
        paths = [as_path(one, "scans") for one in several]
        with naming_arguments():
            return predict_files(self, paths, as_path(out, "out"), **settings)

    def __repr__(self) -> str:
        facts, folds = self.facts, counted(len(self.states), "fold")
        return f"<Model {facts.title!r}, stage {facts.stage}, {folds}: {', '.join(facts.classes)}>"

    def _repr_html_(self) -> str:
        from markupsafe import Markup

        from crossmod.data.shown import facts_html

        facts = self.facts
        rows = {
            "stage": facts.stage,
            "plugin": _who(facts.segmenter),
            "folds": str(len(self.states)),
            "classes": ", ".join(facts.classes),
            "calibrated": "yes" if facts.calibration else "no",
            "folder": str(self.folder),
            "note": "; ".join(self.remarks),
        }
        return str(Markup("<b>{}</b>").format(facts.title) + facts_html(rows))


def load_model(folder: str | Path) -> Model:
    """Read a model folder, check every weights file, find the plugin.

    Args:
        folder: what `crossmod package` wrote.

    Raises:
        DataError: it is not a model folder, has another format, or weights are missing or damaged.
        PluginError: the plugin is not installed, or cannot use the options of the model.
    """
    folder = as_path(folder, "folder")
    if not (folder / MODEL_FILE).is_file():
        if folder.is_file() and (folder.parent / MODEL_FILE).is_file():
            raise DataError(
                "is a file of a model folder", where=str(folder), fix=f"name {folder.parent}"
            )
        raise DataError(
            f"is not a model folder: it has no {MODEL_FILE}",
            where=str(folder),
            fix="make one from a run with `crossmod package RUN MODEL`",
        )
    facts = read_facts(folder / MODEL_FILE, ModelFacts)
    require_usual_spacing(facts, folder / MODEL_FILE)
    ensemble = ensemble_of(facts, folder)
    remarks = _differences(facts, Identity(**ensemble.use.plugin.identity))
    return Model(facts, ensemble, _states(folder, facts), remarks, folder)


def ensemble_of(facts: Setup, folder: Path) -> Ensemble:
    """The segmenter that a model or a stage of a run was trained with, as installed.

    Args:
        facts: what the folder says.
        folder: where messages say that it lies.

    Raises:
        PluginError: the plugin is not installed, or cannot use the options.
    """
    plugin = _plugin(facts.segmenter, folder)
    try:
        options = plugin.stage.options_type.model_validate(facts.options)
    except ValidationError as error:
        raise PluginError(
            f"the installed version cannot use these options:\n{problems_in(error)}",
            where=_who(facts.segmenter),
            fix=_install(facts.segmenter),
        ) from error
    return Ensemble(
        StageUse("segment", plugin, options),
        Classes(facts.classes),
        facts.average,
        facts.largest_component,
    )


def _plugin(wanted: Identity, folder: Path) -> find.Plugin:
    if wanted.name not in find.available():
        raise PluginError(
            f"needs the plugin {_who(wanted)}, which is not installed",
            where=str(folder),
            fix=_install(wanted),
        )
    plugin = find.load(wanted.name)
    if plugin.kind != "segment":
        raise PluginError(
            f"the installed plugin of this name is for [{plugin.kind}]",
            where=_who(wanted),
            fix=_install(wanted),
        )
    return plugin


def _who(plugin: Identity) -> str:
    return f"'{plugin.name}' of {plugin.distribution} {plugin.version}"


def _install(plugin: Identity) -> str:
    return f"install {plugin.distribution} {plugin.version}"


def _differences(facts: ModelFacts, installed: Identity) -> tuple[str, ...]:
    """A sentence for what is installed in another version than the model was trained with."""
    trained, core = facts.segmenter, version("crossmod")
    remarks = []
    if facts.origin.crossmod != core:
        remarks.append(f"trained with crossmod {facts.origin.crossmod}, installed is {core}")
    if (trained.distribution, trained.version) != (installed.distribution, installed.version):
        remarks.append(f"trained with plugin {_who(trained)}, installed is {_who(installed)}")
    elif trained.code != installed.code:
        remarks.append(f"the code of plugin {_who(trained)} has changed since training")
    return tuple(remarks)


def _states(folder: Path, facts: ModelFacts) -> tuple[State, ...]:
    states: list[State] = []
    problems = []
    for name, weights in facts.weights.items():
        try:
            with reading(folder / name):
                states.append(_state(folder / name, weights))
        except DataError as error:
            problems.append(str(error))
        except ValueError as error:
            problems.append(f"{folder / name}: {error}")
    if problems:
        raise DataError("\n".join(problems), fix="copy the model folder again")
    return tuple(states)


def _state(file: Path, weights: Weights) -> State:
    """Raises ValueError where the file is not the one that was packaged, or no weights at all."""
    content = file.read_bytes()
    if digest_of_bytes(content) != weights.sha256:
        raise ValueError("is damaged: its sha256 is not that of model.json")
    return parse_state(content)
