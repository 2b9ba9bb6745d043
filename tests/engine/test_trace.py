"""Decode steps read from the engine's deliveries, whole batches and a pipeline's micro-batches."""

import numpy as np
import pytest

from moebook.engine.vllm.timing import STEPS_DISCARDED, Trace

BATCH, SPLIT, ROUND_S = 16, (10, 6), 0.02


def trace(rounds: int, split: tuple[int, ...]) -> Trace:
    """Prefill in two deliveries, then `rounds` of decoding whose parts come evenly in time; the
    last round ends all."""
    made = Trace([0.1, 0.3], [9, 7], [9, 16], [False, False])
    for i in range(rounds * len(split)):
        made.times.append(0.3 + ROUND_S * (i + 1) / len(split))
        made.tokens.append(split[i % len(split)])
        made.joined.append(BATCH)
        made.ended.append(i >= (rounds - 1) * len(split))
    return made


@pytest.mark.parametrize("split", [(BATCH,), SPLIT, (4, 4, 4, 4)])
def test_a_step_is_the_time_in_which_every_sequence_gains_a_token(split):
    steps = trace(30, split).steady_steps(BATCH)
    assert np.allclose(steps, ROUND_S, rtol=1e-6) and len(steps) >= 30 - STEPS_DISCARDED - 3


def test_micro_batches_of_unlike_duration_give_the_mean_round():
    made = trace(40, SPLIT)
    made.times = list(np.cumsum([0.1, 0.2, *[0.015, 0.005] * 40]))
    assert np.allclose(made.steady_steps(BATCH), ROUND_S)


def test_sequences_that_never_advance_together_give_no_step():
    assert len(trace(0, SPLIT).steady_steps(BATCH)) == 0
