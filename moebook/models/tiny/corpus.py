"""The text that the tiny models learn from: the standard library of the Python that runs, or files
the user names.

No download, and the same text on every machine with the same Python. Three domains, so that a
router has something to tell apart:

    code     sources without their docstrings
    prose    docstrings, and the language reference that `help()` shows (pydoc_data/topics.py, topic
             by topic)
    numbers  modules of which digits are over 10 % of the characters, such as the tables of
             encodings/cp*.py

A module is held out (8 of 100, by the hash of its path) in all domains or in none. Near-copies
exist all the same: cp1250 resembles cp1252, so held-out numbers are easy. Files of the user
(own_text.py) form the one domain `all`, held out by paragraphs. The domain `all` of the library
mixes the three as training does (MIX). Text is cut into blocks of about BLOCK characters, in hash
order, so that the head of a file is a sample of the whole."""

import ast
import hashlib
import json
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from moebook.models.cache_folder import building
from moebook.problems import Told

DOMAINS = ("all", "code", "prose", "numbers")
MIX = {"code": 0.5, "prose": 0.3, "numbers": 0.2}
END = "<|end|>"
RULE = 1  # raise it whenever the same Python would give another text
HELD_OUT_PCT = 8
BLOCK = 1000  # characters
CALIBRATION = 200_000  # characters
_TESTS = {"test", "tests", "idlelib"}
_SKIPPED = {"site-packages", "dist-packages", "__pycache__", "lib-dynload"} | _TESTS
_TOPICS = "pydoc_data/topics.py"


class CorpusError(Told, ValueError):
    """There is no text to train on, or what was named is none."""


@dataclass(frozen=True)
class Document:
    """One text of one module (or topic, or paragraph); `module` decides on which side of the split
    it lies."""

    module: str
    domain: str
    text: str

    @property
    def held_out(self) -> bool:
        return _hash(self.module) % 100 < HELD_OUT_PCT


def _hash(text: str, salt: str = "") -> int:
    return int.from_bytes(hashlib.sha256((salt + text).encode()).digest()[:8], "big")


def stdlib(share: float = 1.0, root: Path | None = None) -> list[Document]:
    """Documents of the standard library. share: of the training modules, to train on less; held-out
    ones all stay.

    Modules of numbers, being few, get twice the share.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted(root.rglob("*.py")):
        module = path.relative_to(root)
        if _SKIPPED & set(module.parts) or not _wanted(module.as_posix(), share * 2):
            continue
        try:
            source = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        found += _documents(module.as_posix(), source, share)
    if not any(d.held_out for d in found) or all(d.held_out for d in found):
        raise CorpusError(
            f"{root} holds the sources of {len(found)} modules, too few to train on; name text "
            "files with --text FILE"
        )
    return found


def _documents(module: str, source: str, share: float) -> list[Document]:
    if module == _TOPICS:
        named = [(f"{module}#{topic}", text) for topic, text in _topics(source)]
        return [Document(name, "prose", text) for name, text in named if _wanted(name, share)]
    if _share_of_digits(source) > 0.1:
        return [Document(module, "numbers", source)]
    if not _wanted(module, share):
        return []
    parts = zip(("code", "prose"), split_docstrings(source), strict=True)
    return [Document(module, domain, text) for domain, text in parts if text.strip()]


def _wanted(module: str, share: float) -> bool:
    """Whether the module is held out, or in this share of the others."""
    return (
        module == _TOPICS
        or _hash(module) % 100 < HELD_OUT_PCT
        or _hash(module, "share") % 10_000 < 10_000 * share
    )


def _share_of_digits(text: str) -> float:
    return sum(map(text.count, "0123456789")) / max(1, len("".join(text.split())))


def _topics(source: str) -> Iterator[tuple[str, str]]:
    """The dictionary literal of pydoc's topics, without running the module."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            yield from sorted(ast.literal_eval(node.value).items())


