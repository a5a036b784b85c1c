"""Reading files that nobody vouches for: image files and DICOM series.

Every path into the program leads through here. Files are found and named first (`find`), so that
wrong paths are said before anything is read; then each is weighed, read and checked: scans in
`scans`, label maps in `labels`, what is inside of the formats in `nifti`, `formats` and
`dicom`. `facts` keeps what was seen of a file; `survey` looks at a whole data set.
"""

from crossmod.intake.facts import Facts, Inspector, Kind
from crossmod.intake.find import ScanFile, find_arrived, find_scan_files
from crossmod.intake.guess import survey_folder
from crossmod.intake.labels import difference, load_labels, on_grid
from crossmod.intake.nifti.mend import mend
from crossmod.intake.options import Intake, Limits
from crossmod.intake.results import FileFault, LabelMap, Loaded, NotAScan
from crossmod.intake.scans import few_values, finite, load_grid, load_scan
from crossmod.intake.survey import File, Part, Survey, survey

__all__ = [
    "Facts",
    "File",
    "FileFault",
    "Inspector",
    "Intake",
    "Kind",
    "LabelMap",
    "Limits",
    "Loaded",
    "NotAScan",
    "Part",
    "ScanFile",
    "Survey",
    "difference",
    "few_values",
    "find_arrived",
    "find_scan_files",
    "finite",
    "load_grid",
    "load_labels",
    "load_scan",
    "mend",
    "on_grid",
    "survey",
    "survey_folder",
]
