"""What a notebook shows as more than text; how is in `crossmod.data.shown`, imported when asked."""

from __future__ import annotations

from importlib import import_module


class Displayed:
    """Has an HTML form, which notebooks look for."""

    def _repr_html_(self) -> str:
        return str(import_module("crossmod.data.shown").html_of(self))
