"""Section 7 as pictures: heat maps of expert choices (Fig 15), and what removing an expert costs
against how often it is chosen. Lines over variants stand in load_variants, those over imposed skew
in skew; all are listed here.

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing.

In heat maps the experts of a layer are sorted, most chosen first: an expert's number means nothing,
and sorted rows can be compared by eye. Colour is the share of choices over the uniform share 1/E,
by powers of two; white is 1."""

import json

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from moebook.explore.views import View
from moebook.plot import layout, lines, style
from moebook.plot.figure import figure
from moebook.plot.rows import layer_rows, one_per_place, rows_of, with_numbers
from moebook.sections.load_balancing.effects import importance as rank_of
from moebook.sections.load_balancing.effects import increase_pct
from moebook.sections.load_balancing.skew_figures import skew_engine, skew_ep, skew_layer
from moebook.sections.load_balancing.variant_figures import (
    balance_and_quality,
    ep_balance,
    over_training,
)

__all__ = [
    "balance_and_quality",
    "domains",
    "ep_balance",
    "heatmaps",
    "importance",
    "over_training",
    "skew_engine",
    "skew_ep",
    "skew_layer",
]
SWEEP = "balance"
TRAINED = "trained"  # series of checkpoints that are not of the tiny family: told apart by model
COLOUR_MAP = "cividis"  # from dark to light, so that little and much differ in grey, too
MOST_DOUBLINGS = 3  # colours end at 1/8 and 8 times the uniform share
LEAST_DOUBLINGS = 1
SHARE_LABEL = "share of choices over the uniform share (×)"
EXPERTS_LABEL = "experts of a layer, most chosen first (rank)"
LAYER_LABEL = "MoE layer (number)"
HEAVY_TAIL = 40.0  # largest over median increase from which the y axis is symmetric-logarithmic


