"""What a run tells of its progress: speed, newest numbers, time left, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from crossmod import console as terminal
from crossmod.commands import watch as command
from crossmod.console.state import state_lines, state_screen
from crossmod.errors import DataError, Interrupted, MachineError
from crossmod.progress import board, follow, working
from crossmod.progress.board import Board
from crossmod.progress.follow import Follower
from crossmod.progress.left import TimeLeft
from crossmod.progress.state import FILE, RunState, StepState, read_state, write_state
from crossmod.progress.working import MOST_POINTS, Working
from crossmod.run.task import Advance


@dataclass(frozen=True)
class FakeStep:
    """As much of a step as its time depends on."""

    name: str
    inputs: tuple[FakeStep, ...] = ()
    work: str = ""
    is_learner: bool = True
    stored: bool = True
    who: str = "somebody"

    @property
    def key(self) -> str:
        return self.name

    @property
    def content(self) -> dict[str, Any]:
        return {"settings": {"work": self.work or self.name}}

    def folder(self, store: Path) -> Path:
        return store / self.name


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A time that tests set."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(working.time, "time", lambda: now.seconds)
    return now


def advance(done: int, total: int | None = 100, label: str = "train", **values: float) -> Advance:
    return Advance("k", done, total, label, "", 0, values)


def test_speed_and_time_left_follow_the_loop(clock: SimpleNamespace) -> None:
    one = Working("train", "1/2", None, True, began=clock.seconds)
    assert (one.speed, one.left_s) == (None, None)
    one.advanced(advance(20))  # it resumed there
    clock.seconds += 10
    one.advanced(advance(40))
    assert one.speed == 2.0
    assert one.left_s == 30.0
    one.advanced(advance(0, label="check"))  # another loop
    assert one.speed is None


def test_what_such_a_step_took_before_counts_until_the_loop_says_more(
    clock: SimpleNamespace,
) -> None:
    one = Working("train", "1/2", 300.0, True, began=clock.seconds)
    clock.seconds += 100
    one.advanced(advance(0))
    assert one.left_s == 200.0
    clock.seconds += 10
    one.advanced(advance(50))
    assert one.left_s == 10.0
    cases = Working("predict", "1/2", 300.0, False, began=clock.seconds)  # one of several loops
    cases.advanced(advance(0))
    clock.seconds += 30
    cases.advanced(advance(90))
    assert cases.left_s == 270.0
    clock.seconds += 3000
    assert cases.left_s == 1.0


def test_numbers_are_kept_and_their_curve_is_thinned(clock: SimpleNamespace) -> None:
    one = Working("train", "1/2", None, True, began=clock.seconds)
    one.advanced(advance(3))
    for step in range(500):
        one.advanced(advance(0, step=step, loss=500.0 - step, agreement=0.5))
    state = one.state
    assert (state.done, state.values) == (3, {"loss": 1.0, "agreement": 0.5})
    assert MOST_POINTS / 2 <= len(state.curve) <= MOST_POINTS
    assert list(state.curve) == sorted(state.curve, reverse=True)
    assert state.curve[0] == 500.0


def chain() -> list[FakeStep]:
    first = FakeStep("first")
    trained = [FakeStep(f"train-{n}", (first,), "train") for n in range(4)]
    return [first, *trained, FakeStep("score", tuple(trained))]


def test_time_left_is_that_of_the_longest_chain_or_of_all_shared_out() -> None:
    steps = chain()
    left = TimeLeft(steps, {"first": 10.0, "score": 5.0}, workers=2)
    assert left.whole((), {}) == (15.0, 4)
    left.guess(steps[1], 80.0)  # the others do the same work
    assert left.of(steps[2]) == 80.0
    left.took(steps[1], 100.0)
    assert left.of(steps[2]) == 100.0
    assert left.whole(["first", "train-0"], {}) == ((300.0 + 5) / 2, 0)
    assert left.whole(["first", "train-0"], {"train-1": 20.0}) == ((220.0 + 5) / 2, 0)
    assert left.whole(["first", "train-0", "train-1", "train-2"], {"train-3": None}) == (5.0, 1)
    assert left.whole([step.key for step in steps], {}) == (0.0, 0)


@dataclass
class FakeRun:
    """As much of a run as observers look at."""

    folder: Path
    label: str = ""
    store: Path = Path()

    def number_of(self, step: FakeStep) -> str:
        return f"1/{step.name}"


@dataclass
class FakeExperiment:
    """As much of an experiment as a follower looks at."""

    folder: Path
    steps: list[FakeStep] = field(default_factory=chain)

    @property
    def plans(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(steps=self.steps)]

    @property
    def outputs(self) -> SimpleNamespace:
        return SimpleNamespace(folder=self.folder)

    @property
    def recipe(self) -> SimpleNamespace:
        return SimpleNamespace(title="Mine")


def follower(folder: Path) -> Follower:
    return Follower(FakeExperiment(folder), {"first": 10.0}, 2)


def test_a_follower_tells_how_far_a_run_is_and_how_it_ended(tmp_path: Path) -> None:
    run, (first, train, *_) = FakeRun(tmp_path, "full"), chain()
    with follower(tmp_path) as one:
        one.found(run, first)
        one.started(run, train)
        one.advanced(Advance(train.key, 5, 10, "train", "", 0))
        one.advanced(Advance(train.key, 0, None, "", "", 0, {"step": 5.0, "loss": 0.5}))
        one.note("a remark")
        state = one.state
        assert (state.done, state.steps, state.unknown) == (1, 6, 5)
        [step] = state.working
        assert (step.name, step.done, step.values) == ("full train-0", 5, {"loss": 0.5})
        one.finished(run, train, 60.0)
        assert (one.state.done, one.state.unknown) == (2, 1)
        assert one.state.left_s == 90.0
    told = read_state(tmp_path)
    assert (told.title, told.state, told.notes, told.working) == (
        "Mine", "finished", ("a remark",), (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "end"), [(Interrupted("stopped"), "interrupted"), (ValueError(), "failed")]
)
def test_a_run_that_ends_early_tells_so(error: Exception, end: str, tmp_path: Path) -> None:
    with pytest.raises(type(error)), follower(tmp_path):
        raise error
    assert read_state(tmp_path).state == end


def test_a_folder_that_cannot_be_written_stops_no_run(tmp_path: Path) -> None:
    with follower(tmp_path / "none"):
        pass
    (tmp_path / FILE).mkdir()
    with follower(tmp_path):
        pass


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "tells no progress"),
        ("{}", "cannot be read"),
        ('{"format": 2}', "cannot be read"),
        ("no JSON", "cannot be read"),
    ],
)
def test_what_is_no_state_is_refused(content: str | None, what: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=what):
        read_state(tmp_path)


STATE = RunState(
    title="[bold]Mine[/bold]",
    state="working",
    host="node7",
    process=42,
    began=0.0,
    told=100.0,
    done=12,
    steps=38,
    left_s=4020.0,
    unknown=0,
    working=(
        StepState(
            name="train-augmented-fold-3", number="31/38", began=10.0, done=1500, total=3000,
            loop="train", speed=4.137, left_s=362.0, values={"loss": 0.31234, "agreement": 0.8},
            curve=(3.0, 2.0, 1.0),
        ),
        StepState(name="prepare-source", number="2/38", began=10.0),
    ),
    notes=("[red]a remark\x1b[/red]",),
)  # fmt: skip


def test_lines_for_a_log_say_all_in_one() -> None:
    assert state_lines(STATE) == [
        "31/38 train-augmented-fold-3 1500/3000, 4.14/s, loss 0.3123, agreement 0.8, 6 min 02 s"
        " left; run: 12/38 steps, 1 h 07 min left",
        "2/38 prepare-source; run: 12/38 steps, 1 h 07 min left",
    ]
    waiting = STATE.model_copy(update={"working": (), "unknown": 3})
    assert state_lines(waiting) == ["run: 12/38 steps, more than 1 h 07 min left, 3 steps unknown"]
    new = STATE.model_copy(update={"working": (), "unknown": 9, "left_s": 0.0})
    assert state_lines(new) == ["run: 12/38 steps, time left not known yet"]


def test_a_screen_keeps_every_number_whole_in_80_columns(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    console = Console(width=80, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(state_screen(read_state(tmp_path), silent_s=75.0))
    text = captured.get()
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "[bold]Mine[/bold]  working", "12/38 steps", "1 h 07 min left", "1500/3000",
        "4.14/s  6 min 02 s left", "loss 0.3123, agreement 0.8", "█▄▁ loss", "2/38 prepare-source",
        "[red]a remark\\x1b[/red]", "no sign of life from process 42 on node7 for 1 min 15 s",
    ):  # fmt: skip
        assert part in text


class Writer:
    """Keeps what TensorBoard would get."""

    written: dict[str, list[tuple[str, float, int]]] = {}  # noqa: RUF012

    def __init__(self, folder: str) -> None:
        self.rows = self.written.setdefault(folder, [])

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.rows.append((name, value, step))

    def close(self) -> None:
        self.rows.append(("closed", 0, 0))


def test_a_board_gets_what_steps_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_writer", lambda: Writer)
    stored, trained, silent = FakeStep("fit"), FakeStep("train"), FakeStep("score")
    run = FakeRun(tmp_path / "run", store=tmp_path)
    (tmp_path / "fit").mkdir()
    rows = '{"scale": 0, "step": 0, "loss": 1}\n{"scale": 0, "step": 9, "loss": 2}\n'
    rows += '{"scale": 1, "step": 4, "loss": 3}\n{"case": "a", "dark": 1}\n'
    (tmp_path / "fit" / "training.jsonl").write_text(rows, encoding="utf-8")
    with Board() as one:
        one.found(run, stored)
        one.started(run, trained)
        one.started(run, silent)
        one.advanced(Advance("train", 0, None, "", "", 0, {"step": 5.0, "loss": 0.5}))
        one.advanced(Advance("train", 6, 10, "train", "", 0))
        one.finished(run, silent, 1.0)
    assert Writer.written == {
        str(run.folder / "tensorboard" / "fit"): [
            ("loss", 1, 0), ("scale", 0, 0), ("loss", 2, 9), ("scale", 0, 9), ("loss", 3, 13),
            ("scale", 1, 13), ("closed", 0, 0),
        ],
        str(run.folder / "tensorboard" / "train"): [("loss", 0.5, 5), ("closed", 0, 0)],
    }  # fmt: skip


def test_a_board_without_a_package_for_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(board, "import_module", missing)
    with pytest.raises(MachineError, match="pip install tensorboard"):
        Board()


def test_a_follower_tells_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Event()
    monkeypatch.setattr(follow, "WRITE_EVERY_S", 0.01)
    monkeypatch.setattr(follow, "TELL_EVERY_S", 0.02)
    with Follower(FakeExperiment(tmp_path), {}, 1, lambda state: heard.set()):
        assert heard.wait(60)
        assert read_state(tmp_path).state == "working"


def test_a_run_without_terminal_prints_lines(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.tell_without_terminal(STATE)
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("once", [False, True])
def test_watching_without_terminal_prints_lines_until_the_run_ends(
    once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_state(tmp_path, STATE)
    states = [STATE, STATE.model_copy(update={"told": 101.0}), STATE]
    states.append(STATE.model_copy(update={"state": "finished", "working": (), "told": 102.0}))

    def sleep(seconds: float) -> None:
        write_state(tmp_path, states.pop(0))

    monkeypatch.setattr(command.time, "sleep", sleep)
    command.watch(tmp_path, once)
    printed = capsys.readouterr().out
    assert ("finished, 1 min 42 s" in printed, "1500/3000, 4.14/s" in printed) == (
        not once,
        not once,
    )
    assert printed.count("1 h 07 min left") == (1 if once else 2)


def test_a_silent_run_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 15))
    monkeypatch.setattr(command.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(command.time, "sleep", lambda seconds: None)
    write_state(tmp_path, STATE)
    looks = command._looks(tmp_path)
    assert [next(looks)[1] for _ in range(3)] == [0.0, 30.0, 45.0]
