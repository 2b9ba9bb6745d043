"""What trained drafts reach, in words: tokens accepted, by position, and experts that checking
them hits."""

import numpy as np
import pandas as pd

from moebook.results.commentary import commentary, ends_of, first_and_last, listed
from moebook.sections.speculative_decoding import drafts


@commentary
def acceptance(table: pd.DataFrame) -> str:
    """Tokens per step of each trained draft, and how temperature changes them."""
    rows = drafts.trained(table)
    rows = rows[(rows["draft_tokens"] > 0) & rows["tokens_per_step"].notna()]
    cold = drafts.coldest(rows)
    means = cold.groupby("series")[["tokens_per_step", "acceptance"]].mean().reset_index()
    cells = {
        "": "{series}",
        "tokens per step": "{tokens_per_step_mean:.2f}",
        "acceptance": "{acceptance_mean:.2f}",
        "least": "{tokens_per_step:.2f} on {text}",
        "most": "{tokens_per_step_last:.2f} on {text_last}",
    }
    head = (
        f"Tokens per target step with {rows['draft_tokens'].max()} draft tokens at temperature "
        f"{rows['temperature'].min():g}, mean over texts:"
    )
    heats = rows.groupby("temperature")["tokens_per_step"].mean()
    each = ", ".join(f"{value:.2f} at temperature {heat:g}" for heat, value in heats.items())
    rows = first_and_last(cold, "series", "tokens_per_step").merge(
        means, on="series", suffixes=("", "_mean")
    )
    ends = ends_of(means, "tokens_per_step", "Tokens per step, coldest:", "{:.2f}")
    more = f"{ends}Mean over drafts and texts: {each}."
    return listed(table, "acceptance", head, rows, cells, more)


@commentary
def by_position(table: pd.DataFrame) -> str:
    """Acceptance of a token given those before it, at the first and the last position."""
    rows = drafts.trained(table)
    rows = drafts.coldest(rows[rows["draft_tokens"] > 1])
    shares = rows.set_index("series").filter(regex=r"^accepted_pos\d+$").astype(float)
    shares = shares.groupby(level=0, sort=False).mean().dropna(axis=1, how="all").dropna()
    rates = [drafts.conditional_rates(row) for row in shares.to_numpy()]
    last = [own[~np.isnan(own)] for own in rates]
    rows = pd.DataFrame(
        [(own[0], own[-1], len(own)) for own in last], shares.index, ["first", "last", "at"]
    )
    cells = {"": "{series}", "position 1": "{first:.2f}", "last": "{last:.2f} (position {at})"}
    head = "Acceptance of a draft token given that those before it were accepted, mean over texts:"
    alike = (
        ends_of(rows.reset_index(), "first", "Of first tokens are accepted", "{:.2f}")
        + "One acceptance for all positions describes a draft as well as these two agree."
    )
    return listed(table, "acceptance", head, rows.reset_index(), cells, alike)


@commentary
def experts_hit(table: pd.DataFrame) -> str:
    """Distinct experts per step against the formula and against plain decoding."""
    numbers = ["experts_per_step", "num_experts", "step_tokens", "over_formula", "over_plain"]
    rows = drafts.experts(table).astype(dict.fromkeys(numbers, float))
    means = rows.groupby("series", sort=False)[numbers].mean().reset_index()
    cells = {
        "": "{series}",
        "tokens": "{step_tokens:.0f}",
        "experts": "{experts_per_step:.1f} of {num_experts:.0f}",
        "over formula": "{over_formula:.2f}",
        "over plain decoding": "{over_plain:.2f}",
    }
    head = "Distinct experts of a layer per target step, mean over texts and temperatures:"
    more = ends_of(means, "over_plain", "Experts hit, × plain decoding:", "{:.2f}")
    more += "What a step reads grows with these: it is what verifying k + 1 tokens costs."
    return listed(table, "acceptance", head, means, cells, more)