@figure("fig15_heatmaps")
def heatmaps(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 15: layers x experts, share of choices over uniform, all texts together, a panel per
    variant."""
    rows, ok = _counted(summary, "heatmaps")
    maps = {name: _cells(own, [name]) for name, own in _named(ok).groupby("variant", sort=False)}
    names = list(dict.fromkeys(_named(rows)["variant"]))
    norm = _norm(maps.values())
    deep = lines.shape_of(len(names), width)[0]
    with style.paper_style(width) as inches:
        fig = Figure(
            figsize=(inches, deep * _map_height(maps) + 0.45 + 0.5 * (width != "page")),
            layout="constrained",
        )
        axes = lines.grid_of_axes(fig, len(names), width)
        for ax, name in zip(axes, names, strict=True):
            if name in maps:
                _draw_map(ax, maps[name], norm)
                ax.set_title(f"{name}\nmost chosen {maps[name]['over_uniform'].max():.1f} ×")
            else:
                _no_map(ax, _named(rows), name)
        return _finish(fig, axes, norm, width), pd.concat(maps.values(), ignore_index=True)


@figure("fig15_domains")
def domains(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Layers x experts per text: a row per variant, a column per text, the order of experts that of
    all texts together."""
    _, ok = _counted(summary, "domains")
    groups = {name: own for name, own in _named(ok).groupby("variant", sort=False)}
    columns = max(own["text"].nunique() for own in groups.values())
    maps = {
        name: [
            _cells(own[own["text"] == text], [name, text], _order(own))
            for text in own["text"].unique()
        ]
        for name, own in groups.items()
    }
    norm = _norm([cells for found in maps.values() for cells in found])
    tall = min(_map_height({i: m for i, found in enumerate(maps.values()) for m in found}), 0.95)
    with style.paper_style(width) as inches:
        fig = Figure(
            figsize=(inches, len(maps) * tall + 0.45 + 0.5 * (width != "page")),
            layout="constrained",
        )
        axes = fig.subplots(len(maps), columns, squeeze=False)
        titles: tuple = ()
        for i_line, (line, (name, found)) in enumerate(zip(axes, maps.items(), strict=True)):
            texts = tuple(cells["text"].iloc[0] for cells in found)
            for i, ax in enumerate(line):
                if i >= len(found):
                    ax.remove()
                    continue
                _draw_map(ax, found[i], norm)
                ax.set_title(texts[i] if texts != titles else "")
                ax.tick_params(labelleft=i == 0, labelbottom=i_line == len(axes) - 1)
            line[0].set_ylabel(name.replace("-", "-\n", 1) if width != "page" else name)
            titles = texts
        kept = [ax for ax in axes.flat if ax.figure is not None]
        fig = _finish(fig, kept, norm, width, y_label=None)
        return fig, pd.concat([m for found in maps.values() for m in found], ignore_index=True)


def _counted(summary: pd.DataFrame, figure: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = rows_of(summary, figure, SWEEP, ("series", "model", "text", "expert_counts"))
    ok = with_numbers(rows, figure, ["expert_counts"])
    one_per_place(ok, figure, ("series", "model", "text"))
    return rows, ok


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with `variant`: the training variant, or the name of a checkpoint of its own."""
    return rows.assign(variant=rows["series"].where(rows["series"] != TRAINED, rows["model"]))


def _counts(rows: pd.DataFrame) -> np.ndarray:
    """(L, E) choices of all rows together."""
    return np.sum([np.array(json.loads(text), float) for text in rows["expert_counts"]], axis=0)


def _order(rows: pd.DataFrame) -> np.ndarray:
    """(L, E) experts of each layer, most chosen first."""
    return np.argsort(-_counts(rows), axis=1, kind="stable")


def _cells(rows: pd.DataFrame, names: list[str], order: np.ndarray | None = None) -> pd.DataFrame:
    """A row per layer and expert: rank in `order`, choices, share over the uniform one."""
    counts = _counts(rows)
    order = _order(rows) if order is None else order
    over = counts * counts.shape[1] / np.maximum(counts.sum(1, keepdims=True), 1)
    layer, rank = np.indices(counts.shape)
    return pd.DataFrame(
        {
            "model": rows["model"].iloc[0],
            "variant": names[0],
            "text": names[1] if len(names) > 1 else "all",
            "layer": layer.ravel() + 1,
            "rank": rank.ravel() + 1,
            "expert": order.ravel(),
            "choices": np.take_along_axis(counts, order, 1).ravel(),
            "over_uniform": np.take_along_axis(over, order, 1).ravel(),
        }
    )


def _norm(maps) -> TwoSlopeNorm:
    """Doublings over uniform, equally far to both sides: as far as the data goes, at most
    MOST_DOUBLINGS."""
    most = max(cells["over_uniform"].max() for cells in maps)
    reach = float(np.clip(np.ceil(np.log2(most) - 0.05), LEAST_DOUBLINGS, MOST_DOUBLINGS))
    return TwoSlopeNorm(0.0, -reach, reach)


def _map_height(maps: dict) -> float:
    """Inches of one panel with its title, by the layers it shows."""
    layers = max(cells["layer"].max() for cells in maps.values())
    return float(np.clip(0.09 * layers, 0.5, 1.6)) + 0.4


def _draw_map(ax: Axes, cells: pd.DataFrame, norm: TwoSlopeNorm) -> None:
    grid = cells.pivot(index="layer", columns="rank", values="over_uniform").to_numpy(float)
    doublings = np.log2(np.maximum(grid, 2.0 ** (norm.vmin - 1)))
    ax.imshow(
        doublings,
        cmap=COLOUR_MAP,
        norm=norm,
        aspect="auto",
        interpolation="nearest",
        gid="map",
        extent=(0.5, grid.shape[1] + 0.5, grid.shape[0] + 0.5, 0.5),
    )
    ax.grid(False)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    ax.set_yticks(
        np.unique(np.linspace(1, len(grid), 2 if len(grid) < 5 else 3).round().astype(int))
    )


def _no_map(ax: Axes, rows: pd.DataFrame, name: str) -> None:
    status = rows.loc[rows["variant"] == name, "status"].iloc[0]
    ax.set_title(f"{name}\n–")
    ax.set(xticks=[], yticks=[])
    ax.text(
        0.5,
        0.5,
        style.MISSING.get(status, ("", "failed"))[1],
        transform=ax.transAxes,
        ha="center",
        color=style.GREY,
    )


def _finish(
    fig: Figure, axes: list[Axes], norm: TwoSlopeNorm, width: str, y_label: str | None = LAYER_LABEL
) -> Figure:
    on_page = width == "page"
    where = {"location": "right", "aspect": 25} if on_page else {"location": "top", "aspect": 35}
    bar = fig.colorbar(
        ScalarMappable(norm, COLOUR_MAP), ax=axes, shrink=0.9, pad=0.02, extend="both", **where
    )
    bar.set_label(SHARE_LABEL.replace(" over ", "\nover ") if on_page else SHARE_LABEL)
    ticks = np.arange(norm.vmin, norm.vmax + 1)
    bar.set_ticks(ticks, labels=[f"{2**t:g}" if t >= 0 else f"1/{2**-t:g}" for t in ticks])
    (bar.ax.axhline if on_page else bar.ax.axvline)(
        0.0, color="black", linewidth=0.8, gid="uniform"
    )
    fig.supxlabel(EXPERTS_LABEL)
    fig.supylabel(y_label or LAYER_LABEL)
    return layout.settle(fig)


@figure("importance")
def importance(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Perplexity increase without an expert over how often it is chosen, a panel per variant with
    Spearman's rho within layers and its 95 % interval, coloured by layer."""
    rows = rows_of(
        summary,
        "importance",
        "importance",
        ("series", "perplexity", "ablation_perplexity", "expert_counts"),
    )
    ok = with_numbers(rows, "importance", ["perplexity", "ablation_perplexity", "expert_counts"])
    one_per_place(ok, "importance", ("series",))
    points = pd.concat([_removed(row) for _, row in ok.iterrows()], ignore_index=True)
    rho = {row.series: rank_of(row) for row in ok.itertuples()}
    norm = Normalize(1, max(points["layer"].max(), 2))
    with style.paper_style(width):
        inches, tall = lines.panel_size(len(rho), width)
        deep = lines.shape_of(len(rho), width)[0]
        fig = Figure(
            figsize=(inches, tall + (0.2 if width == "page" else 0.4) * deep + 0.3),
            layout="constrained",
        )
        axes = lines.grid_of_axes(fig, len(rho), width, sharey=True)
        for ax, (name, found) in zip(axes, rho.items(), strict=True):
            own = points[points["series"] == name]
            ax.scatter(
                own["over_uniform"],
                own["increase_pct"],
                c=own["layer"],
                cmap="viridis",
                norm=norm,
                s=7,
                linewidths=0,
                alpha=0.8,
                gid="experts",
            )
            ax.axvline(
                1, color="black", linewidth=0.8, linestyle=lines.DASHES, zorder=1.5, gid="uniform"
            )
            ends = own["over_uniform"].min(), max(own["over_uniform"].max(), 1.0)
            style.value_axis([ax], ends[0] - 0.07 * (ends[1] - ends[0]), ends[1], axis="x")
            ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            ax.set_title(
                f"{name}\nρ = {found.value:+.2f}{' ' if width == 'page' else chr(10)}"
                f"[{found.lo:+.2f}, {found.hi:+.2f}]"
            )
            ax.tick_params(labelbottom=True)
        _increase_scale(axes, points["increase_pct"])
        where = (
            {"aspect": 25} if width == "page" else {"location": "top", "aspect": 35, "shrink": 0.9}
        )
        bar = fig.colorbar(ScalarMappable(norm, "viridis"), ax=axes, pad=0.02, **where)
        bar.set_label(LAYER_LABEL)
        bar.outline.set_visible(False)
        (bar.ax.yaxis if width == "page" else bar.ax.xaxis).set_major_locator(
            MaxNLocator(4, integer=True)
        )
        fig.supxlabel(SHARE_LABEL)
        fig.supylabel("perplexity without the expert (increase in %)")
        return layout.settle(fig), points


def _removed(row: pd.Series) -> pd.DataFrame:
    counts = np.array(json.loads(row["expert_counts"]), float)
    layer, expert = np.indices(counts.shape)
    over = counts * counts.shape[1] / np.maximum(counts.sum(1, keepdims=True), 1)
    return pd.DataFrame(
        {
            "model": row.get("model"),
            "series": row["series"],
            "layer": layer.ravel() + 1,
            "expert": expert.ravel(),
            "over_uniform": over.ravel(),
            "increase_pct": increase_pct(row).ravel(),
        }
    )


def _increase_scale(axes: list[Axes], values: pd.Series) -> None:
    middle, low, high = float(values.abs().median()), min(0.0, values.min()), max(0.0, values.max())
    for ax in axes:
        ax.axhline(0, color=style.GREY, linewidth=0.6, zorder=1.4)
        if middle > 0 and values.max() > HEAVY_TAIL * middle:
            ax.set_yscale("symlog", linthresh=10 ** np.ceil(np.log10(middle)))
            ax.set_ylim(1.2 * low, 1.5 * high)
            ax.yaxis.set_major_formatter(FuncFormatter(style.short_number))
            continue
        style.value_axis([ax], low - 0.07 * (high - low), high)


VIEWS = (
    View("balance", "balance", "series", "text", metric="balance_max_over_mean"),
    View("training", "training", "series", metric="perplexity"),
    View("importance of experts", "importance", "series", metric="balance_max_over_mean"),
    View(
        "skewed routing, one layer",
        "skew_layer",
        "skew",
        "tokens",
        "model",
        "layer_time_us",
        log_x=False,
        table=layer_rows,
    ),
    View("skewed routing, engine", "skew_engine", "skew", "batch", "model", log_x=False),
)
