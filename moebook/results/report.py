"""Tables to read: results, a plan and parameters for a notebook, a plan for a terminal."""

import json

import pandas as pd

from moebook import devices
from moebook.results import page, schema
from moebook.results.cells import counted
from moebook.study import estimates
from moebook.study.params import NotebookParams
from moebook.study.plan import Plan

# shown column -> (table column, factor, format); those of seconds are shown as ms, latency in s
QUANTITIES = {
    "TTFT (ms)": ("ttft_s", 1e3, ".1f"),
    "TPOT (ms)": ("tpot_s", 1e3, ".2f"),
    "E2E (s)": ("e2e_s", 1.0, ".3f"),
    "throughput (tok/s)": ("throughput_tok_s", 1.0, ",.0f"),
    "layer (µs)": ("layer_time_s", 1e6, ",.1f"),
    "perplexity": ("perplexity", 1.0, ".3f"),
}
SHAPE = {
    "model": "model",
    "series": "series",
    "expert_ffn_dim": "FFN",
    "num_experts": "E",
    "top_k": "K",
    "num_layers": "L",
    "batch": "B",
    "input_tokens": "in",
    "output_tokens": "out",
    "method": "method",
    "status": "status",
}
PLAN_WORDS = ("model", "format", "method", "sweeps")  # they stand left, the numbers right
PLAN = dict(zip(("model", "number_format", "method", "sweeps"), PLAN_WORDS, strict=True)) | {
    "num_layers": "L",
    "expert_ffn_dim": "FFN",
    "num_experts": "E",
    "top_k": "K",
    "batch": "B",
    "input_tokens": "in",
    "output_tokens": "out",
    "repeats_planned": "x",
}
NOTES = ("reason", "note")  # columns of sentences


def results_frame(summary: pd.DataFrame, limit: int = 30) -> tuple[pd.DataFrame, str]:
    """(table as text, a line on what was left out). Failures first, at most a third of the rows
    where there are others, then one of each kind that has a number and decides nothing, then the
    summary's order; medians with half the range of the repeats; nulls as an en dash. ValueError for
    a limit under 1."""
    if limit < 1:
        raise ValueError(f"limit {limit}: at least 1 row must be shown")
    ordered = _failures_first(summary, limit)
    shown = ordered.head(limit)
    data = {
        name: shown[column].map(_text)
        for column, name in SHAPE.items()
        if column in shown and (column != "series" or shown[column].fillna("").any())
    }
    if "method" in data:
        data["method"] = shown["method"].map(schema.kind_word, na_action="ignore").fillna("–")
    data |= {
        name: [_with_spread(row, *how) for _, row in shown.iterrows()]
        for name, how in _quantities(summary).items()
    }
    if "spread_pct" in shown:
        data["spread (%)"] = shown["spread_pct"].map(lambda v: "–" if pd.isna(v) else f"{v:.1f}")
    if "decides" in shown and not shown["decides"].all():
        data["decides"] = shown["decides"].map({True: "yes", False: "no"})
    told = (
        shown.assign(note=shown["note"].where(shown["status"] == "ok"))
        if "note" in shown
        else shown
    )
    data |= {
        name: told[name].map(_text) for name in NOTES if name in told and told[name].notna().any()
    }
    return pd.DataFrame(data).reset_index(drop=True), _left_out(ordered, limit)


def _quantities(summary: pd.DataFrame) -> dict[str, tuple]:
    """The quantities that some row has; those of an engine's run where none has any."""
    have = {name: how for name, how in QUANTITIES.items() if how[0] in summary}
    return {name: how for name, how in have.items() if summary[how[0]].notna().any()} or dict(
        list(have.items())[:4]
    )


