"""From a finished run folder to a model folder that needs nothing else."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from crossmod.data.state import STATE, State, parse_state
from crossmod.errors import DataError
from crossmod.files.atomic import MANIFEST
from crossmod.files.digests import digest_of_bytes
from crossmod.files.outputs import Inputs, new_folder, require_new
from crossmod.model.calibration import Calibration
from crossmod.model.card import CARD_FILE, card
from crossmod.model.context import prediction_context
from crossmod.model.facts import (
    LOCK_FILE,
    MODEL_FILE,
    RUN_FILE,
    Fold,
    ModelFacts,
    RunFacts,
    Scores,
    Setup,
    Stage,
    Weights,
    read_facts,
    require_usual_spacing,
    write_facts,
)
from crossmod.model.held_out import calibrate, known_outlines, require_held_out
from crossmod.model.load import ensemble_of
from crossmod.options import Seed, problems_in
from crossmod.scores.final import SPLITS
from crossmod.scores.metrics import Summary, read_scores, summarize
from crossmod.scores.table import reported
from crossmod.stages.context import Progress, silent_progress

AGAIN = "rerun the same recipe into the folder"
"""What mends a run folder."""


class Head(BaseModel):
    """What a model tells of its recipe."""

    title: str
    seed: Seed


def package(
    run: Path,
    target: Path,
    stage: str | None = None,
    *,
    calibrated: bool = False,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress = silent_progress,
) -> ModelFacts:
    """Write the model of one stage of a run as a folder, whole or not at all.

    Args:
        run: a finished run folder; copied ones will do.
        target: the model folder to make.
        stage: which segmenter; the last of the method where not given.
        calibrated: whether to learn what Dice to expect, see `known_outlines`. Every source scan
            then passes every fold; else no network runs.
        device: "auto", "cpu", "cuda" or "cuda:n", for calibration.
        precision: "auto", "fp32", "bf16" or "fp16", for calibration.
        progress: wraps the iteration over source scans.

    Returns:
        What the model folder says of itself.

    Raises:
        DataError: the run is not finished, has no such stage, no scans to calibrate on or is
            damaged, or the target is not empty or lies in a result.
        PluginError: the segmenter is not installed, which calibration needs.
        MachineError: the target cannot be written, or the device does not exist.
    """
    inputs = Inputs(searched=tuple(path.parent for path in run.glob(f"*/{MANIFEST}")))
    require_new(target, inputs)
    facts = finished_run(run)
    name = _chosen(run, facts, stage)
    (lock, head), states = read_lock(run / LOCK_FILE), _states(run, facts.stages[name])
    chosen = facts.stages[name]
    require_usual_spacing(chosen, run / RUN_FILE)
    model = ModelFacts(
        **chosen.model_dump(include=set(Setup.model_fields)),
        title=head.title,
        seed=head.seed,
        stage=name,
        origin=facts.origin,
        trained_on=chosen.trained_on,
        scores=_scores(run / "metrics.csv", name, list(chosen.classes)),
        weights={file: weights for file, (_, weights) in states.items()},
    )
    if calibrated:
        known = [parse_state(content) for content, _ in states.values()]
        found = _calibration(run, chosen, known, device, precision, progress)
        model = model.model_copy(update={"calibration": found})
    with new_folder(target, inputs) as draft:
        for file, (content, _) in states.items():
            (draft / file).write_bytes(content)
        (draft / LOCK_FILE).write_text(lock, encoding="utf-8")
        (draft / CARD_FILE).write_text(card(model), encoding="utf-8")
        write_facts(draft / MODEL_FILE, model)
    return model


def _calibration(
    run: Path,
    stage: Stage,
    states: Sequence[State],
    device: str,
    precision: str,
    progress: Progress,
) -> Calibration:
    held_out = require_held_out(run, stage)
    ensemble = ensemble_of(stage, run)
    with prediction_context(ensemble, device, precision) as ctx:
        known = known_outlines(run, held_out, ensemble, states, ctx, progress)
    return calibrate(known, held_out.step, stage.classes)


def finished_run(run: Path) -> RunFacts:
    """What a finished run wrote about itself.

    Raises:
        DataError: the folder is not that of a finished run, or holds several, which it names.
    """
    if not run.is_dir():
        raise DataError("is not a folder", where=str(run))
    if (run / RUN_FILE).is_file():
        return read_facts(run / RUN_FILE, RunFacts)
    inner = sorted(path.parent.name for path in run.glob(f"*/{RUN_FILE}"))
    if inner:
        raise DataError(
            "holds several runs", where=str(run), allowed=", ".join(str(run / n) for n in inner)
        )
    raise DataError(
        f"is not the folder of a finished run: it has no {RUN_FILE}",
        where=str(run),
        fix="wait for its end, or rerun the same recipe into it; finished steps are kept",
    )


def _chosen(run: Path, facts: RunFacts, stage: str | None) -> str:
    own = [name for name in facts.stages if name != "oracle"]
    if stage is None and own:
        return own[-1]
    if stage not in facts.stages:
        what = f"has no stage '{stage}'" if stage else "has no segmenter other than the oracle"
        fix = "name one of these stages"
        raise DataError(what, where=str(run), allowed=", ".join(facts.stages), fix=fix)
    return stage


def _states(run: Path, stage: Stage) -> dict[str, tuple[bytes, Weights]]:
    """File name in the model folder -> the weights of a fold, as the run published them."""
    found = {}
    problems = []
    for number, fold in enumerate(stage.folds, start=1):
        try:
            content = _state(run / fold.folder, fold)
            found[f"fold-{number}.safetensors"] = content, _weights(content)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            problems.append(f"{run / fold.folder}: {error}")
    if problems:
        raise DataError("\n".join(problems), fix=AGAIN)
    return found


def _state(folder: Path, fold: Fold) -> bytes:
    """Raises ValueError where the folder holds another result or a damaged one."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest["key"] != fold.key:
        raise ValueError("holds the result of another run")
    content = (folder / STATE).read_bytes()
    if digest_of_bytes(content) != manifest["files"][STATE]["sha256"]:
        raise ValueError(f"{STATE} is damaged")
    return content


