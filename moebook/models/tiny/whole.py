"""Whether what lies in the cache of the tiny family is whole, as far as it can be seen without
reading weights; what is not is set aside with a word and made again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

RECORD = "training.json"
RECORDED = ("loss", "perplexity", "unigram_perplexity", "parameters", "steps", "tokens", "load")
CORPUS = "corpus.json"
ASIDE = ".damaged"


def damage(member: Path) -> str | None:
    """What is wrong with a trained member's folder; None of a whole one."""
    from safetensors import SafetensorError, safe_open

    try:
        record = _object(member / RECORD)
        if lacking := [name for name in RECORDED if name not in record]:
            return f"{RECORD} has no {', '.join(lacking)}"
        _object(member / "config.json")
        weights = sorted(member.glob("*.safetensors"))
        for path in weights:
            with safe_open(path, framework="np"):  # its header, held against its size
                pass
    except (OSError, ValueError, SafetensorError) as error:
        return f"{type(error).__name__}: {error}"
    return None if weights else "it has no weights"


def corpus_damage(corpus: Path) -> str | None:
    """What is wrong with a corpus folder; None of a whole one."""
    try:
        _object(corpus / CORPUS)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None if any(corpus.glob("train-*.npy")) else "it has no tokens to train on"


def _object(path: Path) -> dict:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds no object")
    return found


def set_aside(folder: Path, why: str, say: Callable[[str], object]) -> None:
    """Move a damaged folder to NAME.damaged, in the place of an earlier one."""
    aside = folder.with_name(folder.name + ASIDE)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    say(f"{folder} is damaged ({why}); set aside as {aside.name} and made again")
