"""A section's commentary: text whose every number is computed from the table it speaks of, and
what the commentaries of several sections share: words, and whole ones on energy and on prediction.

    @commentary
    def over_batch(table): ...

    over_batch(run)            in a notebook: at most three bullets, the rest folded
    over_batch(run.table)      anywhere: the text, in Markdown
"""

from collections.abc import Callable, Mapping
from functools import wraps
from string import Formatter

import pandas as pd

from moebook.predict.columns import CALIBRATED, LEFT_OUT, TIMED
from moebook.results.cells import of_sweep
from moebook.study.lengths import Length
from moebook.study.points import ENERGY

T = "throughput_tok_s"
NOT_PLANNED = "Not part of this plan"
NOTHING = "Nothing was measured for this figure."
PER_TOKEN = "energy_per_output_token_j"
SAME_PCT = 3.0  # two ratios nearer than this are told as one
MOST_ENERGY = 2  # series told
HOW_PREDICTED = {
    LEFT_OUT: "predicted while their model was left out of the fit",
    CALIBRATED: "predicted by the shipped calibration, which has their model or its kin in it",
}


def commentary(say: Callable[..., str]) -> Callable:
    """Let a function (table, ...) -> text also take a notebook's run, and return what it shows
    then."""

    @wraps(say)
    def either(of, *args):
        return say(of, *args) if isinstance(of, pd.DataFrame) else of.say(say)

    return either


def lengths_of(rows: pd.DataFrame) -> list[Length]:
    """The length of each row; of a table without outputs as many out as in."""
    outputs = rows["output_tokens"] if "output_tokens" in rows else rows["input_tokens"]
    both = (side.astype(int).to_list() for side in (rows["input_tokens"], outputs))
    return [Length(*pair) for pair in zip(*both, strict=True)]


def measured(summary: pd.DataFrame, sweep: str, *columns: str) -> pd.DataFrame:
    """Rows of a sweep that have a number, and every one of the columns; none where the table lacks
    one."""
    rows = planned(summary, sweep)
    rows = rows[rows["status"] == "ok"]
    return rows.reindex(columns=rows.columns.union(columns, sort=False)).dropna(subset=columns)


