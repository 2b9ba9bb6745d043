"""Shapes, sizes and parameters of models: Table 1 beside the slide's, and the shares of Fig 1."""

import pandas as pd

from moebook.models import catalog, sizes

TABLE_1 = (
    "Mixtral-8x7B-v0.1",
    "Qwen1.5-MoE-A2.7B",
    "Qwen3-30B-A3B",
    "DeepSeek-V2-Lite",
    "Phi-3.5-MoE-instruct",
    "OLMoE-1B-7B-0125",
    "deepseek-vl2-tiny",
    "deepseek-vl2-small",
    "deepseek-vl2",
)


def table_1(names: tuple[str, ...] = TABLE_1) -> pd.DataFrame:
    """One row per model: shapes from the published config, and the slide's value where it
    differs."""
    rows = []
    for name in names:
        arch, slide = catalog.load(name), catalog.sources()[name].get("slide") or {}
        own = {
            "num_layers": arch.num_layers,
            "hidden": arch.hidden_size,
            "ffn": arch.expert_ffn_dim,
            "experts": arch.num_experts,
            "top_k": arch.top_k,
        }
        differs = {k: v for k, v in slide.items() if k in own and v is not None and v != own[k]}
        rows.append(
            {
                "model": name,
                **own,
                "shared experts": arch.num_shared_experts,
                "total B": sizes.total_parameters(arch) / 1e9,
                "active B": sizes.active_parameters(arch) / 1e9,
                "bf16 GB": sizes.weight_bytes(arch) / 1e9,
                "the slide prints": ", ".join(f"{k} {v}" for k, v in differs.items()) or "the same",
            }
        )
    return pd.DataFrame(rows)


def parameter_shares(names: tuple[str, ...] = TABLE_1) -> pd.DataFrame:
    """Long table for Fig 1: model, component, total_parameters, active_parameters."""
    rows = []
    for name in names:
        arch = catalog.load(name)
        total, active = sizes.parameter_counts(arch), sizes.active_counts(arch)
        rows += [
            {
                "model": name,
                "component": part,
                "total_parameters": total[part],
                "active_parameters": active.get(part, 0),
            }
            for part in total
            if total[part]
        ]
    return pd.DataFrame(rows)


def sizes_to_explore(names: tuple[str, ...] = TABLE_1) -> pd.DataFrame:
    """Shapes and sizes of models as the explorer takes rows."""
    rows = []
    for arch in map(catalog.load, names):
        rows.append(
            {
                "model": arch.name,
                "num_layers": arch.num_layers,
                "expert_ffn_dim": arch.expert_ffn_dim,
                "num_experts": arch.num_experts,
                "top_k": arch.top_k,
                "weights_bytes": sizes.weight_bytes(arch),
                "total_parameters": sizes.total_parameters(arch),
                "active_parameters": sizes.active_parameters(arch),
            }
        )
    return pd.DataFrame(rows).assign(status="ok", method="computed")
