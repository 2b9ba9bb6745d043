"""A picture for the browser: what `arranged` lays out as a plotly figure, a plain dict.

Points are drawn by how they were got, as in paper figures: filled where every step was run, open
with a dot where steps were sampled, open where the depth was extrapolated or nothing was run; grey
where the model ran under its own bound, so that the number decides nothing. Behind them, where
chosen: the physical limit (dashed) and the prediction (dotted, with its band)."""

import html
import math

import pandas as pd

from moebook.explore.arranged import limit_of
from moebook.explore.hover import records, told
from moebook.plot import lines, markers, panels, style
from moebook.plot.lines import Spec
from moebook.plot.markers import FILLED
from moebook.results.cells import UNEVEN
from moebook.results.schema import KIND_WORDS

SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down"}
SYMBOLS |= {"P": "cross", "X": "x", "<": "triangle-left", ">": "triangle-right", "h": "hexagon"}
LAYERS = ("limit", "predicted")
GREY = "#9a9a9a"
ROW_PX, LEGEND_PX, FOOT_PX, GAP = 250, 92, 66, 0.05
BUTTONS_PX = 26  # plotly's, above the legend
WIDTH_PX = 850  # of a picture in a narrow window
MOST_TICKS = 7
GRID = {"gridcolor": "#e8e8e8", "linecolor": "#888", "ticks": "outside", "zeroline": False}
FONT = {"family": "DejaVu Sans, Verdana, sans-serif", "size": 12, "color": "#222"}


def chart(rows: pd.DataFrame, spec: Spec, layers: tuple[str, ...] = LAYERS) -> dict:
    """{data, layout} of plotly, from what `arranged` gives. layers: which of LAYERS are drawn."""
    drawn = list(dict.fromkeys(rows["panel_label"]))
    looks = markers.looks_of(list(dict.fromkeys(rows["line_label"])))
    ok = rows[rows["status"] == "ok"].sort_values("place")
    texts = dict(zip(ok.index, told(ok, spec), strict=True))
    own: dict[tuple, list[dict]] = {}
    for row in records(ok):
        row["hover"] = texts[row["row"]]
        own.setdefault((row["panel_label"], row["line_label"]), []).append(row)
    data, named = [], set()
    for number, panel in enumerate(drawn, 1):
        for label, look in looks.items():
            if found := own.get((panel, label)):
                axes = {
                    "xaxis": axis("x", number),
                    "yaxis": axis("y", number),
                    "legendgroup": label,
                }
                data += [{**one, **axes} for one in _behind(found, spec, look[0], layers)]
                data.append({**_points(found, spec, label, look, label not in named), **axes})
                named.add(label)
    return {"data": data, "layout": _layout(rows, spec, drawn, layers)}


def _points(own: list[dict], spec: Spec, label: str, look: tuple[str, str], first: bool) -> dict:
    """One line with its points, error bars and what a hover tells."""
    colour, marker = look
    colours = [GREY if UNEVEN in (row.get("note") or "") else colour for row in own]
    trace = {
        "type": "scatter",
        "mode": "markers" if spec.names else "lines+markers",
        "name": label or "all rows",
        "showlegend": first and bool(label),
        "x": [row["place"] for row in own],
        "y": [row[spec.metric] for row in own],
        "line": {"color": colour, "width": 1.6},
        "marker": {
            "color": colours,
            "symbol": [_symbol(row["got"], marker) for row in own],
            "size": 8,
            "line": {"width": 1.4, "color": colours},
        },
        "text": [row["hover"] for row in own],
        "customdata": [row["row"] for row in own],
        "hovertemplate": "%{text}<extra></extra>",
    }
    up, down = ([_reach(row, spec.metric, end) for row in own] for end in ("hi", "lo"))
    if any(up) or any(down):
        shape = {"symmetric": False, "array": up, "arrayminus": down, "thickness": 1, "width": 2}
        trace["error_y"] = {"type": "data", "color": colour, **shape}
    return trace


def _reach(row: dict, metric: str, end: str) -> float:
    """From the value to an end of its interval."""
    other = row.get(f"{metric}_{end}")
    return 0.0 if other is None else abs(other - row[metric])


def _symbol(kind: str, marker: str) -> str:
    name = SYMBOLS[marker]
    if kind in FILLED:
        return name
    return f"{name}-open-dot" if kind == "sampled" else f"{name}-open"


