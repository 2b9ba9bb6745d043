"""The temporary folder of a worker, which is its TMPDIR, and the shared memory of its engines: both
go with it, also where it was killed and where this process was, then at the next start.

Shared memory of a killed engine stays in /dev/shm under names that say nothing of their maker; so
what its processes have mapped is noted in the folder while they live."""

import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "moebook-worker-"
NOTED = "shared-memory"
SHARED = Path("/dev/shm")


def make() -> Path:
    """A new folder, named by this process."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))


def note(folder: Path, session: int) -> None:
    """Write down the shared memory that the processes of a session have mapped now."""
    names = {name for pid in _of_session(session) for name in _mapped(pid)}
    if not names:
        return
    try:
        with (folder / NOTED).open("a") as file:
            file.write("".join(f"{name}\n" for name in sorted(names)))
    except OSError:  # the folder was removed: what it held is not known any more
        pass


def remove(folder: Path) -> None:
    """The folder, and the shared memory noted in it that nobody has mapped any more."""
    try:
        noted = set((folder / NOTED).read_text().split("\n")) - {""}
    except OSError:
        noted = set()
    if noted:
        used = {name for pid in _processes() for name in _mapped(pid)}
        for name in noted - used:
            (SHARED / Path(name).name).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def clean() -> None:
    """What processes left that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        try:
            own = folder.stat().st_uid == os.getuid()
        except OSError:
            continue
        if own and owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            remove(folder)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _of_session(session: int) -> list[int]:
    found = []
    for pid in _processes():
        try:
            if os.getsid(pid) == session:
                found.append(pid)
        except OSError:
            continue
    return found


def _mapped(pid: int) -> set[str]:
    """Names in /dev/shm that a process has mapped; none of one that is not ours."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    mark = f" {SHARED}/"
    return {line.partition(mark)[2].removesuffix(" (deleted)") for line in lines if mark in line}
