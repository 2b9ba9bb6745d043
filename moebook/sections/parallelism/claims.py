"""Section 5: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import Claim, Part, at_least, at_most
from moebook.sections.parallelism.effects import device_exponent, mode_gain

SOURCE = {"model": ["Mixtral-8x7B", "OLMoE"], "device": "1 to 4 x H100"}
WHERE = {"batch": {"values": [16], "side": "largest"}}

CLAIMS = (
    Claim(
        id="tp-scales",
        statement=(
            "Tensor parallelism without expert parallelism gives over 2 times the throughput from "
            "1 to 4 GPUs."
        ),
        decided_by=(
            "exponent p of throughput ~ devices^p from 1 to 4 devices with TP, as run, or composed "
            "of one rank's time and communication"
        ),
        source_range={"gpus": [1, 4], "at_least_times": 2},
        sweep="modes|composed",
        source=SOURCE,
        parts=(
            Part(
                "over 2 times on 4 devices",
                partial(device_exponent, modes=["TP"], devices=4, where=WHERE),
                at_least(0.5),
                why="2 times on 4 devices is 4^0.5; the exponent also reads 2 devices",
            ),
        ),
    ),
    Claim(
        id="tp-beats-ep",
        statement="Tensor with expert parallelism scales less than tensor parallelism alone.",
        decided_by="throughput of TP+EP over TP on 4 devices, as run, or composed",
        source_range={"gpus": [1, 4]},
        sweep="modes|composed",
        source=SOURCE,
        parts=(
            Part(
                "TP+EP over TP",
                partial(mode_gain, mode="TP+EP", over="TP", devices=4, where=WHERE),
                at_most(0),
            ),
        ),
    ),
    Claim(
        id="pp-flat",
        statement="Pipeline parallelism, with or without expert parallelism, barely gains.",
        decided_by=(
            "exponent p of throughput ~ devices^p from 1 to 4 devices with PP and PP+EP, as run, "
            "or composed between its two bounds"
        ),
        source_range={"gpus": [1, 4]},
        sweep="modes|composed",
        source=SOURCE,
        parts=(
            Part(
                "nearer to nothing than to a doubling",
                partial(device_exponent, modes=["PP", "PP+EP"], devices=4, where=WHERE),
                at_most(0.25),
                why=(
                    "4^0.25 = 1.41 lies halfway, as a ratio, between no gain and twice the "
                    "throughput"
                ),
            ),
        ),
    ),
)
