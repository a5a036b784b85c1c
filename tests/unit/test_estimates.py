"""What a plan costs: cohorts to come, reasons, estimates, probes, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossmod.cost import probing
from crossmod.cost.estimates import Estimate, Estimates
from crossmod.cost.fits import Room, problems, require, size
from crossmod.cost.measured import Conditions, Earlier
from crossmod.cost.probe import CaseTimer, FirstSteps, Probe, ProbeRequest
from crossmod.cost.reasons import differences, reason
from crossmod.cost.synthetic import write_cohort
from crossmod.data.cohorts import Cohort
from crossmod.data.nifti import read_grid, write_nifti
from crossmod.errors import MachineError
from crossmod.machine import memory_limit, total_memory
from crossmod.recipe.load import load
from crossmod.run.plan import Plan
from crossmod.run.planner import Planner
from crossmod.run.steps import Fit, Predict, PseudoLabel, Step, Train
from crossmod.run.steps.extents import Extent, Extents, Lattice
from crossmod.run.task import Machine
from crossmod.stages.context import Context
from crossmod.store.store import Store

RECIPES = Path(__file__).parents[2] / "recipes"


def plan_of(*settings: str, root: Path | None = None, recipe: str = "smoke") -> Plan:
    return Planner(load(RECIPES / f"{recipe}.toml", settings), root).plan()


def named(plan: Plan, name: str) -> Step:
    return next(step for step in plan.steps if step.name == name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# Cohorts to come


def test_extents_of_the_embedded_cohort_are_those_of_its_scans(store: Store) -> None:
    plan, extents = plan_of(), Extents(store)
    source = extents.of(plan.source)
    assert source is not None
    assert (source.count, source.lattice.shape) == (4, (72, 48, 32))
    assert [center for _, center in source.cases] == ["ldn", "etz"] * 2
    assert source.labeled
    augmented = named(plan, "train-augmented")
    assert sum(one.count for one in extents.read_by(augmented).values()) == 8  # a copy for each
    extents = Extents(store)
    extents.copies[named(plan, "augment-tumors").key] = 3.0
    assert sum(one.count for one in extents.read_by(augmented).values()) == 16
    scores = extents.load(named(plan, "score-round-1-validation"))
    assert scores is not None
    assert scores.count == 2


def test_extents_of_a_data_folder_are_those_that_preparing_gives(
    store: Store, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    affine = np.diag([-0.9, 0.0, 0.0, 1.0])
    affine[1, 2], affine[2, 1] = 1.1, 2.0  # axes in another order
    for case in ("crossmoda2021_ldn_1", "crossmoda2022_etz_0"):
        data = np.random.default_rng(0).random((40, 20, 30), dtype=np.float32)
        folder = root / "crossmoda2022_training"
        write_nifti(folder / "training_source" / f"{case}_ceT1.nii.gz", data, affine)
        write_nifti(folder / "training_source" / f"{case}_Label.nii.gz", data * 0, affine)
        write_nifti(folder / "training_target" / f"{case}_hrT2.nii.gz", data, affine)
    for settings in ((), ("preprocess.crop=[30,25]", "preprocess.spacing_mm=[0.7,1,3]")):
        plan = plan_of("data.validation=false", *settings, root=root)
        source = Extents(store).of(plan.source)
        assert source is not None
        made = tmp_path / f"made-{len(settings)}"
        made.mkdir()
        plan.source.make(store, Context(made))
        cohort = Cohort.load(made)
        assert tuple((case.case, case.center) for case in cohort.cases) == source.cases
        assert read_grid(cohort.cases[0].image)[0] == source.lattice.shape


# Reasons


def test_differences_in_words() -> None:
    plan = plan_of()
    now = json.loads(json.dumps(named(plan, "translate-gan-fit").content))
    before = json.loads(json.dumps(now))
    assert list(differences(before, now)) == []
    before["inputs"]["prepare-target"] = before["inputs"]["prepare-source"] = "0"
    before["inputs"]["gone"] = "1"
    assert list(differences(before, now)) == [
        "input prepare-source and 1 more change",
        "input gone removed",
    ]
    before["settings"]["options"]["iterations"] = 1500
    before["settings"]["plugin"]["name"] = "histogram"
    before["settings"]["determinism"] = "free"
    before["seed"] = 1
    before["libraries"]["torch"] = "1.0"
    torch = now["libraries"]["torch"]
    assert list(differences(before, now)) == [
        "plugin histogram -> cyclegan",
        "options.iterations 1500 -> 4",
        f"determinism free -> {now['settings']['determinism']}",
        "seed 1 -> 2022",
        f"torch 1.0 -> {torch}",
    ]
    before = json.loads(json.dumps(now))
    before["settings"]["plugin"]["code"] = "0"
    assert list(differences(before, now)) == ["code of plugin cyclegan changed"]


def test_reasons(store: Store, tmp_path: Path) -> None:
    plan = plan_of()
    step, shown = plan.source, tmp_path / "run" / "02-prepare-source"
    run = tmp_path / "run"
    assert reason(step, run, store) == "never made"
    shown.mkdir(parents=True)
    manifest = {"key": step.key, "content": step.content}
    (shown / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert reason(step, run, store) == "a stored result was removed"
    other = plan_of("preprocess.spacing_mm=[1,1,1]", "preprocess.crop=[90,60]").source
    assert reason(other, run, store) == (
        "options.spacing_mm [1.5, 1.5, 1.5] -> [1.0, 1.0, 1.0], options.crop [72, 48] -> [90, 60]"
    )
    store.path(step.key).mkdir(parents=True)
    assert reason(step, run, store) == "a stored result was damaged"
    (store.checkpoints(step.key) / "000000120").mkdir(parents=True)
    assert reason(step, run, store) == "resumes from a checkpoint (step 120)"


# Estimates


def test_earlier_results_are_scaled_by_cases_and_match_in_grid_and_device(
    store: Store, tmp_path: Path
) -> None:
    plan = plan_of()
    lattice = Lattice((8, 6, 4), (1.5, 1.5, 1.5))
    extent = Extent((("a", "ldn"), ("b", "etz")), lattice, lattice, labeled=True)
    made = {"seconds": 6.0, "peak_bytes": 7, "device": "cpu", "precision": "fp32"}
    for name in ("prepare-source", "translate-gan"):
        step = named(plan, name)
        note = {"key": step.key, "content": step.content, **made}
        with store.publish(step.key, note) as folder:
            write_cohort(folder, extent, {"tumor": 1})
    extents = Extents(store)
    now = named(plan_of("seed=1"), "translate-gan")
    for device, precision, size_now, expected in (
        ("cpu", "auto", (8, 6, 4), 3.0),
        ("cpu", "bf16", (8, 6, 4), None),
        ("cuda", "auto", (8, 6, 4), None),
        ("cpu", "auto", (16, 6, 4), None),
    ):
        here = replace(extent, lattice=lattice._replace(shape=size_now))
        extents._known = {step.key: here for step in now.inputs if step.name == "prepare-source"}
        found = Earlier(store, extents, Conditions(device, precision, 1)).of(now)
        assert (found.case_seconds if found else None) == expected


def test_the_time_with_several_workers_follows_inputs_and_urgency() -> None:
    plan = plan_of("evaluate.compare=[]", "augment=false", "pseudo_label=false")
    steps = {step.key: step for step in plan.steps}
    spans = {"prepare-source": 2.0, "prepare-target": 5.0, "prepare-validation": 1.0}
    found = Estimates(steps, {k: Estimate(spans.get(s.name, 0.0)) for k, s in steps.items()})
    assert found.seconds(1) == 8
    assert found.seconds(2) == 5
    assert Estimates().seconds(2) == 0


# Probes


@pytest.fixture
def spend(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets time pass on a clock that no load of the machine disturbs."""
    clock = [1000]
    monkeypatch.setattr("crossmod.cost.probe.time.monotonic", lambda: clock[0])

    def passes(seconds: int) -> None:
        clock[0] += seconds

    return passes


