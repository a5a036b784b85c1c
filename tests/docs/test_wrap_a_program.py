"""The program of the page, and the plugin that wraps it, run."""

from __future__ import annotations

import re
import sys
from importlib import import_module, invalidate_caches
from pathlib import Path

import pytest

from crossmod import Context

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "wrap-a-program.md"


def test_the_wrapped_program_keeps_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    program, plugin, test = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "threshold.py").write_text(program, encoding="utf-8")
    (tmp_path / "crossmod_threshold.py").write_text(plugin + test, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    module = import_module("crossmod_threshold")
    try:
        module.test_threshold(tmp_path / "work")
    finally:
        del sys.modules["crossmod_threshold"]


def test_what_the_page_says_of_the_context_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"`?ctx\.(\w+)", text)) <= {*dir(Context), *Context.__annotations__}
