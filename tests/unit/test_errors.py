"""What the operating system refuses is told with the place, in its words and in no others."""

from __future__ import annotations

import errno
import os

import pytest

from crossmod.errors import DataError, MachineError, reading, writing


def test_what_cannot_be_read_is_told_without_the_words_of_a_library() -> None:
    with pytest.raises(DataError) as caught, reading("scan.nii"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert str(caught.value) == "scan.nii: cannot be read: Input/output error"
    with pytest.raises(DataError) as caught, reading("1.dcm"):
        raise OSError("the patient is called Doe")
    assert str(caught.value) == "1.dcm: cannot be read: OSError"


def test_what_cannot_be_written_says_what_to_do() -> None:
    with pytest.raises(MachineError) as caught, writing("out", "cannot write the log"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.where == "out"
    assert caught.value.what == "cannot write the log: No space left on device"
    assert "free up disk space" in caught.value.fix


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="not ours"), reading("a"), writing("b"):
        raise ValueError("not ours")
