"""A model folder, verified and ready to predict."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from crossmod.data.classes import Classes
from crossmod.data.state import State, parse_state
from crossmod.errors import DataError, PluginError, reading
from crossmod.files.digests import digest_of_bytes
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


@dataclass(frozen=True)
class Model:
    """A model ready to predict.

    Attributes:
        facts: what its folder says.
        ensemble: how the folds are used.
        states: what each fold has learned.
        remarks: why outlines may differ from those of the run.
    """

    facts: ModelFacts
    ensemble: Ensemble
    states: tuple[State, ...]
    remarks: tuple[str, ...]


def load_model(folder: Path) -> Model:
    """Read a model folder, check every weights file, find the plugin.

    Raises:
        DataError: it is not a model folder, has another format, or weights are missing or damaged.
        PluginError: the plugin is not installed, or cannot use the options of the model.
    """
    if not (folder / MODEL_FILE).is_file():
        raise DataError(
            f"is not a model folder: it has no {MODEL_FILE}",
            where=str(folder),
            fix="make one from a run with `crossmod package RUN MODEL`",
        )
    facts = read_facts(folder / MODEL_FILE, ModelFacts)
    require_usual_spacing(facts, folder / MODEL_FILE)
    ensemble = ensemble_of(facts, folder)
    remarks = _differences(facts, Identity(**ensemble.use.plugin.identity))
    return Model(facts, ensemble, _states(folder, facts), remarks)


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
