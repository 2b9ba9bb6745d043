"""Fig 1 and Table 1: shapes and sizes of the study's models, and where their parameters are. All of
it is counted from published configs; no results are needed."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from moebook.models import catalog, sizes
from moebook.plot import layout, style
from moebook.plot.figure import Drawing, figure

TABLE_1 = (
    "Mixtral-8x7B-v0.1",
    "Qwen1.5-MoE-A2.7B",
    "Qwen3-30B-A3B",
    "DeepSeek-V2-Lite",
    "Phi-3.5-MoE-instruct",
    "OLMoE-1B-7B-0125",
    "deepseek-vl2-tiny",
    "deepseek-vl2-small",
    "deepseek-vl2",
)
SLIDE = {  # what the slide's Table 1 calls a shape
    "num_layers": "num_layers",
    "hidden_size": "hidden",
    "expert_ffn_dim": "ffn",
    "num_experts": "experts",
    "top_k": "top_k",
}
COUNTS = ["total_parameters", "active_parameters"]
SHARES = ["total_share_pct", "active_share_pct"]
SMALL_PCT = 1.0  # components under this share of every bar are drawn as one
# component -> (colour, hatch), in the order of the bars: any two differ in hatch, or have none and
# differ in darkness
LOOKS = {
    "experts": ("#0072B2", ""),
    "shared_experts": ("#F0E442", ""),
    "dense_ffn": ("#D55E00", "xxxx"),
    "attention": ("#56B4E9", ""),
    "linear_attention": ("#56B4E9", "||||"),
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
    "linear_attention": "linear attention",
}


def model_sizes() -> pd.DataFrame:
    """A row per model of Table 1: L, H, I, E, K, bytes of bf16 weights, counts of parameters."""
    models = pd.DataFrame({"arch": [catalog.load(name) for name in TABLE_1]})
    shape = {column: [getattr(arch, column) for arch in models["arch"]] for column in SLIDE}
    return models.assign(
        model=TABLE_1,
        **shape,
        weights_bytes=models["arch"].map(sizes.weight_bytes),
        total_parameters=models["arch"].map(sizes.total_parameters),
        active_parameters=models["arch"].map(sizes.active_parameters),
    )


def table_1() -> pd.DataFrame:
    """One row per model: shapes from the published config, and the slide's value where it
    differs."""
    rows = model_sizes()
    own = rows.rename(columns=SLIDE)[["model", *SLIDE.values()]]
    printed = []
    for shape in own.to_dict("records"):
        slide = catalog.sources()[shape["model"]].get("slide") or {}
        differs = [k for k in slide if k in shape and slide[k] not in (None, shape[k])]
        printed.append(", ".join(f"{k} {slide[k]}" for k in differs) or "the same")
    return own.assign(
        **{
            "shared experts": [arch.num_shared_experts for arch in rows["arch"]],
            "total B": rows["total_parameters"] / 1e9,
            "active B": rows["active_parameters"] / 1e9,
            "bf16 GB": rows["weights_bytes"] / 1e9,
            "the slide prints": printed,
        }
    )


def parameter_counts() -> pd.DataFrame:
    """A row per model of Table 1 and component that it has: model, component, COUNTS."""
    rows = []
    for name in TABLE_1:
        arch = catalog.load(name)
        active = sizes.active_counts(arch)
        for part, total in sizes.parameter_counts(arch).items():
            rows += [(name, part, total, active.get(part, 0))] * bool(total)
    return pd.DataFrame(rows, columns=["model", "component", *COUNTS])


@figure("fig01_parameter_breakdown")
def parameter_breakdown(_: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 1: parameters per component of the models of Table 1, all and active for one token, as
    shares (%) and, over a page, in billions."""
    return stacked(parameter_counts(), width=width)


def stacked(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """A bar per model, stacked of its components, on axes of its own: `lines` draws none. `table`
    has model, component and COUNTS."""
    rows = with_shares(table)
    models, parts = list(dict.fromkeys(rows["model"])), _ordered(rows["component"].unique())
    with style.paper_style(width) as inches:
        shape, columns = ((2, 2), SHARES + COUNTS) if width == "page" else ((2, 1), SHARES)
        fig = Figure(figsize=(inches, shape[0] * (0.16 * len(models) + 0.55)), layout="constrained")
        for ax, column in zip(fig.subplots(*shape, sharey=True).flat, columns, strict=True):
            wide = rows.pivot(index="model", columns="component", values=column)
            _bars(ax, wide.reindex(index=models, columns=parts).fillna(0), column)
        handles = [Patch(**_look(part)) for part in parts]
        return layout.settle(fig, (handles, [WORDS.get(part, part) for part in parts])), rows


def with_shares(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with SHARES (%); components that no reader could see become one, named after
    them."""
    largest = _shares(table).groupby("component")[SHARES].max().max(axis=1)
    small = _ordered(largest.index[largest < SMALL_PCT])
    pooled = f"{' + '.join(small)} (under {SMALL_PCT:g} %)"
    rows = table.assign(component=table["component"].mask(table["component"].isin(small), pooled))
    return _shares(rows.groupby(["model", "component"], sort=False, as_index=False)[COUNTS].sum())


def _shares(rows: pd.DataFrame) -> pd.DataFrame:
    whole = rows.groupby("model")[COUNTS].transform("sum")
    return rows.assign(**dict(zip(SHARES, (100 * rows[COUNTS] / whole).to_numpy().T, strict=True)))


def _ordered(components) -> list[str]:
    return [*(c for c in LOOKS if c in components), *sorted(set(components) - set(LOOKS))]


def _look(part: str) -> dict[str, object]:
    """Patch properties of a component, or of those pooled."""
    colour, hatch = LOOKS.get(part, POOLED_LOOK)
    return {"facecolor": colour, "hatch": hatch, "hatchcolor": "black", "linewidth": 0}


def _bars(ax: Axes, values: pd.DataFrame, column: str) -> None:
    """values: a row per model, a column per component."""
    kind, is_share = column.split("_")[0], column in SHARES
    values = values if is_share else values / 1e9
    left = values.cumsum(axis=1) - values
    for part in values:
        ax.barh(range(len(values)), values[part], left=left[part], height=0.72, **_look(part))
    ax.set_yticks(range(len(values)), values.index)
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    if is_share:
        ax.set(xlim=(0, 100), xlabel=f"share of {kind} (%)")
        return
    ends = values.sum(axis=1)
    ax.set(xlim=(0, 1.15 * ends.max()), xlabel=f"{kind} parameters (billions)")
    for y, end in enumerate(ends):
        ax.text(end + 0.01 * ends.max(), y, style.cell_number(end), va="center", fontsize=7)
