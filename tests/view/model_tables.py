"""Synthetic summaries of section 9: whole models in two formats, language parts, routing imposed.
No number here was measured."""

import pandas as pd
import section_tables as t

LLMS = (
    "Mixtral-8x7B-v0.1",
    "Qwen1.5-MoE-A2.7B",
    "Qwen3-30B-A3B",
    "DeepSeek-V2-Lite",
    "Phi-3.5-MoE-instruct",
    "OLMoE-1B-7B-0125",
)
VLMS = ("deepseek-vl2-tiny-textonly", "deepseek-vl2-small-textonly", "deepseek-vl2-base-textonly")
SPEED = dict(zip(LLMS, (0.5, 0.9, 0.7, 1.1, 0.4, 2.0), strict=True))
FORMATS = {"bf16": (None, 1.0), "fp8": ("fp8", 1.2)}
NO_ROOM = ("Mixtral-8x7B-v0.1", "Phi-3.5-MoE-instruct")


def models(
    speed: dict = SPEED,
    formats=FORMATS,
    oom=NO_ROOM,
    imposed=("DeepSeek-V2-Lite",),
    sweep="llms",
    tokens=2048,
    **more,
) -> pd.DataFrame:
    """Each model at `speed` times the base in each format; `oom` ones have no bf16, Mixtral's fp8
    is by depth."""
    rows = []
    for series, (quantization, gain) in formats.items():
        for model, own in speed.items():
            gone = model in oom and series == "bf16"
            method = (
                "depth+sampled" if model.startswith("Mixtral") and series == "fp8" else "sampled"
            )
            row = t.point(
                sweep,
                model,
                series,
                64,
                tokens,
                own * gain,
                method=method,
                status="oom" if gone else "ok",
                key=f"{sweep}/{model}/{series}",
                skew=0.0 if model in imposed else None,
                routing="uniform" if model in imposed else "model",
                **more,
            )
            rows.append(row | {"quantization": quantization, "device_kind": "h100"})
    table = pd.DataFrame(rows)
    floors = {f"floor_{m}": table[m] * (1.7 if m == "throughput_tok_s" else 0.6) for m in t.METRICS}
    predicted = {f"predicted_{m}": table[m] * 1.1 for m in t.METRICS}
    return table.assign(**floors, **predicted, predicted_how="left out")


def vision(speeds=(3.0, 1.5, 1.0)) -> pd.DataFrame:
    return models(
        dict(zip(VLMS, speeds, strict=True)), {"bf16": FORMATS["bf16"]}, imposed=VLMS, sweep="vlms"
    )


def imposing(cost: float = 0.97) -> pd.DataFrame:
    """OLMoE with its own routers, and `cost` times as fast with imposed ones."""
    own = models({LLMS[-1]: 1.0}, {"bf16": FORMATS["bf16"]}, sweep="imposing")
    drawn = models({LLMS[-1]: cost}, {"bf16": FORMATS["bf16"]}, imposed=LLMS[-1:], sweep="imposing")
    return pd.concat([own, drawn.assign(key=drawn["key"] + "/imposed")], ignore_index=True)


def everything() -> pd.DataFrame:
    return pd.concat([models(), vision(), imposing()], ignore_index=True)


def small() -> pd.DataFrame:
    """As the CPU profile has it: skeletons without accuracies, floors or predictions."""
    names = {"tiny-mixtral": 1.0, "tiny-qwen2-moe": 1.3, "tiny-deepseek-v2": 0.8}
    table = pd.concat(
        [
            models(names, oom=(), imposed=("tiny-deepseek-v2",), tokens=64),
            models(
                {"tiny-deepseek-v2": 0.8},
                {"bf16": FORMATS["bf16"]},
                imposed=("tiny-deepseek-v2",),
                sweep="vlms",
                tokens=96,
            ),
        ],
        ignore_index=True,
    )
    return t.floorless(table).drop(columns=[f"predicted_{m}" for m in t.METRICS])
