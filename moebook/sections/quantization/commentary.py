"""Section 2 in words (see this folder's __init__)."""

import pandas as pd

from moebook.results.commentary import commentary
from moebook.results.gains import gains
from moebook.results.perplexity import quality_rows
from moebook.results.words import (
    NOTHING,
    T,
    change,
    from_to,
    in_order,
    measured,
    missing,
    nothing,
    planned,
    with_gain,
    with_length,
)

PAIR = ("quant_batch", "quant_length")
SPANS = {"quant_batch": "batches", "quant_length": "lengths"}


def _first(summary: pd.DataFrame) -> str:
    """The sweep that the pair is told of: over batch, where the plan has it."""
    return (
        PAIR[1] if planned(summary, PAIR[0]).empty and len(planned(summary, PAIR[1])) else PAIR[0]
    )


def _pair(summary: pd.DataFrame) -> tuple[str, str] | None:
    """(base, other): the two series of the pair, in the plan's order."""
    names = in_order(planned(summary, _first(summary)))
    return (names[0], names[1]) if len(names) >= 2 else None


def _gain(summary: pd.DataFrame, sweep: str) -> pd.DataFrame:
    pair = _pair(summary)
    if pair is None or measured(summary, sweep).empty:
        return pd.DataFrame()
    return with_gain(gains(summary, sweep, over=pair[0]).query("series == @pair[1]"))


@commentary
def pair(summary: pd.DataFrame, sweep: str) -> str:
    """Fig 10: gain per model from the smallest to the largest batch or length."""
    found, axis = _gain(summary, sweep), {"quant_batch": "batch", "quant_length": "length"}[sweep]
    if found.empty:
        return nothing(summary, sweep)
    base, other = _pair(summary)
    told = []
    for model, own in with_length(found).groupby("model", sort=False):
        told.append(f"**{model}** {from_to(own.set_index(axis)['gain_pct'].sort_index(), axis)}")
    slower = int((found["gain_pct"] < 0).sum())
    return (
        f"{other} over {base}: "
        + "; ".join(told)
        + f". Slower at {slower} of {len(found)} workloads measured in both."
        + missing(summary, sweep)
    )


@commentary
def widening(summary: pd.DataFrame) -> str:
    """How the gain splits into prefill and decoding."""
    base_other = _pair(summary)
    rows = measured(summary, PAIR[0])
    if base_other is None or rows.empty:
        return nothing(summary, PAIR[0], NOTHING)
    wide = rows.pivot_table(index=["model", "batch"], columns="series", values=["ttft_s", "tpot_s"])
    if not set(base_other) <= set(wide["ttft_s"]):
        return nothing(summary, PAIR[0])
    base, other = base_other
    ttft, tpot = ((wide[m][base] / wide[m][other]).dropna() for m in ("ttft_s", "tpot_s"))
    if ttft.empty or tpot.empty:
        return nothing(summary, PAIR[0])
    many = "workloads" if len(ttft) > 1 else "workload"
    return (
        f"By phase, over {len(ttft)} {many}: the first token comes {_range(ttft)} faster, a decode "
        f"step {_range(tpot)} "
        f"faster. Prefill computes, so it shows the matrix rate; a decode step reads, so it "
        f"shows the bytes."
    )


def _range(ratio: pd.Series) -> str:
    if len(ratio) == 1:
        return change(ratio.iloc[0])
    return f"{change(ratio.min())} to {change(ratio.max())} (median {change(ratio.median())})"


@commentary
def ladder(summary: pd.DataFrame) -> str:
    """The ladder of formats at its largest batch."""
    rows = measured(summary, "formats")
    if rows.empty:
        return nothing(summary, "formats")
    batches = sorted(rows["batch"].unique())
    told = []
    for batch in dict.fromkeys((batches[0], batches[-1])):
        at = rows[rows["batch"] == batch].sort_values(T, ascending=False)
        best, last = at.iloc[0], at.iloc[-1]
        told.append(
            f"at batch {batch} from {last['series']} ({last[T]:,.0f} tokens/s) to {best['series']} "
            f"({best[T]:,.0f}, {change(best[T] / last[T])})"
        )
    return "Throughput runs " + "; ".join(told) + "." + missing(summary, "formats")


