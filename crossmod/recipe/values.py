"""The values of keys that must be more than a text or a number."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from crossmod.options import Positive, Seed

MAX_PARTS = 30
"""Most parts of a pattern."""

MAX_PART_BYTES = 255
"""Most bytes of one name on common file systems."""


def _stays_below(pattern: str) -> str:
    """Refuse a pattern that could lead out of the data folder."""
    parts = pattern.split("/")
    if "\\" in pattern or not pattern.isprintable():
        raise ValueError("a pattern has printable characters only and / between folders")
    if not parts[0] or parts[0][0] == "~" or parts[0][1:2] == ":" or ".." in parts:
        raise ValueError("a pattern stays below the data folder: no .., ~, drive or leading /")
    if "{case}" not in pattern:
        raise ValueError("write {case} where the case id stands")
    return pattern


def _names_files(pattern: str) -> str:
    """Refuse names that no file system can hold."""
    parts = pattern.split("/")
    if {"", "."} & set(parts):
        raise ValueError("a pattern has no empty part and no part '.'")
    if "{case}{case}" in pattern:
        raise ValueError("put some text between {case} and {case}")
    longest = max(len(part.replace("{case}", "").encode()) for part in parts)
    if longest > MAX_PART_BYTES or len(parts) > MAX_PARTS:
        raise ValueError(f"a pattern has at most {MAX_PARTS} parts of {MAX_PART_BYTES} bytes each")
    return pattern


def _names_a_patient(pattern: str) -> str:
    if pattern.count("{patient}") != 1:
        raise ValueError("write {patient} exactly once, as in {patient}_ses-*")
    if len(pattern) > MAX_PART_BYTES:
        raise ValueError(f"a pattern of case ids has at most {MAX_PART_BYTES} characters")
    return pattern


def _says_something(title: str) -> str:
    if not title.strip():
        raise ValueError("describe the experiment in its title")
    return title


def _differ(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("list each seed once: the same seed gives the same run")
    return seeds


def _ascends(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the second limit must not be below the first")
    return limits


def _is_a_device(name: str) -> str:
    if not DEVICE.fullmatch(name):
        raise ValueError('name "auto", "cpu", "cuda" or one of several GPUs, such as "cuda:1"')
    return name


DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")

FilePattern = Annotated[str, AfterValidator(_stays_below), AfterValidator(_names_files)]
Title = Annotated[str, AfterValidator(_says_something)]
Seeds = Annotated[tuple[Seed, ...], Field(max_length=100), AfterValidator(_differ)]
Device = Annotated[str, AfterValidator(_is_a_device)]
SizeLimits = Annotated[tuple[Positive, Positive], AfterValidator(_ascends)]
PatientPattern = Annotated[str, AfterValidator(_names_a_patient)]
