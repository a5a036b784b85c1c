"""The example of the page on training runs, resumes, and is as short as it says."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "train-in-a-plugin.md"


def test_the_training_of_the_page_survives_being_killed(tmp_path: Path) -> None:
    plugin, test = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module = ModuleType("crossmod_gain")
    exec(compile(plugin + test, str(PAGE), "exec", dont_inherit=True), module.__dict__)
    (tmp_path / "stage").mkdir()
    module.test_gain(tmp_path)


def test_its_loop_is_short() -> None:
    [plugin, _] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in plugin.splitlines() if line.strip()]) <= 25