def _behind(own: list[dict], spec: Spec, colour: str, layers: tuple[str, ...]) -> list[dict]:
    """The layers of one line: its physical limit, its prediction and the band of that."""
    predicted = f"predicted_{spec.metric}"
    plain = {"type": "scatter", "showlegend": False, "hoverinfo": "skip", "mode": "lines"}
    found = []
    if "limit" in layers and spec.floors:
        look = {"color": colour, "width": 1, "dash": "dash"}
        found.append({**plain, **_line(own, limit_of(spec.metric)), "line": look})
    if "predicted" in layers and not spec.names:
        edge = {**plain, "line": {"color": colour, "width": 0}}
        band = {"fill": "tonexty", "fillcolor": pale(colour)}
        found.append({**edge, **_line(own, f"{predicted}_lo95")})
        found.append({**edge, **_line(own, f"{predicted}_hi95"), **band})
        look = {"color": colour, "width": 1.2, "dash": "dot"}
        found.append({**plain, **_line(own, predicted), "line": look})
    return [one for one in found if one["x"]]


def _line(own: list[dict], column: str) -> dict:
    known = [row for row in own if row.get(column) is not None]
    return {"x": [row["place"] for row in known], "y": [row[column] for row in known]}


def _has(ok: pd.DataFrame, column: str) -> bool:
    return column in ok and bool(ok[column].notna().any())


def pale(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.13)"


def _layout(rows: pd.DataFrame, spec: Spec, drawn: list[str], layers: tuple[str, ...]) -> dict:
    high, wide = panels.shape_of(len(drawn), "page", spec.panels_in_row)
    foot_px = FOOT_PX + (7 * max(map(len, spec.names)) if _is_upright(spec) else 0)
    height = ROW_PX * high + LEGEND_PX + foot_px
    under_buttons = {"y": 1 - BUTTONS_PX / height, "yref": "container", "yanchor": "top"}
    layout = {
        "template": "none",
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": FONT,
        "height": height,
        "margin": {"l": 74, "r": 12, "t": LEGEND_PX, "b": foot_px},
        "legend": {"orientation": "h", "x": 0, **under_buttons},
        "hoverlabel": {"align": "left", "bgcolor": "white", "font": {"size": 12}},
        "hovermode": "closest",
        "annotations": [_under(spec, _key(rows, spec, layers), foot_px)],
        "shapes": [],
    }
    layout["annotations"].append(_beside(spec))
    ticks = _x_axis(rows, spec)
    y_axis = _y_axis(rows, spec)
    for number, panel in enumerate(drawn, 1):
        row, column = divmod(number - 1, wide)
        left, top = column * (1 + GAP) / wide, 1 - row * (1 + 2 * GAP) / high
        right, foot = left + (1 - GAP * (wide - 1)) / wide, top - (1 - 2 * GAP * (high - 1)) / high
        x, y = axis("x", number), axis("y", number)
        is_foot = number + wide > len(drawn)
        layout[f"xaxis{x[1:]}"] = {
            **ticks,
            "domain": [left, min(1, right)],
            "anchor": y,
            "showticklabels": is_foot,
            **({"matches": "x"} if number > 1 else {}),
        }
        layout[f"yaxis{y[1:]}"] = {
            **y_axis,
            "domain": [max(0, foot), top],
            "anchor": x,
            "showticklabels": column == 0,
            **({"matches": "y"} if number > 1 else {}),
        }
        layout["annotations"] += _title(panel, x, y)
        layout["annotations"] += _missing(rows[rows["panel_label"] == panel], spec, x, y)
        if spec.level is not None:
            across = {"xref": f"{x} domain", "yref": y, "x0": 0, "x1": 1}
            at = {"y0": spec.level, "y1": spec.level}
            look = {"line": {"color": "black", "width": 1, "dash": "dash"}, "layer": "below"}
            layout["shapes"].append({"type": "line", **across, **at, **look})
    return layout


def axis(letter: str, number: int) -> str:
    """plotly's name of the n-th axis: the first has no number."""
    return letter if number == 1 else f"{letter}{number}"


