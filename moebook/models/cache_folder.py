"""Folders that appear whole or not at all, and locks so that two processes do not make the same
one."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moebook import paths
from moebook.problems import Told

VARIABLE = "MOEBOOK_CACHE"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


class NoFolder(Told, OSError):
    """A folder that is to hold models cannot be one."""


def root() -> Path:
    """`$MOEBOOK_CACHE`, or ~/.cache/moebook. NoFolder where the variable names none."""
    if wrong := problem():
        raise NoFolder(f"{VARIABLE}: given {os.environ.get(VARIABLE)!r}; {wrong}")
    return _folder()


def _folder() -> Path:
    return Path(os.environ.get(VARIABLE) or "~/.cache/moebook").expanduser()


def problem() -> str | None:
    """What is wrong with the variable's folder."""
    given = os.environ.get(VARIABLE)
    try:
        folder = _folder()
        wrong = paths.place_problem(folder) or paths.shipped_problem(folder)
    except (RuntimeError, OSError) as error:  # ~ of a user that is none; a name longer than a path
        wrong = getattr(error, "strerror", None) or str(error)
    if given and not wrong and not folder.is_absolute():  # a kernel runs in a folder of its own
        wrong = "it is no whole path"
    return wrong and f"{wrong}: give the path of a folder, from /"


def _make(folder: Path) -> None:
    """NoFolder where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        of = f"; {VARIABLE} names another" if folder.is_relative_to(root()) else ""
        raise NoFolder(f"cannot write the folder {folder}: {error.strerror}{of}") from None


@contextmanager
def building(folder: Path, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends well; what was
    there first stays, or with `replace` goes then.

    A process that is killed meanwhile leaves the old folder or the new one under the name, never
    a part; what it leaves beside it, the next call removes."""
    _make(folder.parent)
    _clean(folder)
    partial, lock = _claimed(folder)
    try:
        yield partial
        if not folder.exists():
            partial.rename(folder)
        elif replace:
            _exchange(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)


def _claimed(folder: Path) -> tuple[Path, int]:
    """A new temporary folder and its lock, which says that its process lives."""
    while True:
        partial = folder.parent / f".{folder.name}.partial-{uuid.uuid4().hex[:12]}"
        partial.mkdir()
        with contextlib.suppress(FileNotFoundError):  # another's _clean came before the lock
            lock = os.open(partial, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if partial.exists():
                return partial, lock
            os.close(lock)


def _clean(folder: Path) -> None:
    """Removes what killed processes left: the kernel has freed their locks. The old folder gets its
    name back where a kill came between two renames."""
    for left in sorted(folder.parent.glob(f".{_literal(folder.name)}.partial-*")):
        with contextlib.suppress(OSError):  # another process removes it, or still builds there
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)
    for old in sorted(folder.parent.glob(f".{_literal(folder.name)}.old-*")):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _exchange(new: Path, folder: Path) -> None:
    """Puts `new` in the place of `folder`, in one step where the kernel and file system can: then
    `new` holds the old one. Else in two, and `_clean` undoes the first where the second is
    missing."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    paths = (_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(folder))
    if rename is not None and rename(*paths, _RENAME_EXCHANGE) == 0:
        return
    old = folder.parent / f".{folder.name}.old-{uuid.uuid4().hex[:12]}"
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Holds the lock of a folder's name across processes; False where another holds it and `wait`
    is False. The kernel frees the lock of a process that ends, however it ends."""
    _make(folder.parent)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
