"""Case ids: one rule for all, since they become names of files on any system; whom they show."""

from __future__ import annotations

import glob
import re
import unicodedata
from collections.abc import Container, Iterable
from fnmatch import translate
from functools import cache

MAX_BYTES = 200
"""Bytes of an id in UTF-8; names of files hold 255, and endings need some."""

RESERVED = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)
"""Names of devices on Windows, with any ending."""

INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of characters that people do not see."""


def fault_of_case(case: str) -> str:
    """Why a case id cannot name files, in a few words; empty if it can.

    Example:
        >>> fault_of_case("ldn_1"), fault_of_case("a/b")
        ('', "holds '/'")
    """
    size = len(unicodedata.normalize("NFC", case).encode("utf-8", "surrogatepass"))
    strange = sorted({c for c in case if c in '/\\<>:"|?*' or unicodedata.category(c) in INVISIBLE})
    faults = {
        "is empty": not case,
        f"is {size} bytes long, {MAX_BYTES} are allowed": size > MAX_BYTES,
        f"holds {' '.join(map(ascii, strange))}": bool(strange),
        "begins with . or -": case[:1] in (".", "-"),
        "begins or ends with a space": case != case.strip(),
        "ends with a dot": case.endswith("."),
        "is the name of a device on Windows": RESERVED.fullmatch(case.split(".")[0].rstrip()),
    }
    return ", ".join(fault for fault, found in faults.items() if found)


def faults_of_cases(cases: Iterable[str]) -> list[str]:
    """What is wrong with the case ids of a set, a line for each; lookalikes are named together.

    Example:
        >>> faults_of_cases(["ldn_1", "LDN_1", "a."])
        ['ldn_1 and LDN_1: case ids that look alike', 'a.: the case id ends with a dot']
    """
    problems = []
    seen: dict[str, str] = {}
    for case in cases:
        if fault := fault_of_case(case):
            problems.append(f"{shown(case)}: the case id {fault}")
        other = seen.setdefault(unicodedata.normalize("NFKC", case).casefold(), case)
        if other != case:
            problems.append(f"{shown(other)} and {shown(case)}: case ids that look alike")
    return problems


def shown(case: str) -> str:
    """A case id as messages show it: in plain characters and not at any length."""
    text = case if case.isascii() and case.isprintable() else ascii(case)
    return text if len(text) <= 80 else f"{text[:77]}..."


def patient_of(case: str, pattern: str | None) -> str | None:
    """Whom a case shows, or None where the pattern does not fit.

    The first `*` takes as much as it can, the patient as little.

    Args:
        case: case id.
        pattern: of case ids, with `{patient}` and `*`; None where every case is another patient.

    Example:
        >>> patient_of("ldn_7_ceT1", "*_{patient}_*")
        '7'
        >>> patient_of("ldn_7_ceT1", None)
        'ldn_7_ceT1'
    """
    if pattern is None:
        return case
    before, after = map(_expression, pattern.split("{patient}"))
    starts = [n for n in range(len(case)) if before.match(case[:n])]
    ends = [n for n in range(1, len(case) + 1) if after.match(case[n:])]
    start = max((n for n in starts if ends and n < ends[-1]), default=None)
    return None if start is None else case[start : min(n for n in ends if n > start)]


def copied_from(case: str, given: Container[str]) -> str | None:
    """The given case that another one is a copy of, which may be a copy itself; None without one.

    Example:
        >>> copied_from("a+dark+2", {"a"}), copied_from("a+dark", {"a+dark"})
        ('a', None)
    """
    name, plus, suffix = case.rpartition("+")
    while plus and suffix:
        if name in given:
            return name
        name, plus, _ = name.rpartition("+")
    return None


def centers_to_compare(one: Iterable[str], other: Iterable[str]) -> list[set[str]]:
    """The centers of two cohorts that are compared with each other.

    Each center that both have by itself; all together where none has both.

    Example:
        >>> centers_to_compare(["a", "b", "c"], ["b", "c"])
        [{'b'}, {'c'}]
    """
    first, second = set(one), set(other)
    return [{center} for center in sorted(first & second)] or [first | second]


def fits(case: str, pattern: str) -> bool:
    """Whether a case id fits a pattern in which `*` stands for any characters.

    Example:
        >>> fits("ldn_7[b]", "ldn_*"), fits("ldn_7", "ldn_[0-9]")
        (True, False)
    """
    return bool(_expression(pattern).fullmatch(case))


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    """For a pattern in which only `*` is special; none takes long, as fnmatch never goes back."""
    return re.compile(translate("*".join(map(glob.escape, pattern.split("*")))))
