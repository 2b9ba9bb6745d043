"""Throughput over devices: what was run and what was composed of one rank (composed.py), against
one device, and against each other."""

import pandas as pd

from moebook.models.one_rank import MODES, ONE
from moebook.results.cells import COMPOSED, of_sweep

SPLIT = ["model", "series", "tensor_parallel", "pipeline_parallel"]
PLACE = [*SPLIT, "batch", "input_tokens", "output_tokens"]
TIMES = ("ttft_s", "tpot_s", "e2e_s")
PARTS = ("compute_ttft_s", "comm_ttft_s", "compute_tpot_s", "comm_tpot_s")
ENDS = ("", "_lo", "_hi")


def with_devices(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `devices`, how many each takes."""
    return rows.assign(devices=rows["tensor_parallel"] * rows["pipeline_parallel"])


def shares_cores(rows: pd.DataFrame) -> bool:
    """Whether the ranks were those of one CPU: more of them are no more hardware."""
    return "device_kind" in rows and (rows["device_kind"].dropna() == "cpu").any()


def over_devices(summary: pd.DataFrame) -> pd.DataFrame:
    """Modes over devices at the largest batch of all modes: what was run, what was composed and one
    device. With `devices`; `added`, times the hardware of one (G, but ranks of a CPU share its
    cores); and `efficiency_pct` (and _lo, _hi), throughput over `added` times that of one device. A
    mode's row without a number is left out where a composed one stands for it."""
    rows = with_devices(of_sweep(summary, f"modes|{COMPOSED}"))
    batch = rows[rows["series"].isin(MODES)].groupby("series")["batch"].max().min()
    rows = rows[rows["batch"] == batch]
    rows = rows.assign(added=1 if shares_cores(rows) else rows["devices"])
    ok, composed = rows["status"] == "ok", rows["method"] == COMPOSED
    places = pd.MultiIndex.from_frame(rows[["model", "series", "devices"]])
    replaced = places.isin(places[ok & composed]) & (rows["status"] != "oom")
    rows = rows[ok | ~(composed | replaced)]
    one = rows[(rows["series"] == ONE) & (rows["status"] == "ok")].drop_duplicates("model")
    alone = rows["model"].map(one.set_index("model")["throughput_tok_s"]) * rows["added"]
    shares = {f"efficiency_pct{e}": 100 * rows[f"throughput_tok_s{e}"] / alone for e in ENDS}
    return rows.assign(**shares)


def runs(summary: pd.DataFrame) -> pd.DataFrame:
    """Modes that the engine itself was run in, over several devices."""
    return summary[
        summary["series"].isin(MODES)
        & (summary["status"] == "ok")
        & (summary["method"] != COMPOSED)
    ]


def errors(summary: pd.DataFrame) -> pd.DataFrame:
    """Modes both run and composed: the measured row with `composed_<time>` (and _lo, _hi), PARTS
    and `error_pct`, composed over measured E2E."""
    times = {f"{name}{end}": f"composed_{name}{end}" for name in TIMES for end in ENDS}
    composed = summary[(summary["method"] == COMPOSED) & (summary["status"] == "ok")]
    made = composed.reindex(columns=[*PLACE, *times, *PARTS]).rename(columns=times)
    both = runs(summary).drop(columns=list(PARTS), errors="ignore").merge(made, on=PLACE)
    return both.assign(error_pct=100 * (both["composed_e2e_s"] / both["e2e_s"] - 1))