def _failures_first(summary: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Failures, one of each kind before its like and at most a third of the rows shown where there
    are others, then what was measured, then the rest."""
    ok = summary["status"] == "ok"
    again = summary[~ok].duplicated(
        [c for c in ("model", "series", "status", "reason") if c in summary]
    )
    bad = pd.concat([summary[~ok][~again], summary[~ok][again]])
    first = len(bad) if not ok.any() else max(limit // 3, limit - int(ok.sum()), 1)
    return pd.concat([bad.iloc[:first], _undecided_first(summary[ok], limit), bad.iloc[first:]])


def _undecided_first(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """One of each kind of row that decides nothing before all others, at most a third of the rows
    shown."""
    if "decides" not in rows:
        return rows
    undecided = rows[~rows["decides"]]
    kinds = undecided.assign(note=undecided["note"].str.replace(r"\d+", "", regex=True))
    told = kinds.drop_duplicates([c for c in ("model", "note") if c in rows]).head(limit // 3).index
    return pd.concat([rows.loc[told], rows.drop(index=told)])


def _left_out(ordered: pd.DataFrame, limit: int) -> str:
    counts = counted(ordered["status"])
    if "decides" in ordered and (
        silent := int((~ordered["decides"] & (ordered["status"] == "ok")).sum())
    ):
        counts += f"; {silent} of those ok decide nothing, and their note says why"
    rest = ordered["status"].iloc[limit:]
    if rest.empty:
        return f"{len(ordered)} points: {counts}."
    failed = int((rest != "ok").sum())
    return (
        f"{len(ordered)} points: {counts}. Shown: the first {limit}; {len(rest)} left out "
        f"({failed} of them without a number); results.parquet holds all."
    )


def _text(value: object) -> str:
    return "–" if value is None or pd.isna(value) else str(value)


def _with_spread(row: pd.Series, column: str, factor: float, form: str) -> str:
    if pd.isna(row[column]):
        return "–"
    text = format(factor * row[column], form)
    lo, hi = row.get(f"{column}_lo"), row.get(f"{column}_hi")
    if lo is None or hi is None or pd.isna(lo) or pd.isna(hi):
        return text
    return f"{text} ± {format(factor * (hi - lo) / 2, form)}"


def results_table(summary: pd.DataFrame, limit: int = 30, source: str = "") -> page.Html:
    """`results_frame` for a notebook: rows without a number tinted, the line below as caption,
    after `source` where the rows are not the user's."""
    frame, line = results_frame(summary, limit)
    line = f"{source[:1].upper()}{source[1:]}. {line}" if source else line
    return page.Html(page.table(frame, frame["status"] != "ok", line), f"{frame}\n{line}")


def plan_frame(plan: Plan) -> tuple[pd.DataFrame, str]:
    """The plan as a table, a line per point, and a line of totals."""
    device = devices.published_here(plan.device)
    frame = estimates.to_frame(plan, device)
    if not plan.points:
        return frame, "0 points: this notebook measures nothing itself"
    seconds = estimates.plan_s(plan, device)
    counts = counted(frame["status"])
    derived = sum(p.is_derived for p in plan.points)
    line = (
        f"{len(frame)} points ({counts}; {derived} of them derived), "
        f"{plan.num_engines} configurations on {plan.num_builds} engines, about "
        f"{seconds / 60:.1f} min on {plan.device}"
    )
    if plan.device == devices.ANY and devices.detect(devices.ANY) is None:
        line += (
            f"; planned for a card of {devices.ANY_BYTES / 2**30:.0f} GiB: no NVIDIA card of "
            "16 GB or more is here"
        )
    return frame, line


def plan_lines(frame: pd.DataFrame) -> list[str]:
    """A plan (`estimates.to_frame`) as lines for a terminal: points that will be run or derived,
    with the number format of the weights, repeats (x), memory on each device and estimated seconds;
    then skipped ones with their reasons."""
    if frame.empty:
        return []
    frame = frame.assign(number_format=frame["number_format"].fillna("").astype(str))
    ready = frame["status"] == "ready"
    shown = frame[ready]
    cells = shown[list(PLAN)].astype(str).rename(columns=PLAN)
    gigabytes = shown[["weights_bytes", "kv_bytes", "activation_bytes"]].sum(axis=1) / 1e9
    cells["GB"] = gigabytes.map("{:.3g}".format)
    cells["s"] = [f"{s:.3g}" if pd.notna(s) else "derived" for s in shown["estimate_s"]]
    columns = []
    for name in cells:
        texts = [name, *cells[name]]
        side, width = str.ljust if name in PLAN_WORDS else str.rjust, max(map(len, texts))
        columns.append([side(text, width) for text in texts])
    out = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    for row in frame[~ready].to_dict("records"):
        shape = (
            f"FFN {row['expert_ffn_dim']} E {row['num_experts']} K {row['top_k']} B {row['batch']} "
            f"{row['input_tokens']}+{row['output_tokens']}"
        )
        named = " ".join(filter(None, (row["model"], row["number_format"])))
        out.append(f"{row['status']}: {named} {shape}: {row['reason']}")
    return out


def plan_table(frame: pd.DataFrame, limit: int = 12) -> page.Html:
    """A plan (`estimates.to_frame`) for a notebook: its first rows, those that
    will not run and one of each kind first."""
    order = 2 * (frame["status"] == "ready") + frame.duplicated(["model", "series", "status"])
    frame = frame.iloc[order.to_numpy().argsort(kind="stable")].head(limit)
    columns = {name: shown for name, shown in SHAPE.items() if name != "output_tokens"}
    if not frame["series"].any():
        del columns["series"]
    table = frame[list(columns)].rename(columns=columns)
    table["weights (GB)"] = (frame["weights_bytes"] / 1e9).map("{:.2f}".format)
    table["estimate (s)"] = frame["estimate_s"].map(lambda s: "–" if pd.isna(s) else f"{s:.1f}")
    table["reason"] = frame["reason"].fillna("")
    return page.Html(page.table(table, frame["status"] != "ready"), str(table))


def parameters_table(params: NotebookParams) -> page.Html:
    """Every parameter, where it came from, and its value."""
    rows = [
        {"parameter": key, "from": params.origins.get(key, "default"), "value": _plain(value)}
        for key, value in params.model_dump().items()
    ]
    text = "\n".join("{parameter:>26}  {from:<42}  {value}".format(**row) for row in rows)
    given = sum(row["from"] == "this notebook" for row in rows)
    title = f"Profile {params.profile}: {len(rows)} parameters, {given} set in this notebook"
    return page.Html(page.fold(title, page.table(pd.DataFrame(rows))), text)


def _plain(value) -> str:
    """A value as it stands in a parameter file."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)