def split_docstrings(source: str) -> tuple[str, str]:
    """Source without docstrings, and the docstrings. A docstring that shares its line with code
    stays there."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return source, ""
    lines, prose, gone = source.split("\n"), [], set()
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        text, first = ast.get_docstring(node), node.body[0] if node.body else None
        if text and lines[first.lineno - 1].lstrip()[:1] in tuple("\"'rRuU"):
            prose.append((first.lineno, text))
            gone |= set(range(first.lineno - 1, first.end_lineno))
    code = "\n".join(line for i, line in enumerate(lines) if i not in gone)
    return code, "\n\n".join(text for _, text in sorted(prose))


def blocks(text: str) -> list[str]:
    """The text in pieces of about BLOCK characters, cut at line ends."""
    found, piece, length = [], [], 0
    for line in text.splitlines(keepends=True):
        piece.append(line)
        length += len(line)
        if length >= BLOCK:
            found.append("".join(piece))
            piece, length = [], 0
    return [b for b in [*found, "".join(piece)] if b.strip()]


def side(documents: Iterable[Document], held_out: bool) -> dict[str, list[str]]:
    """Texts by domain of one side of the split."""
    found: dict[str, list[str]] = {}
    for document in documents:
        if document.held_out == held_out:
            found.setdefault(document.domain, []).append(document.text)
    return found


def sample(texts: dict[str, list[str]], limit: int | None = None) -> dict[str, str]:
    """By domain one text of blocks in hash order, and `all`: blocks of the domains in the
    proportions of MIX."""
    shuffled = {
        d: sorted((b for t in many for b in blocks(t)), key=_hash)
        for d, many in sorted(texts.items())
    }
    joined = {d: "\n".join(many)[:limit] for d, many in shuffled.items()}
    return joined if "all" in joined else {"all": "\n".join(_mixed(shuffled))[:limit], **joined}


def _mixed(shuffled: dict[str, list[str]]) -> Iterator[str]:
    """The domain that is furthest behind its share comes next, until one runs out."""
    queues, given = {d: iter(many) for d, many in shuffled.items()}, dict.fromkeys(shuffled, 0)
    while True:
        domain = min(queues, key=lambda d: given[d] / MIX[d])
        block = next(queues[domain], None)
        if block is None:
            return
        given[domain] += len(block)
        yield block


def train_tokenizer(texts: Iterable[str], vocab_size: int):
    """A byte-level BPE with one special token, the end of a document."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def prepare(
    folder: Path, documents: list[Document], named: str, vocab_size: int, window: int
) -> dict:
    """Writes tokenizer, training tokens by domain (uint16), held-out and calibration texts; returns
    corpus.json. named: the text's files, for errors.

    Raises CorpusError where a side has fewer tokens than a training window.
    """
    import numpy as np

    train, held = side(documents, held_out=False), side(documents, held_out=True)
    missing = set(train) ^ set(held) or (set() if train else {"all"})
    if missing:
        raise CorpusError(
            f"{named}: too little text to hold a part out ({', '.join(sorted(missing))}); give a "
            f"longer text, {200 * BLOCK} characters or more, that does not repeat itself"
        )
    tokenizer = train_tokenizer(
        (b for d in sorted(train) for t in train[d] for b in blocks(t)), vocab_size
    )
    heldout = sample(held)
    tokens = {d: _encode(tokenizer, many) for d, many in sorted(train.items())}
    lengths = {
        d: len(tokenizer(text[: 40 * CALIBRATION])["input_ids"]) for d, text in heldout.items()
    }
    for domain, count in [*((d, len(t)) for d, t in tokens.items()), *lengths.items()]:
        if count <= 2 * window:
            raise CorpusError(
                f"{named}: {count} tokens in domain {domain!r} on one side of the split, and "
                f"training needs {2 * window + 1} or more; give a longer text, {200 * BLOCK} "
                "characters or more"
            )
    with building(folder) as partial:
        tokenizer.save_pretrained(partial / "tokenizer")
        for domain, ids in tokens.items():
            np.save(partial / f"train-{domain}.npy", ids)
        for domain, text in heldout.items():
            _write(partial / "heldout" / f"{domain}.txt", text)
        _write(partial / "calibration.txt", sample(train, CALIBRATION)["all"])
        digest = hashlib.sha256(
            b"".join(t.tobytes() for t in tokens.values()) + heldout["all"].encode()
        ).hexdigest()[:16]
        modules = [{d.module for d in documents if d.held_out == out} for out in (False, True)]
        facts = {
            "digest": digest,
            "train_tokens": sum(map(len, tokens.values())),
            "heldout_tokens": lengths["all"],
            "modules": len(modules[0]),
            "heldout_modules": len(modules[1]),
            "domains": {d: len(t) for d, t in tokens.items()},
        }
        _write(partial / "corpus.json", json.dumps(facts, indent=1))
    return facts


def _encode(tokenizer, texts: list[str]):
    """All texts, each closed by the end token, as one array."""
    import numpy as np

    ids = tokenizer(texts)["input_ids"]
    return np.concatenate(
        [np.array([*one, tokenizer.eos_token_id], dtype=np.uint16) for one in ids]
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
