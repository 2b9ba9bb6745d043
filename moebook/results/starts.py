"""What engine starts say of a point: its value over its records, and where another start of it
would lie.

Windows and runs of one start are one value, their median. A point's value is the geometric mean of
its starts. From OWN starts on, their own scatter gives its interval; with fewer the deviation
between starts is that of its class, pooled over the points that were measured again, most of them
on another host (between_starts.yaml, made by benchmarks/between_starts.py). Where the repeats of a
start scatter more than that, they widen the interval.

Classes: what the device paces, and what the host does (a CPU's engine, an engine without graphs, a
draft model; below batch 16 also graphs in pieces), at batch 16 and more, and below."""

import functools
import json
from importlib import resources

import numpy as np
import pandas as pd
import yaml
from scipy.special import stdtrit

from moebook.results import schema

OWN = 3  # starts from which a point's own scatter speaks
LEVEL = 0.95
BATCH = 16
TIMES = ("ttft_s", "tpot_s", "e2e_s")
OF_E2E = ("e2e_s", "request_e2e_p50_s", "request_e2e_p99_s")
OF_TTFT = ("ttft_s", "request_ttft_p50_s", "request_ttft_p99_s")
OF_STEP = ("step_p50_s", "step_p99_s", "step_first_s", "step_last_s")


@functools.cache
def time_of() -> dict[str, str]:
    """timed metric -> the time of TIMES whose deviation it has."""
    of = dict.fromkeys(OF_TTFT, "ttft_s") | dict.fromkeys(OF_STEP, "tpot_s")
    of |= dict.fromkeys(OF_E2E, "e2e_s")
    for name in schema.names("metric"):
        of[name] = "e2e_s" if "throughput" in name else "tpot_s"
    return of


@functools.cache
def between() -> dict[str, dict[str, dict]]:
    """class -> time -> {sd_pct, df}, of between_starts.yaml."""
    file = resources.files("moebook.results").joinpath("between_starts.yaml")
    return yaml.safe_load(file.read_text(encoding="utf-8"))["classes"]


def class_of(rows: pd.DataFrame) -> pd.Series:
    """`device, 16 and more`, `host, below 16` ... of each row."""
    large = rows["batch"] >= BATCH

    def given(column: str) -> pd.Series:
        return rows[column] if column in rows else pd.Series(None, rows.index, dtype=object)

    graphs = given("graphs")
    host = graphs.eq("eager") | given("draft").notna() | given("device_kind").eq("cpu")
    host |= graphs.eq("pieces") & ~large
    paced = np.where(host.fillna(False).astype(bool), "host", "device")
    return pd.Series(paced, rows.index) + np.where(large, ", 16 and more", ", below 16")


def deviation(rows: pd.DataFrame, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,) standard deviations of the logarithm of a timed metric between starts, by class, and
    their degrees of freedom."""
    kinds = class_of(rows)
    of_kind = {kind: _of_class(kind, time_of()[metric]) for kind in kinds.unique()}
    found = [of_kind[kind] for kind in kinds]
    sd = np.array([np.log1p(one["sd_pct"] / 100) for one in found])
    return sd, np.array([float(one["df"]) for one in found])


def _of_class(kind: str, time: str) -> dict:
    """sd_pct and df of a class; of a time that was not measured again in it the larger of its E2E
    and of that time where the device paces."""
    known = between()
    if time in known[kind]:
        return known[kind][time]
    device = known[kind.replace("host", "device")]
    return max(known[kind]["e2e_s"], device[time], key=lambda one: one["sd_pct"])


def quantile(df: np.ndarray | float, level: float = LEVEL) -> np.ndarray:
    """Standard errors from the middle to an end of an interval of Student's t."""
    return stdtrit(df, (1 + level) / 2)


