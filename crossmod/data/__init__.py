"""Scans, label maps and cohorts: in memory, on a grid, and as a data folder.

`crossmod.torch` imports `State` from here; its text belongs to the content keys of trained steps.
"""

from crossmod.data.volumes import State

__all__ = ["State"]
