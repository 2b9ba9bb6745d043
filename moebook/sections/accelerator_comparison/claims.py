"""Section 8: what the source claims, and what decides each: how latency grows with length, and
one's own engine against an endpoint.

Cells hold E2E latency (s). An engine's rows and an endpoint's are told apart by their method;
rooflines are no cells, for what hardware could do decides nothing. Without an endpoint every effect
of it is untested, and says how to have one."""

from functools import partial

import numpy as np
import pandas as pd

from moebook.results.cells import Cells, Untested
from moebook.results.claims import Claim, Part, at_least, at_most
from moebook.results.comparison import (
    Comparison,
    Effect,
    items_of,
    series,
    times,
)
from moebook.results.conditions import plain
from moebook.results.effects import of_each
from moebook.results.intervals import estimate, log_ratio

NO_ENDPOINT = (
    "no endpoint was measured: set `endpoint` to a label and the endpoint's environment variables; "
    "a roofline is drawn and decides nothing"
)
PLACE = ["model", "batch", "input_tokens", "output_tokens"]


def marginal_rise(
    cells: Cells, at: int, endpoint: bool = False, source_device: str | None = None
) -> Effect:
    """Seconds that a further token costs beyond `at` tokens over those that it costs before, per
    series, x: 1 for a straight line."""
    cells, differs = _side(cells, endpoint, source_device)
    planned = sorted(cells.planned["length"].dropna().unique())
    if at not in planned and len(planned) > 2:
        source, at = at, int(planned[(len(planned) - 1) // 2])
        differs = (*differs, f"bend looked for at {at} tokens (source {source})")
    lengths = cells.ok["length"].to_numpy(float)
    groups, texts = [], []
    for rows in series(cells, ("length",), "length"):
        x = lengths[rows]
        if at in x[1:-1]:
            groups.append(rows[[0, list(x).index(at), -1]])
            below, above = _marginal(cells.values.value[groups[-1]], lengths[groups[-1]])
            row = cells.ok.iloc[groups[-1][1]]
            each = f"{1e3 * below:.3g} ms a token from {x[0]:g}, {1e3 * above:.3g} to {x[-1]:g}"
            texts.append(f"{row['series']} at batch {row['batch']:g}: {each}")
    if not groups:
        known = plain(sorted(set(lengths[~np.isnan(lengths)])))
        raise Untested(f"no series measured below, at and above {at} tokens; measured: {known}")

    def rise(v: np.ndarray, x: np.ndarray) -> np.ndarray:
        below, above = _marginal(v, x)
        return above / below

    items = of_each(cells, groups, rise, lengths)
    used = cells.ok.iloc[np.unique(np.concatenate(groups))]
    return Effect(items, "x", used, differs, "; ".join(texts))


def _marginal(v: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds per token between the first two of three lengths x, and between the last two."""
    below, above = np.moveaxis(np.diff(v, axis=-1) / np.diff(x), -1, 0)
    return below, above


def endpoint_lead(cells: Cells, source_device: str) -> Effect:
    """Latency of one's own engine over the endpoint's at each equal batch and length, x."""
    pairs, rows = _pairs(cells, source_device)
    ratio = rows.assign(ratio=pairs.ratio()).sort_values(["series", "input_tokens"])
    each = zip(ratio["input_tokens"], ratio["ratio"], strict=True)
    text = ", ".join(f"{n:g}: {r:.3g} x" for n, r in each)
    return pairs.effect("x", times, text=text)


def endpoint_lead_growth(cells: Cells, source_device: str) -> Effect:
    """That ratio at the longest length over the one at the shortest, of each series, x."""
    pairs, rows = _pairs(cells, source_device)
    lengths = rows.groupby("series", sort=False)["input_tokens"]
    ends = lengths.agg(["idxmin", "idxmax"])[lengths.nunique() > 1]
    if ends.empty:
        raise Untested("the endpoint and an engine share one length alone")
    low, high = rows["input_tokens"].agg(["min", "max"])
    first, last = ends["idxmin"], ends["idxmax"]
    index = np.column_stack(
        [pairs.low[last], pairs.high[last], pairs.low[first], pairs.high[first]]
    )

    def growth(v: np.ndarray) -> np.ndarray:
        return log_ratio(v[..., :2]) - log_ratio(v[..., 2:])

    items = items_of(estimate(cells.values, index, growth), ends.index, times)
    text = f"from {low:g} to {high:g} tokens"
    return Effect(items, "x", pairs.used, pairs.differs, text)


def _side(cells: Cells, endpoint: bool, source_device: str | None) -> tuple[Cells, tuple[str, ...]]:
    """An engine's cells or the endpoint's, and how the endpoint differs from the source's."""
    ok, planned = (
        (frame["method"] == "endpoint") == endpoint for frame in (cells.ok, cells.planned)
    )
    if not ok.any() and not endpoint:
        raise Untested("no engine was measured")
    if not ok.any():
        reasons = cells.planned[planned].get("reason", pd.Series(dtype=str)).dropna()
        raise Untested(NO_ENDPOINT + (f" ({reasons.iloc[0]})" if len(reasons) else ""))
    cells = cells.select(ok, planned)
    labels = sorted(cells.ok["series"].unique())
    other = endpoint and source_device and not all(source_device in str(name) for name in labels)
    return cells, (f"endpoint {plain(labels)} (source {source_device})",) if other else ()


def _pairs(cells: Cells, source_device: str) -> tuple[Comparison, pd.DataFrame]:
    """Each cell of an engine (low) with the endpoint's (high) at its place, and the engine's
    rows."""
    _, differs = _side(cells, True, source_device)
    rows = cells.ok.reset_index()
    served = rows["method"] == "endpoint"
    own = rows[~served & (rows["input_tokens"] == rows["output_tokens"])]
    both = own.merge(rows.loc[served, [*PLACE, "index"]], on=PLACE, suffixes=("", "_served"))
    if both.empty:
        raise Untested(
            "no model, batch and length that both an engine and the endpoint were measured at"
        )
    low, high = both["index"].to_numpy(), both["index_served"].to_numpy()
    return Comparison(cells, low, high, differs, ""), both


SOURCE = {
    "model": ["Llama-4-Scout"],
    "device": "one H100 and one CS-3; precision not said, and differing by capacity",
}

CLAIMS = (
    Claim(
        id="cs3-latency",
        statement=(
            "Latency of Llama-4-Scout on one CS-3 is lower than on one H100, most at long "
            "sequences."
        ),
        decided_by=(
            "latency of an engine over that of a CS-3's endpoint at equal batch and length, and "
            "that ratio at the longest over the shortest length; a roofline of published figures "
            "decides nothing"
        ),
        source_range={},
        sweep="scout|endpoint",
        source=SOURCE,
        metric="e2e_s",
        parts=(
            Part(
                "lower on CS-3",
                partial(endpoint_lead, source_device="CS-3"),
                at_least(1, rounding=0.01),
            ),
            Part(
                "most at long sequences",
                partial(endpoint_lead_growth, source_device="CS-3"),
                at_least(1, rounding=0.01),
            ),
        ),
    ),
    Claim(
        id="h100-knee",
        statement="H100 latency climbs sharply beyond 1024 tokens; CS-3 latency climbs gradually.",
        decided_by="seconds that a further token costs beyond 1024 tokens over those before",
        source_range={"knee_tokens": 1024},
        sweep="scout|endpoint",
        source=SOURCE,
        metric="e2e_s",
        parts=(
            Part(
                "H100 climbs sharply",
                partial(marginal_rise, at=1024),
                at_least(1.5, contradicted_below=1.25, rounding=0.1),
                why=(
                    "a straight line has 1; half as much again a token is a knee that a reader of "
                    "a curve sees, less than a quarter more is none"
                ),
            ),
            Part(
                "CS-3 climbs gradually",
                partial(marginal_rise, at=1024, endpoint=True, source_device="CS-3"),
                at_most(1.25, rounding=0.1),
                why="the same bound from the other side",
            ),
        ),
    ),
)
