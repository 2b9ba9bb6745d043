"""What skewed routing costs: measured on one device, where it saves reading, and predicted on
ranks, which must wait.

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from moebook.plot import layout, lines, style
from moebook.plot.curves import Words, curves
from moebook.plot.figure import figure
from moebook.plot.lines import Spec
from moebook.plot.rows import one_per_place, plotted, reading, rows_of, values_of, with_numbers
from moebook.results.balance import EP_DEGREES
from moebook.results.gains import ratios
from moebook.sections.load_balancing.cost import ep_slowdown, predicted_layer_ratio, rates_of

UNIFORM = "zipf 0"
SKEW_LABEL = "Zipf exponent of the routing (0: uniform)"
LAYER_TIME = "layer_time_s"
READING_UP_TO = (
    64  # tokens of the call that stands for reading: the most measured that are no more than this
)
REGIMES = ("reading", "computing")
TIMES = "time_over_uniform"


@figure("skew_layer")
def skew_layer(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Time of one layer under skew over the same under uniform routing, a line per tokens, a panel
    per model; dashed, what the distinct experts read and the device's rates predict."""
    rows = layer_ratios(summary, "skew_layer")
    spec = Spec(
        "skew_layer",
        None,
        panel="model",
        line="tokens",
        x="skew",
        metric="ratio",
        log_x=False,
        log_y=False,
        level=1,
        level_label="uniform routing",
        kind="layer_timing",
        marker_scale=0.7,
    )
    words = Words(
        SKEW_LABEL, "time of one layer (× uniform)", "predicted_ratio", "predicted by experts read"
    )
    fig = curves(rows, spec, words, width=width)
    more = [
        "series",
        "skew",
        "tokens",
        "predicted_ratio",
        "experts_hit",
        "layer_time_us",
        "layer_timing",
    ]
    return fig, plotted(rows, ["ratio"], more)


