"""What energy costs, in words: a commentary that sections share."""

import pandas as pd

from moebook.results.commentary import change, commentary, in_order, measured, nothing
from moebook.study.energy import SWEEP

PER_TOKEN = "energy_per_output_token_j"
SAME_PCT = 3.0  # two ratios nearer than this are told as one
MOST = 2  # series told


@commentary
def energy(table: pd.DataFrame) -> str:
    """Joules a token over batch, and whether a series saves energy beyond the time it saves."""
    rows = measured(table, SWEEP)
    if rows.empty:
        return nothing(table, SWEEP)
    told = [*_over_first(rows)[:MOST], *_over_batch(rows)[:MOST]] or [_range(rows)]
    idle = rows["idle_power_w"].astype(float)
    powers = rows["decode_power_w"].astype(float)
    told.append(
        f"The card takes {powers.min():.0f} to {powers.max():.0f} W while decoding, "
        f"{idle.mean():.0f} W idle with an engine loaded."
    )
    return "\n\n".join(told)


@commentary
def price(table: pd.DataFrame, device_hour_price: float | None = None) -> str:
    """Price of a million tokens, input and output, at `device_hour_price` of one device."""
    if device_hour_price is None:
        return "No cost is told: `device_hour_price` is null."
    rows = measured(table, SWEEP)
    if rows.empty:
        return nothing(table, SWEEP)
    devices = rows["tensor_parallel"].astype(int) * rows["pipeline_parallel"].astype(int)
    found = 1e6 * device_hour_price * devices / 3600 / rows["throughput_tok_s"].astype(float)
    ends = [found.idxmin(), found.idxmax()]
    return "A million tokens, input and output, cost " + " to ".join(
        f"{found[i]:.3g} ({_name(rows.loc[i])}, batch {rows.loc[i, 'batch']})" for i in ends
    )


def _name(row: pd.Series) -> str:
    return " ".join(filter(None, (str(row["model"]), str(row["series"] or ""))))


def _over_batch(rows: pd.DataFrame) -> list[str]:
    """A token's energy at the smallest and at the largest batch, of each line that has both."""
    found = []
    for _, own in rows.groupby(["model", "series"], sort=False, dropna=False):
        own = own.sort_values("batch")
        low, high = own.iloc[0], own.iloc[-1]
        if low["batch"] < high["batch"]:
            found.append(
                f"{_name(low)}: an output token takes {low[PER_TOKEN]:.3g} J at batch "
                f"{low['batch']}, {high[PER_TOKEN]:.3g} J at batch {high['batch']}."
            )
    return found


def _over_first(rows: pd.DataFrame) -> list[str]:
    """Energy and time of each further series over the first of its model, at the largest and at the
    smallest batch that both have."""
    found = []
    for model, own in rows.groupby("model", sort=False):
        first, *others = in_order(own)
        base = own[own["series"] == first].set_index("batch")
        for name in others:
            mine = own[own["series"] == name].set_index("batch")
            shared = mine.index.intersection(base.index)
            for batch in sorted({shared.min(), shared.max()} if len(shared) else (), reverse=True):
                found.append(_saved(model, name, first, mine, base, batch))
    return found


def _saved(model: str, name: str, first: str, mine, base, batch: int) -> str:
    energy, time = (
        float(mine.loc[batch, column]) / float(base.loc[batch, column])
        for column in (PER_TOKEN, "e2e_s")
    )
    how = (
        "energy is saved by time alone"
        if abs(energy / time - 1) < SAME_PCT / 100
        else f"the mean power changes by {change(energy / time)}"
    )
    return (
        f"{model}, {name} over {first} at batch {batch}: energy {change(energy)}, time "
        f"{change(time)}; {how}."
    )


def _range(rows: pd.DataFrame) -> str:
    values = rows[PER_TOKEN].astype(float)
    ends = [values.idxmin(), values.idxmax()]
    return "An output token takes " + " to ".join(
        f"{values[i]:.3g} J ({_name(rows.loc[i])})" for i in dict.fromkeys(ends)
    )
