"""Section 4 in words (see this folder's __init__)."""

import pandas as pd

from moebook.predict import speculation
from moebook.predict.speculation import PLAIN
from moebook.predict.under_bound import is_under
from moebook.results.commentary import commentary
from moebook.results.gains import gains
from moebook.results.words import (
    NOTHING,
    T,
    change,
    from_to,
    in_order,
    length_of,
    measured,
    missing,
    nothing,
    with_gain,
    with_length,
)

COMPARED_AT = 0.7  # acceptance at which drafts are compared where none was set
WINNER, SMALLEST = "1.7B", "0.6B"


def _short(series: str) -> str:
    return series.removeprefix("draft ")


def _gain(summary: pd.DataFrame, sweep: str) -> pd.DataFrame:
    rows = measured(summary, sweep)
    if rows.empty or PLAIN not in set(rows["series"]) or set(rows["series"]) == {PLAIN}:
        return pd.DataFrame()
    return with_gain(gains(rows, sweep, over=PLAIN))


def _acceptances(rows: pd.DataFrame) -> str:
    """`acceptance set to 0.7`, or what the drafts had."""
    given = rows["set_acceptance"].dropna().unique()
    if len(given):
        return "acceptance set to " + ", ".join(f"{a:g}" for a in given)
    own = [speculation.acceptance_of(row) for _, row in rows.iterrows() if row["draft_tokens"]]
    known = [a for a in own if a == a]
    return (
        f"the drafts' own acceptance ({min(known):.2f} to {max(known):.2f})"
        if known
        else "the drafts' own acceptance"
    )


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in one sentence."""
    found = _gain(summary, "spec_tokens")
    if found.empty:
        return nothing(
            summary,
            "spec_tokens",
            "Speculative decoding is not measured." + missing(summary, "spec_tokens"),
        )
    k = speculation.fixed_tokens(summary)
    found = found[
        found["draft_tokens"]
        == (k if k in set(found["draft_tokens"]) else found["draft_tokens"].max())
    ]
    best, worst = (found.loc[found["gain_pct"].agg(f)] for f in ("idxmax", "idxmin"))
    rest = "" if len(found) == 1 else f", {_short(worst['series'])} by {worst['gain_pct']:+.0f} %"
    wins = int((found["gain_pct"] > 0).sum())
    drafts = "draft" if len(found) == 1 else "drafts"
    return (
        f"**Finding.** With {best['draft_tokens']} draft tokens and {_acceptances(found)}, "
        f"{_short(best['series'])} "
        f"changes throughput over plain decoding by {best['gain_pct']:+.0f} %{rest}; {wins} of "
        f"{len(found)} {drafts} "
        f"{'is' if wins == 1 else 'are'} faster (batch {best['batch']}, {length_of(best)} tokens "
        f"in and out)." + missing(summary, "spec_tokens")
    )


@commentary
def length(summary: pd.DataFrame) -> str:
    """Fig 12: throughput from the shortest to the longest input, per series."""
    rows, told = with_length(measured(summary, "spec_length")), []
    for series in in_order(rows):
        own = rows[rows["series"] == series].sort_values("length")
        if len(own) > 1:
            told.append(f"{_short(series)} {change(own[T].iloc[-1] / own[T].iloc[0])}")
    if not told:
        return nothing(summary, "spec_length")
    ends = sorted(rows["length"].unique())
    over = _gain(summary, "spec_length")
    wins = (
        f" A draft is faster than no speculation at {int((over['gain_pct'] > 0).sum())} of "
        f"{len(over)} points."
        if len(over)
        else ""
    )
    return (
        f"Throughput from {ends[0]} to {ends[-1]} tokens: "
        + ", ".join(told)
        + f".{wins}"
        + missing(summary, "spec_length")
    )


@commentary
def tokens(summary: pd.DataFrame) -> str:
    """Fig 12: the best number of draft tokens of each draft, and what the most of them gives."""
    found, told = _gain(summary, "spec_tokens"), []
    if found.empty:
        return nothing(summary, "spec_tokens")
    for series in in_order(found):
        own = found[found["series"] == series].sort_values("draft_tokens")
        best, last = own.loc[own["gain_pct"].idxmax()], own.iloc[-1]
        more = (
            ""
            if last["draft_tokens"] == best["draft_tokens"]
            else (f", {last['gain_pct']:+.0f} % with {last['draft_tokens']}")
        )
        told.append(
            f"**{_short(series)}** does best with {best['draft_tokens']} ({best['gain_pct']:+.0f} "
            f"%{more})"
        )
    steps = found.sort_values("draft_tokens").groupby("series")[T]
    falls, of = (
        int(steps.apply(lambda t: (t.diff() < 0).sum()).sum()),
        int(steps.apply(lambda t: len(t) - 1).sum()),
    )
    least = f" Throughput falls at {falls} of {of} steps to more draft tokens." if of else ""
    return "Over no speculation: " + "; ".join(told) + f".{least}" + missing(summary, "spec_tokens")


@commentary
def batch(summary: pd.DataFrame) -> str:
    """Gain over no speculation from the smallest to the largest batch."""
    found = _gain(summary, "spec_batch")
    if found.empty:
        return nothing(summary, "spec_batch")
    told = []
    for series in in_order(found):
        own = found[found["series"] == series].set_index("batch")["gain_pct"].sort_index()
        told.append(f"**{_short(series)}** {from_to(own, 'batch')}")
    return (
        "Throughput over no speculation: " + "; ".join(told) + "." + missing(summary, "spec_batch")
    )


@commentary
def acceptance(summary: pd.DataFrame) -> str:
    """Tokens per step of each trained draft, and how temperature changes them."""
    rows = speculation.acceptance_rows(summary)
    rows = rows[(rows["draft_tokens"] > 0) & rows["tokens_per_step"].notna()]
    if rows.empty:
        return nothing(summary, "acceptance")
    heats = sorted(rows["temperature"].unique())
    told = []
    for series in in_order(rows):
        own = rows[(rows["series"] == series) & (rows["temperature"] == heats[0])]
        if len(own):
            worst, best = (own.loc[own["tokens_per_step"].agg(f)] for f in ("idxmin", "idxmax"))
            span = (
                ""
                if len(own) == 1
                else (
                    f", {worst['tokens_per_step']:.2f} on {worst['text']} to "
                    f"{best['tokens_per_step']:.2f} on {best['text']}"
                )
            )
            told.append(
                f"**{_short(series)}** {own['tokens_per_step'].mean():.2f} (acceptance "
                f"{own['acceptance'].mean():.2f}{span})"
            )
    cooled = rows.groupby("temperature")["tokens_per_step"].mean()
    hot = (
        ""
        if len(heats) == 1
        else (
            f" Mean over drafts and texts: {cooled.iloc[0]:.2f} at temperature {heats[0]:g}, "
            f"{cooled.iloc[-1]:.2f} at {heats[-1]:g}."
        )
    )
    return (
        f"Tokens per target step with {rows['draft_tokens'].max()} draft tokens at temperature "
        f"{heats[0]:g}: " + "; ".join(told) + f".{hot}" + missing(summary, "acceptance")
    )


@commentary
def position(summary: pd.DataFrame) -> str:
    """Acceptance of a token given those before it, at the first and the last position."""
    rows = speculation.acceptance_rows(summary)
    rows, told = rows[rows["draft_tokens"] > 1], []
    rows = rows[rows["temperature"] == rows["temperature"].min()]
    for series in in_order(rows):
        shares = [
            s
            for _, row in rows[rows["series"] == series].iterrows()
            if len(s := speculation.shares_of(row)) > 1
        ]
        if shares:
            mean = [sum(s[i] for s in shares) / len(shares) for i in range(min(map(len, shares)))]
            rates = [r for r in speculation.conditional_rates(mean) if r == r]
            told.append(
                f"**{_short(series)}** {rates[0]:.2f} at position 1, {rates[-1]:.2f} at "
                f"{len(rates)}"
            )
    if not told:
        return nothing(summary, "acceptance")
    return (
        "Acceptance of a draft token given that those before it were accepted (mean over texts): "
        + "; ".join(told)
        + ". One acceptance for all positions describes a draft as well as these two agree."
    )


@commentary
def speedup(summary: pd.DataFrame) -> str:
    """Cost ratio and break-even of each draft, and which drafts pay at what the trained ones
    reached."""
    rows = speculation.measured_ratio(summary, "spec_tokens")
    if rows.empty:
        return nothing(summary, "spec_tokens")
    k = speculation.fixed_tokens(summary)
    k = k if k in set(rows["draft_tokens"]) else int(rows["draft_tokens"].max())
    rows, told = rows[rows["draft_tokens"] == k], []
    for row in rows.itertuples():
        even, why = speculation.break_even(row.cost_ratio, k)
        pays = f"pays from acceptance {even:.2f}" if why is None else f"never pays: {why}"
        told.append(f"**{_short(row.series)}** costs {row.cost_ratio:.2f} plain steps and {pays}")
    return (
        f"With {k} draft tokens a step (batch {rows['batch'].iloc[0]}, {length_of(rows.iloc[0])} "
        f"tokens): "
        + "; ".join(told)
        + "."
        + _at_reached(summary, rows, k)
        + missing(summary, "spec_tokens")
    )


def _at_reached(summary: pd.DataFrame, rows: pd.DataFrame, k: int) -> str:
    """Which drafts would beat no speculation at the acceptance each trained draft reached."""
    own = speculation.acceptance_rows(summary)
    own = own[own["acceptance"].notna()]
    own = own[own["temperature"] == own["temperature"].min()]
    told = []
    for series, a in own.groupby("series", sort=False)["acceptance"].mean().items():
        wins = [
            _short(r.series)
            for r in rows.itertuples()
            if speculation.speedup(r.cost_ratio, a, k) > 1
        ]
        told.append(f"{a:.2f} ({_short(series)}): {', '.join(wins) or 'no draft'}")
    if not told:
        return ""
    return (
        " At the acceptance that trained drafts reached, these beat no speculation: "
        + "; ".join(told)
        + "."
    )


@commentary
def check(summary: pd.DataFrame) -> str:
    """Equality of greedy output, and the error of composing speed from cost and acceptance."""
    rows = speculation.same_output(summary)
    told = ", ".join(f"{_short(r.series)} {r.same} of {r.of}" for r in rows.itertuples())
    same = (
        "Sequences at temperature 0 whose tokens are those of plain decoding (repeats included): "
        + told
        + ". "
        if told
        else "Greedy output was not compared: nothing was measured at temperature 0 in both. "
    )
    if (rows["share"] < 1).any():
        same += (
            "A step over more tokens adds in another order, which can turn a near-tie between two "
            "tokens. "
        )
    same += _shared(summary)
    found = speculation.check(summary)
    found = found[(found["status"] == "ok") & found["error_pct"].notna()]
    if found.empty:
        return (
            same + "No run at a second acceptance was measured, so the composition is not checked."
        )
    return same + " ".join(
        f"{_short(r.series)} at acceptance {r.set_acceptance:g}: {1e3 * r.tpot_s:.3g} ms per token "
        f"measured, "
        f"{1e3 * r.composed_tpot_s:.3g} composed from the run at {r.set_acceptance_from:g} "
        f"({r.error_pct:+.1f} %)."
        for r in found.itertuples()
    )


@commentary
def graphs(summary: pd.DataFrame) -> str:
    """What the engine's own compilation changes, where it was measured beside."""
    rows, own = measured(summary, "spec_graphs"), summary[summary["status"] == "ok"]
    place = ["series", "batch", "input_tokens", "output_tokens", "draft_tokens", "set_acceptance"]
    usual = own[own["sweeps"].str.contains("spec_(?:tokens|length|batch)")]
    both = rows.merge(usual, on=place, suffixes=("", "_usual"))
    if both.empty:
        return "Other graphs were not measured."
    told = [
        f"{_short(series)} {change(at['tpot_s_usual'].iloc[0] / at['tpot_s'].iloc[0], 1)}"
        if len(at) == 1
        else f"{_short(series)} {change((at['tpot_s_usual'] / at['tpot_s']).min(), 1)} to "
        f"{change((at['tpot_s_usual'] / at['tpot_s']).max(), 1)} at {len(at)} places"
        for series, at in both.groupby("series", sort=False)
    ]
    usual, other = both["graphs_usual"].iloc[0], both["graphs"].iloc[0]
    return f"Graphs `{usual}` against `{other}`, in time per token: " + "; ".join(told) + "."


