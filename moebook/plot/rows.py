"""What figure functions ask of a summary table: rows of a sweep, columns that must be there, a
value per place."""

from collections.abc import Iterable

import pandas as pd

from moebook.results.cells import of_sweep
from moebook.study.lengths import Length

# column -> (axis label with unit, how one value reads in a legend or panel title)
AXES = {
    "expert_ffn_dim": ("expert FFN dimension (channels)", "FFN {}"),
    "num_experts": ("experts per layer (count)", "{} experts"),
    "top_k": ("active experts per token (count)", "{} active"),
    "batch": ("batch size (sequences)", "batch {}"),
    "input_tokens": ("input = output length (tokens)", "{} in + out"),
    "length": ("input length (tokens)", "{}"),
    "length_place": ("input length (tokens)\n+ output length (tokens)", "{}"),
    "num_layers": ("layers (count)", "{} layers"),
    "profile": ("profile", "{}"),
    "model": ("model", "{}"),
    "dtype": ("dtype", "{}"),
    "quantization": ("quantization", "{}"),
    "tensor_parallel": ("tensor-parallel devices (count)", "TP {}"),
    "series": ("series", "{}"),
    "tokens": ("tokens in the layer (count)", "{} tokens"),
    "draft_tokens": ("draft tokens per step (count)", "{} draft tokens"),
    "text": ("text", "{}"),
    "temperature": ("sampling temperature", "temperature {}"),
    "skew": ("Zipf exponent of the routing", "zipf {}"),
    "position": ("position of the draft token", "position {}"),
    "set_acceptance": ("acceptance of a draft token", "acceptance {}"),
    "ratio_pct": ("pruned (% of experts or of their width)", "{} %"),
    "output_tokens": ("output length (tokens)", "{} out"),
    "method": ("method", "{}"),
    "graphs": ("graphs", "graphs {}"),
    "device_label": ("device", "{}"),
    "source_kind": ("kind of number", "{}"),
    "devices": ("devices (count)", "{} devices"),
    "pipeline_parallel": ("pipeline-parallel devices (count)", "PP {}"),
    "expert_parallel": ("expert parallelism", "EP {}"),
    "kind": ("kind of pruning", "{}"),
    "criterion": ("what experts are pruned by", "{}"),
    "component": ("part of the model", "{}"),
    "regime": ("routing", "{}"),
    "place": ("model and cards", "{}"),
    "routing": ("routing", "{}"),
}
# column -> axis label with unit
METRICS = {
    "throughput_tok_s": "throughput (tokens/s, input + output)",
    "output_throughput_tok_s": "throughput (tokens/s, output only)",
    "ttft_s": "time to first token (s)",
    "tpot_s": "time per output token (s)",
    "e2e_s": "end-to-end latency (s)",
    "itl_paper_s": "ITL as the paper defines it (s)",
    "energy_per_output_token_j": "energy per output token (J)",
    "request_ttft_p99_s": "TTFT of requests, p99 (s)",
    "request_e2e_p99_s": "E2E of requests, p99 (s)",
    "step_p99_s": "decode step, p99 (s)",
    "peak_memory_bytes": "peak device memory (bytes)",
    "gain_pct": "throughput gain (%)",
    "over_floor": "measured over the physical limit (×)",
    "tokens_per_step": "tokens per step and sequence (count)",
    "acceptance_rate": "draft tokens accepted (share)",
    "perplexity": "perplexity (lower is better)",
    "layer_time_us": "time of one layer (µs)",
    "achieved_flops_per_s": "matrix rate reached in one layer (FLOP/s)",
    "achieved_bytes_per_s": "memory rate reached in one layer (bytes/s)",
    "experts_hit": "experts hit in one layer (count)",
    "experts_per_step": "experts hit per step and layer (count)",
    "efficiency_pct": "scaling efficiency (% of the ideal)",
    "increase_pct": "perplexity increase (%)",
    "balance_max_over_mean": "busiest expert over the mean (×)",
    "balance_cv": "coefficient of variation of expert load",
    "balance_gini": "Gini coefficient of expert load",
    "balance_entropy": "entropy of expert load (1: even)",
    "balance_top_share": "choices that the busiest tenth of experts takes (share)",
    "balance_ep2_max_over_mean": "busiest of 2 ranks over the mean (×)",
    "balance_ep4_max_over_mean": "busiest of 4 ranks over the mean (×)",
    "balance_ep8_max_over_mean": "busiest of 8 ranks over the mean (×)",
    "weights_bytes": "weights (bytes)",
    "kv_capacity_tokens": "room for KV cache (tokens)",
    "total_parameters": "all parameters (count)",
    "active_parameters": "parameters active per token (count)",
    "total_share_pct": "share of all parameters (%)",
    "active_share_pct": "share of active parameters (%)",
}
# columns of words: their values stand in the order in which the table has them
AS_MET = ("series", "panel", "place", "kind", "component", "line_label", "panel_label")
IDENTITY = (
    "model",
    "method",
    "status",
    "reason",
    "num_layers",
    "expert_ffn_dim",
    "num_experts",
    "top_k",
    "batch",
    "input_tokens",
    "output_tokens",
    "n_repeats",
    "device",
)


