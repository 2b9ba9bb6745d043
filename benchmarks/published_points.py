"""What others measured of MoE models under vLLM, against what is predicted of it.

    python benchmarks/published_points.py

published_points.csv names the source of each value. None of them entered a calibration; versions,
kernels and clients are others'. The first comparison (Kimi-K2.5 taken as INT4 in groups of 128, and
MLA's latencies as without compilation) was off by 14.7 % in the median, with 96 % inside.
FUSED_MLA_S in step.py, from this project's own runs, and Kimi's format came after it, then the
first prompt's pass, experts' blocks and the classes of intervals, all from this project's own
points: no score after the first is blind.

These servers are in a closed loop: C clients, each with its next request as soon as its last one
ended. With S the prefill of one request and O its tokens out, a
request's tokens wait for the prefills of the C - 1 others:

    TPOT = step(C) + (C - 1) S / O      output tokens/s = C / (step(C) + C S / O)

and a median time between tokens is a step. TTFT has a queue of its own and is not compared."""

from pathlib import Path

import numpy as np
import pandas as pd

from moebook.models import catalog
from moebook.models.architecture import from_config
from moebook.predict.what_if import Interval, predict
from moebook.study.settings import EngineSettings, Workload

FILE = Path(__file__).with_suffix(".csv")
MODELS = {
    "Qwen/Qwen3-30B-A3B": "Qwen3-30B-A3B",
    "Qwen/Qwen3-30B-A3B-Instruct-2507": "Qwen3-30B-A3B",
    "openai/gpt-oss-120b": "gpt-oss-120b",
    "moonshotai/Kimi-K2.5": "Kimi-K2-Instruct",  # the same shapes
}
FORMATS = {"bfloat16": None, "mxfp4": "own", "int4": "own"}
# Kimi-K2.5's experts alone are in INT4, in groups of 32 with a 16-bit scale each: about 4.6 bits a
# parameter over all, as its published size of some 595 GB has it.
KIMI_FORMAT = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": 32,
            },
        }
    },
    "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.[gud].*_proj"],
}
COMPARED = ("tpot_ms", "median_itl_ms", "output_tok_s")
SHORT_INPUT = 128  # where the source says that prompts were short and no more
MEAN_LENGTH = 0.9  # of the nominal one where lengths are drawn from 0.8 to 1 times it


def compared() -> pd.DataFrame:
    """Each published value that is compared, with `predicted`, `lo95`, `hi95` and `error_pct`."""
    table = pd.read_csv(FILE)
    table = table[table["metric"].isin(COMPARED)].reset_index(drop=True)
    told = pd.DataFrame([_predicted(row) for _, row in table.iterrows()])
    error = 100 * (told["predicted"] / table["value"] - 1)
    inside = table["value"].between(told["lo95"], told["hi95"])
    return pd.concat([table, told], axis=1).assign(error_pct=error, inside=inside)


def _predicted(row: pd.Series) -> dict:
    share = MEAN_LENGTH if "0.8" in row["notes"] and "nominal" in row["notes"] else 1.0
    given = SHORT_INPUT if pd.isna(row["input"]) else share * row["input"]
    tokens_in, tokens_out = round(given), round(share * row["output"])
    settings = EngineSettings(
        quantization=FORMATS[row["precision"]],
        tensor_parallel=int(row["tp"]),
        expert_parallel=int(row["ep"]) > 1,
        graphs="default",
        max_model_len=tokens_in + tokens_out,
    )
    arch = catalog.load(MODELS[row["model"]])
    if "Kimi" in row["model"]:
        config = {**arch.hf_config(), "quantization_config": KIMI_FORMAT}
        arch = from_config(config, "Kimi-K2.5", row["source"])
    device = row["gpu"].split()[0].lower()
    clients = int(row["batch"])
    step = predict(arch, settings, Workload(clients, tokens_in, tokens_out), device).tpot_s
    alone = predict(arch, settings, Workload(1, tokens_in, 1), device).ttft_s
    others = clients - 1 if row["metric"] == "tpot_ms" else clients
    if row["metric"] == "median_itl_ms":
        others = 0
    found = _sum(step, alone, others / tokens_out)
    if row["metric"] == "output_tok_s":
        rate = found.inverse(clients)
        return {"predicted": rate.value, "lo95": rate.lo95, "hi95": rate.hi95}
    return {
        "predicted": 1e3 * found.value,
        "lo95": 1e3 * found.lo95,
        "hi95": 1e3 * found.hi95,
    }


def _sum(step: Interval, prefill: Interval, share: float) -> Interval:
    """A step and a share of a prefill; the worst of both intervals together."""
    pairs = zip(vars(step).values(), vars(prefill).values(), strict=True)
    return Interval(*(s + share * p for s, p in pairs))


def score(rows: pd.DataFrame) -> dict:
    error = rows["error_pct"].abs()
    return {
        "n": len(rows),
        "median_pct": round(float(error.median()), 1),
        "p90_pct": round(float(np.percentile(error, 90)), 1),
        "mean_signed_pct": round(float(rows["error_pct"].mean()), 1),
        "inside_95": round(float(rows["inside"].mean()), 2),
    }


def main() -> None:
    rows = compared()
    by = ["model", "gpu", "tp", "metric"]
    each = rows.groupby(by).apply(lambda g: pd.Series(score(g)), include_groups=False)
    print(each.to_string(), "\n\nall:", score(rows))
    for name, own in rows.groupby(["metric"]):
        print(name[0], score(own))


if __name__ == "__main__":
    main()
