"""Text of the user's own that the tiny family learns from, in place of the standard library.

`MOEBOOK_TEXT` names UTF-8 files, joined as in PATH; `moebook train tiny --text FILE` names them for
one command. Their content is part of what the family is: it names the folder of the trained models
and enters the key of every point that rests on one, so that no result of another text is taken for
theirs.
"""

import functools
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from moebook import paths
from moebook.models.tiny.corpus import BLOCK, CorpusError, Document, blocks

VARIABLE = "MOEBOOK_TEXT"
RULE = 2  # raise it whenever the same files would give another text
LEAST = 50 * BLOCK  # characters; of fewer, often none would be held out


def files() -> tuple[str, ...]:
    """The files that MOEBOOK_TEXT names, from the current folder or from the checkout's root."""
    return tuple(
        paths.given(name) for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name
    )


def identity() -> dict:
    """What the user's text adds to the key of a point that rests on the tiny family: nothing where
    MOEBOOK_TEXT is not set. CorpusError where it names no text, or too little of it."""
    own = files()
    if not own:
        return {}
    if (length := sum(len(read(file)) for file in own)) < LEAST:
        raise CorpusError(
            f"{VARIABLE}={os.pathsep.join(own)}: {length} characters are too few to "
            f"train on; give {LEAST} or more, {4 * LEAST} if you can"
        )
    return {"own_text": facts(own)}


def facts(text_files: Iterable[str]) -> list:
    """Rule and digests of text files; empty for none."""
    found = [_digest(file) for file in text_files]
    return [RULE, *found] if found else []


def _digest(file: str) -> str:
    return hashlib.sha256(read(file).encode()).hexdigest()


def documents(text_files: Iterable[Path | str]) -> list[Document]:
    """Paragraphs of text files, each a document. Raises CorpusError."""
    found = [
        Document(piece, "all", piece)
        for file in text_files
        for block in blocks(read(file))
        for piece in _cut(block)
    ]
    if not found:
        raise CorpusError(f"{named(text_files)} is empty; name files that hold text")
    return found


def named(text_files: Iterable[Path | str]) -> str:
    """What named the files, and they."""
    return ", ".join(map(_named, text_files)) or "the standard library's text"


def _cut(block: str) -> list[str]:
    """A block that is one long line, cut: a file without line ends is no single paragraph."""
    if len(block) <= 10 * BLOCK:
        return [block]
    return [block[at : at + BLOCK] for at in range(0, len(block), BLOCK)]


def read(file: Path | str) -> str:
    """A text file. CorpusError where it is missing or no text, with what named it."""
    path = Path(file).absolute()
    try:
        if not path.is_file():
            raise CorpusError(f"{_named(file)}: there is no file {path}; name a UTF-8 text file")
        return _decoded(path, path.stat().st_mtime_ns, path.stat().st_size)
    except OSError as error:
        raise CorpusError(
            f"{_named(file)}: cannot be read ({error.strerror}); make it readable, or name another"
        ) from None
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{_named(file)} is no UTF-8 text ({error.reason} at byte {error.start}); "
            "convert it to UTF-8 first"
        ) from None
    except _Binary:
        raise CorpusError(
            f"{_named(file)} is a binary file (it holds NUL bytes); name a UTF-8 text file"
        ) from None


def _named(file: Path | str) -> str:
    return f"{VARIABLE}={file}" if str(file) in files() else f"--text {file}"


class _Binary(Exception):  # noqa: N818
    """The file holds NUL bytes."""


@functools.lru_cache(maxsize=8)
def _decoded(path: Path, changed_ns: int, size: int) -> str:
    """The file's text, read once as long as it does not change: every key asks for it."""
    data = path.read_bytes()
    if b"\0" in data:
        raise _Binary
    return data.decode("utf-8")
