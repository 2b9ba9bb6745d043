"""Result files -> one tidy table: a row per repeat, units in column names (parquet.py writes it).

A point without a measurement is one row with null metrics, its status and its reason. Points of the
depth methods are computed here from the points they rest on, repeat by repeat. Rows of several
devices never stand in one table."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import asdict

import pandas as pd

from moebook.results import schema, starts
from moebook.study.plan import Plan, Point, describe

# What a record says of its repeats, of its point and its engine; lists are JSON text.
REPEATED = frozenset(schema.names("repeat", "context", "digest"))
POINT_FACTS = frozenset(schema.names("point_number", "point_text", "endpoint_fact"))
LAYER_FACTS, ENGINE_FACTS = (frozenset(schema.names(of)) for of in ("layer_fact", "engine_fact"))
CLIENT = frozenset(schema.names("client"))  # of an endpoint's point: of the machine that asked
PROVENANCE = CLIENT | frozenset(schema.names("run"))
REPEAT_TEXTS = schema.names("digest")
METRICS = schema.names(*schema.SUMMARISED)
TIMES = ("e2e_s", "layer_s")  # what a point's spread is told of, the first that it has
DISTURBED = {"held_up", "throttled"}  # marks of a record (measure/records.py) that flag it, too
UNSTABLE_PCT = 5.0  # repeats that spread wider than this flag their point


def assemble(
    plan: Plan, records: dict[str, dict], further: dict[str, list[dict]] | None = None
) -> pd.DataFrame:
    """The table of a plan from the first record of each point by key, and its further ones; points
    without a record are rows `not_run`. Columns that are computed from others (metrics, floors) are
    null."""
    by_key = {p.key: p for p in plan.points}
    starts_, repeats = [], []  # what each says of itself, and the number of the one it is of
    for number, point in enumerate(plan.points):
        for told, rows in _starts(point, by_key, records, further or {}):
            repeats += [{**row, OF: len(starts_)} for row in rows or [{}]]
            starts_.append({**told, OF: number})
    found = _with_those_it_is_of(_frame(starts_), _frame([describe(p) for p in plan.points]))
    return schema.as_table(_with_those_it_is_of(_frame(repeats), found))


OF = "_of"


def _frame(rows: list[dict]) -> pd.DataFrame:
    """Typed before its rows are repeated; the rows are taken, for they can be many."""
    found = schema.typed(pd.DataFrame(rows))
    rows.clear()
    return found


def _with_those_it_is_of(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    if rows.empty:
        return rows.drop(columns=OF, errors="ignore")
    at = others.take(rows.pop(OF)).reset_index(drop=True)
    return pd.concat([at, rows], axis=1)


def _starts(
    point: Point,
    by_key: dict[str, Point],
    records: dict[str, dict],
    further: dict[str, list[dict]],
) -> Iterator[tuple[dict, list[dict]]]:
    """Columns of each of the point's records and of their repeats: the first, whatever became of
    it, and the further ones with a number; of an extrapolated point, one for each that all its
    points have."""
    if point.status != "ready":
        yield {"status": point.status, "reason": point.reason}, []
        return
    record = _derive(point, by_key, records) if point.is_derived else records.get(point.key)
    if record is None:
        yield {"status": "not_run", "reason": "not measured yet"}, []
    else:
        yield _columns(point, record)
    needed = (*point.own, *point.anchor) or (point.key,)
    for number, found in enumerate(zip(*(further.get(key, ()) for key in needed), strict=False), 2):
        own = dict(zip(needed, found, strict=True))
        record = _derive(point, by_key, own) if point.is_derived else own[point.key]
        if record["status"] == "ok":
            yield _columns(point, record, number)


def host_of(provenance: dict) -> str:
    """The machine's own id where it was recorded, else the GPUs' UUID, else the day."""
    known = provenance.get("host_id") or provenance.get("device_uuid")
    return known or provenance.get("started_at", "")[:10]


def _columns(point: Point, record: dict, number: int = 1) -> tuple[dict, list[dict]]:
    """Of a record, and of each of its repeats; those that have a value."""
    provenance, facts = record["provenance"], record.get("facts", {})
    known = PROVENANCE - CLIENT if point.method == "endpoint" else PROVENANCE
    told = {
        "point_id": point.point_id(provenance["device"], provenance["engine_version"]),
        "record": number,
        "host": host_of(provenance),
        "status": record["status"],
        "reason": record["reason"],
        "peak_memory_bytes": record.get("peak_memory_bytes"),
        **_given(record.get("engine", {}), ENGINE_FACTS),
        **_layer_facts(record),
        **_given(facts, POINT_FACTS),
        **_base_perplexity(record),
        **_given(provenance, known),
    }
    repeats = record["repeats"]
    if not repeats:
        return told, []
    times = next((t for t in TIMES if t in repeats[0]), None)
    unstable = times is not None and _spread_pct([r[times] for r in repeats]) > UNSTABLE_PCT
    told["unstable"] = unstable or not DISTURBED.isdisjoint(record.get("marks", ()))
    return told, [{"repeat": i, **_given(row, REPEATED)} for i, row in enumerate(repeats)]


def _given(values: dict, names: frozenset[str]) -> dict:
    return {name: v for name, v in values.items() if name in names and v is not None}


def _layer_facts(record: dict) -> dict:
    """What a layer point tells of its kernel, besides its times."""
    if record.get("method") != "layer" or record["status"] != "ok":
        return {}
    return {
        **{name: record.get(name) for name in LAYER_FACTS},
        "moe_backend": record["chosen_backend"],
        "moe_config_tuned": record["moe_config_tuned"],
    }


def _base_perplexity(record: dict) -> dict:
    """Perplexity over the whole text of an ablation point, whose repeats are equal parts of it."""
    parts = [row["perplexity"] for row in record["repeats"] if record.get("method") == "ablation"]
    return {"base_perplexity": statistics.geometric_mean(parts)} if parts else {}


def _spread_pct(seconds: list[float]) -> float:
    return 100 * (max(seconds) - min(seconds)) / statistics.median_high(seconds)


def _derive(point: Point, by_key: dict[str, Point], records: dict[str, dict]) -> dict | None:
    """A record for a depth point: TTFT and step time as a + b L through its own points, or with the
    anchor's a."""
    needed = [*point.own, *point.anchor]
    found = [records.get(key) for key in needed]
    if any(record is None for record in found):
        return None
    bad = [r for r in found if r["status"] != "ok"]
    base = {"provenance": found[0]["provenance"], "engine": {}}
    if bad:
        return {
            **base,
            "status": bad[0]["status"],
            "repeats": [],
            "reason": f"a point it rests on ({bad[0]['num_layers']} layers) failed: "
            f"{bad[0]['reason']}",
        }
    layers = [by_key[key].architecture.num_layers for key in needed]
    engine = {
        k: v
        for k, v in found[0]["engine"].items()
        if k in ("attention_backend", "moe_backend", "moe_config_tuned")
    }
    repeats = [
        _extrapolate(point, layers, rows)
        for rows in zip(*(r["repeats"] for r in found), strict=True)
    ]
    return {**base, "engine": engine, "status": "ok", "reason": None, "repeats": repeats}


