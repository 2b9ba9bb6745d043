"""Perplexity of a model on held-out windows, beside that of the unigram model of its training
tokens.

The windows are the first ones of a held-out text, as the engine's `text_windows` cuts them too; the
first token of a window is not predicted. The unigram model knows token frequencies alone (plus one
for each, so that unseen tokens are possible): a model that has learnt nothing of order does no
better."""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from moebook.models.tiny.recipes import Preset

_BATCH = 16  # windows of one forward pass


def windows(
    corpus_folder: Path, domain: str, count: int, length: int, spread: int = 1
) -> np.ndarray:
    """Up to `count` windows of `length` token ids from the head of a held-out text; spread n takes
    each n-th."""
    from transformers import AutoTokenizer

    count *= spread
    text = (corpus_folder / "heldout" / f"{domain}.txt").read_text(encoding="utf-8")[
        : 16 * count * length
    ]
    ids = AutoTokenizer.from_pretrained(corpus_folder / "tokenizer")(text)["input_ids"]
    count = min(count, len(ids) // length)
    return np.array(ids[: count * length]).reshape(count, length)[::spread]


def perplexities(
    model, corpus_folder: Path, preset: Preset, streams: dict[str, np.ndarray]
) -> dict:
    """`perplexity` and `unigram_perplexity` by held-out domain."""
    counts = sum(np.bincount(ids, minlength=preset.vocab) for ids in streams.values()) + 1
    surprise = -np.log(counts / counts.sum())
    found = {"perplexity": {}, "unigram_perplexity": {}}
    for path in sorted((corpus_folder / "heldout").glob("*.txt")):
        ids = windows(corpus_folder, path.stem, preset.eval_windows, preset.window)
        found["perplexity"][path.stem] = perplexity(model, ids)
        found["unigram_perplexity"][path.stem] = float(np.exp(surprise[ids[:, 1:]].mean()))
    return found


@torch.no_grad()
def perplexity(model, ids: np.ndarray) -> float:
    """Of windows (B, S), each read on its own."""
    losses = []
    for batch in torch.from_numpy(ids).to(model.device).split(_BATCH):
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1].float()  # (B, S - 1, V)
        losses.append(cross_entropy(logits.transpose(1, 2), batch[:, 1:], reduction="none").mean(1))
    return float(torch.cat(losses).double().mean().exp())
