"""Tests run side by side: one thread for each, since threads that outnumber cores stall."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
