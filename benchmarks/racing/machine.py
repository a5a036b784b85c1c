"""The machine of the race: its name, and how busy it is."""

from __future__ import annotations

import os
import platform
from pathlib import Path

CPU_INFO, BUSY = Path("/proc/cpuinfo"), Path("/proc/stat")


def processor() -> str:
    """The name of the processor."""
    if CPU_INFO.exists():
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_gb() -> float:
    """Main memory in units of 2^30 bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_seconds() -> float | None:
    """Seconds that the cores have worked since the start of the machine; None if nothing says."""
    if not BUSY.exists():
        return None
    first = BUSY.read_text(encoding="ascii").partition("\n")[0]
    user, nice, system, _, _, *interrupts = map(int, first.split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
