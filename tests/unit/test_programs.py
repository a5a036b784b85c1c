"""Programs that a plugin starts are gone when its step is over, however that comes about."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from odd_plugin import SMOKE, Bench, forget

from crossmod import Context, PluginError, State
from crossmod.cost.estimates import Estimator
from crossmod.cost.measured import Conditions, Earlier
from crossmod.cost.probing import Prober
from crossmod.errors import Interrupted
from crossmod.recipe.load import load
from crossmod.run.execute import Maker
from crossmod.run.planner import Planner
from crossmod.run.steps import Step
from crossmod.run.steps.extents import Extents
from crossmod.run.task import Machine, Task
from crossmod.stages import find
from crossmod.stages.guard import programs
from crossmod.testing import check_resume, check_stage

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps orphans in sight"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

SLEEP = "[sys.executable, '-c', 'import time; time.sleep(300)']"
TRAP = "['bash', '-c', 'trap \"\" TERM; while true; do sleep 0.1; done']"

STARTS = {
    "a program": f"note(subprocess.Popen({SLEEP}).pid)",
    "in its own session": f"note(subprocess.Popen({SLEEP}, start_new_session=True).pid)",
    "nameless": f"note(subprocess.Popen({SLEEP}, env={{}}, start_new_session=True).pid)",
    "deaf to SIGTERM": f"note(subprocess.Popen({TRAP}).pid)",
    "in the background of a shell": (
        "note(int(subprocess.run('setsid sleep 300 >/dev/null 2>&1 & echo $!', shell=True, "
        "capture_output=True, text=True).stdout))"
    ),
    "a fork": "pid = os.fork()\nif not pid: time.sleep(300)\nnote(pid)",
    "a daemon": (
        "read, write = os.pipe()\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.write(write, str(os.getpid()).encode())\n"
        "    time.sleep(300)\n"
        "note(int(os.read(read, 20)))"
    ),
    "a tree": (
        "tree = subprocess.Popen(['bash', '-c', 'sleep 300 & echo $!; sleep 300 & echo $!; wait'],"
        " stdout=subprocess.PIPE, text=True)\n"
        "note(tree.pid), [note(int(tree.stdout.readline())) for _ in range(2)]\n"
        "tree.stdout.close()"
    ),
}

NOTE = """
import subprocess, time
def note(pid):
    with open({file!r}, 'a') as pids: pids.write(f'{{pid}}\\n')
"""


def offer(bench: Bench, start: str, then: str, file: Path | None = None) -> Path:
    """Install a plugin that starts programs and notes their numbers; returns where it does."""
    file = file or bench.folder / "temporary" / "pids"
    bench.offer(f"{NOTE.format(file=str(file)).strip()}\n{start}\n{then}")
    return file


def alive(file: Path) -> list[int]:
    """The noted processes that are at work."""
    noted = [int(line) for line in file.read_text().split()]
    assert noted
    return [one.pid for one in programs._processes() if one.pid in noted and not one.ended]


def below(pid: int) -> list[int]:
    """The processes below another one, parents first."""
    found = [pid]
    for parent in found:  # grows
        processes = [one for one in programs._processes() if not one.ended]
        found += [one.pid for one in processes if one.parent == parent]
    return found[1:]


def ticks_of(pids: Collection[int]) -> int:
    """The processor time that processes have used, in ticks."""
    stats = [Path(f"/proc/{pid}/stat").read_text(encoding="utf-8") for pid in pids]
    return sum(sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats)


def gone(file: Path, patience_s: float = 5.0) -> bool:
    until = time.monotonic() + patience_s
    while alive(file) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(file)


@pytest.fixture(autouse=True)
def _no_ghosts(bench: Bench) -> Iterator[None]:
    yield
    for file in bench.folder.rglob("pids"):
        for pid in alive(file):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("name", STARTS)
def test_what_a_step_leaves_at_work_is_ended_and_named(name: str, bench: Bench) -> None:
    file = offer(bench, STARTS[name], "yield from volumes")
    before = programs.children()
    done = bench.run()
    assert done.error is None, done.traceback
    assert alive(file) == []
    assert programs.children() <= before
    [warning] = bench.warnings()
    assert "odd: plugin 'odd' (odd 1.2) left programs running: " in warning
    assert warning.endswith("; crossmod ended them")


@pytest.mark.parametrize("then", ["raise ValueError\nyield", "sys.exit()\nyield"])
def test_what_a_step_that_fails_leaves_is_ended(then: str, bench: Bench) -> None:
    file = offer(bench, STARTS["a daemon"], then)
    bench.refused()
    assert alive(file) == []


def test_a_loop_that_waits_for_a_program_is_left_when_the_run_is_stopped(bench: Bench) -> None:
    wait = """
