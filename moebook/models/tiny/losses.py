"""What keeps the experts of a MoE layer equally busy (the Switch auxiliary loss, and the loss-free
selection bias), and the perplexity of a model on held-out windows.

    auxiliary loss   E * sum_e f_e P_e of each layer, averaged over layers: f_e the share of a
                     batch's choices that fell on expert e, P_e the mean router probability of e. 1
                     where all are equal, up to E where one gets all. Its gradient flows through P
                     only (Fedus et al., arXiv 2101.03961).
    loss-free        after each step the bias of an expert that got less than the mean rises by a
                     fixed step, that of one that got more falls; the bias moves the selection, not
                     the weights (Wang et al., arXiv 2408.15664).

Perplexity stands beside that of the unigram model of the training tokens, which knows token
frequencies alone (plus one for each, so that unseen tokens are possible): a model that has learnt
nothing of order does no better. Windows are the first ones of a held-out text, as the engine's
`text_windows` cuts them too; the first token of a window is not predicted.

Letters: T tokens, L layers, E experts, K experts per token.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from moebook.models.tiny.recipes import Preset

_ROUTER = "TopKRouter"  # end of the class names of transformers' routers


class Watch:
    """Collects, while it is open, what each router gives in a forward pass: logits (T, E) and
    chosen experts (T, K)."""

    def __init__(self, model):
        self.routers = [m for m in model.modules() if type(m).__name__.endswith(_ROUTER)]
        self.logits: list[torch.Tensor] = []
        self.chosen: list[torch.Tensor] = []
        self._hooks = [router.register_forward_hook(self._see) for router in self.routers]

    def _see(self, router, inputs, output) -> None:
        logits, _, chosen = output
        self.logits.append(logits)
        self.chosen.append(chosen)

    def clear(self) -> None:
        self.logits, self.chosen = [], []

    def counts(self) -> torch.Tensor:
        """Choices by layer and expert, (L, E)."""
        layers = zip(self.chosen, self.logits, strict=True)
        return torch.stack([expert_counts(c, logits.shape[-1]) for c, logits in layers])

    def auxiliary_loss(self) -> torch.Tensor:
        losses = map(auxiliary_loss, self.logits, self.chosen)
        return torch.stack(list(losses)).mean()

    def update_biases(self, step: float) -> None:
        for router, counts in zip(self.routers, self.counts(), strict=True):
            update_bias(router.moe_statics.e_score_correction_bias, counts, step)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *error) -> None:
        for hook in self._hooks:
            hook.remove()


def expert_counts(chosen: torch.Tensor, num_experts: int) -> torch.Tensor:
    """How often each expert was chosen: (T, K) to (E,)."""
    return torch.bincount(chosen.flatten(), minlength=num_experts)


def auxiliary_loss(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """The Switch loss of one layer, from router logits (T, E) and chosen experts (T, K)."""
    experts = logits.shape[-1]
    fraction = expert_counts(chosen, experts) / chosen.numel()  # (E,)
    probability = logits.float().softmax(-1).mean(0)  # (E,)
    return experts * (fraction * probability).sum()


@torch.no_grad()
def update_bias(bias: torch.Tensor, counts: torch.Tensor, step: float) -> None:
    """Moves the bias (1, E), in place, by `step` towards experts with less than the mean of
    `counts` (E,)."""
    counts = counts.to(bias.dtype)
    bias += step * torch.sign(counts.mean() - counts)


def imbalance(counts: torch.Tensor) -> float:
    """Load of the busiest expert over the mean load, averaged over layers: 1 is even. counts: (L,
    E)."""
    counts = counts.double()
    return float((counts.max(-1).values / counts.mean(-1)).mean())


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
