"""The lock of an outputs folder, held while something measures into it, so that two runs cannot
interleave.

.lock         of the folder, shared by the jobs of an array
.lock.3of8    of one such job, which holds its own as well"""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from moebook.measure.store import Unwritable
from moebook.problems import Told


class FolderInUse(Told, RuntimeError):
    """Another run measures into this folder."""


@contextmanager
def locked(folder: Path, part: str | None = None) -> Iterator[None]:
    """part: the name of a shard, which shares the folder with other shards and with nothing else.
    FolderInUse, Unwritable."""
    with ExitStack() as stack:
        whole = fcntl.LOCK_EX if part is None else fcntl.LOCK_SH
        stack.enter_context(_held(folder / ".lock", whole))
        if part is not None:
            stack.enter_context(_held(folder / f".lock.{part}", fcntl.LOCK_EX))
        yield


@contextmanager
def _held(path: Path, how: int) -> Iterator[None]:
    with _lock_file(path) as handle:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(
                f"another run measures into {path.parent} ({path.name} is held); wait for it, or "
                "give this one another `output_root` or `profile`"
            ) from None
        except OSError as error:
            raise Unwritable(
                f"cannot lock {path}: {error.strerror}; choose a file system that has locks with "
                "`output_root`"
            ) from None
        yield


def _lock_file(path: Path) -> IO[str]:
    """Open to read and write: NFS turns `flock` into byte-range locks, whose shared kind needs a
    file that can be read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise Unwritable(
            f"cannot write {path}: {error.strerror}; choose another folder with `output_root` or "
            "make this one writable"
        ) from None
