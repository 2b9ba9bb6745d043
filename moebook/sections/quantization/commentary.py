"""Section 2 in words: a function for each figure, of its name, and the finding."""

import pandas as pd

from moebook.results.commentary import (
    NOTHING,
    T,
    change,
    commentary,
    ends_of,
    energy,
    in_order,
    markdown,
    measured,
    missing,
    nothing,
    planned,
    predicted_vs_measured,
    price,
    with_gain,
    with_length,
)
from moebook.results.gains import gains, increases, ratios
from moebook.results.page import Number

__all__ = ["energy", "predicted_vs_measured", "price"]

AXES = {"quant_batch": "batch", "quant_length": "length"}  # sweep of the pair -> what it is over
SMALL = (
    " This is one small model trained for minutes, on one text; a large model may lose more or "
    "less to the same format."
)


def _first(table: pd.DataFrame) -> str:
    """The sweep that the finding is of: over batch, where the plan has it."""
    return next((sweep for sweep in AXES if len(planned(table, sweep))), "quant_batch")


def _pair(table: pd.DataFrame) -> list[str]:
    """The series of the pair, [base, other], in the plan's order."""
    return in_order(planned(table, _first(table)))[:2]


def _gain(table: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """The pair's second format over its first, where both were measured."""
    pair = _pair(table)
    if len(pair) < 2 or measured(table, sweep).empty:
        return pd.DataFrame()
    found = gains(table, sweep, over=pair[0])
    return with_length(with_gain(found[found["series"] == pair[1]]))


@commentary
def over_batch(table: pd.DataFrame) -> str:
    """Fig 10: gain per model and batch."""
    return _over(table, "quant_batch")


@commentary
def over_length(table: pd.DataFrame) -> str:
    """Fig 10: gain per model and length."""
    return _over(table, "quant_length")


def _over(table: pd.DataFrame, sweep: str) -> str:
    found, axis = _gain(table, sweep), AXES[sweep]
    if found.empty:
        return nothing(table, sweep)
    base, other = _pair(table)
    wide = found.pivot(index="model", columns=axis, values="gain_pct")
    wide = wide.loc[in_order(found, "model")].map("{:+.0f} %".format, na_action="ignore")
    slower = int((found["gain_pct"] < 0).sum())
    return (
        f"Gain of {other} over {base}, by {axis}:"
        + markdown(wide.reset_index())
        + ends_of(found, "gain_pct", f"{other} changes throughput by", name="model")
        + f"Slower at {slower} of {len(found)} workloads measured in both."
        + missing(table, sweep)
    )


@commentary
def gain(table: pd.DataFrame) -> str:
    """How the gain splits into prefill and decoding."""
    sweep = "quant_batch"
    if _gain(table, sweep).empty:
        return nothing(table, sweep)
    base, other = _pair(table)
    faster = []
    for metric in ("ttft_s", "tpot_s"):
        of = ratios(table, sweep, base, metric)
        faster.append(1 / of.loc[of["series"] == other, "ratio"].dropna())
    ttft, tpot = faster
    return (
        f"By phase, over {len(ttft)} workload{'s' * (len(ttft) > 1)}: the first token comes "
        f"{_range(ttft)} faster, a decode step {_range(tpot)} faster. Prefill computes, so it "
        f"shows the matrix rate; a decode step reads, so it shows the bytes."
    )


def _range(ratio: pd.Series) -> str:
    if len(ratio) == 1:
        return change(ratio.iloc[0])
    return f"{change(ratio.min())} to {change(ratio.max())} (median {change(ratio.median())})"


@commentary
def formats(table: pd.DataFrame) -> str:
    """The slowest and the fastest format, at the smallest and the largest batch."""
    rows = measured(table, "formats").sort_values(T)
    if rows.empty:
        return nothing(table, "formats")
    found = []
    for batch in sorted({rows["batch"].min(), rows["batch"].max()}):
        at = rows[rows["batch"] == batch]
        last, best = at.iloc[0], at.iloc[-1]
        found.append(
            f"At batch {batch} throughput runs from {last['series']} ({last[T]:,.0f} tokens/s) to "
            f"{best['series']} ({best[T]:,.0f}, {change(best[T] / last[T])})."
        )
    return " ".join(found) + missing(table, "formats")


@commentary
def memory(table: pd.DataFrame) -> str:
    """Weights and KV capacity per format."""
    rows = measured(table, "formats").drop_duplicates("series").dropna(subset=["weights_bytes"])
    if rows.empty:
        return nothing(table, "formats", NOTHING)
    by_weight = rows.set_index("series")["weights_bytes"].astype(float).sort_values() / 1e9
    roomy = rows.loc[rows["kv_capacity_tokens"].astype(float).idxmax()]
    tokens = int(roomy["input_tokens"] + roomy["output_tokens"])
    return (
        f"Weights take from {by_weight.iloc[0]:.3g} GB ({by_weight.index[0]}) to "
        f"{by_weight.iloc[-1]:.3g} GB ({by_weight.index[-1]}). {roomy['series']} leaves most "
        f"room: {roomy['kv_capacity_tokens']:,} tokens of KV cache, or "
        f"{roomy['kv_capacity_tokens'] // tokens:,} sequences of {tokens:,} tokens."
    )


def _perplexities(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The formats that have a perplexity, with their increase over the first of them all; that
    one's name."""
    rows = planned(table, "quality")
    ok, base = rows[rows["status"] == "ok"], next(iter(rows["series"]), "")
    return (ok if ok.empty else increases(table, base).loc[ok.index]), base


def _no_perplexity(table: pd.DataFrame) -> str:
    reasons = planned(table, "quality")["reason"].dropna().unique()
    return nothing(table, "quality", f"No perplexity: {'; '.join(reasons)}.")


@commentary
def quality(table: pd.DataFrame) -> str:
    """Perplexity per format and its increase over the first of them, or what is missing."""
    found, base = _perplexities(table)
    if found.empty:
        return _no_perplexity(table)
    parts = found[["increase_pct_lo", "increase_pct_hi"]].map("{:+.2f}".format)
    words = pd.DataFrame(
        {
            "format": found["series"],
            "perplexity": found["perplexity"].map("{:.3f}".format),
            f"over {base}": found["increase_pct"].map("{:+.2f} %".format),
            "easiest to hardest part of the text": parts.agg(" to ".join, axis=1),
        }
    )
    words.loc[found["increase_pct"].isna() | (found["series"] == base), words.columns[2:]] = "–"
    most = ends_of(
        found[found["series"] != base], "increase_pct", "Perplexity grows by", "{:+.2f} %"
    )
    return markdown(words).lstrip() + most + missing(table, "quality").lstrip()


@commentary
def quality_and_speed(table: pd.DataFrame) -> str:
    """The format that loses most, and of what model this is."""
    found, base = _perplexities(table)
    if found.empty:
        return _no_perplexity(table)
    found = found[found["increase_pct"].notna() & (found["series"] != base)]
    if found.empty:
        return f"{NOTHING} No format can be compared with {base}."
    most = found.loc[found["increase_pct"].idxmax()]
    small = str(most.get("weights")).startswith("tiny:")
    return (
        f"Perplexity grows most with {most['series']}, by {most['increase_pct']:+.2f} % over "
        f"{base}.{SMALL if small else ''}"
    )


def numbers(table: pd.DataFrame) -> tuple[Number, ...]:
    """The pair's greatest and least gain, what it saves of weights, and its perplexity."""
    found = _gain(table, _first(table))
    if found.empty:
        return ()
    base, other = _pair(table)
    ends = [found.loc[found["gain_pct"].agg(end)] for end in ("idxmax", "idxmin")]
    told = [
        Number(f"{r['gain_pct']:+.0f} %", f"{other} over {base}, {r['model']}, batch {r['batch']}")
        for r in ends[: len(found)]
    ]
    held = measured(table, "formats").drop_duplicates("series").set_index("series")
    if {base, other} <= set(held.index[held["weights_bytes"].notna()]):
        ratio = held["weights_bytes"][other] / held["weights_bytes"][base]
        told.append(
            Number(f"{ratio:.2f}×", f"bytes of weights, {other} over {base}, {held['model'][base]}")
        )
    lost, first = _perplexities(table)
    lost = lost[lost["series"] == other]
    if first == base and len(lost) and lost["increase_pct"].notna().all():
        percent = f"{lost['increase_pct'].iloc[0]:+.2f} %"
        told.append(Number(percent, f"perplexity, {other} over {base}, {lost['model'].iloc[0]}"))
    return tuple(told)


@commentary
def headline(table: pd.DataFrame) -> str:
    """The finding in one sentence."""
    sweep = _first(table)
    found = _gain(table, sweep)
    if found.empty:
        lacking = "The pair of formats is not measured." + missing(table, "formats")
        return nothing(table, sweep, lacking)
    base, other = _pair(table)
    best = found.loc[found["gain_pct"].idxmax()]
    by_model = found.groupby("model", sort=False)["gain_pct"].mean()
    means = ", ".join(f"{model} {mean:+.0f} %" for model, mean in by_model.items())
    place = ["model", "batch", "input_tokens", "output_tokens"]
    of = len(planned(table, sweep).drop_duplicates(place))
    return (
        f"**Finding.** {other} changes throughput over {base} by {found['gain_pct'].min():+.0f} % "
        f"to {best['gain_pct']:+.0f} % ({best['model']}, batch {best['batch']}). The mean over the "
        f"{AXES[sweep]}{'es' if sweep == 'quant_batch' else 's'} measured: {means} "
        f"({len(found)} of {of} planned workloads)."
    )
