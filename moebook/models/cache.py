"""Folders that appear whole or not at all, and locks so that two processes do not make the same
one."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """`$MOEBOOK_CACHE`, or ~/.cache/moebook."""
    return Path(os.environ.get("MOEBOOK_CACHE") or "~/.cache/moebook").expanduser()


@contextmanager
def building(folder: Path, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends well; what was
    there first stays, or with `replace` goes then."""
    partial = folder.parent / f".{folder.name}.partial-{os.getpid()}"
    old = folder.parent / f".{folder.name}.old-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if replace and folder.exists():
            folder.rename(old)
        if not folder.exists():
            partial.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Holds the lock of a folder's name across processes; False where another holds it and `wait`
    is False. The kernel frees the lock of a process that ends, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
