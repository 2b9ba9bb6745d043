"""Where a model's parameters are: stacked bars per component, in share and in absolute numbers (Fig
1)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from moebook.explore.views import View
from moebook.plot import layout, style
from moebook.plot.figure import figure
from moebook.sections.model_comparison.parameters import parameter_shares, sizes_to_explore

COLUMNS = ("model", "component", "total_parameters", "active_parameters")
KINDS = {"total_parameters": "total", "active_parameters": "active"}
SMALL_PCT = 1.0  # components under this share of every bar are drawn as one
ORDER = (
    "experts",
    "shared_experts",
    "dense_ffn",
    "attention",
    "embedding",
    "lm_head",
    "vision",
    "router",
    "norms",
)
# component -> (colour, hatch): any two differ in hatch, or have none and differ in darkness
LOOKS = {
    "experts": ("#0072B2", ""),
    "shared_experts": ("#F0E442", ""),
    "attention": ("#56B4E9", ""),
    "dense_ffn": ("#D55E00", "xxxx"),
    "embedding": ("#009E73", "////"),
    "lm_head": ("#E69F00", "\\\\\\\\"),
    "vision": ("#CC79A7", "...."),
    "router": ("0.9", "++++"),
    "norms": ("0.9", "oooo"),
}
POOLED_LOOK = ("0.1", "")
WORDS = {
    "experts": "routed experts",
    "shared_experts": "shared experts",
    "dense_ffn": "dense FFN",
    "lm_head": "LM head",
}


@figure("fig01_parameter_breakdown")
def parameter_shares_of_table_1(
    _: pd.DataFrame, *, width: str = "page"
) -> tuple[Figure, pd.DataFrame]:
    """Fig 1 of the models of Table 1: it needs no results."""
    return parameter_breakdown(parameter_shares(), width=width)


def parameter_breakdown(table: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 1: parameters per component, total and active, as shares (%) and in billions.

    `table` has COLUMNS, a row per model and component. ValueError where columns or rows are
    missing."""
    if missing := [c for c in COLUMNS if c not in table]:
        raise ValueError(
            f"parameter_breakdown needs a table with {', '.join(COLUMNS)}; missing: "
            f"{', '.join(missing)}"
        )
    if table.empty:
        raise ValueError("parameter_breakdown: the table has no row; give at least one model")
    rows = pool_small(table[list(COLUMNS)])
    models, parts = list(dict.fromkeys(rows["model"])), _ordered(rows["component"].unique())
    with style.paper_style(width) as inches:
        shape = (2, 2) if width == "page" else (4, 1)
        fig = Figure(figsize=(inches, shape[0] * (0.16 * len(models) + 0.55)), layout="constrained")
        axes = fig.subplots(*shape, sharey=True).flatten()
        drawn = [(kind, share) for share in (True, False) for kind in KINDS]
        for ax, (kind, share) in zip(axes, drawn, strict=True):
            _bars(ax, rows, models, parts, kind, share)
        handles = [Patch(**look_of(p)) for p in parts]
        return layout.settle(fig, (handles, [WORDS.get(p, p) for p in parts])), rows


def pool_small(table: pd.DataFrame) -> pd.DataFrame:
    """Components that no reader could see become one, named after them, with their shares in
    percent."""

    def share(kind: str) -> pd.Series:
        return 100 * table[kind] / table.groupby("model")[kind].transform("sum")

    largest = (
        pd.concat([share(kind) for kind in KINDS], axis=1)
        .max(axis=1)
        .groupby(table["component"])
        .max()
    )
    small = [c for c in _ordered(largest.index) if largest[c] < SMALL_PCT]
    pooled = f"{' + '.join(small)} (under {SMALL_PCT:g} %)"
    rows = table.assign(component=table["component"].where(~table["component"].isin(small), pooled))
    rows = rows.groupby(["model", "component"], sort=False, as_index=False)[list(KINDS)].sum()
    return rows.assign(
        **{
            f"{kind.split('_')[0]}_share_pct": 100
            * rows[kind]
            / rows.groupby("model")[kind].transform("sum")
            for kind in KINDS
        }
    )


def _ordered(components) -> list[str]:
    known = {name: i for i, name in enumerate(ORDER)}
    return sorted(components, key=lambda c: (known.get(c, len(ORDER)), c))


def look_of(part: str) -> dict[str, object]:
    """Patch properties of a component, or of those pooled."""
    colour, hatch = LOOKS.get(part, POOLED_LOOK)
    return {"facecolor": colour, "hatch": hatch, "hatchcolor": "black", "linewidth": 0}


def _bars(
    ax: Axes, rows: pd.DataFrame, models: list[str], parts: list[str], kind: str, share: bool
) -> None:
    values = rows.pivot(index="model", columns="component", values=kind).reindex(models).fillna(0)
    values = 100 * values.div(values.sum(axis=1), axis=0) if share else values / 1e9
    left = pd.Series(0.0, index=models)
    for part in (p for p in parts if p in values):
        ax.barh(
            range(len(models)), values[part], left=left, height=0.72, label=part, **look_of(part)
        )
        left = left + values[part]
    ax.set_yticks(range(len(models)), models)
    ax.set_ylim(len(models) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    if share:
        ax.set(xlim=(0, 100), xlabel=f"share of {KINDS[kind]} (%)")
        return
    ax.set_xlabel(f"{KINDS[kind]} parameters (billions)")
    ax.set_xlim(0, 1.15 * left.max())
    for y, end in enumerate(left):
        ax.text(end + 0.01 * left.max(), y, style.cell_number(end), va="center", fontsize=7)


def parts_to_explore() -> pd.DataFrame:
    """`parameter_shares` as the explorer takes rows: with shares, small parts as one."""
    return pool_small(parameter_shares()).assign(status="ok", method="computed")


VIEWS = (
    View(
        "parameters by part",
        None,
        "model",
        "component",
        metric="total_share_pct",
        table=lambda _: parts_to_explore(),
    ),
    View(
        "models",
        None,
        "top_k",
        "model",
        metric="active_parameters",
        log_x=False,
        table=lambda _: sizes_to_explore(),
    ),
)
