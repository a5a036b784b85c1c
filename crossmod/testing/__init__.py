"""The contract every stage must pass, for plugin authors.

    def test_my_translator(tmp_path):
        check_stage(MyTranslator(), tmp_path)

`check_stage` sends small cohorts through a stage the way a run does, and varies what differs
between data sets. `check_resume` kills training at the steps that it is given, and resumes it.
"""

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
