"""Section 7 on lines: training variants next to each other, and what skewed routing costs. Maps of
experts stand in expert_maps.

Each figure: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing. Bars of balance are 95 % intervals over sequences of the text."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from moebook.explore.views import View
from moebook.plot import layout, lines, markers, panels, style
from moebook.plot.figure import (
    Drawing,
    figure,
    layer_rows,
    one_per_place,
    plotted,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.plot.layout import two_panels
from moebook.plot.lines import Spec
from moebook.results.balance import EP_DEGREES
from moebook.results.gains import METRIC
from moebook.sections.load_balancing import choices, skew
from moebook.sections.load_balancing.expert_maps import domains, heatmaps, importance, real_batches

__all__ = ["domains", "heatmaps", "importance", "real_batches"]
CV_LABEL = "coefficient of variation of expert load (0 is even)"
SKEW_LABEL = "Zipf exponent of the routing (0: uniform)"
SKEW_TICKS = {"nbins": 5, "steps": [1, 2, 5, 10]}
NOTED = 0.1  # change of a batch of 1 from which its figure says why
UNIFORM_ROUTING = {"level": 1, "level_label": "uniform routing"}


@figure("over_training")
def over_training(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Coefficient of variation of expert load on one fixed batch, mean over layers, and training
    loss (nats per token) over steps; dashed, what a perfectly even router would show by chance on
    that batch.

    Own axes: two metrics over a doubling axis that starts at 0."""
    numbers = ["load_steps", "load_counts", "loss_curve"]
    rows = rows_of(summary, "over_training", "training", ("series", *numbers, "top_k"))
    ok = with_numbers(rows, "over_training", numbers)
    one_per_place(ok, "over_training", ("series",))
    loads = pd.concat([choices.load_course(row) for _, row in ok.iterrows()], ignore_index=True)
    losses = pd.concat([_loss(row) for _, row in ok.iterrows()], ignore_index=True)
    looks = markers.looks_of(values_of(rows, "series"))
    chance = {"level": loads["cv_by_chance"].max(), "level_label": "an even router, by chance"}
    place = {"panel": "series", "line": "series", "x": "step", "kind": "kind"}
    cv = Spec("over_training", None, **place, metric="cv", marker_scale=0.7, **chance)
    loss = Spec("over_training", None, **place, metric="loss")
    with style.paper_style(width):
        fig, axes = two_panels(width, sharex=True)
        for ax, rows, spec, kind in ((axes[0], loads, cv, "full"), (axes[1], losses, loss, "")):
            lines.draw_lines(ax, rows.assign(status="ok", kind=kind), spec, looks)
            _step_axis(ax, sorted(loads["step"].unique()))
        low, high = min(loads["cv"].min(), cv.level), max(loads["cv"].max(), cv.level)
        style.value_axis(axes[:1], low, high, log=0 < lines.LOG_OVER * low < high)
        low, high = losses["loss"].min(), losses["loss"].max()
        style.value_axis(axes[1:], low - 0.04 * (high - low), high)
        axes[0].set_ylabel(CV_LABEL.replace(" of expert", "\nof expert"))
        axes[1].set_ylabel("training loss (nats per token)")
        fig.supxlabel("training step (count)")
        notes = lines.notes_legend(ok, ok.head(0).assign(kind=""), cv)
        layout.settle(fig, lines.series_legend(cv, looks), notes)
        return fig, pd.concat([loads, losses], ignore_index=True)


def _loss(row: pd.Series) -> pd.DataFrame:
    curve = pd.DataFrame(choices.array(row["loss_curve"]), columns=["step", "loss"])
    return curve.assign(series=row["series"])


def _step_axis(ax: Axes, steps: list[int]) -> None:
    """Training records its loads at doubling steps, so the axis doubles, too, and is linear up to
    the first."""
    later = [step for step in steps if step > 0] or [1]
    ax.set_xscale("symlog", base=2, linthresh=later[0], linscale=0.5)
    ax.set_xlim(-0.2 * later[0], steps[-1] * 1.15)
    ax.xaxis.set_major_locator(FixedLocator(sorted({0, *later[::-2], later[0]})))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(style.short_number))


