"""What keeps the experts of a MoE layer equally busy: the Switch auxiliary loss, and the loss-free
selection bias.

    auxiliary loss   E * sum_e f_e P_e of each layer, averaged over layers: f_e the share of a
                     batch's choices that fell on expert e, P_e the mean router probability of e. 1
                     where all are equal, up to E where one gets all. Its gradient flows through P
                     only (Fedus et al., arXiv 2101.03961).
    loss-free        after each step the bias of an expert that got less than the mean rises by a
                     fixed step, that of one that got more falls; the bias moves the selection, not
                     the weights (Wang et al., arXiv 2408.15664).

Letters: T tokens, L layers, E experts, K experts per token.
"""

import torch

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
