"""Throughput over active experts under each routing, beside what the source's first author
published of batches of identical sequences.

His runs were on four cards; the imposed routings measured here are scaled to those by the
performance model (moebook/predict/columns.py). Letters: K active experts per token.

And how far a method is from the measurement it stands in for: E2E of one point by several
methods."""

from functools import cache
from importlib import resources

import pandas as pd
import yaml

from moebook.predict.columns import SOURCES_CARDS, faster
from moebook.results.commentary import T, measured
from moebook.study.methods import DIRECT_FIRST
from moebook.study.routing import MODEL, SAME, UNIFORM

OWN, IDENTICAL = "own routers", "own routers, identical prompts"
AUTHOR = "published, identical prompts"
CARDS = "h100"  # the kind of card that was published of
THERE = f"on {SOURCES_CARDS} H100"
FROM_K = 2  # the fewest active experts that were published
OVER = "over_fewest"  # throughput over that at FROM_K
SHAPE = ["model", "num_layers", "expert_ffn_dim", "num_experts", "top_k"]
POINT = [*SHAPE, "routing", "batch", "input_tokens", "output_tokens"]


@cache
def published() -> pd.DataFrame:
    """model, top_k, throughput (tokens/s, in and out) of author_topk.yaml, which names the
    source."""
    file = resources.files("moebook.sections.hyperparameter_scaling") / "author_topk.yaml"
    rows = yaml.safe_load(file.read_text(encoding="utf-8"))["rows"]
    found = [(model, k, value) for model, own in rows.items() for k, value in own.items()]
    return pd.DataFrame(found, columns=["model", "top_k", T])


def regime(row) -> str:
    """How the tokens of a step were routed, as legends say it."""
    if row.routing != MODEL:
        return row.routing
    return IDENTICAL if row.identical else OWN


def regime_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Sweep `routing`, and of its models the published rows and the imposed routings scaled to the
    cards of those: `regime`, `place` (model and cards), `kind`, and `over_fewest`, the throughput
    over that of the same model, place and regime at FROM_K active experts."""
    own = measured(table, "routing")
    if own.empty:
        return own.assign(regime=[], place=[], kind=[], **{OVER: []})
    own = own.assign(regime=[regime(row) for row in own.itertuples()], kind=own["method"])
    own = own.assign(place=own["model"] + ", as measured")
    theirs = published()
    theirs = theirs[theirs["model"].isin(own["model"]) & theirs["top_k"].isin(own["top_k"])]
    theirs = theirs.assign(regime=AUTHOR, kind="published")
    theirs = theirs.assign(place=theirs["model"] + f", {THERE}")
    at = pd.concat([own, theirs], ignore_index=True)
    first = at[at["top_k"] == FROM_K].set_index(["place", "regime"])[T]
    places = pd.MultiIndex.from_frame(at[["place", "regime"]])
    at = at.assign(**{OVER: at[T] / first.reindex(places).to_numpy()})
    scaled = _scaled(own[own["model"].isin(theirs["model"])])
    rows = pd.concat([at, scaled], ignore_index=True).sort_values("model", kind="stable")
    return rows.assign(status="ok", sweeps="routing")


def _scaled(own: pd.DataFrame) -> pd.DataFrame:
    """The imposed routings on the cards that were published of, with 95 % intervals."""
    found = []
    imposed = own[own["regime"].isin((UNIFORM, SAME))]
    for (model, name), rows in imposed.groupby(["model", "regime"], sort=False):
        first = rows[rows["top_k"] == FROM_K]
        for _, row in rows.iterrows() if len(first) == 1 else ():
            if (ratio := faster(row, first.iloc[0], device=CARDS)) is None:
                continue
            place = {"model": model, "place": f"{model}, {THERE}", "regime": name}
            values = {OVER: ratio.value, f"{OVER}_lo": ratio.lo95, f"{OVER}_hi": ratio.hi95}
            found.append({**place, "top_k": row["top_k"], "kind": "predicted", **values})
    return pd.DataFrame(found)


def gap_rows(table: pd.DataFrame) -> pd.DataFrame:
    """A row per FFN dimension, expert count and `regime` of the grid: `gap`, throughput with the
    fewest active experts over that with the most, `method` of the latter."""
    sweeps = table["sweeps"].str.contains(r"(?:^|,)grid(?:_|,|$)")
    rows = table[sweeps & (table["status"] == "ok")]
    rows = rows.assign(regime=[regime(row) for row in rows.itertuples()])
    cell = ["expert_ffn_dim", "num_experts", "regime"]
    few, many = (rows[rows["top_k"] == k] for k in (rows["top_k"].min(), rows["top_k"].max()))
    base = few.set_index(cell)[T].rename("few")
    if len(few) == len(rows) or not base.index.is_unique:
        return many.iloc[:0].assign(gap=[])
    both = many.join(base, on=cell).dropna(subset=["few"])
    return both.assign(gap=both["few"] / both[T])


def ends(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows at the most active experts that were published of a model (else measured)."""
    most = rows[rows["regime"] == AUTHOR].groupby("model")["top_k"].max()
    most = most.reindex(rows["model"].unique()).fillna(rows.groupby("model")["top_k"].max())
    return rows[(rows["top_k"] == rows["model"].map(most)) & rows[OVER].notna()]


def nearest(own: pd.DataFrame) -> pd.Series | None:
    """Of one model's `ends`: the row of an imposed routing that the published one is nearest to, on
    the same cards where that can be said; None without either."""
    theirs = own[own["regime"] == AUTHOR]
    beside = own[own["regime"].isin((UNIFORM, SAME))]
    there = beside[beside["kind"] == "predicted"]
    beside = beside if there.empty else there
    if theirs.empty or beside.empty:
        return None
    return beside.loc[(beside[OVER] - theirs[OVER].iloc[0]).abs().idxmin()]


def validation_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per point of the sweep `validation` and method that is not its reference: label,
    method, reference, full_value and method_value (E2E, s), error_pct. The reference is the point's
    best method measured: full, else sampled. Empty where nothing was measured twice."""
    rows = table[table["sweeps"].str.contains("validation") & (table["status"] == "ok")]
    rows = rows.assign(
        point=rows.groupby(POINT, sort=False).ngroup(), rank=rows["method"].map(DIRECT_FIRST.index)
    ).sort_values(["point", "rank"])
    best = rows.groupby("point")[["method", "e2e_s"]].transform("first")
    ffn, experts, active = (rows[c].astype(str) for c in SHAPE[2:])
    imposed = (" " + rows["routing"]).where(rows["routing"] != MODEL, "")
    compared = pd.DataFrame(
        {
            "label": rows["model"] + " I=" + ffn + " E=" + experts + " K=" + active + imposed,
            "method": rows["method"],
            "reference": best["method"],
            "full_value": best["e2e_s"],
            "method_value": rows["e2e_s"],
            "error_pct": 100 * (rows["e2e_s"] / best["e2e_s"] - 1),
        }
    )
    return compared[rows["point"].duplicated()].reset_index(drop=True)
