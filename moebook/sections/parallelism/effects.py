"""Effects of splitting a model over G devices: they decide the claims of section 5.

Cells are those of the sweeps `modes` (the engine over G devices) and `composed`
(analysis/parallelism.py: one rank's time and the ranks' communication). What was run decides, on
however many devices, and what was composed only stands in where a mode was run on none or a place
is missing; then `differs` says so, so that a verdict on it is never one on the source's own scale.
Gains over devices are exponents p of throughput ~ G^p, which compare 2 devices with 4: 1 is ideal
scaling, 0 none, twice the throughput on 4 devices 1/2."""

from dataclasses import replace

import numpy as np

from moebook.models.one_rank import ONE
from moebook.results.cells import Cells, Untested
from moebook.results.pairs import Effect, breakdown, mean_of, narrow, plain
from moebook.sections.parallelism.composed import COMPOSED, count_of, shares_cores

PLACE = ("model", "batch", "input_tokens", "output_tokens")


def _largest(cells: Cells, modes: list[str], devices: int) -> tuple[int, tuple[str, ...]]:
    """The source's number of devices where the modes were run on it, else the largest they were;
    composed, where on none."""
    if shares_cores(cells.ok):
        raise Untested("ranks of a CPU share its cores: more of them are no more devices")
    rows = cells.ok[cells.ok["series"].isin(modes)]
    run = rows[rows["method"] != COMPOSED]
    have = count_of(rows if run.empty else run)
    if have.empty:
        told = cells.planned.loc[cells.planned["series"].isin(modes), "reason"].dropna()
        raise Untested(
            f"no point of {plain(modes)} has a number" + (f" ({told.iloc[0]})" if len(told) else "")
        )
    if devices in set(have):
        return devices, ()
    return int(have.max()), (f"devices {have.max()} (source {devices})",)


def _at(cells: Cells, mode: str, devices: int) -> dict[tuple, int]:
    """Place -> row number of the mode over so many devices."""
    own = cells.ok[(cells.ok["series"] == mode) & (count_of(cells.ok) == devices)]
    return dict(zip(own[list(PLACE)].itertuples(index=False, name=None), own.index, strict=True))


def _pairs(
    cells: Cells, pairs: list[tuple[int, int]], what: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Row numbers (first, second), and what of them was not run."""
    if not pairs:
        raise Untested(f"no model and batch with {what}")
    first, second = np.array(pairs).T
    methods = cells.ok["method"].iloc[np.unique(np.concatenate([first, second]))]
    composed = int((methods == COMPOSED).sum())
    differs = (
        f"{composed} of {len(methods)} cells composed of one rank's time and communication "
        f"(source: run)",
    )
    return first, second, differs if composed else ()


def device_exponent(
    cells: Cells, modes: list[str], devices: int, where: dict | None = None
) -> Effect:
    """p of throughput ~ G^p from one device to `devices`, mean over models, batches and modes."""
    cells, differs = narrow(cells, where)
    count, more = _largest(cells, modes, devices)
    one = _at(cells, ONE, 1)
    found = [
        (one[place], row)
        for mode in modes
        for place, row in _at(cells, mode, count).items()
        if place in one
    ]
    low, high, composed = _pairs(cells, found, f"both one device and {plain(modes)} on {count}")
    ratio = cells.samples[:, high] / cells.samples[:, low]
    used = cells.ok.iloc[np.unique(np.concatenate([low, high]))]
    text = "; ".join(
        f"{cells.ok['series'][b]} {count}, {cells.ok['model'][b]}: {r:.2f} times one device"
        for b, r in zip(high, ratio[0], strict=True)
    )
    return _whole(
        mean_of(
            np.log(ratio) / np.log(count),
            cells,
            "exponent",
            used,
            (*differs, *more, *composed),
            text,
        ),
        cells,
        modes,
        count,
        len(low),
    )


def mode_gain(
    cells: Cells, mode: str, over: str, devices: int, where: dict | None = None
) -> Effect:
    """By how many percent `mode` is faster than `over` on as many devices, mean over models and
    batches."""
    cells, differs = narrow(cells, where)
    count, more = _largest(cells, [mode], devices)
    base = _at(cells, over, count)
    found = [(row, base[place]) for place, row in _at(cells, mode, count).items() if place in base]
    mine, theirs, composed = _pairs(cells, found, f"both {mode} and {over} on {count} devices")
    gain = 100 * (cells.samples[:, mine] / cells.samples[:, theirs] - 1)
    used = cells.ok.iloc[np.unique(np.concatenate([mine, theirs]))]
    text = (
        f"{mode} over {over} on {count} devices; "
        f"{breakdown(gain[0], cells.ok.iloc[mine], 'model', '%')}"
    )
    return _whole(
        mean_of(gain, cells, "%", used, (*differs, *more, *composed), text),
        cells,
        [mode],
        count,
        len(mine),
    )


def _whole(effect: Effect, cells: Cells, modes: list[str], count: int, used: int) -> Effect:
    planned = cells.planned[
        cells.planned["series"].isin(modes) & (count_of(cells.planned) == count)
    ]
    return replace(effect, whole=used >= len(planned))
