"""What a point of the explorer tells: by a hover its value, by a click how to get it again, by two
clicks the difference; and all rows as a table."""

import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from moebook import paths
from moebook.explore.views import COLUMNS
from moebook.plot.figure import reading
from moebook.plot.lines import Spec
from moebook.plot.style import cell_number
from moebook.results import page
from moebook.results.comparison import percent
from moebook.results.intervals import Values, estimate, log_ratio
from moebook.results.schema import KIND_WORDS

IN_YAML = ("profile", "notebook", "sweeps", "model", "series", "method", "dtype", "quantization")
IN_YAML += ("num_layers", "expert_ffn_dim", "num_experts", "top_k", "tensor_parallel")
IN_YAML += ("pipeline_parallel", "expert_parallel", "graphs", "routing", "draft", "draft_tokens")
IN_YAML += ("text", "batch", "input_tokens", "output_tokens", "key")


def records(rows: pd.DataFrame) -> list[dict]:
    """The rows as dicts with plain values, None for missing ones, and `row`, their index."""
    columns = {c: [_plain(v) for v in rows[c].to_numpy(object)] for c in rows}
    columns["row"] = rows.index.tolist()
    each = zip(*columns.values(), strict=True)
    return [dict(zip(columns, values, strict=True)) for values in each]


def told(ok: pd.DataFrame, spec: Spec) -> list[str]:
    """Of each row: what it is, value and interval, records, method, and why it decides nothing."""
    vary = [c for c in COLUMNS if c in ok and c != "method"]
    vary = [c for c in vary if c in ("model", "batch") or ok[c].nunique() > 1]
    return [_told(row, spec, vary) for row in records(ok)]


def _told(row: dict, spec: Spec, columns: list[str]) -> str:
    label = ", ".join(filter(None, (row["panel_label"], row["line_label"])))
    what = ", ".join(reading(c, row[c]) for c in columns if row[c] is not None)
    said = [f"<b>{html.escape(label)}</b>" if label else "", html.escape(what)]
    said.append(f"{cell_number(float(row[spec.metric]), 4)} {_interval(row, spec.metric)}")
    said.append(f"{KIND_WORDS.get(row['got'], row['got'])}{_records(row)}")
    said.append(html.escape(row.get("note") or ""))
    return "<br>".join(filter(None, said))


def _interval(row: dict, metric: str) -> str:
    low, high = (row.get(f"{metric}_{end}") for end in ("lo", "hi"))
    if low is None or high is None or low == high:
        return "(no interval)"
    return f"[{cell_number(float(low), 4)}, {cell_number(float(high), 4)}] 95 %"


def _records(row: dict) -> str:
    n, hosts = row.get("n_records"), row.get("n_hosts") or 1
    if not n:
        return ""
    on = f" on {hosts:g} hosts" if hosts > 1 else ""
    return f"; {n:g} engine start{'s' if n > 1 else ''}{on}"


def details(row: dict, folder: Path | None) -> str:
    """HTML: the point as YAML, the command that measures its sweep, and its record."""
    shown = {c: row[c] for c in IN_YAML if row.get(c) not in (None, "")}
    shown = {c: v if isinstance(v, (int, float, bool)) else str(v) for c, v in shown.items()}
    text = yaml.safe_dump(shown, sort_keys=False)
    found = f"<pre style='margin:0'>{html.escape(text)}</pre>"
    if command := _command(row):
        found += f"<div>measured by <code>{html.escape(command)}</code></div>"
    return found + _record(row, folder)


def _plain(value: object) -> object:
    """A cell as Python has it: whole numbers as int, None where nothing is known."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value != value:
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _command(row: dict) -> str:
    """The command that measures the first sweep the point is of."""
    profile, stem, sweeps = (row.get(c) for c in ("profile", "notebook", "sweeps"))
    if not all(isinstance(v, str) and v for v in (profile, stem, sweeps)):
        return ""
    file = paths.shown(paths.params_file(profile.partition(" (")[0], stem))
    return f"moebook measure {file} --sweep {sweeps.split(',')[0]}"


def _record(row: dict, folder: Path | None) -> str:
    """The record's file, and what stands in it where the file is at hand."""
    point = row.get("point_id")
    if folder is None or not isinstance(point, str):
        return "<div>no record: computed of other points, or not measured</div>"
    file = folder / "points" / f"{point}.json"
    if not file.exists():
        table = paths.shown(folder / "results.parquet")
        return f"<div>record {point}: rows with this point_id in {html.escape(table)}</div>"
    text = json.dumps(json.loads(file.read_text()), indent=1)
    return (
        f"<details><summary>record {html.escape(paths.shown(file))}</summary>"
        f"<pre style='max-height:20em;overflow:auto'>{html.escape(text)}</pre></details>"
    )


def table(rows: pd.DataFrame, columns: list[str], metric: str) -> str:
    """HTML: the rows of a picture, these columns of them, and what is known of the metric."""
    own = [metric, f"{metric}_lo", f"{metric}_hi"]
    wanted = [*columns, *own, "status", "got", "n_records", "point_id"]
    shown = pd.DataFrame(records(rows))[[c for c in wanted if c in rows]].astype(object)
    for column in set(own) & set(shown):
        shown[column] = shown[column].map(lambda v: cell_number(v, 4), na_action="ignore")
    cells = page.table(shown.where(shown.notna(), ""))
    return f"<div style='overflow:auto;max-height:30em'>{cells}</div>"


def difference(two: pd.DataFrame, metric: str) -> str:
    """The second of two rows over the first, in percent with the 95 % interval of their ratio."""
    first, second = two[metric].astype(float)
    if first <= 0 or second <= 0:
        return f"difference: {second - first:+.4g} (not above zero, so no percentage)"
    found = estimate(Values.of(two, metric), np.array([[1, 0]]), log_ratio)
    low, high = (percent(end[0]) for end in found.ends())
    middle = f"B over A: {percent(found.value[0]):+.1f} %"
    return f"{middle} [{low:+.1f}, {high:+.1f}] 95 %" if found.se[0] > 0 else middle
