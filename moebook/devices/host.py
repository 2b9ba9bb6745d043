"""The CPU of this machine: its name, the cores that this process may use, its memory. Linux and
macOS."""

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def core_ids() -> list[int]:
    """Numbers of the cores that this process may use; macOS does not say, there it is all of
    them."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cores() -> int:
    return len(core_ids())


def boot_id() -> str | None:
    """Linux's id of this start of the machine, the same in all of its containers; None elsewhere,
    or where it is not to be read."""
    try:
        return BOOT_ID.read_text().strip() or None
    except OSError:
        return None


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def busy_core_s() -> float | None:
    """Core seconds that all processes of the machine have taken since it was started; None where it
    does not say."""
    try:
        ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, *_ = map(int, ticks)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def session_core_s(session: int) -> float:
    """Core seconds of the processes of a session, with those of children that have ended."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_name() -> str:
    """The model's name, without cores: a machine pinned to fewer of them is the same CPU."""
    if CPUINFO.exists():
        return named_in(CPUINFO.read_text(), platform.machine())
    if platform.system() == "Darwin":
        return _of_macos()
    return f"{platform.machine()} CPU"


@cache
def flags() -> frozenset[str]:
    """What the CPU can do, in Linux's words; empty where it does not say."""
    text = CPUINFO.read_text() if CPUINFO.exists() else ""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split() if found else ())


def named_in(cpuinfo: str, machine: str) -> str:
    """From the text of /proc/cpuinfo. An Arm one has no model name but numbers of implementer and
    part."""

    def first(key: str) -> str | None:
        found = re.search(rf"^{key}\s*:\s*(.+?)\s*$", cpuinfo, re.MULTILINE)
        return found and found[1]

    if name := first("model name"):
        return name
    numbers = [n for n in (first("CPU implementer"), first("CPU part")) if n]
    return " ".join([f"{machine} CPU", *numbers])


def _of_macos() -> str:
    asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return f"{platform.machine()} CPU"
    return done.stdout.strip() or f"{platform.machine()} CPU"
