"""What number formats cost in quality: perplexity of a trained checkpoint in each, against its
speed and its bytes.

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from moebook.plot import layout, lines, style
from moebook.plot.figure import figure
from moebook.plot.gains import gain_rows, series_of
from moebook.plot.lines import Spec
from moebook.plot.rows import one_per_place, plotted, rows_of, values_of, with_numbers
from moebook.results.perplexity import quality_rows
from moebook.sections.pruning.quality_figures import PARTS, increase_scale, trained_name

QUALITY_LABEL = "perplexity (lower is better)"
LEAST_SPAN = 0.02  # of the perplexity that its axis shows at least, so that noise looks like noise
SPEED = {
    "gain_pct": "gain_pct",
    "gain_pct_lo": "gain_pct_lo",
    "gain_pct_hi": "gain_pct_hi",
    "model": "speed_model",
    "batch": "speed_batch",
}


@figure("quality")
def quality(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Perplexity of a trained checkpoint in each format, against the throughput of that format in
    the sweep `formats` at its largest batch and against its weights. No bars: the repeats are parts
    of a text, which differ in difficulty. ValueError gives the rows' reason where none was
    measured."""
    rows = _with_speed(_perplexities(summary, "quality"), summary)
    one_per_place(rows, "quality", ("series",))
    labels = {
        "throughput_tok_s": rows["speed_label"].iloc[0],
        "weights_gb": f"weights of {trained_name(rows)} (GB)",
    }
    sides = {x: label for x, label in labels.items() if rows[x].notna().any()}
    if not sides:
        raise ValueError(
            "quality needs throughput (sweep 'formats') or weights_bytes of the formats with a "
            "perplexity"
        )
    looks = lines.looks_of(values_of(rows, "series"))
    with style.paper_style(width) as inches:
        shape, tall = (
            ((1, len(sides)), 2.3) if width == "page" else ((len(sides), 1), 1.75 * len(sides))
        )
        fig = Figure(figsize=(inches, tall), layout="constrained")
        axes = list(fig.subplots(*shape, sharey=True, squeeze=False).flat)
        for ax, (x, label) in zip(axes, sides.items(), strict=True):
            _points(ax, rows[rows[x].notna()], x, "perplexity", looks)
            style.value_axis([ax], 0.0, rows[x].max(), axis="x")
            ax.set_xlabel(label)
        low, high = rows["perplexity"].min(), rows["perplexity"].max()
        middle, half = (high + low) / 2, max(high - low, LEAST_SPAN * high) * 0.6
        axes[0].set_ylim(middle - half, middle + half)
        axes[0].yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        fig.supylabel(QUALITY_LABEL)
        layout.settle(fig, _formats_legend(looks))
        return fig, plotted(rows, ["perplexity", "throughput_tok_s"], ["series", "weights_gb"])


