"""Training variants side by side: balance over training, balance against quality, and balance over
expert-parallel ranks.

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing. Bars of balance are 95 % intervals over sequences of the text."""

import json

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from moebook.plot import layout, lines, style
from moebook.plot.curves import Words, curves
from moebook.plot.figure import figure
from moebook.plot.lines import Spec
from moebook.plot.rows import one_per_place, plotted, rows_of, values_of, with_numbers
from moebook.results.balance import EP_DEGREES, overall, sampling_floor, statistics

CV_LABEL = "coefficient of variation of expert load (0 is even)"
PERPLEXITY_LABEL = "held-out perplexity (lower is better)"
LOSS_LABEL = "training loss (nats per token)"
STEP_LABEL = "training step (count)"
FLOOR = "an even router, by chance"
TRAINED = "trained"


@figure("over_training")
def over_training(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Coefficient of variation of expert load on one fixed batch, mean over layers, and training
    loss over steps; dashed, what a perfectly even router would show by chance on that batch."""
    rows = rows_of(
        summary,
        "over_training",
        "training",
        ("series", "load_steps", "load_counts", "loss_curve", "top_k"),
    )
    ok = with_numbers(rows, "over_training", ["load_steps", "load_counts", "loss_curve"])
    one_per_place(ok, "over_training", ("series",))
    loads = pd.concat([_load(row) for _, row in ok.iterrows()], ignore_index=True)
    losses = pd.concat([_loss(row) for _, row in ok.iterrows()], ignore_index=True)
    looks = lines.looks_of(values_of(rows, "series"))
    with style.paper_style(width) as inches:
        shape, tall = ((1, 2), 2.4) if width == "page" else ((2, 1), 3.6)
        fig = Figure(figsize=(inches, tall), layout="constrained")
        left, right = fig.subplots(*shape, sharex=True).flat
        for name, (colour, marker) in looks.items():
            for ax, table, value, mark in (
                (left, loads, "cv", marker),
                (right, losses, "loss", "none"),
            ):
                own = table[table["series"] == name]
                ax.plot(
                    own["step"],
                    own[value],
                    color=colour,
                    marker=mark,
                    markersize=3,
                    label=name,
                    gid="series",
                    clip_on=False,
                )
        floor = loads["cv_by_chance"].max()
        left.axhline(floor, color="black", linewidth=0.8, linestyle=lines.DASHES, gid="level")
        known = [*loads.loc[loads["cv"] > 0, "cv"], floor]
        style.value_axis(
            [left], min(known), max(known), log=max(known) > lines.LOG_OVER * min(known)
        )
        half = 0.04 * (losses["loss"].max() - losses["loss"].min())
        style.value_axis([right], losses["loss"].min() - half, losses["loss"].max())
        for ax, label in ((left, CV_LABEL), (right, LOSS_LABEL)):
            ax.set_ylabel(label.replace(" of expert", "\nof expert"))
            _step_axis(ax, sorted(loads["step"].unique()))
        fig.supxlabel(STEP_LABEL)
        handles, labels = lines.series_legend(Spec("", None, "series", "series", "step"), looks)
        dashed = Line2D([], [], color="black", linestyle=lines.DASHES, linewidth=0.8)
        layout.settle(fig, ([*handles, dashed], [*labels, FLOOR]))
        return fig, pd.concat([loads, losses], ignore_index=True)


def _step_axis(ax: Axes, steps: list[int]) -> None:
    """Training records its loads at doubling steps, so the axis doubles, too, and is linear up to
    the first."""
    first = next((s for s in steps if s > 0), 1)
    ax.set_xscale("symlog", base=2, linthresh=first, linscale=0.5)
    ax.set_xlim(0, steps[-1] * 1.15)
    ax.xaxis.set_major_locator(FixedLocator([0, *(s for s in steps if s > 0)][::-2][::-1]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(style.short_number))


def _load(row: pd.Series) -> pd.DataFrame:
    counts = np.array(json.loads(row["load_counts"]), float)  # (S, L, E)
    found = statistics(counts)
    tokens = counts.sum(-1).mean() / row["top_k"]
    return pd.DataFrame(
        {
            "series": row["series"],
            "step": json.loads(row["load_steps"]),
            "cv": overall(found["cv"]),
            "max_over_mean": overall(found["max_over_mean"]),
            "cv_by_chance": sampling_floor(tokens, row["top_k"], counts.shape[-1])["cv"],
        }
    )


def _loss(row: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(json.loads(row["loss_curve"]), columns=["step", "loss"]).assign(
        series=row["series"]
    )


@figure("balance_and_quality")
def balance_and_quality(
    summary: pd.DataFrame, *, width: str = "page"
) -> tuple[Figure, pd.DataFrame]:
    """Held-out perplexity against the coefficient of variation of expert load on the same text, a
    point per variant, a panel per text; each panel has a perplexity scale of its own."""
    rows = _quality(summary)
    texts, looks = values_of(rows, "text"), lines.looks_of(values_of(rows, "series"))
    texts = list(dict.fromkeys(rows["text"])) or texts
    with style.paper_style(width):
        fig = Figure(figsize=lines.panel_size(len(texts), width), layout="constrained")
        axes = lines.grid_of_axes(fig, len(texts), width, sharex=True)
        for ax, text in zip(axes, texts, strict=True):
            _quality_panel(ax, rows[rows["text"] == text], looks)
            ax.set_title(text)
        ends = rows[["balance_cv", "balance_cv_lo", "balance_cv_hi"]].to_numpy(float)
        low, high = np.nanmin(ends[ends > 0]), np.nanmax(ends)
        style.value_axis(axes, low, high, axis="x", log=high > lines.LOG_OVER * low)
        for ax in axes if width == "column" and high > lines.LOG_OVER * low else ():
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        fig.supxlabel(CV_LABEL)
        fig.supylabel(PERPLEXITY_LABEL)
        handles, labels = lines.series_legend(Spec("", None, "text", "series", "balance_cv"), looks)
        for handle in handles:
            handle.set_linestyle("none")
        layout.settle(fig, (handles, labels))
        return fig, plotted(rows, ["balance_cv", "text_perplexity"], ["series", "text"])


def _quality(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows of the sweep balance with `text_perplexity`, that of the variant on the same text."""
    name = "balance_and_quality"
    ok = with_numbers(
        rows_of(summary, name, "balance", ("series", "text", "balance_cv")), name, ["balance_cv"]
    )
    trained = rows_of(summary, name, "training", ("series",))
    trained = (
        with_numbers(trained, name, ["perplexity"]) if "perplexity" in trained else trained.head(0)
    )
    trained = trained.drop_duplicates("series").set_index("series")
    known = [
        pd.to_numeric(trained.get(f"perplexity_{text}", pd.Series(dtype=float))).get(series, np.nan)
        for series, text in zip(ok["series"], ok["text"], strict=True)
    ]
    ok = ok.assign(text_perplexity=np.array(known, float))
    for end in ("balance_cv_lo", "balance_cv_hi"):
        ok[end] = ok[end] if end in ok else ok["balance_cv"]
    return with_numbers(ok, name, ["text_perplexity"])


def _quality_panel(ax: Axes, rows: pd.DataFrame, looks: lines.Looks) -> None:
    bars = style.error_bars(rows, "balance_cv")
    for i, row in enumerate(rows.itertuples()):
        colour, marker = looks[row.series]
        ax.errorbar(
            [row.balance_cv],
            [row.text_perplexity],
            xerr=bars[:, i : i + 1],
            fmt="none",
            ecolor=colour,
            elinewidth=0.8,
            capsize=1.5,
        )
        ax.plot(
            [row.balance_cv],
            [row.text_perplexity],
            linestyle="none",
            color=colour,
            marker=marker,
            label=row.series,
            gid="points",
        )
    low, high = rows["text_perplexity"].min(), rows["text_perplexity"].max()
    half = max(high - low, 0.02 * high) * 0.65
    ax.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.tick_params(labelleft=True)


@figure("ep_balance")
def ep_balance(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Load of the fullest expert-parallel rank over the mean, over the number of ranks: a line per
    variant, a panel per text. A layer that computes takes as many times as long as on even
    ranks."""
    columns = [f"balance_ep{degree}_max_over_mean" for degree in EP_DEGREES]
    rows = rows_of(summary, "ep_balance", "balance", ("series", "model", "text", *columns))
    with_numbers(rows, "ep_balance", columns[:1])
    rows = rows.assign(variant=rows["series"].where(rows["series"] != TRAINED, rows["model"]))
    one_per_place(rows, "ep_balance", ("variant", "text"))
    kept = [
        "model",
        "series",
        "variant",
        "text",
        "status",
        *(["reason"] if "reason" in rows else []),
    ]
    parts = [rows[kept].assign(degree=1, **dict.fromkeys(("ep", "ep_lo", "ep_hi"), 1.0))]
    for degree, column in zip(EP_DEGREES, columns, strict=True):
        ends = {
            f"ep{end}": pd.to_numeric(rows.get(f"{column}{end}", rows[column]))
            for end in ("", "_lo", "_hi")
        }
        parts.append(rows[kept].assign(degree=degree, **ends))
    found = pd.concat(parts, ignore_index=True).assign(kind="full")
    found = found[
        (found["status"] != "ok") | found["ep"].notna()
    ]  # degrees that do not divide the experts: none
    found.loc[found["status"] != "ok", ["ep", "ep_lo", "ep_hi"]] = np.nan
    order = {text: i for i, text in enumerate(rows["text"].unique())}
    found = found.assign(panel=found["text"]).sort_values(
        "text", key=lambda t: t.map(order), kind="stable"
    )
    spec = Spec(
        "ep_balance",
        None,
        panel="panel",
        line="variant",
        x="degree",
        metric="ep",
        kind="kind",
        log_y=False,
        level=1,
        level_label="even ranks",
    )
    looks = lines.looks_of(list(dict.fromkeys(rows["variant"])))
    words = Words("expert-parallel ranks (count)", "fullest rank over mean (×)", methods=False)
    return curves(found, spec, words, width=width, looks=looks), plotted(
        found, ["ep"], ["series", "text", "degree"]
    )