def seconds():
    while process.poll() is None:
        yield None
        time.sleep(0.1)
for _ in ctx.progress(seconds()):
    pass
yield
"""
    start = f"process = subprocess.Popen({SLEEP})\nnote(process.pid)"
    file = offer(bench, start, wait.strip())
    assert bench.make(bench.fit).error is None
    step = bench.translate
    task = Task(step.key, step, bench.store.folder, {"tumor": 1, "cochlea": 2}, Machine("cpu"))
    done = Maker(task, stopping=file.exists).outcome()
    assert isinstance(done.error, Interrupted)
    assert alive(file) == []


def test_a_program_that_ends_with_the_step_is_no_warning(bench: Bench) -> None:
    offer(bench, "subprocess.Popen(['sleep', '0.2'])", "yield from volumes")
    assert bench.run().error is None
    assert bench.warnings() == []


def test_what_was_at_work_before_is_left_alone(bench: Bench) -> None:
    file = offer(bench, STARTS["a program"], "yield from volumes")
    with subprocess.Popen(["sleep", "300"]) as other:
        assert bench.run().error is None
        assert alive(file) == []
        assert other.poll() is None
        other.kill()


def test_ctrl_c_while_programs_are_given_time_ends_them_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(spare: object, seconds: float) -> bool:
        raise KeyboardInterrupt

    file = bench.folder / "temporary" / "pids"
    with subprocess.Popen(["bash", "-c", "trap '' TERM; while true; do sleep 0.1; done"]) as deaf:
        file.write_text(f"{deaf.pid}\n")
        monkeypatch.setattr(programs, "_wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            programs.end()
        left = alive(file)
        deaf.kill()
    assert left == []


def test_check_stage_finds_it(bench: Bench, tmp_path: Path) -> None:
    offer(bench, STARTS["a program"], "yield from volumes")
    (tmp_path / "check").mkdir()
    with pytest.raises(PluginError, match="left programs running"):
        check_stage(find.load("odd").stage(), tmp_path / "check")


def test_a_training_that_check_resume_kills_leaves_nothing_running(
    bench: Bench, tmp_path: Path
) -> None:
    from crossmod.torch import resumable

    file = bench.folder / "temporary" / "pids"

    def fit(ctx: Context) -> State:
        if file.exists():
            assert alive(file) == []
        for _ in resumable(ctx, 2, {}, label="steps"):
            program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
            with file.open("a") as pids:
                pids.write(f"{program.pid}\n")
        return {}

    check_resume(fit, tmp_path / "resume", [1, 2])
    assert alive(file) == []


def test_processes_are_listed_without_proc_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "300"]) as child:
        monkeypatch.setattr(programs, "PROC", Path("/nowhere"))
        assert child.pid in programs.children()
        assert f"process {child.pid}" in programs.end()
    assert child.returncode in (0, -signal.SIGTERM)


# With a worker

PROGRAM = """
import pickle, sys, time
from crossmod.engines.local import Local, LocalOptions
from crossmod.run.schedule import StopSign
from crossmod.run.signals import pause_together, stop_on_signal
from crossmod.run.task import Machine, Outcome
from crossmod.store.store import Store