@commentary
def memory(summary: pd.DataFrame) -> str:
    """Weights and KV capacity per format."""
    rows = measured(summary, "formats").drop_duplicates("series")
    rows = rows[rows["weights_bytes"].notna()]
    if rows.empty:
        return nothing(summary, "formats", NOTHING)
    most = rows.loc[rows["weights_bytes"].astype(float).idxmax()]
    least = rows.loc[rows["weights_bytes"].astype(float).idxmin()]
    roomy = rows.loc[rows["kv_capacity_tokens"].astype(float).idxmax()]
    tokens = int(roomy["input_tokens"] + roomy["output_tokens"])
    return (
        f"Weights take from {least['weights_bytes'] / 1e9:.3g} GB ({least['series']}) to "
        f"{most['weights_bytes'] / 1e9:.3g} GB ({most['series']}). {roomy['series']} leaves most "
        f"room: "
        f"{roomy['kv_capacity_tokens']:,} tokens of KV cache, or "
        f"{roomy['kv_capacity_tokens'] // tokens:,} sequences of {tokens:,} tokens."
    )


@commentary
def quality(summary: pd.DataFrame) -> str:
    """Perplexity per format and its change over the first of them, or what is missing."""
    rows = planned(summary, "quality")
    ok = rows[rows["status"] == "ok"]
    if ok.empty:
        return nothing(
            summary,
            "quality",
            "No perplexity: " + "; ".join(dict.fromkeys(rows["reason"].dropna())) + ".",
        )
    told = ", ".join(f"{r.series} {r.perplexity:.3f}" for r in ok.itertuples())
    return (
        f"Perplexity: {told}."
        + _loss(summary, in_order(rows)[0])
        + missing(summary, "quality")
        + _scale(ok)
    )


def _loss(summary: pd.DataFrame, base: str) -> str:
    """What formats lose against the first; ranges are over the parts of the text, each against the
    same part."""
    rows = quality_rows(summary, over=base)
    rows = rows[(rows["status"] == "ok") & rows["increase_pct"].notna() & (rows["series"] != base)]
    if rows.empty:
        return ""
    told = ", ".join(
        f"{r.series} {r.increase_pct:+.2f} % ({r.increase_pct_lo:+.2f} to {r.increase_pct_hi:+.2f})"
        for r in rows.itertuples()
    )
    worst = rows.loc[rows["increase_pct"].idxmax(), "series"]
    most = f" {worst} loses most." if len(rows) > 1 and rows["increase_pct"].max() > 0 else ""
    return f" Over {base} (easiest to hardest part of the text): {told}.{most}"


def _scale(ok: pd.DataFrame) -> str:
    if "weights" not in ok or not str(ok["weights"].iloc[0]).startswith("tiny:"):
        return ""
    return (
        " This is one small model trained for minutes, on one text; a large model may lose more or "
        "less to the same "
        "format."
    )


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in one sentence."""
    sweep = _first(summary)
    found = _gain(summary, sweep)
    if found.empty:
        return nothing(
            summary, sweep, "The pair of formats is not measured." + missing(summary, "formats")
        )
    base, other = _pair(summary)
    best = found.loc[found["gain_pct"].idxmax()]
    by_model = found.groupby("model", sort=False)["gain_pct"].mean()
    means = ", ".join(f"{m} {g:+.0f} %" for m, g in by_model.items())
    of = planned(summary, sweep).drop_duplicates(
        ["model", "batch", "input_tokens", "output_tokens"]
    )
    return (
        f"**Finding.** {other} changes throughput over {base} by {found['gain_pct'].min():+.0f} % "
        f"to "
        f"{best['gain_pct']:+.0f} % ({best['model']}, batch {best['batch']}); mean over the "
        f"{SPANS[sweep]} measured: "
        f"{means} ({len(found)} of {len(of)} planned workloads)."
    )
