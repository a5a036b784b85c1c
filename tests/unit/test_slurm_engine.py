"""The Slurm engine with commands of Slurm that say what a test wants."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from crossmod_slurm import Slurm, SlurmOptions, engine
from crossmod_slurm.job import STOP, EventLog, Job
from crossmod_slurm.queue import State, parse
from pydantic import ValidationError

from crossmod.engines.profile import read_profile
from crossmod.errors import Interrupted, MachineError
from crossmod.run.steps import Step
from crossmod.run.task import Advance, Event, Machine, Outcome, Remark, Task
from crossmod.stages.context import Context
from crossmod.store.store import Store

pytest.importorskip("submitit")

COMMAND = """#!/bin/sh
echo "$(basename "$0") $*" >>"$FAKE/calls"
cat "$FAKE/$(basename "$0").says" 2>/dev/null
cat "$FAKE/$(basename "$0").fails" 1>&2 2>/dev/null && exit 1
exit 0
"""


@dataclass(frozen=True, kw_only=True)
class Waiting(Step):
    """Gets a signal while it works, if one is named."""

    name: str = "waiting"
    number: int = 0

    @property
    def inputs(self) -> tuple[Step, ...]:
        return ()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"name": self.name}

    def make(self, store: Store, ctx: Context) -> None:
        if self.number:
            os.kill(os.getpid(), self.number)
        for word in ctx.progress(["one", "two"]):
            (ctx.folder / word).touch()


class Fake:
    """Commands of Slurm in a folder, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("sbatch", "scancel", "scontrol", "squeue", "srun"):
            path = folder / name
            path.write_text(COMMAND, encoding="ascii")
            path.chmod(0o755)

    def says(self, command: str, text: str) -> None:
        (self.folder / f"{command}.fails").unlink(missing_ok=True)
        (self.folder / f"{command}.says").write_text(text + "\n", encoding="utf-8")

    def fails(self, command: str, text: str) -> None:
        (self.folder / f"{command}.fails").write_text(text + "\n", encoding="utf-8")

    def calls(self, command: str) -> list[str]:
        path = self.folder / "calls"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(f"{command} ")]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in ("LOOK_EVERY_S", "ASK_EVERY_S", "LATE_S", "LEAVE_S"):
        monkeypatch.setattr(engine, name, 0.0)
    fake = Fake(folder)
    fake.says("sbatch", "Submitted batch job 7")
    return fake


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def slurm(fake: Fake, store: Store) -> Slurm:
    return Slurm(SlurmOptions(), store, Machine(device="cpu"))


def task(store: Store, name: str = "waiting", number: int = 0) -> Task:
    step = Waiting(name=name, number=number)
    return Task(step.key, step, store.folder, {})


def publish(store: Store, key: str) -> None:
    with store.publish(key, {"seconds": 3.0}) as folder:
        (folder / "file").touch()


def leave(slurm: Slurm, number: str, content: object, kind: str = "success") -> None:
    """What a job leaves when it ends."""
    path = slurm.queue.folder / f"{number}_0_result.pkl"
    path.write_bytes(pickle.dumps((kind, content)))


def outcome(events: list[Event]) -> Outcome:
    [found] = [event for event in events if isinstance(event, Outcome)]
    return found


def remarks(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Remark)]


def test_answers_of_squeue_are_read() -> None:
    text = "12_0|RUNNING|None\n12_[1-2%2]|PENDING|(null)\nsome warning\n3|PENDING|a, b|c\n"
    assert parse(text) == {
        "12_0": State("RUNNING", "None"),
        "12_[1-2%2]": State("PENDING", "(null)"),
        "3": State("PENDING", "a, b|c"),
    }


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Priority", "usual"),
        ("QOSMaxJobsPerUserLimit", "usual"),
        ("AssocGrpCpuLimit", "usual"),
        ("AssocGrpCPUMinutesLimit", "unusual"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-3]", "unusual"),
        ("JobHeldAdmin", "unusual"),
        ("PartitionConfig", "hopeless"),
        ("PartitionTimeLimit", "hopeless"),
        ("QOSMaxWallDurationPerJobLimit", "hopeless"),
        ("launch failed requeued held", "hopeless"),
    ],
)
def test_reasons_to_wait_are_told_apart(reason: str, kind: str) -> None:
    state = State("PENDING", reason)
    assert kind == ("hopeless" if state.hopeless else "unusual" if state.unusual else "usual")
    assert not State("RUNNING", reason).hopeless


