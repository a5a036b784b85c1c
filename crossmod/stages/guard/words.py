"""What an exception says: its text, its line, and whether memory ran out."""

from __future__ import annotations

import linecache
import traceback

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


def told(error: BaseException, package: str) -> str:
    """Type and text of an exception, and the innermost line of a package that it came through."""
    return "\n  ".join(filter(None, [described(error), line_in(error, package)]))


def line_in(error: BaseException, package: str) -> str:
    """The innermost line of a package that raised an exception or passed it on.

    Args:
        error: the exception; where no line of the package is in its traceback, those that it
            was raised from count.
        package: name of a module, or of a package with all its modules; empty for none.

    Returns:
        "file:line: code"; empty if none of its lines is involved.
    """
    if not package:
        return ""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if f"{frame.f_globals.get('__name__', '')}.".startswith(f"{package}."):
            file = frame.f_code.co_filename
            return f"{file}:{line}: {linecache.getline(file, line).strip()}"
    before = error.__cause__ or error.__context__
    return line_in(before, package) if before else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the machine or of a GPU ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in text_of(error) for sign in SIGNS)