def _shared(summary: pd.DataFrame) -> str:
    """Runs with a draft that beat their floor, which holds for tokens that route near uniform."""
    rows = summary[(summary["draft_tokens"].fillna(0) > 0) & (summary["status"] == "ok")]
    under = is_under(rows)
    if not under.any():
        return ""
    return (
        f"{int(under.sum())} of {len(rows)} runs with a draft are faster than their floor: their "
        f"draft tokens share "
        "experts more than near-uniform routing would, so the cost of verifying is understated. "
    )


@commentary
def experts(summary: pd.DataFrame) -> str:
    """Distinct experts per step against the formula and against plain decoding."""
    rows = speculation.experts(summary)
    if rows.empty:
        return nothing(summary, "acceptance")
    told = []
    for series in in_order(rows):
        own = rows[rows["series"] == series]
        over = own["over_plain"].dropna()
        more = f", {over.mean():.2f} times plain decoding" if series != PLAIN and len(over) else ""
        told.append(
            f"**{_short(series)}** {own['experts_per_step'].mean():.1f} of "
            f"{own['num_experts'].iloc[0]} for "
            f"{own['step_tokens'].mean():.0f} tokens ({own['over_formula'].mean():.2f} of the "
            f"formula{more})"
        )
    return (
        "Distinct experts of a layer per target step, mean over texts and temperatures: "
        + "; ".join(told)
        + ". What a "
        "step reads grows with these, and that is what verifying k + 1 tokens costs a MoE target."
    )


