"""The temporary folder of a worker, which is its TMPDIR, and the shared memory of its engines: both
go with it, also where it was killed and where this process was, then at the next start.

Shared memory of a killed engine stays in /dev/shm under names that say nothing of their maker; so
what its processes have mapped is noted in the folder while they live."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from moebook.measure import files

PREFIX = "moebook-worker-"
NOTED = "shared-memory"
SHORT = Path("/tmp")
# A socket's path has at most 107 characters (unix(7)), and the engine names its own by a UUID.
LONGEST = 107 - len("/") - 36
SHARED = Path("/dev/shm")
LAST_S = 5.0  # killed processes get to end


def make() -> Path:
    """A new folder, named by this process; in SHORT where the user's TMPDIR is too deep for the
    sockets of an engine with several ranks."""
    prefix = f"{PREFIX}{os.getpid()}-"
    folder = tempfile.mkdtemp(prefix=prefix)
    if len(folder) > LONGEST and os.access(SHORT, os.W_OK):
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix=prefix, dir=SHORT)
    return Path(folder)


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


def wait(session: int) -> None:
    """Until the killed processes of a session have ended: until then they may write into its
    folder."""
    deadline = time.monotonic() + LAST_S
    while any(files.is_alive(pid) for pid in _of_session(session)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)


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
    homes = {Path(tempfile.gettempdir()), SHORT}
    for folder in (folder for home in homes for folder in home.glob(f"{PREFIX}*-*")):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        try:
            own = folder.stat().st_uid == os.getuid()
        except OSError:
            continue
        if own and owner.isdecimal() and not files.is_alive(owner):
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