def rows_of(
    summary: pd.DataFrame, figure: str, sweep: str | None, columns: Iterable[str]
) -> pd.DataFrame:
    """Rows of `sweep` (all where None) that `figure` draws. ValueError says which sweep and columns
    are missing, or that no row of it has a number."""
    wanted = f"sweep {sweep!r}" if sweep else "a results summary"
    missing = [c for c in ("status", *columns, *(["sweeps"] if sweep else [])) if c not in summary]
    if missing:
        raise ValueError(
            f"{figure} needs {wanted}; columns missing from the table: {', '.join(missing)}"
        )
    rows = summary if sweep is None else of_sweep(summary, sweep)
    if rows.empty:
        have = sorted(
            {
                name
                for names in summary.get("sweeps", pd.Series(dtype=str)).dropna()
                for name in names.split(",")
            }
        )
        raise ValueError(
            f"{figure} needs {wanted}, of which the table has no row; sweeps in it: "
            f"{', '.join(have) or 'none'}"
        )
    return rows


def has_sweep(summary: pd.DataFrame, sweep: str) -> bool:
    """Whether the plan of the table has points of a sweep."""
    return "sweeps" in summary and not of_sweep(summary, sweep).empty


def with_numbers(rows: pd.DataFrame, figure: str, columns: Iterable[str]) -> pd.DataFrame:
    """Rows that are ok and have every one of `columns`. ValueError where none has."""
    columns = list(columns)
    kept = rows[(rows["status"] == "ok") & rows[columns].notna().all(axis=1)]
    if kept.empty:
        counts = ", ".join(f"{n} {status}" for status, n in rows["status"].value_counts().items())
        raise ValueError(
            f"{figure}: no row has {' and '.join(columns)} ({len(rows)} rows: {counts})"
        )
    return kept


def one_per_place(rows: pd.DataFrame, figure: str, places: Iterable[str]) -> None:
    """ValueError where several rows fall on one place of a figure, with the columns that tell them
    apart."""
    places = list(dict.fromkeys(places))
    double = rows[rows.duplicated(places, keep=False)]
    if double.empty:
        return
    first = double[(double[places] == double.iloc[0][places]).all(axis=1)]
    where = ", ".join(f"{c} {first.iloc[0][c]}" for c in places)
    telling = (*AXES, "device")
    differ = " and ".join(c for c in telling if c in first and first[c].nunique() > 1)
    raise ValueError(
        f"{figure}: {len(first)} rows share one place ({where}); give rows of one "
        f"{differ or 'measurement'}"
    )


def layer_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of layers with their tokens, and with times in µs."""
    times = ("layer_time_s", "layer_time_s_lo", "layer_time_s_hi", "floor_layer_s")
    scaled = {c.replace("_s", "_us"): rows[c].astype(float) * 1e6 for c in times if c in rows}
    return rows.copy().assign(tokens=rows["batch"], **scaled)


def plotted(rows: pd.DataFrame, metrics: Iterable[str], more: Iterable[str] = ()) -> pd.DataFrame:
    """The rows a figure shows, with their identity, values, spreads and floors: what goes into its
    CSV."""
    names = [*IDENTITY, *(f"{m}{end}" for m in metrics for end in ("", "_lo", "_hi")), *more]
    return rows[[n for n in dict.fromkeys(names) if n in rows]].reset_index(drop=True)


def values_of(rows: pd.DataFrame, column: str) -> list:
    """The values of a column, ascending; of a column of AS_MET in the order of the table."""
    found = rows[column].dropna().unique()
    return list(found) if column in AS_MET else sorted(found)


def reading(column: str, value: object) -> str:
    """One value of a shape column as a legend or title says it: `8 experts`."""
    if isinstance(value, Length):
        return value.words
    text = (
        value
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
    return AXES.get(column, (column, "{}"))[1].format(text)