@pytest.mark.parametrize("name", ["RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "PENDING"])
def test_a_job_that_may_go_on_is_not_over(name: str) -> None:
    assert not State(name).ended
    assert State("TIMEOUT").ended
    assert State().ended  # Slurm has forgotten it


def test_tasks_submitted_together_are_one_array(slurm: Slurm, fake: Fake, store: Store) -> None:
    slurm.options = SlurmOptions(
        partition="gpu", memory_gb=1.5, gpus_per_task=2, setup=("module load cuda",),
        extra={"constraint": "a100", "requeue": False},
    )  # fmt: skip
    slurm.submit([task(store, "one"), task(store, "two")])
    assert len(fake.calls("sbatch")) == 1
    text = (slurm.queue.folder / "7_submission.sh").read_text(encoding="utf-8")
    for line in (
        "#SBATCH --array=0-1%2",
        "#SBATCH --partition=gpu",
        "#SBATCH --mem=1536M",
        "#SBATCH --gpus-per-node=2",
        "#SBATCH --signal=USR2@120",
        "#SBATCH --constraint=a100",
        "module load cuda",
        "export OMP_NUM_THREADS=4",
    ):
        assert line in text.splitlines()
    assert "account" not in text
    assert (slurm.queue.folder / "7_1_submitted.pkl").exists()
    assert slurm.queue.folder.stat().st_mode & 0o077 == 0


def test_a_job_may_be_requeued_and_takes_no_more_than_it_needs(slurm: Slurm, store: Store) -> None:
    slurm.machine = Machine(device="cpu", determinism="exact")
    slurm.submit([task(store)])
    text = (slurm.queue.folder / "7_submission.sh").read_text(encoding="utf-8")
    assert "#SBATCH --requeue" in text
    assert "export OMP_NUM_THREADS=1" in text
    assert "gpus" not in text
    assert "--array" not in text
    slurm.machine = Machine()
    assert slurm.gpus == 1


def test_there_is_room_for_so_many_jobs(slurm: Slurm, store: Store) -> None:
    slurm.options = SlurmOptions(max_jobs=3)
    one, two = task(store, "one"), task(store, "two")
    assert slurm.takes(one)
    slurm.submit([one])
    assert slurm.takes(two, [two])
    assert not slurm.takes(two, [two, two])


def test_what_the_store_has_is_done_whatever_else_is_said(
    slurm: Slurm, fake: Fake, store: Store
) -> None:
    it = task(store)
    slurm.submit([it])
    publish(store, it.key)
    leave(slurm, "7", Outcome(it.key, error=MachineError("no")))
    fake.says("squeue", "7|FAILED|None")
    assert outcome(slurm.wait(0)) == Outcome(it.key, made=True, seconds=3.0)
    slurm.close()
    assert not slurm.queue.folder.exists()
    assert not fake.calls("scancel")


def test_a_job_whose_task_another_run_has_made_does_not_stay(
    slurm: Slurm, fake: Fake, store: Store
) -> None:
    it = task(store)
    slurm.submit([it])
    fake.says("squeue", "7|PENDING|Resources")
    publish(store, it.key)
    assert outcome(slurm.wait(0)).made
    slurm.close()
    assert fake.calls("scancel") == [f"scancel --name={slurm.queue.name}"]


def test_what_a_job_leaves_counts_more_than_the_queue(
    slurm: Slurm, fake: Fake, store: Store
) -> None:
    it = task(store)
    slurm.submit([it])
    fake.says("squeue", "7|RUNNING|None")
    assert slurm.wait(0) == []
    leave(slurm, "7", Outcome(it.key, damaged=("abc",)))
    assert outcome(slurm.wait(0)).damaged == ("abc",)


def test_a_job_that_cannot_begin_in_python_says_why(slurm: Slurm, store: Store) -> None:
    it = task(store)
    slurm.submit([it])
    leave(slurm, "7", "Traceback …\nModuleNotFoundError: No module named 'x'\n", kind="error")
    ended = outcome(slurm.wait(0))
    assert "job 7 failed: ModuleNotFoundError" in str(ended.error)
    assert ended.traceback.startswith("Traceback")


def test_a_result_may_come_late(
    slurm: Slurm, fake: Fake, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LATE_S", 100.0)
    it = task(store)
    slurm.submit([it])
    fake.says("squeue", "")
    assert slurm.wait(0) == []
    leave(slurm, "7", Outcome(it.key, made=True))
    assert slurm.wait(0) == []
    publish(store, it.key)
    assert outcome(slurm.wait(0)).made


def test_nothing_is_concluded_while_slurm_does_not_answer(
    slurm: Slurm, fake: Fake, store: Store
) -> None:
    slurm.submit([task(store)])
    fake.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    assert slurm.wait(0) == []
    assert slurm.wait(0) == []
    fake.says("squeue", "7|OUT_OF_MEMORY|None")
    assert "raise slurm.memory_gb" in str(outcome(slurm.wait(0)).error)


def test_a_job_that_left_nothing_is_an_error_with_its_log(
    slurm: Slurm, fake: Fake, store: Store
) -> None:
    slurm.submit([task(store)])
    (slurm.queue.folder / "7_0_log.out").write_text("srun: error: Killed", encoding="utf-8")
    fake.says("squeue", "7|FAILED|NonZeroExitCode")
    ended = outcome(slurm.wait(0))
    assert str(ended.error).startswith("step waiting: job 7 ended without a result, state FAILED")
    assert "7_0_log.out" in str(ended.error)
    assert "Killed" in ended.traceback
    slurm.close()
    assert slurm.queue.folder.exists()


def test_a_job_whose_node_failed_is_submitted_once_more(
    slurm: Slurm, fake: Fake, store: Store
) -> None:
    it = task(store)
    slurm.submit([it])
    fake.says("squeue", "7|NODE_FAIL|None")
    assert remarks(slurm.wait(0)) == ["waiting: job 7 ended (NODE_FAIL); it continues in another"]
    fake.says("sbatch", "Submitted batch job 8")
    assert slurm.wait(0) == []
    fake.says("squeue", "8|NODE_FAIL|None")
    (store.checkpoints(it.key) / "000000005").mkdir(parents=True)  # it has got on
    assert remarks(slurm.wait(0)) == ["waiting: job 8 ended (NODE_FAIL); it continues in another"]
    fake.says("sbatch", "Submitted batch job 9")
    slurm.wait(0)
    fake.says("squeue", "9|NODE_FAIL|None")
    assert "job 9 ended" in str(outcome(slurm.wait(0)).error)
    assert len(fake.calls("sbatch")) == 3


def test_a_job_that_would_wait_forever_is_canceled(slurm: Slurm, fake: Fake, store: Store) -> None:
    slurm.submit([task(store)])
    fake.says("squeue", "7|PENDING|PartitionTimeLimit")
    assert "Slurm reports PartitionTimeLimit" in str(outcome(slurm.wait(0)).error)
    assert fake.calls("scancel") == [f"scancel --name={slurm.queue.name} 7"]


def test_an_unusual_reason_to_wait_is_said_once(slurm: Slurm, fake: Fake, store: Store) -> None:
    slurm.submit([task(store)])
    fake.says("squeue", "7|PENDING|ReqNodeNotAvail, Reserved for maintenance")
    said = [*slurm.wait(0), *slurm.wait(0), *slurm.wait(0)]
    assert remarks(said) == [
        "waiting is waiting: Slurm reports ReqNodeNotAvail, Reserved for maintenance"
    ]


def test_jobs_are_submitted_later_where_slurm_takes_none_now(
    slurm: Slurm, fake: Fake, store: Store
) -> None:
    fake.fails("sbatch", "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: limits")
    slurm.submit([task(store)])
    said = [*slurm.wait(0), *slurm.wait(0)]
    assert remarks(said) == ["Slurm accepts no jobs at the moment (limits); retrying"]
    fake.says("sbatch", "Submitted batch job 7")
    slurm.wait(0)
    fake.says("squeue", "7|RUNNING|None")
    assert slurm.wait(0) == []
    assert len(list(slurm.queue.folder.glob("*_submitted.pkl"))) == 1


def test_a_job_that_slurm_refuses_is_an_error(slurm: Slurm, fake: Fake, store: Store) -> None:
    fake.fails("sbatch", "sbatch: error: invalid partition specified: nowhere")
    with pytest.raises(MachineError, match="invalid partition specified: nowhere"):
        slurm.submit([task(store)])


def test_stopping_saves_what_runs_and_takes_back_what_waits(
    slurm: Slurm, fake: Fake, store: Store
) -> None:
    slurm.submit([task(store, "one"), task(store, "two")])
    fake.says("squeue", "7_0|RUNNING|None\n7_1|PENDING|Resources")
    slurm.wait(0)
    slurm.stop()
    name = f"scancel --name={slurm.queue.name}"
    assert fake.calls("scancel") == [
        f"{name} --state=PENDING",
        f"{name} --state=RUNNING --signal=TERM",
    ]
    assert (slurm.queue.folder / STOP).exists()
    fake.says("squeue", "7_0|RUNNING|None\n7_1|CANCELLED|None")
    assert isinstance(outcome(slurm.wait(0)).error, Interrupted)
    slurm.close()
    assert fake.calls("scancel")[2:] == [name]


def test_what_a_job_says_arrives_whole(tmp_path: Path) -> None:
    job, reader = EventLog(tmp_path, "k"), EventLog(tmp_path, "k")
    assert reader.news() == []
    advance = Advance("k", 1, 9, "fit", "case", 5)
    job.write(advance)
    job.write(Advance("k", 2, 9, "fit", "case", 5))  # too soon
    job.write(Remark("k", "über", warning=True))
    assert reader.news() == [advance, Remark("k", "über", warning=True)]
    with job.path.open("ab") as file:
        file.write(b'{"kind": "Remark", ')
    assert reader.news() == []
    with job.path.open("ab") as file:
        file.write(b'"key": "k", "text": "end"}\n')
    assert reader.news() == [Remark("k", "end")]


@pytest.fixture
def in_a_job(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """As if this process were a job of an array."""
    numbers = (signal.SIGUSR2, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    yield fake
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_job_makes_its_task(in_a_job: Fake, store: Store, tmp_path: Path) -> None:
    it = task(store)
    assert Job(it, tmp_path, 240, 120)().made
    assert store.manifest(it.key) is not None


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_job_that_is_signaled_goes_back_into_the_queue(
    in_a_job: Fake, store: Store, tmp_path: Path, number: int
) -> None:
    in_a_job.says("squeue", "RUNNING")
    it = task(store, number=number)
    with pytest.raises(SystemExit) as ended:
        Job(it, tmp_path, 240, 120)()
    assert not ended.value.code
    assert in_a_job.calls("scontrol") == ["scontrol requeue 7_1"]
    assert remarks(list(EventLog(tmp_path, it.key).news())) == ["waiting was interrupted by Slurm"]


def test_a_job_that_was_canceled_or_is_requeued_already_just_ends(
    in_a_job: Fake, store: Store, tmp_path: Path
) -> None:
    in_a_job.says("squeue", "COMPLETING")
    with pytest.raises(SystemExit):
        Job(task(store, number=signal.SIGTERM), tmp_path, 240, 120)()
    assert not in_a_job.calls("scontrol")


def test_a_job_that_the_user_stopped_says_so(in_a_job: Fake, store: Store, tmp_path: Path) -> None:
    (tmp_path / STOP).touch()
    assert isinstance(Job(task(store), tmp_path, 240, 120)().error, Interrupted)
    assert not in_a_job.calls("scontrol")


def test_a_step_that_does_not_fit_into_the_time_limit_is_an_error(
    in_a_job: Fake, store: Store, tmp_path: Path
) -> None:
    ended = Job(task(store, number=signal.SIGUSR2), tmp_path, 2, 60)()
    assert "needs more than the 2 minutes of its job" in str(ended.error)
    assert not in_a_job.calls("scontrol")


def test_a_signal_comes_early_enough() -> None:
    with pytest.raises(ValidationError, match="more than half of time_minutes"):
        SlurmOptions(time_minutes=3)


def test_the_profile_of_the_how_to_is_valid(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "slurm.md"
    text = page.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "profile.toml"
    path.write_text(text, encoding="utf-8")
    profile = read_profile(path)
    assert profile.engine == "slurm"
    assert profile.options("slurm").model_fields_set == set(SlurmOptions.model_fields) - {"qos"}


def test_no_slurm_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MachineError, match="sbatch was not found"):
        Slurm(SlurmOptions(), store, Machine())
