"""What `crossmod.run` prints in a notebook."""

from __future__ import annotations

import builtins
from types import SimpleNamespace
from typing import Any, cast

import pytest

from crossmod.console import RunConsole, Terminal
from crossmod.notebook.lines import Lines
from crossmod.progress.state import RunState


class ZMQInteractiveShell:
    """What rich takes for a notebook's kernel by its name."""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as kernels set it
    assert Terminal().is_jupyter


@pytest.mark.usefixtures("notebook")
def test_a_notebook_gets_a_line_for_each_finished_step(capsys: pytest.CaptureFixture[str]) -> None:
    run = cast("Any", SimpleNamespace(label="a", number_of=lambda step: "7/38"))
    step = cast("Any", SimpleNamespace(name="train", key="k"))
    state = RunState(title="t", state="working", host="h", process=1, began=0, told=0, done=1,
                     steps=38, left_s=60)  # fmt: skip
    with Lines() as lines:
        lines.found(run, step)
        lines.started(run, step)
        lines.finished(run, step, 2.0)
        lines.note("[red] is no markup")
        lines.tell(state)
    printed, warned = capsys.readouterr()
    assert printed.splitlines() == [
        f"✓    7/38  {'a train':<40}     2.0 s",
        "[red] is no markup",
        "run: 1/38 steps, 1 min 00 s left",
        "1 steps were already in the store",
    ]
    assert warned == ""


@pytest.mark.usefixtures("notebook")
def test_no_bar_is_drawn_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    from crossmod import console
    from crossmod.cost import preview
    from crossmod.notebook import running
    from crossmod.progress import carry_out

    seen: list[type] = []
    monkeypatch.setattr(console, "out", Terminal())
    monkeypatch.setattr(preview, "Preview", lambda *given: SimpleNamespace(require_room=str))
    monkeypatch.setattr(
        carry_out, "carry_out", lambda *given, **options: seen.append(type(given[-1]))
    )
    running._carried_out(cast("Any", None), cast("Any", None), quiet=False)
    monkeypatch.setattr(console, "out", Terminal(force_jupyter=False, force_terminal=True))
    running._carried_out(cast("Any", None), cast("Any", None), quiet=False)
    assert seen == [Lines, RunConsole]