@commentary
def which_cell(summary: pd.DataFrame) -> str:
    """By how much the source's winner must be accepted more often than the smallest draft to be the
    fastest."""
    given = measured(summary, "spec_tokens")["set_acceptance"].dropna()
    a = float(given.iloc[0]) if len(given) else COMPARED_AT
    rows = speculation.matching(summary, a)
    if len(rows) < 2:
        return nothing(
            summary,
            "spec_tokens",
            "Which draft is best cannot be told: fewer than two drafts have a cost. "
            + NOTHING
            + missing(summary, "spec_tokens"),
        )
    first, told = rows.iloc[0], []
    for row in rows.iloc[1:].itertuples():
        never = row.needed != row.needed
        told.append(
            f"{_short(row.series)} "
            + (
                "cannot be as fast even if every token is accepted"
                if never
                else f"needs {row.needed:.2f}, {row.more:+.2f}"
            )
        )
    return (
        f"At equal acceptance the draft whose step costs least is fastest: here "
        f"{_short(first['series'])} "
        f"({first['cost_ratio']:.2f} plain steps with {first['draft_tokens']} draft tokens). "
        f"Another draft can only be "
        f"best by being accepted more often. Against {_short(first['series'])} at acceptance "
        f"{a:g}: " + "; ".join(told) + f".{_source(rows, a)}"
    )


def _source(rows: pd.DataFrame, a: float) -> str:
    """The source's pair, where both were measured."""
    found = {name: rows[rows["series"].str.endswith(name)] for name in (WINNER, SMALLEST)}
    if any(own.empty for own in found.values()) or found[SMALLEST].index[0] != 0:
        return ""
    winner = found[WINNER].iloc[0]
    if winner["needed"] != winner["needed"]:
        return f" So the source's best draft, {WINNER}, cannot be explained by acceptance."
    return (
        f" So the source's best draft, {WINNER}, implies an acceptance at least "
        f"{winner['more']:.2f} over that of "
        f"{SMALLEST} (at {a:g})."
    )
