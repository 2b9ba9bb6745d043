"""What a step of speculative decoding yields.

Each step a draft proposes k tokens and the target verifies k + 1 at once. With a the acceptance,
the probability that a draft token is accepted given that those before it were, equal at every
position:

    tokens per step    E(a, k) = 1 + a + ... + a^k = (1 - a^(k+1)) / (1 - a)          (a = 1: k + 1)

Leviathan, Kalman, Matias 2023 (arXiv 2211.17192), equation 1."""

import numpy as np


def expected_tokens(acceptance: np.ndarray | float, k: np.ndarray | int) -> np.ndarray:
    """Tokens a sequence gains per step with k draft tokens, for numbers or arrays of equal shape.
    ValueError for an acceptance outside 0 to 1, or k under 0."""
    a, k = np.broadcast_arrays(np.asarray(acceptance, float), np.asarray(k, int))
    if not np.all((a >= 0) & (a <= 1) & (k >= 0)):
        raise ValueError(
            f"acceptance {acceptance!r} with {k} draft tokens: acceptance lies between 0 and 1, k "
            f"is 0 or more"
        )
    powers = np.arange(k.max(initial=0) + 1)
    return np.where(powers <= k[..., None], a[..., None] ** powers, 0).sum(axis=-1)
