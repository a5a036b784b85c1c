"""What a plugin implements, and how it is found, checked, and contained while it works.

`crossmod.torch` imports `Context` from here; its text belongs to the content keys of trained steps.
"""

from crossmod.stages.context import Context

__all__ = ["Context"]
