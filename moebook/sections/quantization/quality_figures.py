"""What number formats cost in quality: perplexity of a trained checkpoint in each, against its
speed. Axes of its own: a named mark per format, and a scale of perplexity."""

import pandas as pd

from moebook.plot import layout, markers, style
from moebook.plot.figure import (
    Drawing,
    figure,
    gain_rows,
    one_per_place,
    plotted,
    rows_of,
    series_of,
    values_of,
    with_numbers,
)
from moebook.plot.layout import name_points
from moebook.plot.quality import (
    INCREASES,
    PARTS,
    better,
    draw_points,
    gain_axis,
    increase_axis,
    note,
    side_by_side,
    trained_name,
    without_increase_failed,
)
from moebook.results.gains import increases

GAINS = ["gain_pct", "gain_pct_lo", "gain_pct_hi"]


@figure("quality_and_speed")
def quality_and_speed(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Perplexity increase (%) of the trained checkpoint against the throughput gain (%) of the
    sweep `formats`' model at its largest batch, both over the first of the formats. A format that
    lacks one of both is named in the legend, and marked at the foot where it is the perplexity."""
    name = "quality_and_speed"
    base = series_of(table, name, "formats")[0]
    _perplexities(table, name)
    fast = _largest_batch(gain_rows(table, name, "formats", base).dropna(subset=["gain_pct"]))
    fast = fast.assign(speed_model=fast["model"], speed_batch=fast["batch"])
    of = ["series", *(c for c in GAINS if c in fast), "speed_model", "speed_batch"]
    rows = (
        increases(table, base)
        .drop(columns=GAINS, errors="ignore")
        .merge(fast[of], "left", "series")
    )
    rows.loc[rows["series"] == base, GAINS] = 0.0
    rows = without_increase_failed(rows)
    ok = with_numbers(rows, name, ["increase_pct", "gain_pct"])
    one_per_place(rows, name, ("series",))
    looks = markers.looks_of(values_of(rows[rows["status"] == "ok"], "series"))
    gone = rows.drop(ok.index)
    with style.paper_style(width):
        fig, (ax,) = side_by_side(1, width, 2.5)
        for span in (ax.axhline, ax.axvline):
            span(0, color="black", linewidth=0.6, linestyle=markers.DASHES, zorder=1.5, gid="level")
        for series, own in ok.groupby("series", sort=False):
            draw_points(ax, own, "gain_pct", "increase_pct", looks[series], series)
        for status, own in gone[gone["gain_pct"].notna()].groupby("status"):
            style.mark_missing(ax, own["gain_pct"], status)
        gain_axis(ax, rows, GAINS)
        increase_axis([ax], rows, INCREASES)
        at = f"{fast['model'].iloc[0]}\nover {base} at batch {fast['batch'].iloc[0]}"
        fig.supxlabel(f"throughput gain of {at} (%)")
        fig.supylabel(f"perplexity increase of\n{trained_name(rows)} (%)")
        layout.settle(fig, _notes(gone))
        name_points(ax, ok[["gain_pct", "increase_pct"]], ok["series"])
        shown = ["perplexity", "increase_pct", "gain_pct"]
        return fig, plotted(rows, shown, ["series", "weights", *GAINS, *of[-2:]])


def _perplexities(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows with a perplexity. ValueError gives the reason where there is none."""
    rows = rows_of(table, name, "quality", ("series", "method", "perplexity"))
    if not ((rows["status"] == "ok") & rows["perplexity"].notna()).any():
        reasons = rows["reason"].dropna().unique() if "reason" in rows else []
        raise ValueError(
            f"{name}: no format has a perplexity: {'; '.join(reasons) or 'no reason was recorded'}"
        )
    return with_numbers(rows, name, ["perplexity"])


def _largest_batch(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a number at the largest batch that has one, the first of each series."""
    ok = rows[rows["status"] == "ok"]
    return ok[ok["batch"] == ok["batch"].max()].drop_duplicates("series")


def _notes(gone: pd.DataFrame) -> tuple[list, list[str]]:
    """Formats without a point and what they lack, what bars are, and where it is good to be."""
    what = [style.MISSING.get(status, ("", "no throughput")) for status in gone["status"]]
    labels = [f"{name}: {word}" for name, (_, word) in zip(gone["series"], what, strict=True)]
    handles = [*(note(marker) for marker, _ in what), note("|", markersize=7), better()]
    return handles, [*labels, f"vertical {PARTS}", "better"]
