"""What an exception says: its text, and whether memory ran out."""

from __future__ import annotations

SIGNS = (
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Failed to allocate memory",
    "bad_alloc",
)
"""What libraries say when memory runs out."""


def described(error: BaseException) -> str:
    """Type and text of an exception, even if its text cannot be made."""
    return f"{type(error).__name__}: {text_of(error)}"


def text_of(thing: object) -> str:
    """An object as text that can be written, even if its class fails to make one."""
    try:
        return str(thing).encode(errors="backslashreplace").decode()
    except Exception as error:
        return f"(str() of it raised {type(error).__name__})"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the machine or of a GPU ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in text_of(error) for sign in SIGNS)
