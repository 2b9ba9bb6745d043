"""Made-up records for every point of a plan, and the results they make. Tests only: no number here
was measured."""

import json
import re
from pathlib import Path

import pandas as pd

from moebook import sections
from moebook.results import loading
from moebook.results import table as results
from moebook.study.params import build as checked
from moebook.study.values import read_yaml

ROOT = Path(__file__).parents[1]
CEILINGS = {
    "copy_bytes_per_s": 1e12,
    "matmul_flops_per_s": 1e14,
    "dtype": "bfloat16",
    "device": "made-up device",
}
PROVENANCE = {
    "device": "made-up device",
    "device_kind": "cpu",
    "device_count": 1,
    "device_memory_bytes": 10**12,
    "engine_version": "made-up 1",
    "git_commit": None,
    "started_at": "2026-01-01T00:00:00+00:00",
}
SPREAD = (1.0, 1.01, 1.02)


def record(point) -> dict:
    """Three repeats whose times grow with batch, input and output."""
    work, k = point.workload, 1 + 0.1 * (len(point.series) % 5)
    ttft, step = 1e-5 * k * work.batch * work.input_tokens, 1e-3 * k * (1 + 0.01 * work.batch)
    runs = [
        {"ttft_s": ttft * s, "e2e_s": (ttft + step * (work.output_tokens - 1)) * s} for s in SPREAD
    ]
    made = {
        "method": point.method,
        "status": "ok",
        "reason": None,
        "engine": {"weights_bytes": 10**9, "kv_capacity_tokens": 10**6},
        "provenance": PROVENANCE,
        "repeats": runs,
    }
    if point.method == "layer":
        return made | {
            "repeats": [{"layer_s": 1e-4 * s, "layer_graph_s": 1e-4 * k * s} for s in SPREAD],
            "chosen_backend": "made up",
            "moe_config_tuned": False,
            "relative_error": 0.01,
            "experts_hit": 4,
            "default_layer_s": 2e-4,
            "default_layer_graph_s": 2e-4,
            "configs_tried": 3,
        }
    if point.method in ("perplexity", "ablation"):
        return made | {"repeats": [{"perplexity": 10 * k * s} for s in SPREAD]}
    if point.method == "step_experts":
        top_k, hit = point.architecture.top_k, {"step_tokens": 4.0, "experts_per_step": 6.0}
        return made | {
            "repeats": [hit for _ in SPREAD],
            "facts": {"step_experts": json.dumps([[top_k, top_k + 1]] * len(SPREAD))},
        }
    if point.method == "acceptance":
        return made | {
            "repeats": [
                {
                    "tokens_per_step": 2.0,
                    "acceptance_rate": 0.5,
                    "experts_per_step": 6.0,
                    "step_tokens": 8.0,
                    "accepted_pos1": 0.5,
                }
                for _ in SPREAD
            ]
        }
    return made | ({"repeats": []} if point.method in ("routing", "training") else {})


def measured(params, plan) -> loading.Results:
    """Results of a plan as if all of it had been measured."""
    table = results.assemble(plan, {p.key: record(p) for p in plan.measured})
    meta = results.metadata(plan, params.model_dump(mode="json"), CEILINGS)
    table = loading.with_metrics(table, plan, CEILINGS)
    enrich = sections.find(plan.notebook).enrich
    made = loading.Results(plan, params, table, pd.DataFrame(), meta, "made up", enrich=enrich)
    return loading.enriched(made)


def said(stem: str) -> list[tuple[str, ...]]:
    """(commentary, its arguments) that a notebook's cells show, folded ones too."""
    cells = json.loads((ROOT / "notebooks" / f"{stem}.ipynb").read_text())["cells"]
    code = "\n".join("".join(c["source"]) for c in cells)
    calls = re.findall(r"\bcommentary\.(\w+)\(run(.*?)\)", code)
    folded = re.findall(r"\brun\.fold\((.*?)\)", code, re.DOTALL)
    parts = [name for given in folded for name in re.findall(r"\.(\w+)", given)]
    said_of = [name for name in parts if hasattr(sections.find(stem).commentary, name)]
    return [
        *((name, *re.findall(r'"([^"]*)"', given)) for name, given in calls),
        *((name,) for name in said_of),
    ]


def build(stem: str, profile: str = "cpu", **changes):
    """(parameters, plan) of a profile's file with some values changed."""
    section = sections.find(stem)
    given = read_yaml(ROOT / "params" / profile / f"{section.stem}.yaml") | changes
    params = checked(section.params, given, "test")
    return params, section.plan(params)


def write_checkpoint(folder: Path, **changes) -> Path:
    """A Mixtral of two small layers: config, zeros for weights, a file that stands for its
    tokenizer. changes: to the config, not to the weights."""
    import torch
    from safetensors.torch import save_file

    from moebook.models.pruning.built import build

    config = {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_hidden_layers": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "vocab_size": 300,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    folder.mkdir(parents=True, exist_ok=True)
    shapes = build(config).published
    weights = {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config | changes))
    (folder / "tokenizer.json").write_text("{}")
    return folder
