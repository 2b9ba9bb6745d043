"""What number formats cost in quality: perplexity of a trained checkpoint in each, against its
speed and its bytes.

Each function: (table, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing. Both build their own axes: a mark per format, and scales of perplexity."""

import pandas as pd
from matplotlib.ticker import MaxNLocator

from moebook.plot import layout, lines, style
from moebook.plot.figure import Drawing, figure
from moebook.plot.gains import gain_rows, series_of
from moebook.plot.quality import (
    INCREASES,
    PARTS,
    better,
    draw_points,
    gain_axis,
    increase_axis,
    looks_legend,
    note,
    side_by_side,
    trained_name,
    without_increase_failed,
)
from moebook.plot.rows import METRICS, one_per_place, plotted, rows_of, values_of, with_numbers
from moebook.results.cells import of_sweep
from moebook.results.increases import increases

LEAST_SPAN = 0.02  # of the perplexity that its axis shows at least, so that noise looks like noise
GAINS = ["gain_pct", "gain_pct_lo", "gain_pct_hi"]
SPEED = [f"throughput_tok_s{end}" for end in ("", "_lo", "_hi")]


@figure("quality")
def quality(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Perplexity of a trained checkpoint in each format, against the throughput (tokens/s) of that
    format in the sweep `formats` at its largest batch and against its weights (GB). No bars: the
    repeats are parts of a text, which differ in difficulty. ValueError gives the rows' reason where
    none was measured."""
    rows = _perplexities(table, "quality")
    one_per_place(rows, "quality", ("series",))
    fast = _largest_batch(of_sweep(table, "formats"))
    weights = rows["weights_bytes"].astype(float) if "weights_bytes" in rows else float("nan")
    speeds = fast.set_index("series").reindex(rows["series"])[SPEED].set_axis(rows.index)
    rows = rows.assign(weights_gb=weights / 1e9, **speeds)
    sides = {}
    if rows["throughput_tok_s"].notna().any():
        at = f"{fast['model'].iloc[0]}\nat batch {fast['batch'].iloc[0]}"
        sides["throughput_tok_s"] = f"throughput of {at} (tokens/s)"
    if rows["weights_gb"].notna().any():
        sides["weights_gb"] = f"weights of {trained_name(rows)} (GB)"
    if not sides:
        raise ValueError(
            "quality needs throughput (sweep 'formats') or weights_bytes of the formats with a "
            "perplexity"
        )
    looks = lines.looks_of(values_of(rows, "series"))
    with style.paper_style(width):
        fig, axes = side_by_side(len(sides), width, 2.3)
        for ax, (x, label) in zip(axes, sides.items(), strict=True):
            for name, own in rows[rows[x].notna()].groupby("series", sort=False):
                draw_points(ax, own, x, "perplexity", looks[name], name)
            style.value_axis([ax], 0.0, rows[x].max(), axis="x")
            ax.set_xlabel(label)
        low, high = rows["perplexity"].min(), rows["perplexity"].max()
        middle, half = (high + low) / 2, max(high - low, LEAST_SPAN * high) * 0.6
        axes[0].set_ylim(middle - half, middle + half)
        axes[0].yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        fig.supylabel(METRICS["perplexity"])
        layout.settle(fig, looks_legend(looks))
        return fig, plotted(rows, ["perplexity", "throughput_tok_s"], ["series", "weights_gb"])


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
    looks = lines.looks_of(values_of(rows[rows["status"] == "ok"], "series"))
    gone = rows.drop(ok.index)
    with style.paper_style(width):
        fig, (ax,) = side_by_side(1, width, 2.5)
        for span in (ax.axhline, ax.axvline):
            span(0, color="black", linewidth=0.6, linestyle=lines.DASHES, zorder=1.5, gid="level")
        for series, own in ok.groupby("series", sort=False):
            draw_points(ax, own, "gain_pct", "increase_pct", looks[series], series)
        for status, own in gone[gone["gain_pct"].notna()].groupby("status"):
            style.mark_missing(ax, own["gain_pct"], status)
        gain_axis(ax, rows, GAINS)
        increase_axis([ax], rows, INCREASES)
        at = f"{fast['model'].iloc[0]}\nover {base} at batch {fast['batch'].iloc[0]}"
        fig.supxlabel(f"throughput gain of {at} (%)")
        fig.supylabel(f"perplexity increase of\n{trained_name(rows)} (%)")
        layout.settle(fig, looks_legend({s: looks[s] for s in ok["series"]}), _notes(gone))
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
