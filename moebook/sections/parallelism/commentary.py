"""Section 5 in words (see this folder's __init__)."""

import pandas as pd

from moebook.models.one_rank import MODES, ONE
from moebook.results.commentary import commentary
from moebook.results.words import NOTHING, T, change, nothing, planned
from moebook.sections.parallelism import composed as analysis
from moebook.sections.parallelism.composed import COMPOSED

STAND_IN = "stand-in"
SHARED = (
    " Ranks of a CPU share its cores, so the best they can do is what one rank does with all of "
    "them."
)


def _split(summary: pd.DataFrame) -> pd.DataFrame:
    """Modes over several devices with a number and a base, as `times` one device: what was run,
    else what was composed."""
    if planned(summary, "modes").empty:
        return summary.head(0)
    rows = analysis.over_devices(summary)
    rows = rows[
        rows["series"].isin(MODES) & (rows["status"] == "ok") & rows["efficiency_pct"].notna()
    ]
    if rows.empty:
        return rows
    rows = rows.assign(
        times=rows["efficiency_pct"] * rows["added"] / 100, composed=rows["method"] == COMPOSED
    )
    order = rows["composed"].astype(int) + 2 * rows["series"].map(MODES.index).astype(
        int
    )  # also of no rows
    return rows.loc[order.sort_values(kind="stable").index].drop_duplicates(
        ["model", "series", "devices"]
    )


