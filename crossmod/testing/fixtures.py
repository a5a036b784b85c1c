"""The fixtures of pytest that crossmod brings, through the entry point `pytest11`.

Every session of pytest in the environment imports this module, most of them for nothing: it loads
what a fixture needs when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from crossmod import Cohort, Context, Stage, State


class MakeCohort(Protocol):
    """What the fixture `small_cohort` gives."""

    def __call__(self, *, labeled: bool, cases: int = 3, seed: int = 0) -> Cohort:
        """See `crossmod.testing.small_cohort`."""
        ...


class CheckResume(Protocol):
    """What the fixture `check_resume` gives."""

    def __call__(self, fit: Callable[[Context], State], steps: Iterable[int]) -> None:
        """See `crossmod.testing.check_resume`."""
        ...


@pytest.fixture
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> MakeCohort:
    """Write small cohorts for crossmod stages: ``small_cohort(labeled=True, cases=3, seed=0)``."""
    from crossmod import testing

    def make(*, labeled: bool, cases: int = 3, seed: int = 0) -> Cohort:
        folder = tmp_path_factory.mktemp("cohort")
        return testing.small_cohort(folder, labeled=labeled, cases=cases, seed=seed)

    return make


@pytest.fixture
def check_stage(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Stage[Any]], None]:
    """Check that a crossmod stage keeps the contract: ``check_stage(MyTranslator())``."""
    from crossmod import testing

    return lambda stage: testing.check_stage(stage, tmp_path_factory.mktemp("stage"))


@pytest.fixture
def check_resume(tmp_path_factory: pytest.TempPathFactory) -> CheckResume:
    """Kill a training after steps and resume it: ``check_resume(fit, steps=[1, 9])``."""
    from crossmod import testing

    def check(fit: Callable[[Context], State], steps: Iterable[int]) -> None:
        testing.check_resume(fit, tmp_path_factory.mktemp("resume"), steps)

    return check
