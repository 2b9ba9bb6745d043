"""Section 5 in words: what each figure shows, with its numbers."""

import pandas as pd

from moebook.models.one_rank import MODES, ONE
from moebook.results import gains
from moebook.results.cells import COMPOSED
from moebook.results.commentary import (
    NOTHING,
    change,
    commentary,
    ends_of,
    markdown,
    nothing,
    planned,
)
from moebook.results.page import Number
from moebook.sections.parallelism import enrich
from moebook.sections.parallelism.plan import STAND_IN

SHARED = (
    " Ranks of a CPU share its cores, so the best they can do is what one rank does with all of "
    "them."
)


def _split(table: pd.DataFrame) -> pd.DataFrame:
    """Modes over several devices with a number and a base, as `times` one device and `how` they
    were got: what was run, else what was composed."""
    if planned(table, "modes").empty:
        return table.head(0)
    rows = enrich.over_devices(table)
    rows = rows[rows["series"].isin(MODES) & rows["efficiency_pct"].notna()]
    rows = rows.assign(
        times=rows["efficiency_pct"] * rows["added"] / 100,
        how=rows["method"].mask(rows["method"] != COMPOSED, "run"),
    )
    rows = rows.assign(order=rows["series"].map(MODES.index))
    rows = rows.sort_values(["model", "order", "how"], ascending=[True, True, False])
    return rows.drop_duplicates(["model", "series", "devices"])


def _ends_of_models(table: pd.DataFrame) -> pd.DataFrame:
    """The best and the worst mode per model, on the most devices that it was run on, or where none
    was run, composed for; one row where there is one mode."""
    rows = _split(table).reset_index(drop=True)
    ran = rows["how"] == "run"
    rows = rows[ran == ran.groupby(rows["model"]).transform("any")]
    rows = rows[rows["devices"] == rows.groupby("model")["devices"].transform("max")]
    ends = rows.groupby("model", sort=False)["times"].agg(["idxmax", "idxmin"])
    return rows.loc[list(dict.fromkeys(ends.to_numpy().ravel()))]


@commentary
def headline(table: pd.DataFrame) -> str:
    """The best and the worst mode of each model."""
    if _split(table).empty:
        return nothing(table, "modes", "No mode over several devices has a number." + _gone(table))
    rows, found = _ends_of_models(table), []
    for model, own in rows.groupby("model", sort=False):
        best, worst = own.iloc[0], own.iloc[-1]
        told = f"{best['series']} gives {best['times']:.2f} times one device"
        if len(own) > 1:
            told += f", {worst['series']} {worst['times']:.2f}"
        found.append(f"**{model}** on {best['devices']} devices ({best['how']}): {told}")
    return f"**Finding.** {'. '.join(found)}. Batch {rows['batch'].iloc[0]}."


def numbers(table: pd.DataFrame) -> tuple[Number, ...]:
    """The best and the worst mode of two models."""
    if _split(table).empty:
        return ()
    return tuple(
        Number(f"{r.times:.2f}×", f"one device: {r.model}, {r.series} {r.devices} ({r.how})")
        for r in _ends_of_models(table).head(4).itertuples()
    )


@commentary
def over_devices(table: pd.DataFrame) -> str:
    """Fig 13 in numbers: throughput in units of one device's, per mode and number of devices."""
    rows = _split(table)
    if rows.empty:
        return nothing(table, "modes", NOTHING + _gone(table))
    rows = rows.assign(shown=rows["times"].map("{:.2f}".format) + " (" + rows["how"] + ")")
    cells = rows.set_index(["model", "series", "devices"])["shown"]
    wide = cells.unstack(sort=False).rename(columns="{} devices".format).reset_index()
    shown = markdown(wide)
    text = f"Throughput in units of one device's, batch {rows['batch'].iloc[0]}:{shown}"
    ends = "".join(
        ends_of(own, "times", f"**{model}** on {devices} devices over one ({how}):", "{:.2f}×")
        for (model, devices, how), own in _ends_of_models(table).groupby(
            ["model", "devices", "how"], sort=False
        )
    )
    return text + (ends + (_base(table) + _gone(table)).strip()).strip()


def _base(table: pd.DataFrame) -> str:
    """What to know of the base: models that do not fit one device, and devices that are none."""
    deep = table["method"].str.startswith("depth") & (table["status"] == "ok")
    names = ", ".join(table.loc[deep & (table["series"] == ONE), "model"].unique())
    text = (
        f" {names} does not fit one device: its base is extrapolated from engines with fewer "
        f"layers, what a device with more memory would do."
    )
    return (text if names else "") + (SHARED if enrich.shares_cores(table) else "")