def _x_axis(rows: pd.DataFrame, spec: Spec) -> dict:
    if spec.names:
        at = {"tickvals": list(range(len(spec.names))), "ticktext": list(spec.names)}
        ends = {"range": [-0.5, len(spec.names) - 0.5], "tickangle": 90 if _is_upright(spec) else 0}
        return {**GRID, **at, **ends}
    places = sorted(rows["place"].unique().tolist())
    step = -(-len(places) // MOST_TICKS)
    shown = places[::step] if spec.log_x else None
    if shown is None:
        return GRID
    texts = [f"{v:g}" for v in shown]
    return {**GRID, "type": "log", "tickvals": shown, "ticktext": texts, "minor": {"ticks": ""}}


def _is_upright(spec: Spec) -> bool:
    """Whether names under the axis have no room beside each other, 7 pixels a character."""
    wanted = 7 * len(spec.names) * max(map(len, spec.names), default=0)
    return wanted > WIDTH_PX / spec.panels_in_row


def _y_axis(rows: pd.DataFrame, spec: Spec) -> dict:
    values = rows.loc[rows["status"] == "ok", spec.metric].astype(float)
    log = spec.log_y
    if log is None:
        log = bool(values.max() > lines.LOG_OVER * values.min()) and values.min() > 0
    if log:
        ticks = log_ticks(values.min(), values.max())
        texts = [style.short_number(v) for v in ticks]
        return {**GRID, "type": "log", "tickvals": ticks, "ticktext": texts}
    return {**GRID, "rangemode": "normal" if spec.level is not None else "tozero", "nticks": 6}


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 of each decade; of three decades and more 1 alone."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    steps = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps]


def _title(panel: str, x: str, y: str) -> list[dict]:
    if not panel:
        return []
    at = {"xref": f"{x} domain", "yref": f"{y} domain", "x": 0.5, "y": 1, "yanchor": "bottom"}
    return [{"text": panel, **at, "showarrow": False, "font": {"size": 12}}]


def _missing(own: pd.DataFrame, spec: Spec, x: str, y: str) -> list[dict]:
    """A mark at the foot of a place whose rows have no number, with the reasons in its hover."""
    found = []
    for place, gone in own[own["status"] != "ok"].groupby("place"):
        names = [style.MISSING.get(s, ("", s))[1] for s in gone["status"]]
        reasons = gone["reason"].fillna("") if "reason" in gone else [""] * len(gone)
        each = zip(gone["line_label"], names, reasons, strict=True)
        text = "<br>".join(html.escape(f"{label}: {n}. {why}"[:160]) for label, n, why in each)
        at = {"xref": x, "x": math.log10(place) if spec.log_x and not spec.names else place}
        at |= {"yref": f"{y} domain", "y": 0, "yanchor": "bottom", "showarrow": False}
        look = {"text": "×", "font": {"color": "#666", "size": 14}}
        found.append({**look, **at, "hovertext": text})
    return found


def _key(rows: pd.DataFrame, spec: Spec, layers: tuple[str, ...]) -> str:
    """What marks and line styles mean, of those that are drawn."""
    ok = rows[rows["status"] == "ok"]
    kinds = [k for k in KIND_WORDS if (ok["got"] == k).any()]
    marks = {k: "●" if k in FILLED else "◉" if k == "sampled" else "○" for k in kinds}
    found = [f"{marks[k]} {KIND_WORDS[k]}" for k in kinds]
    if "note" in ok and ok["note"].fillna("").str.contains(UNEVEN).any():
        found.append("grey: under its own bound, decides nothing")
    if (rows["status"] != "ok").any():
        found.append("× no number")
    if "limit" in layers and spec.floors and _has(ok, limit_of(spec.metric)):
        found.append("– – physical limit")
    if "predicted" in layers and not spec.names and _has(ok, f"predicted_{spec.metric}"):
        found.append("···· predicted, 95 % band")
    return "     ".join(found)


def _under(spec: Spec, key: str, foot_px: int) -> dict:
    label = (spec.x_label or "").replace("\n", " ")
    at = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0, "yshift": 4 - foot_px}
    text = f"{label}<br><span style='font-size:11px;color:#666'>{key}</span>"
    return {"text": text, **at, "yanchor": "bottom", "showarrow": False}


def _beside(spec: Spec) -> dict:
    at = {"xref": "paper", "yref": "paper", "x": 0, "xshift": -58, "y": 0.5, "textangle": -90}
    return {"text": _wrapped(spec.y_label or ""), **at, "showarrow": False, "xanchor": "center"}


def _wrapped(text: str) -> str:
    """In two lines where one is longer than a panel is tall."""
    return text if len(text) < 38 else text.replace(", ", ",<br>", 1).replace(" (", "<br>(", 1)
