"""Heat maps of expert choices (Fig 15), and what removing an expert costs against how often it is
chosen.

In heat maps the experts of a layer are sorted, most chosen first: an expert's number means nothing,
and sorted rows can be compared by eye. Colour is the share of choices over the uniform share 1/E,
by powers of two.

Of real batches the experts of a decode step: how many are hit, between the two ends that routing
can be set to: every token takes the same K experts (0), or experts are drawn evenly (1). A step
reads the experts that some sequence of its batch chose, so this place says which of the two a
throughput under imposed routing stands nearer to."""

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from moebook.models.costs import distinct_experts
from moebook.plot import layout, lines, markers, panels, style
from moebook.plot.figure import Drawing, figure, one_per_place, rows_of, with_numbers
from moebook.plot.lines import Spec
from moebook.sections.load_balancing import choices

COLOUR_MAP = "cividis"  # from dark to light, so that little and much differ in grey, too
DOUBLINGS = (1, 3)  # least and most to either side of the uniform share: colours end at 8 times
SHARE_LABEL = "share of choices over the uniform share (×)"
LAYER_LABEL = "MoE layer (number)"
HEAVY_TAIL = 40.0  # largest over median increase from which the y axis is symmetric-logarithmic
REAL_BATCHES, STEP_EXPERTS = "real_batches", "step_experts"
STEPS = 8  # decode steps of one point of the figure


