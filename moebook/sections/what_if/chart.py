"""Section 10's figures for the browser: one plotly figure, a plain dict."""

import html

import pandas as pd

from moebook.explore.chart import FONT, GRID, axis, log_ticks, pale
from moebook.explore.hover import records
from moebook.plot import style
from moebook.sections.what_if.enrich import CURVES, NAMES, chosen
from moebook.sections.what_if.figures import COLOURS, LIMITS, PARTS, hues_of, terms

SYMBOLS = dict(zip(NAMES, ("circle", "square"), strict=True))
LABELS = ("throughput (tokens/s, in + out)", "time per output token (s)")
BARS = ("decode step (ms); black: host", "memory (GB); black: usable, grey: card")
DOMAINS = ([0, 0.45], [0.55, 1])
TOP, FOOT = ([0.36, 1], [0, 0.18])


def chart(table: pd.DataFrame) -> dict:
    """{data, layout}: throughput and TPOT over batch with bands, limits and measured points that
    tell themselves; below, where a step's time goes and memory, a bar for A and B each."""
    data, told = [], records(table)
    for number, metric in enumerate(CURVES, 1):
        for name in NAMES:
            axes = {"xaxis": axis("x", number), "yaxis": axis("y", number), "legendgroup": name}
            own = [row for row in told if row["setup"] == name and row[metric] is not None]
            data += [{**one, **axes} for one in _curve(own, metric, name, number == 1)]
    rows = chosen(table)
    step = terms(rows)
    data += _bars(1e3 * rows[list(step)], step, {"host": 1e3 * rows["term_host_s"]}, 3, "ms")
    limits = {name: rows[column] / 1e9 for column, name in LIMITS.items()}
    data += _bars(rows[list(PARTS)] / 1e9, PARTS, limits, 4, "GB")
    return {"data": data, "layout": _layout(table)}


def _curve(own: list[dict], metric: str, name: str, first: bool) -> list[dict]:
    """One configuration's traces of one metric, the band first."""
    line, points = ([r for r in own if r["got"] == got] for got in ("predicted", "measured"))
    at, colour = [row for row in line if row["chosen"]], COLOURS[name]
    low, high, limit = f"{metric}_lo95", f"{metric}_hi95", f"bound_{metric}"
    words = [
        f"{name}, batch {r['batch']}: {r[metric]:.4g} [{r[low]:.4g}, {r[high]:.4g}] 95 %, "
        f"predicted<br>limit {r[limit]:.4g}"
        for r in line
    ]
    seen = [
        f"{r[metric]:.4g}, measured<br>{html.escape(r['what'])}<br>record {r['point_id']}"
        for r in points
    ]
    plain, edge = {"mode": "lines", "hoverinfo": "skip"}, {"color": colour, "width": 0}
    lined = {"mode": "lines", "line": {"color": colour, "width": 2}, "showlegend": first}
    ring = {"color": "rgba(0,0,0,0)", "size": 15, "line": {"color": colour, "width": 2}}
    dots = {"color": colour, "symbol": SYMBOLS[name], "size": 8}
    dotted = {"mode": "markers", "marker": dots, "showlegend": first and bool(points)}
    filled = {"fill": "tonexty", "fillcolor": pale(colour)}
    return [
        {**_trace(line, low), **plain, "line": edge},
        {**_trace(line, high), **plain, "line": edge, **filled},
        {**_trace(line, limit), **plain, "line": {"color": colour, "width": 1, "dash": "dash"}},
        {**_trace(line, metric, words), **lined, "name": f"{name}, predicted with 95 % band"},
        {**_trace(points, metric, seen), **dotted, "name": f"{name}, measured nearby"},
        {**_trace(at, metric, [f"{name} as chosen"]), "mode": "markers", "marker": ring},
    ]


def _trace(rows: list[dict], column: str, texts: list[str] | None = None) -> dict:
    """Places of a trace, and what a hover tells of each."""
    places = {"x": [row["batch"] for row in rows], "y": [row[column] for row in rows]}
    told = {"text": texts, "hovertemplate": "%{text}<extra></extra>"} if texts else {}
    return {"type": "scatter", "showlegend": False, **places, **told}


def _bars(rows: pd.DataFrame, parts: dict, marks: dict, number: int, unit: str) -> list[dict]:
    axes = {"xaxis": axis("x", number), "yaxis": axis("y", number), "showlegend": False}
    names = list(rows.index)
    found = [
        {
            "type": "bar",
            "orientation": "h",
            "y": names,
            "x": rows[column].tolist(),
            "marker": {"color": colour},
            "text": word if rows[column].max() > 0.12 * rows.sum(axis=1).max() else "",
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "hovertemplate": f"{word}: %{{x:.3g}} {unit}<extra></extra>",
            **axes,
        }
        for (column, word), colour in zip(parts.items(), hues_of(parts), strict=True)
    ]
    for (word, at), colour in zip(marks.items(), ("black", "#888888"), strict=False):
        look = {"symbol": "line-ns", "size": 26, "line": {"color": colour, "width": 3}}
        mark = {"type": "scatter", "mode": "markers", "y": names, "x": at.tolist(), "marker": look}
        told = f"{word}: %{{x:.3g}} {unit}<extra></extra>"
        found.append({**mark, **axes, "hovertemplate": told})
    return found


def _layout(table: pd.DataFrame) -> dict:
    batches = sorted(table.loc[table["got"] == "predicted", "batch"].unique().tolist())
    layout = {
        "template": "none",
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": FONT,
        "height": 500,
        "barmode": "stack",
        "margin": {"l": 70, "r": 12, "t": 40, "b": 50},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"},
        "hovermode": "closest",
        "uirevision": "what if",
    }
    for number, (metric, label) in enumerate(zip(CURVES, LABELS, strict=True), 1):
        known = table[[metric, f"bound_{metric}"]].astype(float).stack()
        ticks = log_ticks(known.min(), known.max())
        log = {"type": "log", "tickvals": batches, "title": {"text": "batch (sequences)"}}
        own = {"tickvals": ticks, "ticktext": [style.short_number(v) for v in ticks]}
        at = {"domain": DOMAINS[number - 1], "anchor": axis("y", number)}
        layout[axis("xaxis", number)] = {
            **GRID,
            **log,
            **at,
            "ticktext": [f"{b:g}" for b in batches],
        }
        up = {"type": "log", "domain": TOP, "anchor": axis("x", number), "title": {"text": label}}
        layout[axis("yaxis", number)] = {**GRID, **own, **up}
    for number, label in enumerate(BARS, 3):
        at = {"domain": DOMAINS[number - 3], "anchor": axis("y", number), "rangemode": "tozero"}
        layout[axis("xaxis", number)] = {**GRID, **at, "title": {"text": label}}
        across = {"domain": FOOT, "anchor": axis("x", number), "autorange": "reversed"}
        layout[axis("yaxis", number)] = {**GRID, **across}
    return layout