def test_the_first_steps_of_each_phase_stand_for_all(
    spend: Callable[[int], None], tmp_path: Path
) -> None:
    steps = FirstSteps(tmp_path, lambda: None)
    done = []
    for step in steps.steps(0, 25, 10):
        done.append(step)
        spend(1 if step % 10 else 50)
    assert done == [0, 1, 10, 11, 20, 21]
    assert steps.left_out_seconds == 8 + 8 + 3
    assert list(FirstSteps(tmp_path, lambda: None).steps(0, 1, None)) == [0]


def test_the_time_of_a_step_includes_what_the_device_has_still_to_do(
    spend: Callable[[int], None], tmp_path: Path
) -> None:
    steps = FirstSteps(tmp_path, lambda: spend(2))
    for _ in steps.steps(0, 10, None):
        spend(1)
    assert steps.left_out_seconds == 8 * (1 + 2)


def test_cases_are_timed_in_the_outermost_loop(spend: Callable[[int], None]) -> None:
    timer = CaseTimer()
    outer = timer(range(3))
    for number in outer:
        for _ in timer(range(5), label="within"):
            spend(1)
        spend(0 if number == 0 else 50)
    assert len(timer.begun) == 3
    assert timer.last(otherwise=1.0) == 5 + 50


def test_stand_ins_have_the_names_and_grids_of_the_real_ones(tmp_path: Path) -> None:
    lattice = Lattice((20, 16, 8), (1.5, 1.5, 2.0))
    cases = tuple((f"case_{n}+copy", "ldn") for n in range(5))
    extent = Extent(cases, lattice, lattice, labeled=True)
    write_cohort(tmp_path, extent, {"tumor": 1, "cochlea": 2})
    cohort = Cohort.load(tmp_path)
    assert [case.case for case in cohort.cases] == [case for case, _ in cases]
    assert {case.patient for case in cohort.cases} == {f"case_{n}" for n in range(5)}
    pair = cohort.cases[4].pair()
    assert pair.image.grid == lattice.shape
    assert set(np.unique(pair.labels)) == {0, 1, 2}


