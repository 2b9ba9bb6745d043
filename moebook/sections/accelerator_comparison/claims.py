"""Section 8: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import Claim, Part, at_least, at_most
from moebook.sections.accelerator_comparison.effects import (
    endpoint_lead,
    endpoint_lead_growth,
    exponent_rise,
)

SOURCE = {
    "model": ["Llama-4-Scout"],
    "device": "one H100 and one CS-3; precision not said, and differing by capacity",
}

CLAIMS = (
    Claim(
        id="cs3-latency",
        statement=(
            "Latency of Llama-4-Scout on one CS-3 is lower than on one H100, most at long "
            "sequences."
        ),
        decided_by=(
            "latency of an engine over that of a CS-3's endpoint at equal batch and length, and "
            "that ratio at the longest over the shortest length; a roofline of published figures "
            "decides nothing"
        ),
        source_range={},
        sweep="scout|endpoint",
        source=SOURCE,
        metric="e2e_s",
        parts=(
            Part("lower on CS-3", partial(endpoint_lead, source_device="CS-3"), at_least(1)),
            Part(
                "most at long sequences",
                partial(endpoint_lead_growth, source_device="CS-3"),
                at_least(1),
            ),
        ),
    ),
    Claim(
        id="h100-knee",
        statement="H100 latency climbs sharply beyond 1024 tokens; CS-3 latency climbs gradually.",
        decided_by="exponent of latency against length above 1024 tokens less the one below",
        source_range={"knee_tokens": 1024},
        sweep="scout|endpoint",
        source=SOURCE,
        metric="e2e_s",
        parts=(
            Part(
                "H100 climbs sharply",
                partial(exponent_rise, at=1024),
                at_least(0.1),
                why=(
                    "each doubling then costs 7 % more than a doubling below did; less no reader "
                    "of a curve would call a knee"
                ),
            ),
            Part(
                "CS-3 climbs gradually",
                partial(exponent_rise, at=1024, endpoint=True, source_device="CS-3"),
                at_most(0.1),
                why="the same bound from the other side",
            ),
        ),
    ),
)
