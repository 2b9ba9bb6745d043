"""Section 5: what the source claims, and what decides each.

Cells are those of the sweep `modes`, the engine over G devices, and of one device. What was run
decides, on however many devices; what was composed of one rank's time (enrich.py) stands beside
and decides nothing. Gains over devices are exponents p of throughput ~ G^p, which compare 2 devices
with 4: 1 is ideal scaling, 0 none, twice the throughput on 4 devices 1/2."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from moebook.models.one_rank import ONE
from moebook.results.cells import Cells, Untested
from moebook.results.claims import Claim, Part, at_least, at_most
from moebook.results.comparison import (
    Comparison,
    Effect,
    breakdown,
)
from moebook.results.conditions import narrow, plain
from moebook.sections.parallelism.enrich import shares_cores, with_devices

SOURCE = {
    "model": ["Mixtral-8x7B", "OLMoE"],
    "device": "1 to 4 x H100",
}
WHERE = {"batch": {"values": [16], "side": "largest"}}
PLACE = ["model", "batch", "input_tokens", "output_tokens"]


def _pairs(
    cells: Cells, modes: list[str], devices: int, over: str, where: dict | None
) -> tuple[Comparison, int]:
    """Each mode (low) with `over` (high) at the same model, batch and lengths, and on how many
    devices. Untested where there is no pair."""
    cells, differs = narrow(cells, where)
    count, more = _devices(cells, modes, devices)
    rows, planned = with_devices(cells.ok), with_devices(cells.planned)
    base = rows[(rows["series"] == over) & (rows["devices"] == (1 if over == ONE else count))]
    own = pd.concat(rows[(rows["series"] == m) & (rows["devices"] == count)] for m in modes)
    both = own[PLACE].reset_index().merge(base[PLACE].reset_index(), on=PLACE)
    if both.empty:
        what = f"both {over} and {plain(modes)} on {count} devices"
        raise Untested(f"no model and batch with {what}")
    whole = len(both) >= (planned["series"].isin(modes) & (planned["devices"] == count)).sum()
    low, high = both["index_x"].to_numpy(), both["index_y"].to_numpy()
    return Comparison(cells, low, high, (*differs, *more), "", bool(whole)), count


def _devices(cells: Cells, modes: list[str], devices: int) -> tuple[int, tuple[str, ...]]:
    """The source's number of devices where the modes were run on it, else the largest they were;
    with how that differs from the source."""
    if shares_cores(cells.ok):
        raise Untested("ranks of a CPU share its cores: more of them are no more devices")
    rows = with_devices(cells.ok[cells.ok["series"].isin(modes)])
    if rows.empty:
        reasons = cells.planned.loc[cells.planned["series"].isin(modes), "reason"].dropna()
        why = f" ({reasons.iloc[0]})" if len(reasons) else ""
        raise Untested(f"no point of {plain(modes)} was run{why}; composed ones decide nothing")
    if devices in set(rows["devices"]):
        return devices, ()
    most = int(rows["devices"].max())
    return most, (f"devices {most} (source {devices})",)


def device_exponent(
    cells: Cells, modes: list[str], devices: int, where: dict | None = None
) -> Effect:
    """p of throughput ~ G^p from one device to `devices`, of each model, batch and mode."""
    pairs, count = _pairs(cells, modes, devices, ONE, where)
    rows = pairs.cells.ok.iloc[pairs.low]
    text = "; ".join(
        f"{series} {count}, {model}: {times:.2f} times one device"
        for series, model, times in zip(rows["series"], rows["model"], pairs.ratio(), strict=True)
    )
    return pairs.effect("exponent", partial(_exponent, count=count), text=text)


def _exponent(log: float, count: int) -> float:
    """p of count^p, of the logarithm of a gain."""
    return float(log / np.log(count))


def mode_gain(
    cells: Cells, mode: str, over: str, devices: int, where: dict | None = None
) -> Effect:
    """By how many percent `mode` is faster than `over` on as many devices, of each model and
    batch."""
    pairs, count = _pairs(cells, [mode], devices, over, where)
    found = pairs.effect()
    each = breakdown(found.values, pairs.cells.ok.iloc[pairs.low], "model", "%")
    return replace(found, text=f"{mode} over {over} on {count} devices; {each}")


CLAIMS = (
    Claim(
        id="tp-scales",
        statement=(
            "Tensor parallelism without expert parallelism gives over 2 times the throughput from "
            "1 to 4 GPUs."
        ),
        decided_by=("exponent p of throughput ~ devices^p from 1 to 4 devices with TP, as run"),
        source_range={"gpus": [1, 4], "at_least_times": 2},
        sweep="modes|composed",
        source=SOURCE,
        parts=(
            Part(
                "over 2 times on 4 devices",
                partial(device_exponent, modes=["TP"], devices=4, where=WHERE),
                at_least(0.5, rounding=0.02),
                why="2 times on 4 devices is 4^0.5; the exponent also reads 2 devices",
            ),
        ),
    ),
    Claim(
        id="tp-beats-ep",
        statement="Tensor with expert parallelism scales less than tensor parallelism alone.",
        decided_by="throughput of TP+EP over TP on 4 devices, as run",
        source_range={"gpus": [1, 4]},
        sweep="modes|composed",
        source=SOURCE,
        parts=(
            Part(
                "TP+EP over TP",
                partial(mode_gain, mode="TP+EP", over="TP", devices=4, where=WHERE),
                at_most(0),
            ),
        ),
    ),
    Claim(
        id="pp-flat",
        statement="Pipeline parallelism, with or without expert parallelism, barely gains.",
        decided_by=(
            "exponent p of throughput ~ devices^p from 1 to 4 devices with PP and PP+EP, as run"
        ),
        source_range={"gpus": [1, 4]},
        sweep="modes|composed",
        source=SOURCE,
        parts=(
            Part(
                "nearer to nothing than to a doubling",
                partial(device_exponent, modes=["PP", "PP+EP"], devices=4, where=WHERE),
                at_most(0.25, rounding=0.02),
                why=(
                    "4^0.25 = 1.41 lies halfway, as a ratio, between no gain and twice the "
                    "throughput"
                ),
            ),
        ),
    ),
)
