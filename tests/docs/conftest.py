from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "integration"), str(TESTS / "unit")]  # programs, scans, DICOM files