@figure("fig15_heatmaps")
def heatmaps(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 15: layers x experts, share of choices over uniform (×), all texts together, a panel per
    variant.

    Own axes: heat maps. ValueError where the sweep `balance` is missing."""
    rows, ok = _counted(summary, "heatmaps")
    cells, names = choices.shares(ok), list(dict.fromkeys(rows["variant"]))
    norm, maps = _norm(cells), dict(list(cells.groupby("variant", sort=False)))
    with style.paper_style(width):
        fig = _map_figure(cells, panels.shape_of(len(names), width)[0], 1.6, width)
        axes = panels.grid_of_axes(fig, len(names), width)
        for ax, name in zip(axes, names, strict=True):
            if name in maps:
                _draw_map(ax, maps[name], norm)
                ax.set_title(f"{name}\nmost chosen {maps[name]['over_uniform'].max():.1f} ×")
                continue
            status = rows.loc[rows["variant"] == name, "status"].iloc[0]
            why = style.MISSING.get(status, ("", "failed"))[1]
            ax.set(title=f"{name}\n–", xticks=[], yticks=[])
            ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", color=style.GREY)
        return _finish_maps(fig, axes, norm, width), cells


@figure("fig15_domains")
def domains(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Layers x experts per text: a row per variant, a column per text, the order of experts that of
    all texts together. Of more than three trained variants: the most even, the middle one and the
    least even; checkpoints of one's own always.

    Own axes: heat maps. ValueError where the sweep `balance` is missing."""
    cells = _three_variants(choices.shares(_counted(summary, "domains")[1], by_text=True))
    norm, titles = _norm(cells), []
    texts = cells.groupby("variant", sort=False)["text"].unique()
    with style.paper_style(width):
        fig = _map_figure(cells, len(texts), 0.55, width)
        grid = fig.subplots(len(texts), texts.map(len).max(), squeeze=False)
        for axes, (name, own) in zip(grid, cells.groupby("variant", sort=False), strict=True):
            for ax, text in zip(axes, texts[name], strict=False):
                _draw_map(ax, own[own["text"] == text], norm)
                ax.set_title("" if list(texts[name]) == titles else text)
                ax.label_outer()
            for ax in axes[len(texts[name]) :]:
                ax.remove()
            axes[0].set_ylabel(name if width == "page" else name.replace("-", "-\n", 1))
            titles = list(texts[name])
        return _finish_maps(fig, fig.axes, norm, width), cells


def _three_variants(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells without those of variants between the most even, the middle and the least even."""
    family = cells[cells["variant"] != cells["model"]]  # a checkpoint is named by its model
    spread = family.groupby("variant", sort=False)["over_uniform"].std().sort_values()
    places = [i for i in range(len(spread)) if i not in (0, len(spread) // 2, len(spread) - 1)]
    return cells[~cells["variant"].isin(spread.index[places])]


def _counted(summary: pd.DataFrame, figure: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the sweep `balance` with their variant, and those that have counts."""
    rows = rows_of(summary, figure, "balance", ("series", "model", "text", "expert_counts"))
    rows = choices.with_variant(rows)
    ok = with_numbers(rows, figure, ["expert_counts"])
    one_per_place(ok, figure, ("series", "model", "text"))
    return rows, ok


def _norm(cells: pd.DataFrame) -> CenteredNorm:
    """Doublings over uniform, equally far to both sides: as far as the data goes, within
    DOUBLINGS."""
    most = np.log2(cells["over_uniform"].max())
    return CenteredNorm(halfrange=float(np.clip(np.ceil(most - 0.05), *DOUBLINGS)))


def _map_figure(cells: pd.DataFrame, deep: int, most_in: float, width: str) -> Figure:
    """A figure of `deep` rows of maps, each as high as its layers ask (at most `most_in`)."""
    tall = np.clip(0.09 * cells["layer"].max(), 0.5, most_in) + 0.4
    size = style.width_in(width), deep * tall + (0.45 if width == "page" else 0.95)
    return Figure(figsize=size, layout="constrained")


def _draw_map(ax: Axes, cells: pd.DataFrame, norm: CenteredNorm) -> None:
    """One map of doublings over uniform; a colour below the bar's for experts never chosen."""
    grid = cells.pivot(index="layer", columns="rank", values="over_uniform")
    every = {"xticklabels": max(grid.shape[1] // 4, 1), "yticklabels": max(len(grid) // 3, 1)}
    doublings = np.log2(grid.clip(lower=2.0 ** (norm.vmin - 1)))
    look = {"norm": norm, "cmap": COLOUR_MAP, "cbar": False, "rasterized": True}
    seaborn.heatmap(doublings, ax=ax, **look, **every)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(rotation=0)


def _finish_maps(fig: Figure, axes: list[Axes], norm: CenteredNorm, width: str) -> Figure:
    shown = FuncFormatter(lambda t, _: f"{2**t:g}" if t >= 0 else f"1/{2**-t:g}")
    ticks = {"ticks": MultipleLocator(1), "format": shown, "extend": "both"}
    label = SHARE_LABEL.replace(" over ", "\nover ") if width == "page" else SHARE_LABEL
    _colour_bar(fig, axes, ScalarMappable(norm, COLOUR_MAP), label, width, **ticks)
    fig.supxlabel("experts of a layer, most chosen first (rank)")
    fig.supylabel(LAYER_LABEL)
    return layout.settle(fig)


def _colour_bar(
    fig: Figure, axes: list[Axes], map_: ScalarMappable, label: str, width: str, **given
) -> None:
    """Right of the panels on a page, above them in a column."""
    where, aspect = ("right", 25) if width == "page" else ("top", 35)
    given |= {"location": where, "aspect": aspect, "shrink": 0.9, "pad": 0.02, "label": label}
    fig.colorbar(map_, ax=axes, **given)


@figure("importance")
def importance(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Perplexity increase without an expert (%) over how often it is chosen (× uniform), a panel
    per variant with Spearman's rho within layers and its 95 % interval, coloured by layer.

    Own axes: a cloud of experts. ValueError where the sweep `importance` is missing."""
    columns = ["perplexity", "ablation_perplexity", "expert_counts"]
    rows = rows_of(summary, "importance", "importance", ("series", *columns))
    ok = with_numbers(rows, "importance", columns)
    one_per_place(ok, "importance", ("series",))
    points = pd.concat([choices.removed(row) for _, row in ok.iterrows()], ignore_index=True)
    map_ = ScalarMappable(Normalize(1, max(points["layer"].max(), 2)), "viridis")
    on_page = width == "page"
    with style.paper_style(width):
        inches, tall = panels.size(len(ok), width)
        more = (0.2 if on_page else 0.4) * panels.shape_of(len(ok), width)[0] + 0.3
        fig = Figure(figsize=(inches, tall + more), layout="constrained")
        axes = panels.grid_of_axes(fig, len(ok), width, sharey=True)
        for ax, (_, row) in zip(axes, ok.iterrows(), strict=True):
            found = choices.importance(row)
            _draw_cloud(ax, points[points["series"] == row["series"]], map_)
            interval = f"[{found.lo:+.2f}, {found.hi:+.2f}]"
            rho = f"ρ = {found.value:+.2f}{' ' if on_page else chr(10)}{interval}"
            ax.set_title(f"{row['series']}\n{rho}")
        _increase_scale(axes, points["increase_pct"])
        _colour_bar(fig, axes, map_, LAYER_LABEL, width, ticks=MaxNLocator(4, integer=True))
        fig.supxlabel(SHARE_LABEL)
        fig.supylabel("perplexity without the expert (increase in %)")
        return layout.settle(fig), points


def _draw_cloud(ax: Axes, points: pd.DataFrame, map_: ScalarMappable) -> None:
    """The experts of one variant, coloured by layer."""
    over, colours = points["over_uniform"], map_.to_rgba(points["layer"])
    ax.scatter(over, points["increase_pct"], c=colours, s=7, linewidths=0, alpha=0.8, gid="experts")
    dashed = {"color": "black", "linewidth": 0.8, "linestyle": markers.DASHES, "zorder": 1.5}
    ax.axvline(1, gid="uniform", **dashed)
    ax.axhline(0, color=style.GREY, linewidth=0.6, zorder=1.4)
    low, high = over.min(), max(over.max(), 1.0)
    style.value_axis([ax], low - 0.07 * (high - low), high, axis="x")
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.tick_params(labelbottom=True)


def _increase_scale(axes: list[Axes], values: pd.Series) -> None:
    """Symmetric-logarithmic where a few experts matter far more than the middle one."""
    middle, low, high = float(values.abs().median()), min(0.0, values.min()), max(0.0, values.max())
    if not 0 < HEAVY_TAIL * middle < values.max():
        style.value_axis(axes, low - 0.07 * (high - low), high)
        return
    for ax in axes:
        ax.set_yscale("symlog", linthresh=10 ** np.ceil(np.log10(middle)))
        ax.set_ylim(1.2 * low, 1.5 * high)
        ax.yaxis.set_major_formatter(FuncFormatter(style.short_number))


def places_of_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per point, repeat (other prompts) and decode step: its distinct `experts` of a layer,
    and `place`, 0 where all sequences share their K experts and 1 where experts are drawn evenly.
    Batches of one, whose ends are equal, have none."""
    parts = []
    for _, row in rows[rows["batch"] > 1].iterrows():
        courses, top_k = choices.array(row[STEP_EXPERTS]), row["top_k"]
        even = distinct_experts(row["num_experts"], top_k, row["batch"])
        repeat, step = np.indices(courses.shape)
        found = pd.DataFrame({"repeat": repeat.ravel(), "step": 1 + step.ravel()})
        found = found.assign(experts=courses.ravel(), even=even)
        found["place"] = (found["experts"] - top_k) / (even - top_k)
        parts.append(found.assign(**row[["model", "series", "batch", "top_k", "status"]]))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


@figure("real_batches")
def real_batches(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Distinct experts of a decode step, from those of one sequence (0) to those of evenly drawn
    choices (1), over the step: mean over 8 steps and the prompts of all repeats; a line per kind of
    prompt, a panel per model and batch. Continued greedily."""
    needed = ("model", "series", "batch", "top_k", "num_experts", STEP_EXPERTS)
    rows = with_numbers(
        rows_of(summary, REAL_BATCHES, REAL_BATCHES, needed), REAL_BATCHES, [STEP_EXPERTS]
    )
    one_per_place(rows, REAL_BATCHES, ("model", "series", "batch"))
    found = places_of_steps(rows)
    found["step"] = STEPS * ((found["step"] - 1) // STEPS) + (STEPS + 1) / 2
    at = ["model", "batch", "series", "status", "step"]
    found = found.groupby(at, sort=False)[["place", "experts", "even"]].mean().reset_index()
    found["panel"] = found["model"] + ", batch " + found["batch"].astype(str)
    ends = {"level": 1.0, "level_label": "experts drawn evenly", "kind": "kind"}
    axes = {"panel": "panel", "line": "series", "x": "step", "metric": "place"}
    words = {
        "x_label": "decode step (count)",
        "y_label": "experts of a step\n(0: the same for all)",
    }
    scales = {"log_x": False, "log_y": False, "marker_scale": 0.7}
    spec = Spec(REAL_BATCHES, None, **axes, **words, **ends, **scales)
    fig, _ = lines.lines(found.assign(kind="full"), spec, width=width)
    return fig, found
