"""Trainings that diverged: where a translator has several tries, that is a result, too."""

from __future__ import annotations

import json
from pathlib import Path

from crossmod.errors import NotFinite

FAILURE = "failed.json"


def note_failure(folder: Path, error: NotFinite) -> None:
    """Keep why a try failed in the folder of its step."""
    text = json.dumps({"why": error.what})
    (folder / FAILURE).write_text(text, encoding="utf-8")


def failure_in(folder: Path) -> str:
    """Why the try in the folder of a step failed; empty if it did not."""
    file = folder / FAILURE
    return str(json.loads(file.read_text(encoding="utf-8"))["why"]) if file.is_file() else ""
