"""What section 3's names hold, as columns, and what is computed by them.

series    `inter 12.5 %` -> kind "inter", ratio_pct 12.5; null of the whole model, `baseline`
weights   `tiny:gpu/aux-0.01/inter-12.5-norm` -> criterion "norm"; null of what is not pruned
"""

import pandas as pd

from moebook.results.gains import increases
from moebook.study.methods import DIRECT_FIRST

SWEEP = "pruning"
BASELINE = "baseline"
KINDS = {"inter": "inter-expert", "intra": "intra-expert"}
CRITERIA = {
    "random": "random choice",
    "norm": "weight norm",
    "frequency": "activation frequency",
    "routed_activation": "routed activation",
}
WEIGHTS = r"^tiny:.+/(?:inter|intra)-[\d.]+-(?P<criterion>\w+)$"
FACTS = ("method", "status", "reason", "batch", "input_tokens", "output_tokens", "device")


def series_name(kind: str, ratio_pct: float) -> str:
    """`inter 12.5 %`"""
    return f"{kind} {ratio_pct:g} %"


def with_ratio(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `kind` and `ratio_pct` of their series."""
    parts = rows["series"].astype(str).str.extract(r"^(?P<kind>\w+) (?P<ratio_pct>[\d.]+) %$")
    return rows.assign(kind=parts["kind"], ratio_pct=parts["ratio_pct"].astype(float))


def perplexities(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of sweep `quality` with their increase over the whole model, kind, ratio and
    criterion. ValueError where the whole model is missing."""
    rows = with_ratio(increases(table, BASELINE))
    return rows.assign(criterion=rows["weights"].astype(str).str.extract(WEIGHTS)["criterion"])


def by_ratio(gains: pd.DataFrame) -> pd.DataFrame:
    """Gains of pruned series, a row per model, kind and ratio: `gain_pct` is the mean over places,
    _lo and _hi the least and the most of them, `n_places` their number. Its facts are those of the
    least direct place; without any number, of the first."""
    rows = with_ratio(gains).dropna(subset=["kind"])
    ok = (rows["status"] == "ok") & rows["gain_pct"].notna()
    indirect = pd.Series(pd.Categorical(rows["method"], DIRECT_FIRST).codes, rows.index)
    rows = rows.assign(gain_pct=rows["gain_pct"].where(ok), _indirect=indirect.where(ok, -2))
    places = rows.reset_index(drop=True).groupby(["model", "kind", "ratio_pct"], sort=False)
    found = places["gain_pct"].agg(["mean", "min", "max", "count"])
    found.columns = ["gain_pct", "gain_pct_lo", "gain_pct_hi", "n_places"]
    facts = rows.iloc[places["_indirect"].idxmax()][[c for c in FACTS if c in rows]]
    return pd.concat([found.reset_index(), facts.reset_index(drop=True)], axis=1)


def with_speed(rows: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """Pruned rows of `perplexities`, once for each model of `gains`, with that model's mean gain
    over its places at the same kind and ratio: `speed_model`, `gain_pct` (_lo, _hi: its least and
    most), `n_places`. No gain at that kind and ratio: null."""
    speeds = by_ratio(gains).rename(columns={"model": "speed_model"})
    speeds = speeds.drop(columns=[c for c in FACTS if c in speeds])
    pruned = rows[rows["kind"].notna()].drop(columns=["gain_pct"], errors="ignore")
    each = speeds[["speed_model"]].drop_duplicates().merge(pruned, how="cross")
    return each.merge(speeds, on=["speed_model", "kind", "ratio_pct"], how="left")