task, sign = pickle.loads(open(sys.argv[1], "rb").read()), StopSign()
engine = Local(LocalOptions(workers=1), Store(task.store), Machine(device="cpu"))
outcomes, stopping = [], False
with stop_on_signal(sign, engine.close), pause_together():
    engine.submit([task])
    while not outcomes:
        outcomes = [event for event in engine.wait(0.1) if isinstance(event, Outcome)]
        if sign and not stopping:
            stopping = True
            engine.stop()
print(outcomes[0].error, flush=True)
time.sleep(300)
"""

IMPATIENT = """
import threading
usual = threading.Timer
threading.Timer = lambda seconds, *rest: usual(min(seconds, 1.0), *rest)
"""
"""Lets a worker wait a second for a safe point instead of half a minute."""

WAITS = "time.sleep(300)\nyield"
LEFT = f"{STARTS['a program']}\n{STARTS['in its own session']}\n{STARTS['a daemon']}"


def launch(bench: Bench, then: str) -> tuple[subprocess.Popen[str], Path]:
    """Start a program whose worker makes a step that starts three others; they are at work."""
    file = offer(bench, LEFT, then)
    assert bench.make(bench.fit).error is None
    step, place = bench.translate, bench.folder / "place"
    task = Task(step.key, step, bench.store.folder, {"tumor": 1, "cochlea": 2}, Machine("cpu"))
    place.mkdir()
    (place / "task").write_bytes(pickle.dumps(task))
    (place / "sitecustomize.py").write_text(IMPATIENT)
    paths = os.pathsep.join(map(str, (place, bench.site, Path(__file__).parent)))
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(place / "task")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(file.parent)},
    )
    wait_for(file, program)
    return program, file


def wait_for(file: Path, program: subprocess.Popen[str]) -> None:
    """Wait until all three are at work."""
    until = time.monotonic() + 60
    while not file.exists() or file.read_text().count("\n") < 3:
        assert time.monotonic() < until
        assert program.poll() is None
        time.sleep(0.05)


def test_they_end_when_the_program_is_told_to_stop(bench: Bench) -> None:
    program, file = launch(bench, WAITS)
    with program:
        program.send_signal(signal.SIGTERM)
        assert program.stdout is not None
        assert "did not stop" in program.stdout.readline()
        assert gone(file)
        program.kill()


def test_they_end_when_the_program_is_told_twice(bench: Bench) -> None:
    program, file = launch(bench, WAITS)
    with program:
        program.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == Interrupted.exit_code
        assert gone(file)


def test_they_end_when_the_program_is_killed(bench: Bench) -> None:
    program, file = launch(bench, WAITS)
    with program:
        program.kill()
        assert gone(file, 20)


COUNTS = """
count = os.open(OUT / "temporary" / "count", os.O_CREAT | os.O_WRONLY)
while True: os.pwrite(count, b"%020d" % time.monotonic_ns(), 0)
yield
"""
"""Overwrites in place: a file that is emptied first is found empty most of the time."""


def states(pids: Collection[int]) -> str:
    """The states of processes, a letter each: T is paused, R or S is not."""
    stats = [Path(f"/proc/{pid}/stat").read_text(encoding="utf-8") for pid in pids]
    return "".join(sorted({stat.rpartition(")")[2].split()[0] for stat in stats}))


def soon(holds: Callable[[], bool], patience_s: float = 20.0) -> bool:
    until = time.monotonic() + patience_s
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


@contextmanager
def killed_at_last(program: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        program.kill()


def all_below(program: subprocess.Popen[str], file: Path) -> list[int]:
    """The worker, and the three programs of its step; a daemon is there after its parent ends."""
    assert soon(lambda: {*alive(file)} < {*below(program.pid)} and len(below(program.pid)) == 4)
    return below(program.pid)


def test_they_pause_and_continue_with_the_program(bench: Bench) -> None:
    program, file = launch(bench, COUNTS)
    count = bench.folder / "temporary" / "count"
    with program, killed_at_last(program):
        everything = [program.pid, *all_below(program, file)]
        for _ in range(2):
            assert soon(count.exists)
            program.send_signal(signal.SIGTSTP)
            assert soon(lambda: states(everything) == "T")
            paused, spent = count.read_text(), ticks_of(everything)
            time.sleep(1)
            assert (count.read_text(), ticks_of(everything)) == (paused, spent)
            program.send_signal(signal.SIGCONT)
            assert soon(lambda: "T" not in states(everything))
            assert soon(lambda before=paused: count.read_text() != before)  # type: ignore[misc]
        program.kill()
        assert gone(file, 20)


def test_they_end_when_the_program_is_killed_while_all_pause(bench: Bench) -> None:
    program, file = launch(bench, WAITS)
    with program, killed_at_last(program):
        worker, *_ = everything = all_below(program, file)
        program.send_signal(signal.SIGTSTP)
        assert soon(lambda: states([program.pid, *everything]) == "T")
        program.kill()
        assert gone(file, 20)
        assert soon(lambda: worker not in [p.pid for p in programs._processes() if not p.ended])


@pytest.mark.parametrize("then", ["os.kill(os.getpid(), 9)\nyield", "os._exit(3)\nyield"])
def test_they_end_when_the_worker_dies(then: str, bench: Bench) -> None:
    program, file = launch(bench, then)
    with program:
        assert program.stdout is not None
        said = program.stdout.readline()
        assert "killed the worker" in said or "the worker died (exit code 3)" in said
        assert gone(file)
        program.kill()


# With a probe


PROBE = """
import pickle, sys
prober, steps = pickle.loads(open(sys.argv[1], "rb").read())
print(prober.measure(steps[0], steps[1:]))
"""

CONDITIONS = Conditions("cpu", "auto", 1)
SMALL = ("preprocess.crop=[40, 32]", "augment=false", "pseudo_label=false")


def probed(bench: Bench) -> tuple[Prober, list[Step]]:
    """What measures the steps of the plugin, and these steps."""
    forget()
    plan = Planner(load(SMOKE, ["translate.gan.use=odd", *SMALL]), None).plan()
    steps = [s for s in plan.steps if "plugin 'odd'" in s.who]
    classes = plan.source.classes.labels
    found = Prober(
        bench.store, Extents(bench.store), CONDITIONS, Machine("cpu"), classes, notify=print
    )
    return found, steps


def test_a_probe_leaves_nothing_at_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    file = offer(bench, LEFT, "os._exit(3)\nyield")
    monkeypatch.setenv("PYTHONPATH", str(bench.site))
    monkeypatch.setenv("TMPDIR", str(file.parent))
    prober, steps = probed(bench)
    assert prober.measure(steps[1], []).problem == "its probe died (exit code 3)"
    assert alive(file) == []


def test_a_probe_ends_with_the_program(bench: Bench) -> None:
    file = offer(bench, LEFT, WAITS)
    (bench.folder / "job").write_bytes(pickle.dumps(probed(bench)))
    paths = os.pathsep.join(map(str, (bench.site, Path(__file__).parent)))
    with subprocess.Popen(
        [sys.executable, "-c", PROBE, str(bench.folder / "job")],
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(file.parent)},
    ) as program:
        wait_for(file, program)
        program.kill()
    assert gone(file)


def test_a_stage_without_probes_is_not_tried(bench: Bench) -> None:
    offer(bench, STARTS["a program"], "yield from volumes")
    module = bench.site / "odd.py"
    lines = "class Odd(Translator):\n"
    module.write_text(module.read_text().replace(lines, f"{lines}    probes = False\n"))
    sys.modules.pop("odd")
    prober, steps = probed(bench)
    earlier = Earlier(bench.store, prober.extents, CONDITIONS)
    found = Estimator(prober.extents, earlier, prober, lambda step: True).estimates(steps)
    for estimate in found.of.values():
        assert estimate.problem == "not measured: plugin 'odd' (odd 1.2) cannot be probed"
        assert estimate.seconds is None
    assert not (bench.store.folder / "probes").exists()
