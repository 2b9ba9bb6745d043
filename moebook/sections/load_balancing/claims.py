"""Section 7: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import Claim, Part, at_least, at_most, within
from moebook.sections.load_balancing.effects import (
    coefficient_steps,
    imbalance_ratio,
    importance_rank,
    perplexity_cost,
)

SOURCE = {"model": ["DeepSeek-VL2", "MolmoE-1B"]}
UNTESTED = (
    "needs that model's trained weights and the MME images, which this study did not have; to test "
    "it: with the checkpoint and images at hand, moebook/engine/hf/routing.py counts its expert "
    "choices, and notebook 07's parameters checkpoints and checkpoint_texts do so for text"
)

CLAIMS = (
    Claim(
        id="balance-vl2",
        statement=(
            "DeepSeek-VL2 loads its experts nearly uniformly, with a peak near 290 thousand "
            "activations on MME."
        ),
        decided_by="max over mean activations per layer of DeepSeek-VL2 on MME",
        source_range={"peak_activations": 290000},
        untested=UNTESTED,
    ),
    Claim(
        id="balance-molmoe",
        statement=(
            "MolmoE-1B loads its experts unevenly, up to about a million activations for some."
        ),
        decided_by="max over mean activations per layer of MolmoE-1B on MME",
        source_range={"peak_activations": 1000000},
        untested=UNTESTED,
    ),
    Claim(
        id="balance-aux-loss",
        statement="The auxiliary loss in training is why a model is balanced.",
        decided_by=(
            "coefficient of variation of expert counts of small MoEs trained alike but for the "
            "balance loss, without it over with it on the same held-out text, and its fall with "
            "the loss's coefficient"
        ),
        source_range={},
        sweep="balance|training",
        source=SOURCE,
        metric="balance_cv",
        parts=(
            Part(
                "uneven without the loss",
                partial(imbalance_ratio, over="aux-"),
                at_least(1.5, contradicted_below=1.1),
                why=(
                    "1.5 times as uneven is plain to see in a heat map; under 1.1 the loss does "
                    "next to nothing"
                ),
            ),
            Part(
                "more loss, more even",
                partial(
                    coefficient_steps,
                ),
                at_least(80, contradicted_below=50),
                why="each coefficient against the next weaker one, the weakest against none",
            ),
            Part(
                "loss-free balancing",
                partial(imbalance_ratio, over="loss-free"),
                at_least(1.5, contradicted_below=1.1),
                decides=False,
                why="a selection bias balances without an auxiliary loss",
            ),
            Part(
                "what it costs in perplexity",
                partial(
                    perplexity_cost,
                ),
                at_most(2),
                decides=False,
                why="the loss pulls against the language loss",
            ),
        ),
    ),
    Claim(
        id="frequency-not-importance",
        statement=(
            "In balanced models activation frequency alone is no measure of an expert's importance."
        ),
        decided_by=(
            "Spearman's rank correlation, within layers, of how often an expert is chosen with "
            "what perplexity rises by without it, in variants trained to be balanced"
        ),
        source_range={},
        sweep="importance",
        source=SOURCE,
        metric="perplexity",
        parts=(
            Part(
                "frequency against importance",
                partial(importance_rank, series=["aux-", "loss-free"]),
                within(-0.5, 0.5, slack=0, contradicted_below=-0.7, contradicted_above=0.7),
                why=(
                    "at 0.5 frequency explains a quarter of the variance of ranks, so it is no "
                    "measure alone; at 0.7 half of it"
                ),
            ),
            Part(
                "in the unbalanced variant",
                partial(importance_rank, series="no-balance"),
                within(-0.5, 0.5, slack=0, contradicted_below=-0.7, contradicted_above=0.7),
                decides=False,
                why="where some experts are hardly chosen, frequency must tell at least that",
            ),
        ),
    ),
)
