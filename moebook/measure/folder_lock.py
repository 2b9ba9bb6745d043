"""The lock of an outputs folder, held while something measures into it, so that two runs cannot
interleave.

The folder itself is locked, where its file system can lock folders, so that no removed file opens
it to another run; and files in it, which network file systems can lock, too:

.lock         of the folder, shared by the jobs of an array
.lock.of8     shared by the jobs of an array of eight: one of another count splits otherwise
.lock.3of8    of one such job, which holds its own as well"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from moebook.measure.files import Unwritable
from moebook.problems import Told
from moebook.study.estimates import Shard


class FolderInUse(Told, RuntimeError):
    """Another run measures into this folder."""


class Held:
    """A locked folder."""

    def __init__(self, folder: Path):
        self.folder, self.handle = folder, os.open(folder, os.O_RDONLY)

    def check(self) -> None:
        """Unwritable where the folder was removed or replaced since: what is measured now would be
        beside what was measured before."""
        try:
            same = os.path.samestat(os.stat(self.folder), os.fstat(self.handle))
        except OSError:
            same = False
        if not same:
            raise Unwritable(
                f"{self.folder} was removed or replaced while this run measured into it: what it "
                "held is gone with it; stopped, the same command begins again"
            )


@contextmanager
def locked(folder: Path, shard: Shard | None = None) -> Iterator[Held]:
    """shard: shares the folder with others of the same count and with nothing else. FolderInUse,
    Unwritable."""
    with ExitStack() as stack:
        whole = fcntl.LOCK_EX if shard is None else fcntl.LOCK_SH
        _open(folder / ".lock", stack, whole)
        held = Held(folder)
        stack.callback(os.close, held.handle)
        try:
            _lock(held.handle, folder, whole)
        except Unwritable:  # a network file system locks files alone
            pass
        if shard is not None:
            of = f".lock.of{shard.count}"
            _open(folder / of, stack, fcntl.LOCK_SH)
            for other in folder.glob(".lock.of*"):
                if other.name != of:
                    with ExitStack() as trial:
                        _open(other, trial, fcntl.LOCK_EX)
            _open(folder / f".lock.{shard.name}", stack, fcntl.LOCK_EX)
        yield held


def _open(path: Path, stack: ExitStack, how: int) -> IO[str]:
    """Open to read and write, and locked: NFS turns `flock` into byte-range locks, whose shared
    kind needs a file that can be read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = stack.enter_context(path.open("a+"))
    except OSError as error:
        raise Unwritable(
            f"cannot write {path}: {error.strerror}; choose another folder with `output_root` or "
            "make this one writable"
        ) from None
    _lock(handle, path, how)
    return handle


def _lock(handle: IO[str] | int, path: Path, how: int) -> None:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        other = ""
        if path.name.startswith(".lock.of"):
            other = f" as one of {path.name.removeprefix('.lock.of')} jobs: give all the same count"
        raise FolderInUse(
            f"another run measures into {path.parent}{other} ({path.name} is held); wait for it, "
            "or give this one another `output_root` or `profile`"
        ) from None
    except OSError as error:
        raise Unwritable(
            f"cannot lock {path}: {error.strerror}; choose a file system that has locks with "
            "`output_root`"
        ) from None
