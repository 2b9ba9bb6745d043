"""Files that appear whole or not at all, what killed runs left of them, and files that are none.

A temporary file is `.NAME.PID-HOST-RANDOM.tmp` beside its NAME: whether its process still lives can
be asked, so the next run removes what a killed one left."""

import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from moebook.problems import Told

A_DAY_S = 86400.0  # a temporary file of another host is no longer written then


class Unwritable(Told, OSError):
    """The outputs folder cannot be written."""


class NoFile(ValueError):
    """What stands in a file's place cannot be read; the text says what it is."""


def write_atomic(path: Path, data: bytes, place: Callable[[str, Path], None] = os.replace) -> None:
    """All of the file or none of it, also when the machine stops in between. place: puts the whole
    file where it belongs."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        own = f".{path.name[:100]}.{os.getpid()}-{socket.gethostname()[:40]}-"
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=own, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        place(temporary, path)
    except OSError as error:
        if temporary is not None:
            _remove(Path(temporary))
        raise Unwritable(
            f"cannot write {path}: {error.strerror}; choose another folder (`output_root`, or "
            f"the options --output-root and --output) or make this one writable"
        ) from None


def unless_there(temporary: str, path: Path) -> None:
    """As os.replace, but of several writers the first decides, also of two at the same moment."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not os.path.lexists(path):
            return os.replace(temporary, path)
    os.unlink(temporary)


def read(path: str | Path) -> bytes:
    """The content of a regular file. NoFile for a folder, a pipe, a loop of links or one that may
    not be read, and FileNotFoundError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise NoFile("is no file")
            data = os.read(handle, found.st_size + 1)
            while len(data) >= found.st_size + 1 and (more := os.read(handle, 1 << 20)):
                data += more
        finally:
            os.close(handle)
        return data
    except FileNotFoundError:
        if os.path.islink(path):
            raise NoFile("is a link to nothing") from None
        raise
    except OSError as error:
        raise NoFile(f"cannot be read: {error.strerror}") from None


def set_aside(path: Path, suffix: str = ".corrupt") -> Path:
    """Move what is there out of the way; its new path, beside the old. Unwritable."""
    for number in range(1, 1000):
        aside = path.with_name(path.name + suffix + (f".{number}" if number > 1 else ""))
        if not os.path.lexists(aside):
            break
    try:
        os.rename(path, aside)
    except OSError as error:
        raise Unwritable(f"cannot move {path} out of the way: {error.strerror}") from None
    return aside


def clean(folder: Path, alone: bool = False) -> None:
    """Remove the temporary files of processes that have ended. alone: nobody else writes here, so
    all hidden files are such."""
    for path in folder.glob(".*"):
        if path.name.startswith(".lock") or path.is_symlink() or not path.is_file():
            continue
        if alone or (path.name.endswith(".tmp") and _is_left(path)):
            _remove(path)


def _is_left(path: Path) -> bool:
    owner, _, rest = path.name.removesuffix(".tmp").rpartition(".")[2].partition("-")
    try:
        if rest.rpartition("-")[0] != socket.gethostname()[:40]:
            return time.time() - path.stat().st_mtime > A_DAY_S
        return owner.isdecimal() and not is_alive(owner)
    except OSError:
        return False


def is_alive(pid: str) -> bool:
    """False also of a process that has ended and whose parent has not asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:  # read-only by now: it stays, and no reader looks at it
        pass


def listed(folder: str | Path) -> list[str]:
    """Names of what lies in a folder; none of what is no folder, or may not be read."""
    try:
        return os.listdir(folder)
    except PermissionError:
        return []
    except OSError:
        if os.path.isdir(folder):
            raise
        return []
