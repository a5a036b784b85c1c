"""The plugin of pytest is there where crossmod is, and costs nothing where it is not used."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crossmod import PluginError, Translator, testing

ROOT = Path(__file__).parents[2]

HEAVY = {"numpy", "scipy", "pydantic", "torch", "nibabel", "SimpleITK"}


def test_it_comes_through_an_entry_point() -> None:
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata["entry-points"]["pytest11"] == {"crossmod": "crossmod.testing.fixtures"}


def test_it_loads_nothing_before_a_test_asks_for_it() -> None:
    code = (
        "import sys; import pytest; before = {*sys.modules}; import crossmod.testing.fixtures;"
        "print(*sorted({name.partition('.')[0] for name in {*sys.modules} - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {*done.stdout.split()}
    assert "crossmod" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", testing.__all__)
def test_the_kit_has_all_its_names(name: str) -> None:
    assert name in dir(testing)
    assert getattr(testing, name) is not None


def test_a_name_that_the_kit_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'check_everything'"):
        _ = testing.check_everything


class Darker(Translator):  # type: ignore[type-arg]
    """Halves intensities."""

    def translate(self, volumes: Any, state: Any, ctx: Any) -> Any:
        return (volume.with_data(volume.data / 2) for volume in volumes)


class Brighter(Darker):
    """Leaves [0, 1]."""

    def translate(self, volumes: Any, state: Any, ctx: Any) -> Any:
        return (volume.with_data(volume.data + 2) for volume in volumes)


def test_the_fixtures_do_what_the_functions_do(
    check_stage: Callable[..., None], small_cohort: Callable[..., Any]
) -> None:
    check_stage(Darker())
    with pytest.raises(PluginError, match="yielded values in"):
        check_stage(Brighter())
    assert len(small_cohort(labeled=True, cases=2)) == 2
