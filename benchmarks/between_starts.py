"""How far engine starts of one point lie apart: writes moebook/results/between_starts.yaml.

    python benchmarks/between_starts.py          # from the shipped points that were measured again

Pooled over the points of a class (moebook/results/starts.py) that have several records, and over
tests/data/other_host_h200.json: the standard deviation of the logarithm of a time between starts,
and its degrees of freedom, a point's records less one. Points that were measured again on one host
share that host, so these degrees are more than those of hosts."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from moebook.results import parquet, starts

ROOT = Path(__file__).parents[1]
FILE = ROOT / "moebook/results/between_starts.yaml"
HEAD = """\
# Standard deviation of a time between engine starts (% of it), and its degrees of freedom: pooled
# over the shipped points with several records and tests/data/other_host_h200.json, by class
# (moebook/results/starts.py). Written by benchmarks/between_starts.py.
"""


def again() -> pd.DataFrame:
    """A row per start of the points measured again: class, key, and the logarithms of its times."""
    found = []
    for file in sorted((ROOT / "outputs/reference").glob("*/*/results.parquet")):
        rows, _ = parquet.read(file)
        found.append(_several(rows.assign(key=file.parts[-3] + rows["key"])))
    file = ROOT / "outputs/reference/h200/04_speculative_decoding/results.parquet"
    points = json.loads((ROOT / "tests/data/other_host_h200.json").read_text())["points"]
    rows, _ = parquet.read(file)
    other = pd.DataFrame(points).explode("e2e_s")[["key", "e2e_s"]].astype({"e2e_s": float})
    shape = rows.drop_duplicates("key")[["key", "batch", "graphs", "draft", "device_kind"]]
    other = other.merge(shape, on="key").assign(record=2)
    both = pd.concat([rows[rows["key"].isin(other["key"])][other.columns], other])
    found.append(_several(both.assign(ttft_s=np.nan, tpot_s=np.nan)))
    return pd.concat(found, ignore_index=True)


def _several(rows: pd.DataFrame) -> pd.DataFrame:
    times = list(starts.TIMES)
    rows = rows[rows["record"].notna() & rows["e2e_s"].notna()]
    if "method" in rows:  # what is extrapolated is no run of its own
        rows = rows[~rows["method"].str.startswith("depth")]
    rows = rows.assign(kind=starts.class_of(rows), **np.log(rows[times].astype(float)))
    found = rows.groupby(["kind", "key", "record"], as_index=False)[times].median()
    return found[found["key"].duplicated(keep=False)]


def pooled(rows: pd.DataFrame) -> dict[str, dict[str, dict]]:
    """class -> time -> {sd_pct, df}"""
    found: dict[str, dict[str, dict]] = defaultdict(dict)
    for kind, own in rows.groupby("kind"):
        for time in starts.TIMES:
            by_point = own.dropna(subset=[time]).groupby("key")[time]
            df = int((by_point.count() - 1).clip(lower=0).sum())
            if df:
                squares = float((by_point.var() * (by_point.count() - 1)).sum())
                sd = float(np.sqrt(squares / df))
                found[kind][time] = {"sd_pct": round(100 * float(np.expm1(sd)), 2), "df": df}
    return dict(found)


def main() -> None:
    found = {"classes": pooled(again())}
    FILE.write_text(HEAD + yaml.safe_dump(found, sort_keys=True, default_flow_style=None))
    print(FILE.read_text(), end="")


if __name__ == "__main__":
    main()
