"""AIConfigurator (NVIDIA, on PyPI) on this project's measured points, beside this project's own
predictions of them. Run it with the Python of an environment of its own:

    python3 -m venv ~/aic && ~/aic/bin/pip install aiconfigurator
    ~/aic/bin/python benchmarks/aiconfigurator_points.py

It reads calibrations/points.csv alone, and nothing that it says enters a fit. Compared are whole
models, as published, near-uniform routing, without a draft; AIConfigurator estimates static batches
of vLLM. It has seen measurements of operators of these cards, but none of these points; it knows
vLLM versions of its own, which it prints."""

import csv
import json
import statistics
import tempfile
from pathlib import Path

from aiconfigurator.cli.api import cli_estimate

POINTS = Path(__file__).parents[1] / "moebook/predict/calibrations/points.csv"
MIXTRAL = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
}  # huggingface.co/mistralai/Mixtral-8x7B-v0.1, config.json
NAMES = {
    "Qwen3-30B-A3B": "Qwen/Qwen3-30B-A3B",
    "Qwen3-30B-A3B-FP8": "Qwen/Qwen3-30B-A3B-FP8",
    "gpt-oss-20b": "openai/gpt-oss-20b",
    "gpt-oss-120b": "openai/gpt-oss-120b",
    "Llama-4-Scout-17B-16E-Instruct": "meta-llama/Llama-4-Scout-17B-16E-Instruct",
}
WHOLE = {"Mixtral-8x7B-v0.1": ("32", "14336", "8", "2")}  # edits of it share its name
SIDES = (("theirs_", ""), ("left_out_", "_s"), ("", "_s"))
SYSTEMS = {"h100": "h100_sxm", "h200": "h200_sxm"}
FP8 = dict.fromkeys(("gemm_quant_mode", "moe_quant_mode"), "fp8")
FORMATS = {"16-bit": {}, "FP8 per tensor": FP8, "FP8 blocks 128x128": {}, "MXFP4": {}}


def compared(folder: Path) -> list[dict]:
    """Points that AIConfigurator supports, each with its `theirs` in s; others are told."""
    (folder / "config.json").write_text(json.dumps(MIXTRAL))
    names, found, refused = NAMES | {"Mixtral-8x7B-v0.1": str(folder)}, [], {}
    for row in csv.DictReader(POINTS.open(newline="")):
        shape = tuple(row[n] for n in ("num_layers", "expert_ffn_dim", "num_experts", "top_k"))
        plain = row["format"] in FORMATS and row["routing"] in ("model", "uniform")
        single = row["draft"] == "" and row["pipeline_parallel"] == "1"
        if row["model"] not in names or not (plain and single) or row["series"].startswith("rank"):
            continue
        if shape != WHOLE.get(row["model"], shape):
            continue
        try:
            found.append(row | _told(names[row["model"]], row))
        except Exception as error:  # of many kinds, by what its database lacks
            reason = f"{type(error).__name__}: {str(error)[:90]}"
            refused.setdefault((row["model"], row["format"], reason), []).append(row)
    for (model, kind, reason), rows in refused.items():
        print(f"not supported: {model}, {kind}, {len(rows)} points: {reason}")
    return found


def _told(name: str, row: dict) -> dict:
    ranks, whole = int(row["tensor_parallel"]), row["expert_parallel"] == "True"
    told = cli_estimate(
        name,
        SYSTEMS[row["device_kind"]],
        mode="static",
        backend_name="vllm",
        isl=int(row["input_tokens"]),
        osl=int(row["output_tokens"]),
        batch_size=int(row["batch"]),
        tp_size=ranks,
        moe_tp_size=1 if whole else ranks,
        moe_ep_size=ranks if whole else 1,
        **FORMATS[row["format"]],
    )
    return {"theirs_ttft": told.ttft / 1e3, "theirs_tpot": told.tpot / 1e3}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = compared(Path(folder))
    groups = {"all": rows}
    for row in rows:
        groups.setdefault(f"{row['device_kind']} {row['model']}, {row['format']}", []).append(row)
    for name, own in groups.items():
        for metric in ("tpot", "ttft"):
            pairs = [tuple(r[f"{side}{metric}{end}"] for side, end in SIDES) for r in own]
            pairs = [tuple(map(float, pair)) for pair in pairs if pair[1]]
            theirs, ours = (_error([(p[i], p[2]) for p in pairs]) for i in (0, 1))
            print(
                f"{name}, {metric}: {len(pairs)} points, median error {theirs} (AIConfigurator), "
                f"{ours} (this project, the model left out)"
            )


def _error(pairs: list[tuple[float, float]]) -> str:
    return f"{statistics.median(100 * abs(a / b - 1) for a, b in pairs):.1f} %" if pairs else "-"


if __name__ == "__main__":
    main()