def read_lock(file: Path) -> tuple[str, Head]:
    """The text of the recipe as it ran, and what a model tells of it.

    Raises:
        DataError: the file cannot be read or is damaged.
    """
    try:
        text = file.read_text(encoding="utf-8")
        return text, Head.model_validate(tomllib.loads(text))
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
    except ValidationError as error:
        what = problems_in(error)
    except (ValueError, RecursionError) as error:
        what = f"is not TOML: {error}"
    raise DataError(what, where=str(file), fix=AGAIN)


def _weights(content: bytes) -> Weights:
    return Weights(sha256=digest_of_bytes(content), notes=dict(parse_state(content).notes))


def _scores(file: Path, stage: str, structures: list[str]) -> tuple[Scores, ...]:
    rows = read_scores(file) if file.is_file() else []
    own = [row for row in rows if row.stage == stage]
    return tuple(
        _rounded(split, structure, summary)
        for split in SPLITS
        for structure in structures
        for summary in summarize(own, split, structure)
    )


def _rounded(split: str, structure: str, summary: Summary) -> Scores:
    """A summary with four digits, without NaN and infinity, which JSON does not have."""
    values = {
        metric.named(statistic): value
        for metric in reported()
        for statistic, value in zip(("mean", "sd"), summary.spreads[metric.column], strict=True)
    }
    return Scores(
        split=split,
        center=summary.center,
        structure=structure,
        cases=summary.cases,
        penalized=summary.penalized,
        **{
            name: round(value, 4) if math.isfinite(value) else None
            for name, value in values.items()
        },
    )
