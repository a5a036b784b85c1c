"""Data sets in the layouts of other programs: read into a data folder, written from cohorts."""
