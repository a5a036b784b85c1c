"""What an exception says."""

from __future__ import annotations


def described(error: BaseException) -> str:
    """Type and text of an exception, even of one that cannot say its text."""
    return f"{type(error).__name__}: {text_of(error)}"


def text_of(thing: object) -> str:
    """An object as text that can be written, even if its class fails to make one."""
    try:
        return str(thing).encode(errors="backslashreplace").decode()
    except Exception as error:
        return f"(its text cannot be made: {type(error).__name__})"