def of_starts(logs: np.ndarray, sd: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean, standard error and degrees of freedom, (N,) each, of the logarithms of the starts of N
    points, (N, B), null where a point has fewer; sd, df: of their classes."""
    n = np.sum(~np.isnan(logs), axis=1)
    mean = np.nansum(logs, axis=1) / n
    own = np.nansum((logs - mean[:, None]) ** 2, axis=1) / np.maximum(n - 1, 1)
    se = np.where(n < OWN, sd, np.sqrt(own)) / np.sqrt(n)
    return mean, se, np.where(n < OWN, df, n - 1.0)


def summarise(table: pd.DataFrame, points: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns of a summary, by key: each timed metric of the table with the ends of its 95 %
    interval between starts, `n_records`, `n_hosts` and `starts`. points: a row per key,
    indexed by it."""
    there = [m for m in time_of() if m in table]
    metrics = [m for m in there if table[m].notna().any()]
    rows = table.assign(record=_column(table, "record", 1), host=_column(table, "host", ""))
    logs = np.log(rows[metrics].astype(float).where(rows[metrics] > 0))
    logs = pd.concat([rows[["key", "record", "host"]], logs], axis=1)
    by_start = logs.groupby(["key", "record"], sort=False)[metrics].median()
    by_key = by_start.groupby(level="key", sort=False)
    within = logs.groupby("key", sort=False)[metrics]
    noise = within.std() / np.sqrt(within.count())
    found = [by_key.count(), by_key.mean(), by_key.std(), noise]
    n, middle, own, noise = (one.reindex(points.index) for one in found)
    nothing = pd.Series(np.nan, points.index)
    lacking = [m + end for m in there if m not in metrics for end in ("", "_lo", "_hi")]
    told: dict[str, pd.Series] = dict.fromkeys(lacking, nothing)
    by_point = rows.groupby("key", sort=False)
    for metric in metrics:
        of = [one[metric].to_numpy(float) for one in (n, middle, own, noise)]
        ends = _ends(*of, *deviation(points, metric))
        one = by_point[metric].median().reindex(points.index)
        ends[""] = np.where(of[0] > 1, ends[""], one.to_numpy(float))
        told |= {f"{metric}{end}": pd.Series(v, points.index) for end, v in ends.items()}
    starts = logs[logs["record"].notna()].drop_duplicates(["key", "record"])
    told["n_records"] = starts.groupby("key", sort=False).size()
    told["n_hosts"] = starts.groupby("key", sort=False)["host"].nunique()
    told["starts"] = _starts(starts, by_start)
    return told


def _ends(n, middle, own, noise, sd, df) -> dict[str, np.ndarray]:
    """The value of each point and the ends of its interval: of the count, mean and deviation of the
    logarithms of its starts, the error that its repeats show, and its class."""
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = np.fmax(sd / np.sqrt(n), noise)
        se, df = np.where(n >= OWN, [own / np.sqrt(n), n - 1], [pooled, df])
        half = se * quantile(df)
    return {"": np.exp(middle), "_lo": np.exp(middle - half), "_hi": np.exp(middle + half)}


def _column(table: pd.DataFrame, name: str, value) -> pd.Series:
    """The table's column; of a table without it one value where a row has a repeat."""
    if name in table:
        return table[name]
    return pd.Series(value, table.index).where(table["repeat"].notna())


def _starts(starts: pd.DataFrame, by_start: pd.DataFrame) -> pd.Series:
    """By key, of points with several records: JSON of block -> {metric: value}. A block is the n-th
    start of a point on one host."""
    several = starts[starts["key"].duplicated(keep=False)]
    nth = several.groupby(["key", "host"], sort=False).cumcount() + 1
    at = pd.MultiIndex.from_frame(several[["key", "record"]])
    values = np.exp(by_start.reindex(at)).round(9).dropna(axis=1, how="all")
    found, names = {}, list(values)
    told = (*(several[name].to_list() for name in ("key", "host")), nth.to_list())
    for key, host, number, row in zip(*told, values.to_numpy().tolist(), strict=True):
        own = {name: v for name, v in zip(names, row, strict=True) if v == v}
        found.setdefault(key, {})[f"{host}#{number}"] = own
    return pd.Series({key: json.dumps(blocks) for key, blocks in found.items()}, dtype=object)


def blocks_of(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Values of a metric, (N, B): a column per block, null where a row has none; rows of one start
    have none at all."""
    told = rows["starts"] if "starts" in rows else [None] * len(rows)
    parsed = [_told(text) if isinstance(text, str) else {} for text in told]
    names = sorted({block for own in parsed for block in own})
    values = [[own.get(block, {}).get(metric, np.nan) for block in names] for own in parsed]
    return pd.DataFrame(values, columns=names, dtype=float).dropna(axis=1, how="all")


@functools.lru_cache(1 << 16)
def _told(text: str) -> dict[str, dict[str, float]]:
    """Read once for all metrics. Not to be changed."""
    return json.loads(text)