def _extrapolate(point: Point, layers: list[int], rows: tuple[dict, ...]) -> dict:
    outputs, full = point.workload.output_tokens, point.architecture.num_layers
    ttft = [row["ttft_s"] for row in rows]
    step = [(row["e2e_s"] - row["ttft_s"]) / max(outputs - 1, 1) for row in rows]
    at = at_own_depths if not point.anchor else at_anchor
    ttft_s, step_s = at(layers, ttft, full), at(layers, step, full)
    return {"ttft_s": ttft_s, "e2e_s": ttft_s + step_s * (outputs - 1)}


def at_own_depths(layers: list[int], seconds: list[float], full: int) -> float:
    """Least-squares line through (layers, seconds) of one cell, at `full` layers."""
    slope, intercept = statistics.linear_regression(layers, seconds)
    return intercept + slope * full


def at_anchor(layers: list[int], seconds: list[float], full: int) -> float:
    """One cell at `layers[0]`, with the intercept of the anchor pair (`layers[1:]`: deep, shallow),
    at `full`."""
    (l0, deep, shallow), (s0, s_deep, s_shallow) = layers, seconds
    intercept = (deep * s_shallow - shallow * s_deep) / (deep - shallow)
    return intercept + (s0 - intercept) * full / l0


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """One row per point and set of sweeps. Timed metrics: the mean of the point's engine starts,
    with `<metric>_lo` and `_hi`, a 95 % interval between starts (starts.py). Others: the median of
    all repeats, with the least and the largest. `n_repeats`; `spread_pct` of E2E within the first
    start. Order of the table is kept."""
    metrics = [m for m in METRICS if m in table]
    texts = [name for name in REPEAT_TEXTS if name in table]
    groups, once = table.groupby("key", sort=False), ["repeat", "record", "host", *metrics, *texts]
    identity = table.drop_duplicates("key").set_index("key")
    told = {}
    for metric in metrics:
        if table[metric].isna().all():
            told |= dict.fromkeys((metric, f"{metric}_lo", f"{metric}_hi"), math.nan)
            continue
        by_point = groups[metric]
        told |= {
            metric: by_point.median(),
            f"{metric}_lo": by_point.min(),
            f"{metric}_hi": by_point.max(),
        }
    spread = _spread(table)
    told |= starts.summarise(table, identity)
    told["n_repeats"] = groups["repeat"].count()
    told |= {name: _joined(table[["key", name]].dropna(), name) for name in texts}
    identity = identity.drop(columns=[c for c in once if c in identity])
    told = pd.DataFrame({**told, "spread_pct": spread}, index=identity.index)
    return identity.join(told).reset_index()


def _joined(texts: pd.DataFrame, name: str) -> pd.Series:
    return texts.groupby("key", sort=False)[name].agg(",".join).astype(schema.PANDAS["text"])


def _spread(table: pd.DataFrame) -> pd.Series:
    """By key: range of the repeats of the first start over their median, %, of the first of TIMES
    that a point has."""
    first = table[table["record"].fillna(1) == 1] if "record" in table else table
    groups = first.groupby("key", sort=False)
    found = [groups[time] for time in TIMES if time in table]
    spreads = [100 * (of.max() - of.min()) / of.median() for of in found]
    return spreads[0].combine_first(spreads[-1])


def metadata(plan: Plan, parameters: dict, ceilings: dict | None) -> dict:
    """What a results file says of itself besides its rows."""
    return {
        "notebook": plan.notebook,
        "profile": plan.profile,
        "parameters": parameters,
        "ceilings": ceilings,
        "engines": plan.num_engines,
        "settings": [asdict(p.engine) for p in plan.points[:1]],
    }
