"""The embedded cohort: a real head template, warped, with planted tumors, seen by two scanners.

One anatomy underlies all cases. A score on this cohort measures the transfer of appearance from
T1 to T2, not generalization over people.
"""

from crossmod.phantom.cohort import write_cohort

__all__ = ["write_cohort"]
