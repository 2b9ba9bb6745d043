"""Effects of accelerators that decide claims: how latency grows with length, and one's own engine
against an endpoint.

Cells hold E2E latency (s). An engine's rows and an endpoint's are told apart by their method;
rooflines are no cells, for what hardware could do decides nothing. Without an endpoint every effect
of it is untested, and says how to have one."""

import numpy as np

from moebook.results.cells import Cells, Untested
from moebook.results.pairs import Effect, mean_of, plain, series

NO_ENDPOINT = (
    "no endpoint was measured: set `endpoint` to a label and the endpoint's environment variables; "
    "a roofline is "
    "drawn and decides nothing"
)


def exponent_rise(
    cells: Cells, at: int, endpoint: bool = False, source_device: str | None = None
) -> Effect:
    """Exponent of latency against length above `at` tokens less the one below, per series: 0 for a
    straight line."""
    cells, differs = _side(cells, endpoint, source_device)
    at, differs = _middle(cells, at, differs)
    lengths, logs = cells.ok["length"].to_numpy(float), np.log(cells.samples)
    values, used, told = [], [], []
    for rows in series(cells, ("length",), "length"):
        x = lengths[rows]
        if at not in x or x[0] == at or x[-1] == at:
            continue
        middle = rows[list(x).index(at)]
        below, above = (
            _slope(logs, lengths, *ends) for ends in ((rows[0], middle), (middle, rows[-1]))
        )
        values.append(above - below)
        used += list(rows)
        told.append(
            f"{_name(cells, middle)}: {below[0]:.2f} from {x[0]:g}, {above[0]:.2f} to {x[-1]:g}"
        )
    if not values:
        raise Untested(
            f"no series measured below, at and above {at} tokens; measured: "
            f"{plain(sorted(set(lengths[~np.isnan(lengths)])))}"
        )
    return mean_of(
        np.column_stack(values),
        cells,
        "of exponent",
        cells.ok.iloc[sorted(set(used))],
        differs,
        "; ".join(told),
    )


def endpoint_lead(cells: Cells, source_device: str) -> Effect:
    """Latency of one's own engine over the endpoint's at equal batch and length, geometric mean,
    x."""
    logs, used, differs = _ratios(cells, source_device)
    found = mean_of(np.column_stack(list(logs.values())), cells, "x", used, differs, "")
    each = ", ".join(
        f"{length:g}: {np.exp(logs[name, length][0]):.3g} x" for name, length in sorted(logs)
    )
    return _exponential(found, each)


def endpoint_lead_growth(cells: Cells, source_device: str) -> Effect:
    """That ratio at the longest length over the one at the shortest, geometric mean over series,
    x."""
    logs, used, differs = _ratios(cells, source_device)
    names = dict.fromkeys(name for name, _ in logs)
    ends = {name: sorted(length for own, length in logs if own == name) for name in names}
    values = [
        logs[name, own[-1]] - logs[name, own[0]] for name, own in ends.items() if len(own) > 1
    ]
    if not values:
        raise Untested("the endpoint and an engine share one length alone")
    lengths = sorted({n for own in ends.values() for n in own})
    return _exponential(
        mean_of(np.column_stack(values), cells, "x", used, differs, ""),
        f"from {lengths[0]:g} to {lengths[-1]:g} tokens",
    )


def _middle(cells: Cells, at: int, differs: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """The length to bend at: the source's where it was planned, else the middle one of one's
    own."""
    planned = sorted(cells.planned["length"].dropna().unique())
    if at in planned or len(planned) < 3:
        return at, differs
    middle = int(planned[(len(planned) - 1) // 2])
    return middle, (*differs, f"bend looked for at {middle} tokens (source {at})")


def _side(cells: Cells, endpoint: bool, source_device: str | None) -> tuple[Cells, tuple[str, ...]]:
    """An engine's cells or the endpoint's."""
    ok, planned = (
        (frame["method"] == "endpoint") == endpoint for frame in (cells.ok, cells.planned)
    )
    if not ok.any():
        reasons = (
            cells.planned.loc[planned, "reason"].dropna()
            if endpoint and "reason" in cells.planned
            else []
        )
        raise Untested(
            (f"{NO_ENDPOINT}" + (f" ({reasons.iloc[0]})" if len(reasons) else ""))
            if endpoint
            else "no engine was measured"
        )
    cells = cells.select(ok, planned)
    labels = sorted(cells.ok["series"].unique())
    other = endpoint and source_device and not all(source_device in str(name) for name in labels)
    return cells, (f"endpoint {plain(labels)} (source {source_device})",) if other else ()


def _ratios(cells: Cells, source_device: str) -> tuple[dict, object, tuple[str, ...]]:
    """{(series, length): log of engine over endpoint, (R+1,)}, the rows used, and how the endpoint
    differs."""
    _, differs = _side(cells, True, source_device)
    served = cells.ok["method"] == "endpoint"
    places = {_place(row): row.Index for row in cells.ok[served].itertuples()}
    logs, used = {}, []
    for row in cells.ok[~served].itertuples():
        j = places.get(_place(row))
        if j is not None and row.input_tokens == row.output_tokens:
            logs[row.series, float(row.input_tokens)] = np.log(
                cells.samples[:, row.Index] / cells.samples[:, j]
            )
            used += [row.Index, j]
    if not logs:
        raise Untested(
            "no model, batch and length that both an engine and the endpoint were measured at"
        )
    return logs, cells.ok.iloc[sorted(set(used))], differs


def _place(row) -> tuple:
    return row.model, row.batch, row.input_tokens, row.output_tokens


def _slope(logs: np.ndarray, lengths: np.ndarray, i: int, j: int) -> np.ndarray:
    return (logs[:, j] - logs[:, i]) / np.log(lengths[j] / lengths[i])


def _name(cells: Cells, row: int) -> str:
    at = cells.ok.iloc[row]
    return f"{at['series']} at batch {at['batch']:g}"


def _exponential(found: Effect, text: str) -> Effect:
    return Effect(
        *(float(np.exp(v)) for v in (found.value, found.lo, found.hi)),
        found.unit,
        found.n,
        found.used,
        found.differs,
        text,
    )