def planned(summary: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """Rows of a sweep, with a number or not."""
    return of_sweep(summary, sweep)


def nothing(summary: pd.DataFrame, sweep: str, said: str | None = None) -> str:
    """Why there is nothing to tell of a sweep: the plan lacks it, else what is said, by default
    that nothing was measured and what stood in the way."""
    if planned(summary, sweep).empty:
        return f"{NOT_PLANNED}: sweep `{sweep}`."
    return NOTHING + missing(summary, sweep) if said is None else said


def change(ratio: float, digits: int = 0) -> str:
    """1.25 as `+25 %`"""
    return f"{100 * (ratio - 1):+z.{digits}f} %"


def ends_of(
    rows: pd.DataFrame, column: str, head: str, value: str = "{:+z.0f} %", name: str = "series"
) -> str:
    """`<head> -5 % (a) to +30 % (b). `: the least and the greatest of a column, each with the name
    of its row; empty where there is none."""
    values = rows[column].astype(float).reset_index(drop=True).dropna()
    if values.empty:
        return ""
    names = rows[name].reset_index(drop=True)
    at = dict.fromkeys([values.idxmin(), values.idxmax()])
    return f"{head} {' to '.join(f'{value.format(values[i])} ({names[i]})' for i in at)}. "


def with_length(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `length`, which reads `128` or, where another number goes out, `1024 + 256`."""
    return rows.assign(length=pd.Series(lengths_of(rows), index=rows.index, dtype=object))


def length_of(row) -> Length:
    """The length of one row."""
    return Length(int(row["input_tokens"]), int(row["output_tokens"]))


def in_order(rows: pd.DataFrame, column: str = "series") -> list:
    """Values of a column in their order of appearance."""
    return list(dict.fromkeys(rows[column]))


def missing(summary: pd.DataFrame, sweep: str, why: bool = True) -> str:
    """A sentence on the series of a sweep that could not be run, each with its reason unless `why`
    is false; empty where all were."""
    rows = planned(summary, sweep)
    gone = rows[rows["status"] != "ok"].drop_duplicates("series")
    gone = gone[~gone["series"].isin(rows.loc[rows["status"] == "ok", "series"])]
    if not why and len(gone):
        return f" Not measured: {', '.join(gone['series'])}."
    told = "; ".join(
        ", ".join(own) + f": {status}" * (status != "not_run") + f" ({reason})"
        for (status, reason), own in gone.groupby(["status", "reason"], sort=False)["series"]
    )
    return f" Not measured: {told}." if told else ""


def with_gain(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `gains` that have one."""
    return rows[(rows["status"] == "ok") & rows["gain_pct"].notna()]


@commentary
def predicted_vs_measured(table: pd.DataFrame) -> str:
    """The score by how predictions were made, or why there are none."""
    if "predicted_e2e_s" not in table:  # of nothing measured
        return "No prediction: nothing was measured."
    ok = table["status"] == "ok"
    measured = table[ok & table["predicted_e2e_s"].notna()]
    if measured.empty:
        why = table.loc[ok, "predicted_reason"].dropna()
        return f"No prediction: {why.iloc[0] if len(why) else 'nothing was measured'}."
    told = [_prediction_score(measured, how, words) for how, words in HOW_PREDICTED.items()]
    none = table.loc[ok & table["method"].isin(TIMED) & table["predicted_e2e_s"].isna()]
    whose = none.groupby("predicted_reason")["model"].agg(lambda m: ", ".join(sorted(set(m))))
    told += [f"No prediction of {models}: {reason}." for reason, models in whose.items()]
    return " ".join(filter(None, told))


def _prediction_score(rows: pd.DataFrame, how: str, words: str) -> str | None:
    own = rows[rows["predicted_how"] == how]
    if own.empty:
        return None
    error = 100 * (own["predicted_e2e_s"] / own["e2e_s"].astype(float) - 1).abs()
    inside = own["e2e_s"].between(own["predicted_e2e_s_lo95"], own["predicted_e2e_s_hi95"])
    if len(own) == 1:
        where = "in" if inside.all() else "outside"
        return f"One point {words}: E2E off by {error.iloc[0]:.1f} %, {where} its 95 % interval."
    return (
        f"{len(own)} points {words}: E2E off by {error.median():.1f} % in the median, "
        f"{error.quantile(0.9):.0f} % at the 90th percentile; {100 * inside.mean():.0f} % lie in "
        "their 95 % interval."
    )


@commentary
def energy(table: pd.DataFrame) -> str:
    """Joules a token over batch, and whether a series saves energy beyond the time it saves."""
    rows = measured(table, ENERGY)
    if rows.empty:
        return nothing(table, ENERGY)
    told = [*_over_first(rows)[:MOST_ENERGY], *_over_batch(rows)[:MOST_ENERGY]] or [
        _energy_range(rows)
    ]
    idle = rows["idle_power_w"].astype(float)
    powers = rows["decode_power_w"].astype(float)
    taken = " to ".join(dict.fromkeys(f"{one:.0f}" for one in (powers.min(), powers.max())))
    told.append(
        f"The card takes {taken} W while decoding, {idle.mean():.0f} W idle with an engine loaded."
    )
    return "\n\n".join(told)


@commentary
def price(table: pd.DataFrame, device_hour_price: float | None = None) -> str:
    """Price of a million tokens, input and output, at `device_hour_price` of one device; nothing
    without one."""
    if device_hour_price is None:
        return ""
    rows = measured(table, ENERGY)
    if rows.empty:
        return nothing(table, ENERGY)
    devices = rows["tensor_parallel"].astype(int) * rows["pipeline_parallel"].astype(int)
    found = 1e6 * device_hour_price * devices / 3600 / rows["throughput_tok_s"].astype(float)
    ends = [found.idxmin(), found.idxmax()]
    return "A million tokens, input and output, cost " + " to ".join(
        f"{found[i]:.3g} ({_energy_name(rows.loc[i])}, batch {rows.loc[i, 'batch']})" for i in ends
    )


def _energy_name(row: pd.Series) -> str:
    return " ".join(filter(None, (str(row["model"]), str(row["series"] or ""))))


def _over_batch(rows: pd.DataFrame) -> list[str]:
    """A token's energy at the smallest and at the largest batch, of each line that has both."""
    found = []
    for _, own in rows.groupby(["model", "series"], sort=False, dropna=False):
        own = own.sort_values("batch")
        low, high = own.iloc[0], own.iloc[-1]
        if low["batch"] < high["batch"]:
            found.append(
                f"{_energy_name(low)}: an output token takes {low[PER_TOKEN]:.3g} J at batch "
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


def _energy_range(rows: pd.DataFrame) -> str:
    values = rows[PER_TOKEN].astype(float)
    ends = [values.idxmin(), values.idxmax()]
    told = (f"{values[i]:.3g} J ({_energy_name(rows.loc[i])})" for i in dict.fromkeys(ends))
    return f"An output token takes {' to '.join(told)}."


class _Missing:
    """What stands for a number that is missing, whatever its format."""

    def __format__(self, form: str = "") -> str:
        return "–"

    __str__ = __format__


def markdown(rows: pd.DataFrame, cells: Mapping[str, str] | None = None) -> str:
    """A Markdown table, a line per row: head -> how a cell reads, `{gain_pct:+.0f} %`, by the
    columns of `rows`; None: the columns as they are. What is missing reads `–`. Empty where there
    are no rows. (pandas' own `to_markdown` needs a package that is not installed.)"""
    if rows.empty:
        return ""
    heads, side = list(rows if cells is None else cells), "---" if cells is None else "---:"
    if cells is not None:  # of the columns that are read alone: a summary has hundreds
        named = {part[1] for form in cells.values() for part in Formatter().parse(form)}
        rows = rows[[column for column in rows if column in named]]
    known = rows.astype(object).where(rows.notna(), _Missing()).to_dict("records")
    lines = [list(row.values()) for row in known]
    if cells is not None:
        lines = [[form.format(**row) for form in cells.values()] for row in known]
    lines = [heads, ["---"] + [side] * (len(heads) - 1), *lines]
    return "\n\n" + "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines) + "\n"


def listed(
    table: pd.DataFrame, sweep: str, head: str, rows: pd.DataFrame, cells: dict, more: str = ""
) -> str:
    """A head, a line per row, more words, and what of the sweep could not be measured."""
    if rows.empty:
        return nothing(table, sweep)
    return head + markdown(rows, cells) + more + missing(table, sweep)


def first_and_last(rows: pd.DataFrame, line: str, by: str) -> pd.DataFrame:
    """A row per value of `line`, in the order of the rows: all columns at its smallest value of
    `by`, and again, named `_last`, at its largest."""
    ordered = rows.sort_values(by, kind="stable")
    first, last = (ordered.drop_duplicates(line, keep=keep) for keep in ("first", "last"))
    both = first.merge(last, on=line, suffixes=("", "_last"))
    return rows[[line]].drop_duplicates().merge(both, on=line)