@figure("quality_and_speed")
def quality_and_speed(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Perplexity increase (%) of the trained checkpoint against the throughput gain (%) of the
    sweep `formats`' model at its largest batch, both over the first format of the ladder. A format
    that lacks one of both is named in the legend, and marked at the foot where it is the
    perplexity."""
    figure, base = "quality_and_speed", series_of(summary, "quality_and_speed", "formats")[0]
    _perplexities(summary, figure)
    rows = _with_gain(
        quality_rows(summary, over=base), gain_rows(summary, figure, "formats", base), base
    )
    ok = with_numbers(rows, figure, ["increase_pct", "gain_pct"])
    one_per_place(rows, figure, ("series",))
    looks = lines.looks_of(values_of(with_numbers(rows, figure, ["increase_pct"]), "series"))
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 2.5 if width == "page" else 2.2), layout="constrained")
        ax = fig.subplots()
        for span in (ax.axhline, ax.axvline):
            span(0, color="black", linewidth=0.6, linestyle=lines.DASHES, zorder=1.5, gid="level")
        _points(ax, ok, "gain_pct", "increase_pct", looks)
        gone = rows[~rows.index.isin(ok.index)]
        for status, own in gone[gone["gain_pct"].notna()].groupby("status"):
            style.mark_missing(ax, own["gain_pct"], status)
        _limits(ax, rows, ok, marks=int(gone["gain_pct"].notna().any()))
        model, batch = (
            rows["speed_model"].dropna().iloc[0],
            int(rows["speed_batch"].dropna().iloc[0]),
        )
        fig.supxlabel(f"throughput gain of {model}\nover {base} at batch {batch} (%)")
        fig.supylabel(f"perplexity increase of\n{trained_name(rows)} (%)")
        layout.settle(
            fig, _formats_legend({name: looks[name] for name in ok["series"]}), _notes(gone)
        )
        return fig, plotted(
            rows, ["perplexity", "increase_pct", "gain_pct"], ["series", "weights", *SPEED.values()]
        )


def _perplexities(summary: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Rows with a perplexity. ValueError gives the reason where there is none."""
    rows = rows_of(summary, figure, "quality", ("series", "method", "perplexity"))
    if not ((rows["status"] == "ok") & rows["perplexity"].notna()).any():
        reasons = rows["reason"].dropna().unique() if "reason" in rows else []
        raise ValueError(
            f"{figure}: no format has a perplexity: "
            f"{'; '.join(reasons) or 'no reason was recorded'}"
        )
    return with_numbers(rows, figure, ["perplexity"])


def _with_speed(rows: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Perplexities with `weights_gb`, and `throughput_tok_s` of the same format at the largest
    batch of `formats`."""
    weights = rows["weights_bytes"].astype(float) / 1e9 if "weights_bytes" in rows else float("nan")
    rows = rows.assign(weights_gb=weights, speed_label="")
    ends = [f"throughput_tok_s{end}" for end in ("", "_lo", "_hi")]
    rows = rows.drop(columns=[c for c in ends if c in rows]).copy()
    ladder = summary[["formats" in str(names).split(",") for names in summary["sweeps"]]]
    ladder = ladder[(ladder["status"] == "ok") & ladder["series"].isin(rows["series"])]
    if ladder.empty or "throughput_tok_s" not in ladder:
        return rows.assign(throughput_tok_s=float("nan"))
    ladder = (
        ladder[ladder["batch"] == ladder["batch"].max()]
        .drop_duplicates("series")
        .set_index("series")
    )
    label = (
        f"throughput of {ladder['model'].iloc[0]}\nat batch {ladder['batch'].iloc[0]} (tokens/s)"
    )
    return rows.assign(
        speed_label=label, **{c: rows["series"].map(ladder[c]) for c in ends if c in ladder}
    )


def _with_gain(rows: pd.DataFrame, gains: pd.DataFrame, base: str) -> pd.DataFrame:
    """`quality_rows` with SPEED: the gain of the same format at the largest batch that has one; the
    first format's is 0."""
    ok = gains[(gains["status"] == "ok") & gains["gain_pct"].notna()]
    own = ok[ok["batch"] == ok["batch"].max()].rename(columns=SPEED).set_index("series")
    rows = rows.assign(
        **{c: rows["series"].map(own[c]) if c in own else float("nan") for c in SPEED.values()}
    )
    zero = ["gain_pct", "gain_pct_lo", "gain_pct_hi"]
    rows.loc[rows["series"] == base, zero] = 0.0
    return rows.assign(
        status=rows["status"].mask((rows["status"] == "ok") & rows["increase_pct"].isna(), "failed")
    )


def _points(ax: Axes, rows: pd.DataFrame, x: str, y: str, looks: lines.Looks) -> None:
    """A mark per format, with bars of x, and of y where it is an increase."""
    for name, own in rows.groupby("series", sort=False):
        colour, marker = looks[name]
        up = style.error_bars(own, y) if y == "increase_pct" else None
        at = own[x].to_numpy(float), own[y].to_numpy(float)
        ax.errorbar(
            *at,
            yerr=up,
            xerr=style.error_bars(own, x),
            fmt="none",
            ecolor=colour,
            elinewidth=0.8,
            capsize=1.5,
        )
        ax.plot(
            *at,
            linestyle="none",
            color=colour,
            marker=marker,
            label=name,
            gid="points",
            markersize=style.MARKER_SIZES.get(marker, style.RC["lines.markersize"]),
        )


def _limits(ax: Axes, rows: pd.DataFrame, ok: pd.DataFrame, marks: int) -> None:
    across = np.append(
        rows[["gain_pct", "gain_pct_lo", "gain_pct_hi"]].to_numpy(float).ravel(), 0.0
    )
    across = across[~np.isnan(across)]
    room = 0.06 * max(np.ptp(across), 1.0)
    style.value_axis([ax], across.min() - room, across.max() + room, axis="x")
    up = np.append(
        ok[["increase_pct", "increase_pct_lo", "increase_pct_hi"]].to_numpy(float).ravel(), 0.0
    )
    increase_scale([ax], np.nanmin(up), np.nanmax(up), marks)


def _formats_legend(looks: lines.Looks) -> tuple[list, list[str]]:
    handles, labels = lines.series_legend(
        Spec("quality", "quality", "model", "series", "batch"), looks
    )
    for handle in handles:
        handle.set_linestyle("none")
    return handles, labels


def _notes(gone: pd.DataFrame) -> tuple[list, list[str]]:
    """Formats without a point and what they lack, what bars are, and where it is good to be."""
    what = [style.MISSING.get(row.status, ("", "no throughput")) for row in gone.itertuples()]
    marks = [marker for marker, _ in what]
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=style.GREY) for marker in marks
    ]
    handles += [
        Line2D([], [], linestyle="none", marker="|", markersize=7, color=style.GREY),
        Line2D([], [], linestyle="none", marker="$\\searrow$", markersize=7, color="black"),
    ]
    labels = [f"{name}: {word}" for name, (_, word) in zip(gone["series"], what, strict=True)]
    return handles, [*labels, f"vertical {PARTS}", "better"]