def test_every_kind_of_step_with_a_plugin_can_be_probed(store: Store, tmp_path: Path) -> None:
    settings = ("translate.gan=false", "preprocess.crop=[40, 32]", "segment.patch=[24, 24, 16]")
    plan = plan_of(*settings, "augment=false")
    extents = Extents(store)
    train = next(step for step in plan.steps if isinstance(step, Train))
    predict = next(step for step in plan.steps if isinstance(step, Predict))
    label = next(step for step in plan.steps if isinstance(step, PseudoLabel))
    fit = next(step for step in plan.steps if isinstance(step, Fit))
    for steps in ((train, predict), (label,), (fit, plan.translations[0])):
        known = {n: e for step in steps for n, e in extents.read_by(step).items()}
        scratch = tmp_path / steps[0].name
        scratch.mkdir()
        machine = Machine("cpu", "fp32")
        probe = Probe(ProbeRequest(steps, known, plan.source.classes.labels, machine), scratch)
        for step in steps:
            found = probe.measure(step)
            assert found.seconds + found.case_seconds > 0
            assert found.memory_bytes > 2**20


def test_only_what_may_be_large_is_probed_before_a_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "memory_limit", lambda: 8 * 2**30)

    def large(*settings: str, recipe: str = "quickstart") -> set[str]:
        plan, extents = plan_of(*settings, recipe=recipe), Extents(store)
        learners = [step for step in plan.steps if isinstance(step, Fit | Train)]
        return {s.name for s in learners if probing.may_be_large(s, extents.load(s))}

    assert large() == large(recipe="smoke") == set()
    assert "train-oracle" in large("segment.patch=[256,256,128]")
    assert "train-oracle" not in large("translate.gan.base_channels=512")
    assert "translate-gan-fit" in large("translate.gan.base_channels=512")
    assert "train-oracle" in large(
        "preprocess.spacing_mm=[0.3,0.3,0.3]", "preprocess.crop=[360,240]"
    )


# What does not fit

ROOMY = Room(8 * 10**9, 6 * 10**9, {"/store": 10**9}, "auto")


def one(step: Step, estimate: Estimate) -> Estimates:
    return Estimates({step.key: step}, {step.key: estimate})


def test_what_fits_is_let_through() -> None:
    step = named(plan_of(), "train-oracle")
    fitting = Estimate(5.0, 7 * 10**9, None, 10**8, "probe")
    assert problems(one(step, fitting), ROOMY) == []
    require([])
    elsewhere = replace(ROOMY, memory_bytes=None, device="cuda")
    assert problems(one(step, replace(fitting, memory_bytes=10**12)), elsewhere) == []


def test_all_that_does_not_fit_is_said_at_once() -> None:
    step = named(plan_of(), "train-oracle")
    large = Estimate(5.0, 12 * 10**9, None, 3 * 10**9, "earlier")
    room = replace(ROOMY, device="cuda:3", gpu_fault="this machine has cuda:0 to cuda:1")
    with pytest.raises(MachineError) as caught:
        require(problems(one(step, large), room))
    text = str(caught.value)
    for words in (
        "step train-oracle: needs 12 GB of memory by an earlier result; this machine has 8.0 GB",
        "a smaller patch, batch or crop",
        "/store: results take 3.0 GB, 1.0 GB are free",
        "--store",
        'device = "cuda:3": this machine has cuda:0 to cuda:1',
        "--force",
    ):
        assert words in text
    assert caught.value.exit_code == 4


def test_a_container_may_hold_less_than_its_machine(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/user/job\n3:cpu,memory:/x\n5:memory:/old\n", encoding="utf-8")
    mounted = tmp_path / "mounted"
    inner = mounted / "user" / "job"
    inner.mkdir(parents=True)
    assert memory_limit(mounted, own) == total_memory()
    (inner / "memory.max").write_text("max\n", encoding="ascii")
    (mounted / "user" / "memory.max").write_text("3000000\n", encoding="ascii")
    assert memory_limit(mounted, own) == 3_000_000
    old = mounted / "memory" / "old"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("2000000\n", encoding="ascii")
    assert memory_limit(mounted, own) == 2_000_000


def test_sizes_for_people() -> None:
    assert [size(n) for n in (12, 4_400, 999_700, 25_100_000, 1.5e9, 2e13)] == [
        "12 B", "4.4 KB", "1.0 MB", "25 MB", "1.5 GB", "20.0 TB",
    ]  # fmt: skip
