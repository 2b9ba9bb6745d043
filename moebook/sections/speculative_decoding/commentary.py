"""Section 4 in words: a function per figure, named like it, and what has no figure."""

import numpy as np
import pandas as pd

from moebook.predict.columns import is_under
from moebook.predict.work import expected_tokens
from moebook.results.commentary import (
    NOTHING,
    T,
    commentary,
    ends_of,
    energy,
    first_and_last,
    length_of,
    listed,
    markdown,
    measured,
    missing,
    nothing,
    predicted_vs_measured,
    price,
    with_gain,
    with_length,
)
from moebook.results.gains import gains
from moebook.results.page import Number
from moebook.sections.speculative_decoding import drafts
from moebook.sections.speculative_decoding.acceptance_commentary import (
    acceptance,
    by_position,
    experts_hit,
)
from moebook.sections.speculative_decoding.plan import PLAIN

__all__ = [
    "acceptance",
    "by_position",
    "energy",
    "experts_hit",
    "predicted_vs_measured",
    "price",
]

COMPARED_AT = 0.7  # acceptance at which drafts are compared where none was set
WINNER, SMALLEST = "1.7B", "0.6B"  # drafts of the source


def _gain(table: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """Gains over no speculation; empty where nothing was measured in both."""
    rows = measured(table, sweep)
    if not {PLAIN} < set(rows["series"]):
        return rows.head(0).assign(gain_pct=0.0)
    return with_gain(gains(rows, sweep, over=PLAIN))


def numbers(table: pd.DataFrame) -> tuple[Number, ...]:
    """The best and the worst draft's gain, from where the best pays, and tokens per step."""
    found = _gain(table, "spec_tokens")
    if found.empty:
        return ()
    found = drafts.at_fixed(found, table).sort_values("gain_pct", kind="stable")
    told = [
        Number(f"{r['gain_pct']:+.0f} %", f"{r['series']} over plain decoding, batch {r['batch']}")
        for _, r in found.iloc[[-1, 0][: len(found)]].iterrows()
    ]
    costs = drafts.at_fixed(drafts.measured_ratio(table, "spec_tokens"), table)
    costs = costs.dropna(subset="break_even").sort_values("break_even")
    for row in costs.head(1).itertuples():
        told.append(Number(f"{row.break_even:.2f}", f"acceptance from which {row.series} pays"))
    rows = drafts.trained(table)
    rows = drafts.coldest(rows[(rows["draft_tokens"] > 0) & rows["tokens_per_step"].notna()])
    if len(rows):
        most = f"tokens per step of trained drafts, {rows['draft_tokens'].max()} proposed, mean"
        told.append(Number(f"{rows['tokens_per_step'].mean():.2f}", most))
    return tuple(told)


@commentary
def headline(table: pd.DataFrame) -> str:
    """The finding, in two sentences."""
    found = _gain(table, "spec_tokens")
    if found.empty:
        lost = "Speculative decoding is not measured." + missing(table, "spec_tokens")
        return nothing(table, "spec_tokens", lost)
    found = drafts.at_fixed(found, table).sort_values("gain_pct", kind="stable")
    worst, best = found.iloc[0], found.iloc[-1]
    rest = f", {worst['series']} by {worst['gain_pct']:+.0f} %" if len(found) > 1 else ""
    given, own = found["set_acceptance"].dropna(), drafts.acceptance_of(found).dropna()
    if len(given):
        how = f"acceptance set to {given.iloc[0]:g}"
    else:
        between = f" ({own.min():.2f} to {own.max():.2f})" if len(own) else ""
        how = f"the drafts' own acceptance{between}"
    return (
        f"**Finding.** With {best['draft_tokens']} draft tokens and {how}, {best['series']} "
        f"changes throughput over plain decoding by {best['gain_pct']:+.0f} %{rest}. "
        f"Of {len(found)} drafts {(found['gain_pct'] > 0).sum()} are faster "
        f"(batch {best['batch']}, {length_of(best)} tokens in and out)."
        f"{missing(table, 'spec_tokens', why=False)}"
    )


@commentary
def over_length(table: pd.DataFrame) -> str:
    """Fig 12: throughput from the shortest to the longest input, per series."""
    rows = first_and_last(with_length(measured(table, "spec_length")), "series", "length")
    rows = rows[rows["length"] != rows["length_last"]]
    rows = rows.assign(change=100 * (rows[f"{T}_last"] / rows[T] - 1))
    over = _gain(table, "spec_length")["gain_pct"]
    wins = f"A draft is faster than no speculation at {(over > 0).sum()} of {len(over)} points."
    wins = ends_of(rows, "change", "To the longest input throughput changes by") + wins * bool(
        len(over)
    )
    head = "How throughput changes from the shortest to the longest input:"
    cells = {"": "{series}", "from": "{length}", "to": "{length_last}", "change": "{change:+.0f} %"}
    return listed(table, "spec_length", head, rows, cells, wins)


@commentary
def over_draft_tokens(table: pd.DataFrame) -> str:
    """Fig 12: the best number of draft tokens of each draft, and what the most of them gives."""
    found = _gain(table, "spec_tokens").sort_values("draft_tokens", kind="stable")
    steps = found.groupby("series")[T].diff().dropna()
    falls = f"Throughput falls at {(steps < 0).sum()} of {len(steps)} steps to more draft tokens."
    cells = {
        "": "{series}",
        "best with": "{draft_tokens_last_of_best}",
        "gain": "{gain_pct_last_of_best:+.0f} %",
        "at most": "{draft_tokens_last}",
        "gain there": "{gain_pct_last:+.0f} %",
    }
    best, most = (first_and_last(found, "series", by) for by in ("gain_pct", "draft_tokens"))
    rows = best.merge(most, on="series", suffixes=("_of_best", ""))
    head = "The best number of draft tokens, by the gain over no speculation:"
    gain = ends_of(rows, "gain_pct_last_of_best", "At its best a draft changes throughput by")
    return listed(table, "spec_tokens", head, rows, cells, gain + falls * bool(len(steps)))


@commentary
def over_batch(table: pd.DataFrame) -> str:
    """Gain over no speculation from the smallest to the largest batch."""
    cells = {
        "": "{series}",
        "smallest batch": "{gain_pct:+.0f} % at {batch}",
        "largest": "{gain_pct_last:+.0f} % at {batch_last}",
    }
    rows = first_and_last(_gain(table, "spec_batch"), "series", "batch")
    more = "".join(
        ends_of(rows, f"gain_pct{end}", f"At the {word} batch a draft changes throughput by")
        for end, word in (("", "smallest"), ("_last", "largest"))
    )
    return listed(table, "spec_batch", "Throughput over no speculation:", rows, cells, more)


@commentary
def speedup(table: pd.DataFrame) -> str:
    """Cost ratio and break-even of each draft, and which drafts pay at what the trained ones
    reached."""
    rows = drafts.measured_ratio(table, "spec_tokens")
    if rows.empty:
        return nothing(table, "spec_tokens")
    rows = drafts.at_fixed(rows, table)
    first, k = rows.iloc[0], rows["draft_tokens"].iloc[0]
    cells = {
        "": "{series}",
        "cost (plain steps)": "{cost_ratio:.2f}",
        "pays from acceptance": "{break_even:.2f}",
    }
    head = f"With {k} draft tokens a step (batch {first['batch']}, {length_of(first)} tokens):"
    never = ", ".join(rows.loc[rows["break_even"].isna(), "series"])
    more = ends_of(rows, "break_even", "A draft pays from an acceptance of", "{:.2f}")
    more += f"{never} never pays: a step yields {k + 1} tokens at most. " * bool(never)
    found = drafts.reached(table).reset_index()
    if len(found):
        tokens = expected_tokens(found["acceptance"], k)
        wins = [", ".join(rows.loc[rows["cost_ratio"] < t, "series"]) or "no draft" for t in tokens]
        more += "What beats no speculation at the acceptance that trained drafts reached:"
        reached = {"trained": "{series}", "acceptance": "{acceptance:.2f}", "faster": "{wins}"}
        more += markdown(found.assign(wins=wins), reached)
    return listed(table, "spec_tokens", head, rows, cells, more)


@commentary
def break_even(table: pd.DataFrame) -> str:
    """From which acceptance a draft pays, at the smallest and the largest batch."""
    found = [
        ends_of(own, "break_even", f"At batch {batch} a draft pays from an acceptance of", "{:.2f}")
        for batch, own in drafts.measured_ratio(table, "spec_batch").groupby("batch")
    ]
    found = list(filter(None, found))
    return "".join(dict.fromkeys([*found[:1], *found[-1:]])) or nothing(
        table, "spec_batch", NOTHING
    )


@commentary
def check(table: pd.DataFrame) -> str:
    """Equality of greedy output, and the error of composing speed from cost and acceptance."""
    rows = drafts.same_output(table)
    text = "Greedy output was not compared: nothing was measured at temperature 0 in both. "
    if len(rows):
        text = "Sequences at temperature 0 whose tokens are those of plain decoding, with repeats:"
        text += markdown(rows, {"": "{series}", "same": "{same} of {of}"})
    if (rows["share"] < 1).any():
        text += "A step over more tokens adds in another order, which can turn a near-tie. "
    drafted = table[(table["draft_tokens"].fillna(0) > 0) & (table["status"] == "ok")]
    if under := is_under(drafted).sum():
        text += (
            f"{under} of {len(drafted)} runs with a draft are faster than their physical limit: "
            "their draft tokens share experts more than near-uniform routing would, so the cost "
            "of verifying is understated. "
        )
    found = drafts.check(table)
    found = found[(found["status"] == "ok") & found["error_pct"].notna()]
    if found.empty:
        return text + "No run at a second acceptance was measured to check the composition."
    return text + " ".join(
        f"{r.series} at acceptance {r.set_acceptance:g}: {1e3 * r.tpot_s:.3g} ms per token "
        f"measured, {1e3 * r.composed_tpot_s:.3g} composed from the run at "
        f"{r.set_acceptance_from:g} ({r.error_pct:+.1f} %)."
        for r in found.itertuples()
    )


@commentary
def graphs(table: pd.DataFrame) -> str:
    """What the engine's own compilation changes, where it was measured."""
    usual = table[table["status"].eq("ok") & table["sweeps"].str.contains("spec_[tlb]")]
    place = ["series", "batch", "input_tokens", "output_tokens", "draft_tokens", "set_acceptance"]
    both = measured(table, "spec_graphs").merge(usual, on=place, suffixes=("", "_usual"))
    if both.empty:
        return "Other graphs were not measured."
    both = both.assign(gain=100 * (both["tpot_s_usual"] / both["tpot_s"] - 1).astype(float))
    each = both.groupby("series", sort=False)["gain"].agg(["min", "max", "size"]).reset_index()
    cells = {"": "{series}", "from": "{min:+.1f} %", "to": "{max:+.1f} %", "places": "{size}"}
    one, other = both[["graphs_usual", "graphs"]].iloc[0]
    ends = ends_of(both, "gain", f"`{one}` takes longer than `{other}` by", "{:+.1f} %")
    head = f"Graphs `{one}` against `{other}`, in time per token:"
    return head + markdown(each, cells) + ends.strip()


@commentary
def best_draft(table: pd.DataFrame) -> str:
    """By how much the source's winner must be accepted more often than the smallest draft to be the
    fastest."""
    given = measured(table, "spec_tokens")["set_acceptance"].dropna()
    a = float(given.iloc[0]) if len(given) else COMPARED_AT
    rows = drafts.matching(table, a)
    if len(rows) < 2:
        said = "Which draft is best cannot be said: fewer than two drafts have a cost. " + NOTHING
        return nothing(table, "spec_tokens", said + missing(table, "spec_tokens"))
    first, winner = rows.iloc[0], rows[rows["series"].str.endswith(WINNER)]
    never = ", ".join(rows.loc[rows["needed"].isna(), "series"])
    more = f"{never} cannot be as fast even if every token is accepted. " * bool(never)
    if len(winner) and first["series"].endswith(SMALLEST):
        least = winner["more"].iloc[0]
        more += f"So the source's best draft, {WINNER}, " + (
            "cannot be explained by acceptance."
            if np.isnan(least)
            else f"implies an acceptance at least {least:.2f} over that of {SMALLEST} (at {a:g})."
        )
    cells = {"": "{series}", "needs": "{needed:.2f}", "more": "{more:+.2f}"}
    return (
        f"At equal acceptance the draft whose step costs least is fastest: here {first['series']} "
        f"({first['cost_ratio']:.2f} plain steps with {first['draft_tokens']} draft tokens). "
        f"To be as fast as it is at acceptance {a:g}, another must be accepted more often:"
        + markdown(rows.iloc[1:], cells)
        + more
    )
