"""Section 4: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import Claim, Part, at_least, at_most, within
from moebook.sections.speculative_decoding.effects import (
    draft_change,
    draft_gain,
    draft_lead,
    draft_steps,
)

SOURCE = {"model": ["Qwen3-30B-A3B"], "input_tokens": [128, 256, 512, 1024, 2048], "device": "H100"}
SMALL, MEDIUM, LARGE, LARGEST = (f"draft Qwen3-{size}" for size in ("0.6B", "1.7B", "4B", "8B"))
INSTEAD = {
    SMALL: ["draft tiny-draft-small"],
    MEDIUM: ["draft tiny-draft-medium", "draft tiny-draft-large"],
    LARGE: ["draft tiny-draft-large"],
    LARGEST: ["draft tiny-draft-large"],
}
gain = partial(draft_gain, instead=INSTEAD)
fall = partial(draft_change, axis="length", low=128, high=2048)

CLAIMS = (
    Claim(
        id="spec-medium-draft",
        statement=(
            "For Qwen3-30B-A3B the 1.7B draft is best: about 20 % over 8B at short inputs and 15 % "
            "over 4B at long ones; 0.6B is 25-35 % behind."
        ),
        decided_by=(
            "throughput with the 1.7B draft over the fastest other draft, and over each, at the "
            "shortest and longest inputs, each draft at its own acceptance"
        ),
        source_range={"over_8b_pct": 20, "over_4b_pct": 15, "draft_0_6b_behind_pct": [25, 35]},
        sweep="spec_length",
        source=SOURCE,
        parts=(
            Part(
                "1.7B is best",
                partial(draft_lead, draft=MEDIUM, instead=INSTEAD),
                at_least(0),
                why="the best draft is faster than the fastest other one",
            ),
            Part(
                "over 8B at the shortest input",
                partial(
                    gain,
                    draft=MEDIUM,
                    over=LARGEST,
                    where={"length": {"values": [128], "side": "smallest"}},
                ),
                within(15, 25),
                why="'about 20': 5 points to either side",
            ),
            Part(
                "over 4B at the longest input",
                partial(
                    gain,
                    draft=MEDIUM,
                    over=LARGE,
                    where={"length": {"values": [2048], "side": "largest"}},
                ),
                within(10, 20),
                why="'about 15': 5 points to either side",
            ),
            Part(
                "0.6B over 1.7B",
                partial(gain, draft=SMALL, over=MEDIUM, by="length"),
                within(-35, -25),
            ),
        ),
    ),
    Claim(
        id="spec-length",
        statement=(
            "Throughput falls with input length: about 15 % with the 1.7B draft, about 25 % with "
            "4B and 8B."
        ),
        decided_by=(
            "throughput at the longest over the shortest input, per draft, all drafts at the same "
            "set acceptance"
        ),
        source_range={"fall_pct_1_7b": 15, "fall_pct_4b_8b": 25},
        sweep="spec_length",
        source=SOURCE,
        parts=(
            Part("falls with every draft", fall, at_most(0)),
            Part(
                "with 1.7B",
                partial(fall, drafts=[MEDIUM], instead=INSTEAD),
                within(-20, -10),
                why="'about 15': 5 points to either side",
            ),
            Part(
                "with 4B and 8B",
                partial(fall, drafts=[LARGE, LARGEST], instead=INSTEAD),
                within(-30, -20),
                why="'about 25': 5 points to either side",
            ),
        ),
    ),
    Claim(
        id="spec-more-tokens",
        statement="More draft tokens always lower throughput.",
        decided_by=(
            "change of throughput at each single step in draft tokens, all drafts at the same set "
            "acceptance"
        ),
        source_range={"share_pct": 100},
        sweep="spec_tokens",
        source={"model": ["Qwen3-30B-A3B"], "device": "H100"},
        parts=(
            Part(
                "every step falls",
                draft_steps,
                at_most(0),
                share=0.95,
                contradicted_over=0.5,
                why=(
                    "5 % of the steps may be lost to noise; contradicted only where most steps rise"
                ),
            ),
        ),
    ),
)
