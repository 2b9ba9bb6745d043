"""Throughput over active experts under each routing, beside what the source's first author
published of batches of identical sequences.

Letters: K active experts per token."""

from functools import cache
from importlib import resources

import pandas as pd
import yaml

from moebook.results.commentary import T, measured
from moebook.study.routing import MODEL, SAME, UNIFORM

OWN, IDENTICAL = "own routers", "own routers, identical prompts"
AUTHOR = "published, identical prompts"
FROM_K = 2  # the fewest active experts that were published
OVER = "over_fewest"  # throughput over that at FROM_K


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
    """Sweep `routing`, and the published rows of its models: `regime`, and `over_fewest`, the
    throughput over that of the same model and regime at FROM_K active experts."""
    own = measured(table, "routing")
    if own.empty:
        return own.assign(regime=[], **{OVER: []})
    own = own.assign(regime=[regime(row) for row in own.itertuples()], kind=own["method"])
    theirs = published()
    theirs = theirs[theirs["model"].isin(own["model"]) & theirs["top_k"].isin(own["top_k"])]
    theirs = theirs.assign(regime=AUTHOR, kind="published", status="ok", sweeps="routing")
    rows = pd.concat([own, theirs], ignore_index=True)
    at = rows[rows["top_k"] == FROM_K].set_index(["model", "regime"])[T]
    places = pd.MultiIndex.from_frame(rows[["model", "regime"]])
    return rows.assign(**{OVER: rows[T] / at.reindex(places).to_numpy()})


def falls(rows: pd.DataFrame) -> pd.DataFrame:
    """Change of throughput from FROM_K to the most active experts that were published of a model
    (else measured), in percent: a row per model, a column per regime."""
    most = rows[rows["regime"] == AUTHOR].groupby("model")["top_k"].max()
    most = most.reindex(rows["model"].unique()).fillna(rows.groupby("model")["top_k"].max())
    ends = rows[rows["top_k"] == rows["model"].map(most)]
    wide = ends.pivot_table(index="model", columns="regime", values=OVER, sort=False)
    return 100 * (wide.dropna(how="all") - 1)


def nearest(falls_of: pd.Series) -> str | None:
    """Which of the two imposed regimes the published fall is nearer to; None without either."""
    ends = falls_of.reindex([UNIFORM, SAME]).dropna()
    if AUTHOR not in falls_of or pd.isna(falls_of[AUTHOR]) or ends.empty:
        return None
    return (ends - falls_of[AUTHOR]).abs().idxmin()
