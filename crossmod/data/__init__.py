"""Scans, label maps and cohorts: in memory, on a grid, and as a data folder."""
