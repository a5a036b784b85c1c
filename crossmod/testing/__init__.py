"""The contract every stage must pass, for plugin authors.

    def test_my_translator(check_stage):
        check_stage(MyTranslator())

`check_stage` sends small cohorts through a stage the way a run does, and varies what differs
between data sets. `check_resume` kills training at the steps that it is given, and resumes it.
Both, and `small_cohort`, are fixtures of pytest wherever crossmod is installed; without pytest,
call the functions of the same names. They are looked up when first used, so that sessions of pytest
that use none of them load none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossmod.testing.check import check_stage
    from crossmod.testing.cohorts import CLASSES, SHAPE, SPACING_MM, small_cohort
    from crossmod.testing.resume import Killed, Outcome, Watched, check_resume

__all__ = [
    "CLASSES",
    "SHAPE",
    "SPACING_MM",
    "Killed",
    "Outcome",
    "Watched",
    "check_resume",
    "check_stage",
    "small_cohort",
]

_HOMES = {
    "crossmod.testing.check": ("check_stage",),
    "crossmod.testing.cohorts": ("CLASSES", "SHAPE", "SPACING_MM", "small_cohort"),
    "crossmod.testing.resume": ("Killed", "Outcome", "Watched", "check_resume"),
}


def __dir__() -> list[str]:
    return list(__all__)


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'crossmod.testing' has no attribute '{name}'")