def _gone(table: pd.DataFrame) -> str:
    """Modes that the engine was not run in, with the reason."""
    rows = planned(table, "modes")
    rows = rows[rows["status"] != "ok"].sort_values("batch", ascending=False, kind="stable")
    rows = rows.drop_duplicates(enrich.SPLIT)
    found = [
        f"{', '.join(own.unique())}: {status} ({reason})"
        for (status, reason), own in rows.groupby(["status", "reason"], sort=False)["series"]
    ]
    return f" Not run: {'; '.join(found)}." if found else ""


def _ends(rows: pd.DataFrame, column: str) -> str:
    """`**OLMoE** 0.9 % (PP 2) to 36.1 % (TP 4)`: the least and the most of a column, per model."""
    found = []
    for model, own in rows.groupby("model", sort=False):
        ends = [own.loc[own[column].agg(end)] for end in ("idxmin", "idxmax")]
        texts = [f"{r[column]:.1f} % ({r['series']} {r['devices']})" for r in ends]
        found.append(f"**{model}** {' to '.join(texts)}")
    return "; ".join(found)


@commentary
def step_parts(table: pd.DataFrame) -> str:
    """Share of communication in a decode step, and which links its time is from."""
    rows = enrich.with_devices(table[table["method"] == COMPOSED])
    ok = rows[rows["status"] == "ok"]
    if ok.empty:
        lost = "; ".join(rows["reason"].dropna().unique())
        return nothing(table, "shards", f"No communication time: {lost}." if lost else NOTHING)
    ok = ok[ok["batch"] == ok["batch"].max()]
    ok = ok.assign(share=100 * ok["comm_tpot_s"] / ok["tpot_s"])
    rounded = ok.dropna(subset=["rounding"]).drop_duplicates(["model", "rounding"])
    notes = [f" {r.model}, {r.series} {r.devices}: {r.rounding}." for r in rounded.itertuples()]
    return (
        f"Share of communication in a composed decode step: {_ends(ok, 'share')}. Its time: "
        f"{'; '.join(ok['comm_from'].unique())}.{''.join(notes)}"
    )


@commentary
def composed_vs_measured(table: pd.DataFrame) -> str:
    """How well compositions meet runs, and how the stand-in class meets the real one."""
    rows = enrich.errors(table)
    if rows.empty:
        text = "No mode was both run and composed, so the composition has no error here."
        return text + _stand_in(table)
    error, ttft = rows["error_pct"], 100 * (rows["composed_ttft_s"] / rows["ttft_s"] - 1)
    return (
        f"At {len(rows)} places the mean absolute error of composed E2E is "
        f"{error.abs().mean():.1f} %, from {error.min():+.1f} to {error.max():+.1f} %; of composed "
        f"TTFT {ttft.abs().mean():.1f} %, from {ttft.min():+.1f} to {ttft.max():+.1f} %."
        + _between(rows)
        + _stand_in(table)
        + _communication(rows)
    )


def _communication(rows: pd.DataFrame) -> str:
    """Communication as composed, and what the runs leave for it: their step less the rank's."""
    rows = rows[rows["series"].str.startswith("TP")].dropna(subset=["comm_tpot_s"])
    if rows.empty:
        return ""
    cells = {
        "model": "{model}",
        "mode": "{series} {tensor_parallel}",
        "batch": "{batch}",
        "composed (ms)": "{composed:.2f}",
        "left by the run (ms)": "{run:.2f}",
    }
    times = rows.assign(
        composed=1e3 * rows["comm_tpot_s"], run=1e3 * (rows["tpot_s"] - rows["compute_tpot_s"])
    )
    return (
        f" Communication of a decode step, as composed, and as the run's step less the rank's "
        f"leaves it:{markdown(times, cells)}What is composed rests on NCCL; an engine's own "
        f"kernels for small tensors are faster."
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
        f"serial to its filled bound: near 0 % the engine keeps the batch in one piece, and the "
        f"stages wait for each other."
    )


def _stand_in(table: pd.DataFrame) -> str:
    """The class that shards are written in against the model's own, whole on one device."""
    if planned(table, "check").empty:
        return ""
    rows = gains.ratios(table, "check", ONE).dropna(subset=["ratio"])
    return "".join(
        f" {row.model}'s {STAND_IN} against its own model class, whole on one device at batch "
        f"{row.batch}: {change(row.ratio, 1)} throughput."
        for row in rows.itertuples()
    )