def _how(composed: bool) -> str:
    return "composed" if composed else "run"


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in one sentence: the best mode per model at the largest number of devices it was
    run on, and beyond that composed."""
    rows = _split(summary)
    if rows.empty:
        return nothing(
            summary, "modes", "No mode over several devices has a number." + gone(summary)
        )
    told = []
    for model, own in rows.groupby("model", sort=False):
        run, most = own[~own["composed"]], own["devices"].max()
        ways = [run[run["devices"] == run["devices"].max()]] if len(run) else []
        if run.empty or most > run["devices"].max():
            ways.append(own[own["devices"] == most])
        told.append(f"**{model}** " + "; ".join(map(_best, ways)))
    return f"**Finding.** {'. '.join(told)}. Batch {rows['batch'].iloc[0]}."


def _best(own: pd.DataFrame) -> str:
    best, worst = own.loc[own["times"].idxmax()], own.loc[own["times"].idxmin()]
    others = f", {worst['series']} least ({worst['times']:.2f})" if len(own) > 1 else ""
    return (
        f"on {best['devices']} devices: {best['series']} gives most, {best['times']:.2f} times one "
        f"device "
        f"({_how(best['composed'])}){others}"
    )


@commentary
def scaling(summary: pd.DataFrame) -> str:
    """Fig 13: times one device, per mode and number of devices."""
    rows = _split(summary)
    if rows.empty:
        return nothing(summary, "modes", NOTHING + gone(summary))
    told = []
    for model, own in rows.groupby("model", sort=False):
        modes = [
            f"{mode} "
            + ", ".join(
                f"{r.times:.2f} on {r.devices} ({_how(r.composed)})" for r in at.itertuples()
            )
            for mode, at in own.sort_values("devices").groupby("series", sort=False)
        ]
        told.append(f"**{model}**: {'; '.join(modes)}")
    return (
        "Throughput in units of one device's: "
        + ". ".join(told)
        + "."
        + _base(summary)
        + gone(summary)
    )


def _base(summary: pd.DataFrame) -> str:
    """What to know of the base: models that do not fit one device, and devices that are none."""
    rows = summary[
        (summary["series"] == ONE)
        & (summary["status"] == "ok")
        & summary["method"].str.startswith("depth")
    ]
    names = ", ".join(dict.fromkeys(rows["model"]))
    text = (
        (
            f" {names} does not fit one device: its base is extrapolated from engines with fewer "
            f"layers, what a device with "
            "more memory would do."
        )
        if names
        else ""
    )
    return text + (SHARED if analysis.shares_cores(summary) else "")


def gone(summary: pd.DataFrame) -> str:
    """Modes that the engine was not run in, with the reason."""
    rows = planned(summary, "modes")
    rows = rows[rows["status"] != "ok"].sort_values("batch", ascending=False, kind="stable")
    rows = rows.drop_duplicates(["model", "series", "tensor_parallel", "pipeline_parallel"])
    told = [
        f"{', '.join(dict.fromkeys(own['series']))}: {status} ({reason})"
        for (status, reason), own in rows.groupby(["status", "reason"], sort=False)
    ]
    return f" Not run: {'; '.join(told)}." if told else ""


@commentary
def parts(summary: pd.DataFrame) -> str:
    """Share of communication in a decode step, and where it is from."""
    rows = summary[(summary["method"] == COMPOSED) & (summary["status"] == "ok")]
    if rows.empty:
        lost = summary.loc[(summary["method"] == COMPOSED) & summary["reason"].notna(), "reason"]
        told = (
            "No communication time: " + "; ".join(dict.fromkeys(lost)) + "."
            if len(lost)
            else NOTHING
        )
        return nothing(summary, "shards", told)
    rows = rows[rows["batch"] == rows["batch"].max()]
    rows = rows.assign(
        devices=analysis.count_of(rows), share=100 * rows["comm_tpot_s"] / rows["tpot_s"]
    )
    told = []
    for model, own in rows.groupby("model", sort=False):
        ends = [
            f"{r['share']:.1f} % ({r['series']} {r['devices']})"
            for r in (own.loc[own["share"].idxmin()], own.loc[own["share"].idxmax()])
        ]
        told.append(f"**{model}** from {ends[0]} to {ends[1]}")
    origin = "; ".join(dict.fromkeys(rows["comm_from"]))
    return (
        f"Communication takes this much of a composed decode step: {'; '.join(told)}. Its time: "
        f"{origin}." + _notes(rows)
    )


def _notes(rows: pd.DataFrame) -> str:
    notes = rows.dropna(subset=["rounding"]).drop_duplicates(["model", "rounding"])
    return "".join(f" {r.model}, {r.series} {r.devices}: {r.rounding}." for r in notes.itertuples())


@commentary
def validation(summary: pd.DataFrame) -> str:
    """How well compositions meet runs, and how the stand-in class meets the real one."""
    rows = analysis.errors(summary)
    text = "No mode was both run and composed, so the composition has no error here."
    if len(rows):
        error, ttft = rows["error_pct"], 100 * (rows["composed_ttft_s"] / rows["ttft_s"] - 1)
        text = (
            f"Composed over run E2E at {len(rows)} places: from {error.min():+.1f} to "
            f"{error.max():+.1f} %, mean "
            f"absolute error {error.abs().mean():.1f} %; TTFT from {ttft.min():+.1f} to "
            f"{ttft.max():+.1f} %." + _communication(rows) + _between(rows)
        )
    return text + _stand_in(summary)


def _communication(rows: pd.DataFrame) -> str:
    """Communication as composed beside what the runs leave for it: their step less the rank's."""
    rows = rows[rows["series"].str.startswith("TP")]
    ways = [
        f"{r.model} {r.series} {r.tensor_parallel}, batch {r.batch}: {1e3 * r.comm_tpot_s:.2f} and "
        f"{1e3 * (r.tpot_s - r.compute_tpot_s):.2f}"
        for r in rows.dropna(subset=["comm_tpot_s"]).itertuples()
    ]
    return (
        f" Communication of a decode step in ms, as composed and as the run leaves it (its step "
        f"less the rank's): "
        f"{'; '.join(ways)}. What is composed rests on NCCL; an engine's own kernels for small "
        f"tensors are faster."
        if ways
        else ""
    )


def _between(rows: pd.DataFrame) -> str:
    """Where a run pipeline lies between its two bounds."""
    rows = rows[rows["series"].str.startswith("PP")]
    low, high = rows["composed_tpot_s_lo"], rows["composed_tpot_s_hi"]
    share = (100 * (high - rows["tpot_s"]) / (high - low)).dropna()
    if share.empty:
        return ""
    return (
        f" A run pipeline's step lies {share.min():.0f} to {share.max():.0f} % of the way from its "
        f"serial to its filled "
        "bound: near 0 % the engine keeps the batch in one piece, and the stages wait for each "
        "other."
    )


def _stand_in(summary: pd.DataFrame) -> str:
    rows = planned(summary, "check")
    wide = rows[rows["status"] == "ok"].pivot_table(
        index=["model", "batch"], columns="series", values=T
    )
    if not {ONE, STAND_IN} <= set(wide):
        return ""
    ratio = (wide[STAND_IN] / wide[ONE]).dropna()
    return "".join(
        f" {model}'s stand-in against its own model class, whole on one device at batch {batch}: "
        f"{change(r, 1)} "
        "throughput."
        for (model, batch), r in ratio.items()
    )
