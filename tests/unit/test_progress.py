"""What a run tells of its progress: speed, newest numbers, time left, and how it is shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.live import Live

from crossmod import console as terminal
from crossmod.commands import watch as command
from crossmod.console.state import fitted_screen, state_lines, state_screen
from crossmod.errors import DataError, Interrupted
from crossmod.progress import follow, looks, working
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


def test_a_resumed_loop_tells_its_time_left_by_what_it_has_done_since(
    clock: SimpleNamespace,
) -> None:
    one = Working("train", "1/2", 300.0, True, began=clock.seconds)
    one.advanced(advance(80))
    clock.seconds += 10
    assert one.left_s == 290.0
    one.advanced(advance(81))
    assert (one.speed, one.left_s) == (0.1, 190.0)
    assert (one.state.done, one.state.total) == (81, 100)


def test_the_bar_of_a_resumed_loop_does_not_count_steps_of_before(tmp_path: Path) -> None:
    run, step = FakeRun(tmp_path), FakeStep("k")
    shown = terminal.RunConsole()
    shown.started(run, step)
    now = SimpleNamespace(seconds=0.0)
    shown.progress.get_time = lambda: now.seconds  # type: ignore[method-assign]
    shown.advanced(advance(9, 10, "check"))
    for done in (211, 221, 231):
        now.seconds += 10
        shown.advanced(advance(done, 400))
    [bar] = shown.progress.tasks
    assert (bar.completed, bar.total, bar.speed) == (231, 400, 1.0)
    shown.left(step)
    assert not shown.last


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
    rest = {"first", "train-0", "train-1", "train-2"}
    assert left.whole(rest, {"train-3": 0.0}) == (5.0, 0)  # about to end, not unknown


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
    ("error", "end", "why"),
    [
        (Interrupted("stopped"), "interrupted", ""),
        (
            DataError("no scan", where="step a", fix="add one"),
            "failed",
            "step a: no scan\n  add one",
        ),
        (ValueError("odd"), "failed", "ValueError: odd"),
    ],
)
def test_a_run_that_ends_early_tells_so(
    error: Exception, end: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(type(error)), follower(tmp_path):
        raise error
    told = read_state(tmp_path)
    assert (told.state, told.error) == (end, why)
    assert f"error {why}" in screen(told) if why else "error" not in screen(told)


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


def test_a_state_of_before_errors_were_told_is_read(tmp_path: Path) -> None:
    old = STATE.model_dump_json(exclude={"error"})
    (tmp_path / FILE).write_text(old, encoding="utf-8")
    assert read_state(tmp_path) == STATE


def test_a_folder_below_a_run_names_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(tmp_path, STATE)
    (step := tmp_path / "full-seed-1" / "06-train").mkdir(parents=True)
    monkeypatch.chdir(step)
    for folder in (step.parent, step, Path()):
        with pytest.raises(DataError, match="part of a run") as error:
            read_state(folder)
        assert error.value.fix == f"name the folder of the run: {tmp_path}"


def test_a_run_that_has_just_been_started_may_be_watched_in_a_moment(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for folder in (tmp_path / "runs", tmp_path / "not-yet"):
        with pytest.raises(DataError, match="has not begun its first step") as error:
            read_state(folder)
        assert error.value.fix.startswith("try again in a moment if you have just started the run")


def test_lines_for_a_log_say_all_in_one() -> None:
    assert state_lines(STATE) == [
        "31/38 train-augmented-fold-3 1500/3000, 4.14/s, loss 0.3123, agreement 0.8, 6 min 02 s"
        " left; run: 12/38 steps, 1 h 07 min left",
        "2/38 prepare-source; run: 12/38 steps, 1 h 07 min left",
    ]
    program = StepState(name="train", number="3/38", began=10.0, loop="nnU-Net: Epoch 1")
    of_program = STATE.model_copy(update={"working": (program,)})
    assert state_lines(of_program)[0].startswith("3/38 train, nnU-Net: Epoch 1; run: 12/38 steps")
    waiting = STATE.model_copy(update={"working": (), "unknown": 3})
    assert state_lines(waiting) == ["run: 12/38 steps, more than 1 h 07 min left, 3 steps unknown"]
    new = STATE.model_copy(update={"working": (), "unknown": 9, "left_s": 0.0})
    assert state_lines(new) == ["run: 12/38 steps, time left not known yet"]


def drawn(screen: RenderableType, width: int = 80) -> str:
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(screen)
    return captured.get()


def screen(state: RunState, silent_s: float = 0.0) -> str:
    return drawn(state_screen(state, silent_s))


def test_a_screen_keeps_every_number_whole_in_80_columns(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    text = screen(read_state(tmp_path))
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "[bold]Mine[/bold]  working, 1 min 40 s", "12/38 steps", "1 h 07 min left", "1500/3000",
        "4.14/s  6 min 02 s left", "loss 0.3123, agreement 0.8", "█▄▁ loss", "2/38 prepare-source",
        "[red]a remark\\x1b[/red]",
    ):  # fmt: skip
        assert part in text


def test_a_silent_run_says_so_first_and_tells_neither_speed_nor_time_left() -> None:
    text = screen(STATE, silent_s=111.0)
    assert text.splitlines()[0] == "[bold]Mine[/bold]  silent for 1 min 51 s"
    assert "no sign of life from process 42 on node7; rerun the recipe" in text
    assert "1500/3000" in text
    for part in ("working", "left", "/s"):
        assert part not in text


def test_lines_that_are_too_long_stay_within_their_indent() -> None:
    words = " ".join(["word"] * 40)
    values = {f"a-long-name-{n}": 0.5 for n in range(6)}
    step = STATE.working[0].model_copy(update={"values": values, "curve": ()})
    state = STATE.model_copy(update={"working": (step,), "notes": (words,)})
    lines = screen(state, silent_s=75.0).splitlines()
    starts = [line for line in lines if not line.startswith("  ")]
    assert [line.split()[0] for line in starts] == ["[bold]Mine[/bold]", "▸"]
    assert len(lines) > 9
    in_a_file = drawn(state_screen(state, 75.0), 10_000)
    assert max(map(len, in_a_file.splitlines())) < 300


def test_old_notes_give_way_to_all_else_in_a_short_terminal() -> None:
    notes = tuple(f"note {n}" for n in range(5))
    state = STATE.model_copy(update={"working": STATE.working[:1], "notes": notes})
    console = Console(width=80, height=10, color_system=None)
    shown = drawn(fitted_screen(console, state, silent_s=75.0))
    assert len(shown.splitlines()) == 10
    assert "rerun the recipe" in shown
    assert "█▄▁ loss" in shown
    assert [note for note in notes if note in shown] == ["note 3", "note 4"]
    assert drawn(fitted_screen(console, state.model_copy(update={"notes": ()}))) == screen(
        state.model_copy(update={"notes": ()})
    )
    low = Console(width=80, height=5, color_system=None)
    assert "note" not in drawn(fitted_screen(low, state))


def test_a_screen_tells_no_negative_zero() -> None:
    step = STATE.working[0].model_copy(update={"values": {"loss": -0.0}})
    assert "loss 0\n" in re.sub(" *\n", "\n", screen(STATE.model_copy(update={"working": (step,)})))
    assert terminal.number(-0.0004) == "0.000"


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


@dataclass
class Watched:
    """A run that is watched in no time: each look takes a second of both clocks.

    Attributes:
        told_at: the seconds after which it tells something new.
        end: the second in which it ends.
        behind: by how much its clock is behind that of the watcher.
    """

    folder: Path
    told_at: Container[int]
    end: int = 10_000
    behind: float = 0.0
    second: int = 0

    def tell(self) -> None:
        done = self.second >= self.end
        change = {"state": "finished", "working": ()} if done else {}
        if done or not self.second or self.second in self.told_at:
            told = 1000.0 + self.second - self.behind
            write_state(self.folder, STATE.model_copy(update={"told": told, **change}))

    def sleep(self, seconds: float) -> None:
        self.second += 1
        assert self.second <= self.end, "watched for too long"
        self.tell()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Watched]:
    def begin(told_at: Container[int], late: float = 0.0, **changes: Any) -> Watched:
        """A run; the watcher comes some seconds late."""
        one = Watched(tmp_path, told_at, **changes)
        one.tell()
        monkeypatch.setattr(looks.time, "monotonic", lambda: float(one.second))
        monkeypatch.setattr(looks.time, "time", lambda: 1000.0 + late + one.second)
        monkeypatch.setattr(looks.time, "sleep", one.sleep)
        return one

    return begin


EVER = range(0, 10_000, 2)


def test_watching_without_terminal_prints_lines_until_the_run_ends(
    watched: Callable[..., Watched], capsys: pytest.CaptureFixture[str]
) -> None:
    command.watch(watched(EVER, end=100).folder)
    printed = capsys.readouterr().out
    assert printed.count("31/38 train-augmented-fold-3 1500/3000, 4.14/s") == 2
    assert "finished, 18 min 20 s" in printed
    assert "no sign of life" not in printed


def test_lines_tell_when_a_run_falls_silent_and_when_it_speaks_again(
    watched: Callable[..., Watched], capsys: pytest.CaptureFixture[str]
) -> None:
    command.watch(watched((*range(0, 11, 2), 100), end=105).folder)
    lines = capsys.readouterr().out.splitlines()
    at_work = "31/38 train-augmented-fold-3"
    starts = [line.partition(";")[0] for line in lines if at_work in line or "no sign" in line]
    silent = "no sign of life from process 42 on node7"
    assert starts[1:3] == [f"silent for 21 s: {silent}", f"silent for 1 min 21 s: {silent}"]
    assert [at_work in line for line in starts] == [True, False, False, True]


@pytest.mark.parametrize(
    ("late", "behind", "shown", "seconds"),
    [
        (600.0, 0.0, "for 10 min 05 s", 5),
        (600.0, 900.0, "for 25 min 05 s", 5),
        (10.0, 0.0, "for 21 s", 11),
        (0.0, -900.0, "for 21 s", 21),
    ],
    ids=["dead for long", "its clock is behind", "dead for seconds", "its clock is ahead"],
)
def test_a_look_at_a_killed_run_says_that_it_is_silent(
    late: float, behind: float, shown: str, seconds: int, watched: Callable[..., Watched],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    one = watched((), late, behind=behind)
    command.watch(one.folder, once=True)
    printed = capsys.readouterr().out
    assert f"silent {shown}" in printed
    assert "no sign of life from process 42 on node7; rerun" in printed
    assert one.second == seconds


@pytest.mark.parametrize("behind", [0.0, 900.0, -900.0])
def test_a_look_at_a_run_that_works_is_short_whatever_the_clocks_say(
    behind: float, watched: Callable[..., Watched], capsys: pytest.CaptureFixture[str]
) -> None:
    one = watched(EVER, behind=behind)
    command.watch(one.folder, once=True)
    printed = capsys.readouterr().out
    assert "1500/3000" in printed
    assert "no sign of life" not in printed
    assert one.second == 2


def test_a_screen_shows_silence(
    watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(Live, "update", lambda live, screen: shown.append(drawn(screen)))
    monkeypatch.setattr(terminal, "out", Console(force_terminal=True, file=StringIO()))
    command.watch(watched((), end=30).folder)
    silent = ["no sign of life" in text for text in shown]
    assert silent == [False] * 21 + [True] * 9 + [False]


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    assert "working, 0 s" in screen(STATE.model_copy(update={"told": -10.0}))
