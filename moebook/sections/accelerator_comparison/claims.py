"""Section 8: what the source claims, and what decides each: how latency grows with length, and
one's own engine against an endpoint.

Cells hold E2E latency (s). An engine's rows and an endpoint's are told apart by their method;
rooflines are no cells, for what hardware could do decides nothing. Without an endpoint every effect
of it is untested, and says how to have one."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from moebook.results.cells import Cells, Untested
from moebook.results.claims import Claim, Part, at_least, at_most
from moebook.results.comparison import Comparison, Effect, mean_of, plain, series

NO_ENDPOINT = (
    "no endpoint was measured: set `endpoint` to a label and the endpoint's environment variables; "
    "a roofline is drawn and decides nothing"
)
PLACE = ["model", "batch", "input_tokens", "output_tokens"]


def exponent_rise(
    cells: Cells, at: int, endpoint: bool = False, source_device: str | None = None
) -> Effect:
    """Exponent of latency against length above `at` tokens less the one below, per series: 0 for a
    straight line."""
    cells, differs = _side(cells, endpoint, source_device)
    planned = sorted(cells.planned["length"].dropna().unique())
    if at not in planned and len(planned) > 2:
        source, at = at, int(planned[(len(planned) - 1) // 2])
        differs = (*differs, f"bend looked for at {at} tokens (source {source})")
    lengths, logs = cells.ok["length"].to_numpy(float), np.log(cells.samples)
    values, used, texts = [], [], []
    for rows in series(cells, ("length",), "length"):
        x = lengths[rows]
        if at not in x[1:-1]:
            continue
        ends = rows[[0, list(x).index(at), -1]]
        growth = np.log(lengths[ends][1:] / lengths[ends][:-1])
        below, above = (np.diff(logs[:, ends]) / growth).T
        values.append(above - below)
        used += list(rows)
        row = cells.ok.iloc[ends[1]]
        slopes = f"{below[0]:.2f} from {x[0]:g}, {above[0]:.2f} to {x[-1]:g}"
        texts.append(f"{row['series']} at batch {row['batch']:g}: {slopes}")
    if not values:
        known = plain(sorted(set(lengths[~np.isnan(lengths)])))
        raise Untested(f"no series measured below, at and above {at} tokens; measured: {known}")
    rows = cells.ok.iloc[sorted(set(used))]
    return mean_of(np.column_stack(values), cells, "of exponent", rows, differs, "; ".join(texts))


def endpoint_lead(cells: Cells, source_device: str) -> Effect:
    """Latency of one's own engine over the endpoint's at equal batch and length, geometric mean,
    x."""
    pairs, rows = _pairs(cells, source_device)
    ratio = rows.assign(ratio=pairs.ratio()[0]).sort_values(["series", "input_tokens"])
    each = zip(ratio["input_tokens"], ratio["ratio"], strict=True)
    return _geometric(pairs, np.log(pairs.ratio()), ", ".join(f"{n:g}: {r:.3g} x" for n, r in each))


def endpoint_lead_growth(cells: Cells, source_device: str) -> Effect:
    """That ratio at the longest length over the one at the shortest, geometric mean over series,
    x."""
    pairs, rows = _pairs(cells, source_device)
    lengths = rows.groupby("series", sort=False)["input_tokens"]
    ends = lengths.agg(["idxmin", "idxmax"])[lengths.nunique() > 1]
    if ends.empty:
        raise Untested("the endpoint and an engine share one length alone")
    logs = np.log(pairs.ratio())
    growth = logs[:, ends["idxmax"]] - logs[:, ends["idxmin"]]
    low, high = rows["input_tokens"].agg(["min", "max"])
    return _geometric(pairs, growth, f"from {low:g} to {high:g} tokens")


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


def _geometric(pairs: Comparison, logs: np.ndarray, text: str) -> Effect:
    found = mean_of(logs, pairs.cells, "x", pairs.used, pairs.differs, text)
    ends = {name: float(np.exp(getattr(found, name))) for name in ("value", "lo", "hi")}
    return replace(found, **ends)


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
            Part("lower on CS-3", partial(endpoint_lead, source_device="CS-3"), at_least(1)),
            Part(
                "most at long sequences",
                partial(endpoint_lead_growth, source_device="CS-3"),
                at_least(1),
            ),
        ),
    ),
    Claim(
        id="h100-knee",
        statement="H100 latency climbs sharply beyond 1024 tokens; CS-3 latency climbs gradually.",
        decided_by="exponent of latency against length above 1024 tokens less the one below",
        source_range={"knee_tokens": 1024},
        sweep="scout|endpoint",
        source=SOURCE,
        metric="e2e_s",
        parts=(
            Part(
                "H100 climbs sharply",
                partial(exponent_rise, at=1024),
                at_least(0.1),
                why=(
                    "each doubling then costs 7 % more than a doubling below did; less no reader "
                    "of a curve would call a knee"
                ),
            ),
            Part(
                "CS-3 climbs gradually",
                partial(exponent_rise, at=1024, endpoint=True, source_device="CS-3"),
                at_most(0.1),
                why="the same bound from the other side",
            ),
        ),
    ),
)