def layer_ratios(summary: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Rows of the sweep skew_layer with `tokens`, `ratio` (and _lo, _hi) over uniform routing at
    the same model and tokens, and `predicted_ratio`."""
    rows = rows_of(
        summary,
        figure,
        "skew_layer",
        ("series", "skew", "model", "batch", "layer_timing", LAYER_TIME),
    )
    ok = with_numbers(rows, figure, [LAYER_TIME])
    one_per_place(rows, figure, ("model", "batch", "skew"))
    base = rows[rows["series"] == UNIFORM]
    ones = base.assign(
        **dict.fromkeys(
            ("ratio", "ratio_lo", "ratio_hi"), np.where(base[LAYER_TIME].notna(), 1.0, np.nan)
        )
    )
    found = pd.concat([ones, ratios(rows, "skew_layer", UNIFORM, LAYER_TIME)], ignore_index=True)
    with_numbers(found, figure, ["ratio"])
    rates = rates_of(ok)
    known = found["status"] == "ok"
    predicted = [
        predicted_layer_ratio(row, row["skew"], rates) if good else np.nan
        for row, good in zip(found.to_dict("records"), known, strict=True)
    ]
    return found.assign(
        tokens=found["batch"], predicted_ratio=predicted, layer_time_us=found[LAYER_TIME] * 1e6
    )


@figure("skew_engine")
def skew_engine(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Throughput of whole engines over skew, and the same over that under uniform routing, a line
    per batch."""
    metric = "throughput_tok_s"
    rows = rows_of(
        summary,
        "skew_engine",
        "skew_engine",
        ("series", "skew", "model", "method", "batch", metric),
    )
    ok = with_numbers(rows, "skew_engine", [metric])
    one_per_place(rows, "skew_engine", ("model", "batch", "skew"))
    base = ok[ok["series"] == UNIFORM].set_index("batch")[metric]
    ends = [c for c in (metric, f"{metric}_lo", f"{metric}_hi") if c in rows]
    rows = rows.assign(
        **{c.replace(metric, "over_uniform"): rows[c] / rows["batch"].map(base) for c in ends}
    )
    looks = lines.looks_of(values_of(rows, "batch"))
    with style.paper_style(width) as inches:
        shape, tall = ((1, 2), 2.3) if width == "page" else ((2, 1), 3.6)
        fig = Figure(figsize=(inches, tall), layout="constrained")
        axes = list(fig.subplots(*shape, sharex=True).flat)
        labels = ("throughput (tokens/s)", "throughput (× uniform)")
        for ax, column, label in zip(axes, (metric, "over_uniform"), labels, strict=True):
            spec = Spec(
                "skew_engine",
                None,
                panel="model",
                line="batch",
                x="skew",
                metric=column,
                log_x=False,
                level=1 if column == "over_uniform" else None,
                level_label="uniform routing",
            )
            lines.draw_lines(ax, rows, spec, looks)
            _engine_scale(ax, rows, ok, spec)
            ax.set_ylabel(label)
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        fig.supxlabel(SKEW_LABEL)
        for ax in axes[: 2 if width == "page" else 1]:
            ax.set_title(", ".join(dict.fromkeys(rows["model"])))
        layout.settle(
            fig,
            lines.series_legend(spec, looks),
            lines.notes_legend(rows, ok, spec),
            handler_map=lines.HANDLERS,
        )
        return fig, plotted(rows, [metric, "over_uniform"], ["series", "skew"])


def _engine_scale(ax, rows: pd.DataFrame, ok: pd.DataFrame, spec: Spec) -> None:
    known = rows[rows.index.isin(ok.index) & rows[spec.metric].notna()]
    if known.empty:
        return
    log = (
        spec.level is None and known[spec.metric].max() > lines.LOG_OVER * known[spec.metric].min()
    )
    lines.y_scale([ax], rows, known, spec, log, None)


@figure("skew_ep")
def skew_ep(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """PREDICTED time of the fullest expert-parallel rank over the same under uniform routing,
    experts placed at random, a line per number of ranks; beside it what one device measured. Left a
    call that reads, right one that computes."""
    found = ep_times(summary, "skew_ep")
    looks = lines.looks_of([*(d for d in values_of(found, "ranks") if d > 1), 1])
    with style.paper_style(width) as inches:
        shape, tall = ((1, 2), 2.3) if width == "page" else ((2, 1), 3.6)
        fig = Figure(figsize=(inches, tall), layout="constrained")
        axes = list(fig.subplots(*shape, sharex=True, sharey=True).flat)
        for ax, panel in zip(axes, found["panel"].unique(), strict=True):
            _ep_panel(ax, found[found["panel"] == panel], looks)
            ax.set_title(f"{found['model'].iloc[0]}, {panel}")
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        low, high = min(found[TIMES].min(), 1.0), max(found[TIMES].max(), 1.0)
        style.value_axis(axes, max(0.0, low - 0.08 * (high - low)), high)
        fig.supxlabel(SKEW_LABEL)
        fig.supylabel("time of a layer (× uniform)")
        handles = [
            Line2D(
                [],
                [],
                color=c,
                marker=m if d == 1 else "none",
                linestyle="-" if d == 1 else lines.DASHES,
            )
            for d, (c, m) in looks.items()
        ]
        words = [f"{d} ranks, PREDICTED" if d > 1 else "one device, measured" for d in looks]
        layout.settle(fig, (handles, words))
        return fig, found


def ep_times(summary: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Time of a layer over that under uniform routing, a row per regime, skew and number of ranks:
    of one device as measured, of more PREDICTED. The first measured model of the sweep
    skew_layer."""
    rows = layer_ratios(summary, figure)
    own = rows[rows["model"] == next(iter(rows.loc[rows["ratio"].notna(), "model"]))]
    return pd.concat(
        [_regime(own, name, tokens) for name, tokens in zip(REGIMES, _tokens_of(own), strict=True)],
        ignore_index=True,
    )


def _tokens_of(rows: pd.DataFrame) -> tuple[int, int]:
    """Tokens of the call that reads, and of the one that computes, among those measured."""
    tokens = sorted(rows.loc[rows["ratio"].notna(), "tokens"].unique())
    return max([t for t in tokens if t <= READING_UP_TO] or tokens[:1]), tokens[-1]


def _regime(rows: pd.DataFrame, name: str, tokens: int) -> pd.DataFrame:
    """Rows of one call: of one rank as measured with its range, of more by the fullest."""
    at = rows[rows["tokens"] == tokens].sort_values("skew")
    panel = f"{name} ({reading('tokens', int(tokens))})"
    out = [
        {
            "panel": panel,
            "model": r.model,
            "tokens": tokens,
            "skew": r.skew,
            "ranks": 1,
            "how": "measured",
            TIMES: r.ratio,
            f"{TIMES}_lo": r.ratio_lo,
            f"{TIMES}_hi": r.ratio_hi,
        }
        for r in at.itertuples()
        if pd.notna(r.ratio)
    ]
    experts, k = int(at["num_experts"].iloc[0]), int(at["top_k"].iloc[0])
    for degree in (d for d in EP_DEGREES if experts % d == 0 and experts > d):
        out += [
            {
                "panel": panel,
                "model": at["model"].iloc[0],
                "tokens": tokens,
                "skew": skew,
                "ranks": degree,
                "how": "PREDICTED",
                TIMES: ep_slowdown(
                    experts, k, skew, degree, tokens if name == REGIMES[0] else None
                ),
            }
            for skew in values_of(at, "skew")
        ]
    return pd.DataFrame(out)


def _ep_panel(ax, rows: pd.DataFrame, looks: lines.Looks) -> None:
    ax.axhline(1, color=style.GREY, linewidth=0.6, zorder=1.4, gid="level")
    for ranks, (colour, marker) in looks.items():
        own = rows[rows["ranks"] == ranks]
        if ranks > 1:
            ax.plot(
                own["skew"],
                own[TIMES],
                color=colour,
                linestyle=lines.DASHES,
                marker="none",
                gid="predicted",
            )
            continue
        ax.errorbar(
            own["skew"],
            own[TIMES],
            yerr=style.error_bars(own, TIMES),
            color=colour,
            marker=marker,
            elinewidth=0.8,
            capsize=1.5,
            gid="measured",
        )
