"""Reading scans that nobody vouches for: NIfTI files and DICOM series.

Scans are found and named first, so that wrong paths are said before anything is read; each is
checked when it is read.
"""

from crossmod.intake.find import ScanFile, find_scan_files
from crossmod.intake.read import read_scan

__all__ = ["ScanFile", "find_scan_files", "read_scan"]
