"""Section 3: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import Claim, Part, at_least, at_most, no_effect
from moebook.results.gains import series_gain
from moebook.sections.pruning.pruned import BASELINE, KINDS, SWEEP, series_name

SOURCE = {
    "model": ["OLMoE-1B-7B", "Qwen1.5-MoE-A2.7B"],
    "batch": [16],
    "input_tokens": [2048],
    "device": "4xH100",
    "devices": [4],
}


def _claim(name: str, statement: str, decided_by: str, ratio_pct=None, *, parts) -> Claim:
    """A claim of Fig 11. ratio_pct: what is pruned, where the source states it (%)."""
    stated = {} if ratio_pct is None else {"ratio_pct": ratio_pct}
    return Claim(name, statement, decided_by, stated, SWEEP, SOURCE, parts)


def _gain(*ratios_pct: float, kinds=KINDS, **more) -> partial:
    """The gain over the whole model (%) of these kinds and ratios."""
    series = [series_name(kind, ratio) for kind in kinds for ratio in ratios_pct]
    return partial(series_gain, series=series, over=BASELINE, **more)


CLAIMS = (
    _claim(
        "prune-small-hurts",
        "Pruning 12.5 or 25 % can lower throughput.",
        "least gain over unpruned at 12.5 and 25 %, over models, kinds and top-k",
        [12.5, 25],
        parts=(
            Part(
                "least gain",
                _gain(12.5, 25),
                at_most(-1),
                some=True,
                why="'can' asks for one cell: the least of all, selected, so its interval must "
                "hold at a level that allows for the choice; 1 % as no finer difference holds",
            ),
        ),
    ),
    _claim(
        "prune-half-helps",
        "Pruning 50 % raises throughput significantly.",
        "gain over unpruned at 50 %, at each model, kind and top-k",
        50,
        parts=(
            Part(
                "both kinds",
                _gain(50, by="top_k"),
                at_least(10, contradicted_below=5),
                why="the source prints no number; significant is read as 10 %, and under 5 % as "
                "none",
            ),
            *(
                Part(
                    name,
                    _gain(50, kinds=[kind], by="model"),
                    at_least(10, contradicted_below=5),
                    decides=False,
                )
                for kind, name in KINDS.items()
            ),
        ),
    ),
    _claim(
        "prune-intra-topk",
        "On OLMoE, 50 % intra-expert pruning holds or raises throughput at large top-k.",
        "throughput at 50 % intra-expert pruning over unpruned at OLMoE's pretrained top-k",
        50,
        parts=(
            Part(
                "at top-k 8",
                _gain(
                    50,
                    kinds=["intra"],
                    model="OLMoE-1B-7B",
                    like="qwen2-moe",
                    where={"top_k": {"values": [8], "side": "largest"}},
                ),
                at_least(0),
            ),
        ),
    ),
    _claim(
        "prune-no-gain",
        "Pruning does not significantly speed up vLLM (LExI, contradicting the above).",
        "throughput of pruned over unpruned at each ratio, kind and top-k",
        parts=(
            Part(
                "gain",
                _gain(12.5, 25, 50, by="model"),
                no_effect(5, contradicted_beyond=10),
                why="two one-sided tests; no number is printed; under 5 % is read as no "
                "significant gain, over 10 % as one",
            ),
        ),
    ),
)