@figure("balance_and_quality")
def balance_and_quality(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Held-out perplexity against the coefficient of variation of expert load on the same text, a
    point per variant, a panel per text.

    Own axes: each panel has a perplexity scale of its own, and bars lie along x."""
    rows = choices.with_perplexity(summary, "balance_and_quality")
    texts, looks = list(dict.fromkeys(rows["text"])), markers.looks_of(values_of(rows, "series"))
    ends = rows.filter(regex="^balance_cv(_lo|_hi)?$")
    low, high = ends[ends > 0].min(axis=None), ends.max(axis=None)
    log = high > lines.LOG_OVER * low
    with style.paper_style(width):
        fig = Figure(figsize=panels.size(len(texts), width), layout="constrained")
        axes = panels.grid_of_axes(fig, len(texts), width, sharex=True)
        for ax, text in zip(axes, texts, strict=True):
            _quality_panel(ax, rows[rows["text"] == text], looks)
            ax.set_title(text)
        style.value_axis(axes, low, high, axis="x", log=log)
        for ax in axes if width == "column" and log else ():
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        fig.supxlabel(CV_LABEL)
        fig.supylabel("held-out perplexity (lower is better)")
        handles = [Line2D([], [], color=c, marker=m, linestyle="none") for c, m in looks.values()]
        layout.settle(fig, (handles, list(looks)))
        return fig, plotted(rows, ["balance_cv", "text_perplexity"], ["series", "text"])


def _quality_panel(ax: Axes, rows: pd.DataFrame, looks: markers.Looks) -> None:
    for name, (colour, marker) in looks.items():
        own = rows[rows["series"] == name]
        bars = {"xerr": style.error_bars(own, "balance_cv"), "elinewidth": 0.8, "capsize": 1.5}
        look = {"color": colour, "marker": marker, "linestyle": "none", "label": name}
        if len(own):
            drawn = ax.errorbar(own["balance_cv"], own["text_perplexity"], **bars, **look)
            drawn[0].set_gid("points")
    ax.margins(y=0.15)
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.tick_params(labelleft=True)


@figure("ep_balance")
def ep_balance(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Load of the fullest expert-parallel rank over the mean (×), over the number of ranks: a line
    per variant, a panel per text. A layer that computes takes as many times as long as on even
    ranks."""
    columns = {degree: f"balance_ep{degree}_max_over_mean" for degree in EP_DEGREES}
    needed = ("series", "model", "text", *columns.values())
    rows = choices.with_variant(rows_of(summary, "ep_balance", "balance", needed))
    with_numbers(rows, "ep_balance", [columns[2]])
    one_per_place(rows, "ep_balance", ("variant", "text"))
    even = pd.Series(1.0, rows.index).where(rows["status"] == "ok")
    rows = rows.assign(kind="full", panel=rows["text"], **{f"even{end}": even for end in skew.ENDS})
    kept = ["model", "series", "variant", "text", "panel", "kind", "status", "reason"]
    parts = [
        own[kept].assign(degree=d, **{f"ep{end}": own[f"{name}{end}"] for end in skew.ENDS})
        for _, own in rows.groupby("text", sort=False)
        for d, name in ({1: "even"} | columns).items()
    ]
    found = pd.concat(parts, ignore_index=True).astype({f"ep{end}": float for end in skew.ENDS})
    found = found[(found["status"] != "ok") | found["ep"].notna()]  # degrees that divide E
    axes = {"panel": "panel", "line": "variant", "x": "degree", "metric": "ep", "kind": "kind"}
    words = {"x_label": "expert-parallel ranks (count)", "y_label": "fullest rank over mean (×)"}
    level = {"level": 1, "level_label": "even ranks"}
    spec = Spec("ep_balance", None, **axes, **words, **level, log_y=False)
    looks = markers.looks_of(list(dict.fromkeys(rows["variant"])))
    fig, _ = lines.lines(found, spec, width=width, looks=looks)
    return fig, plotted(found, ["ep"], ["series", "text", "degree"])


@figure("skew_layer")
def skew_layer(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Time of one layer under skew over the same under uniform routing (×), a line per tokens, a
    panel per model; dashed, what the distinct experts read and the device's rates predict."""
    rows = skew.layer_ratios(summary, "skew_layer")
    axes = {"panel": "model", "line": "tokens", "x": "skew", "metric": "ratio"}
    scales = {"log_x": False, "log_y": False, "marker_scale": 0.7}
    words = {"x_label": SKEW_LABEL, "y_label": "time of one layer (× uniform)"}
    dashed = {"dashed": "predicted_ratio", "dashed_label": "predicted by experts read"}
    looks = {**scales, **words, **dashed, **UNIFORM_ROUTING}
    spec = Spec("skew_layer", None, **axes, **looks, kind="layer_timing")
    fig, _ = lines.lines(rows, spec, width=width)
    more = ("series", "skew", "tokens", "predicted_ratio", "experts_hit")
    return fig, plotted(rows, ["ratio"], [*more, "layer_time_us", "layer_timing"])


@figure("skew_engine")
def skew_engine(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput of whole engines (tokens/s) over skew, and the same over that under uniform
    routing (×), a line per batch.

    Own axes: two metrics of one sweep."""
    rows = skew.engine_ratios(summary, "skew_engine")
    ok = rows[(rows["status"] == "ok") & rows[METRIC].notna()]
    looks = markers.looks_of(values_of(rows, "batch"))
    spec = Spec("skew_engine", None, "model", "batch", "skew", log_x=False)
    over = Spec("skew_engine", None, "model", "batch", "skew", "over_uniform", **UNIFORM_ROUTING)
    with style.paper_style(width):
        fig, axes = two_panels(width, sharex=True)
        for ax, own, label in zip(axes, (spec, over), ("tokens/s", "× uniform"), strict=True):
            lines.draw_lines(ax, rows, own, looks)
            drawn = ok[ok[own.metric].notna()]
            if len(drawn):
                low, high = drawn[own.metric].min(), drawn[own.metric].max()
                log = own is spec and high > lines.LOG_OVER * low
                lines.y_scale([ax], rows, drawn, own, log, None)
            ax.set_ylabel(f"throughput ({label})")
            ax.xaxis.set_major_locator(MaxNLocator(**SKEW_TICKS))
        for ax in axes[: 2 if width == "page" else 1]:
            ax.set_title(", ".join(dict.fromkeys(rows["model"])))
        fig.supxlabel(SKEW_LABEL)
        legends = lines.series_legend(over, looks), lines.notes_legend(rows, ok, over)
        layout.settle(fig, *legends, handler_map=markers.HANDLERS)
        _mark_widest(axes[1], ok)
        return fig, plotted(rows, [METRIC, "over_uniform"], ["series", "skew"])


def _mark_widest(ax: Axes, rows: pd.DataFrame) -> None:
    """A sequence alone reads its K experts at any skew: said at the point of batch 1 that lies
    farthest off."""
    alone = rows[(rows["batch"] == 1) & rows["over_uniform"].notna()]
    far = (alone["over_uniform"] - 1).abs()
    if alone.empty or far.max() < NOTED:
        return
    point = alone.loc[far.idxmax()]
    text = f"{100 * (point['over_uniform'] - 1):+.0f} %, though any skew\nreads K experts here"
    layout.name_points(ax, [point[["skew", "over_uniform"]]], [text])


OPEN = {"markerfacecolor": "white"}  # what was predicted


@figure("skew_ep")
def skew_ep(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """PREDICTED time of the fullest expert-parallel rank over the same under uniform routing (×),
    experts placed at random, a line per number of ranks, and what one device measured. Left a call
    that reads, right one that computes.

    Own axes: predictions are dashed lines with open marks."""
    found = skew.ep_times(summary, "skew_ep")
    ranks = [*(d for d in values_of(found, "ranks") if d > 1), 1]
    looks = {
        d: {"color": colour, "marker": marker, "linestyle": "-"}
        if d == 1
        else {"color": colour, "marker": marker, "linestyle": markers.DASHES, **OPEN}
        for d, (colour, marker) in markers.looks_of(ranks).items()
    }
    with style.paper_style(width):
        fig, axes = two_panels(width, sharex=True, sharey=True)
        for ax, (panel, own) in zip(axes, found.groupby("panel", sort=False), strict=True):
            ax.axhline(1, color=style.GREY, linewidth=0.6, zorder=1.4, gid="level")
            for d, look in looks.items():
                at, gid = own[own["ranks"] == d], "predicted" if d > 1 else "measured"
                bars = {"yerr": style.error_bars(at, skew.TIMES), "elinewidth": 0.8}
                ax.errorbar(at["skew"], at[skew.TIMES], gid=gid, **bars, **look)
            ax.set_title(f"{found['model'].iloc[0]}, {panel}")
            ax.xaxis.set_major_locator(MaxNLocator(**SKEW_TICKS))
        low, high = min(found[skew.TIMES].min(), 1.0), max(found[skew.TIMES].max(), 1.0)
        style.value_axis(axes, max(0.0, low - 0.08 * (high - low)), high)
        fig.supxlabel(SKEW_LABEL)
        fig.supylabel("time of a layer (× uniform)")
        handles = [Line2D([], [], **look) for look in looks.values()]
        names = [f"{d} ranks, PREDICTED" if d > 1 else "one device, measured" for d in looks]
        layout.settle(fig, (handles, names))
        return fig, found


STEP = "experts_per_step"
BALANCE = "balance_max_over_mean"
EVEN = {"log_x": False, "over": ("skew", 0.0)}
LAYER_VIEW = {"metric": "layer_time_us", "table": layer_rows}
VIEWS = (
    View("balance", "balance", "series", "text", metric=BALANCE),
    View(
        "balance of expert-parallel ranks",
        "balance",
        "series",
        "text",
        metric="balance_ep8_max_over_mean",
    ),
    View("training", "training", "series", metric="perplexity"),
    View("experts of real batches", "real_batches", "batch", "series", "model", metric=STEP),
    View("importance of experts", "importance", "series", metric=BALANCE),
    View(
        "skewed routing, one layer", "skew_layer", "skew", "tokens", "model", **LAYER_VIEW, **EVEN
    ),
    View("skewed routing, engine", "skew_engine", "skew", "batch", "model", **EVEN),
)
