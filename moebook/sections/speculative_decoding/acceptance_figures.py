"""What trained drafts and n-gram lookup get accepted, and what that makes a target read.

Each function: (table, a row per point; width) -> (Figure, plotted rows); ValueError says which
sweep or columns are missing."""

import pandas as pd

from moebook.plot import lines, markers, style
from moebook.plot.figure import (
    Drawing,
    figure,
    one_per_place,
    plotted,
    reading,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.plot.lines import Spec
from moebook.sections.speculative_decoding.drafts import SWEEP, coldest, experts
from moebook.sections.speculative_decoding.plan import NGRAM, PLAIN

NEEDED = ("series", "method", "text", "temperature", "draft_tokens")
COUNTED = ("experts_per_step", "step_tokens", "num_experts", "top_k", "batch")
PLACE = ("series", "text", "temperature", "draft_tokens")
ENDS = ("", "_lo", "_hi")
APART = 0.14  # from one series to the next over the name of a text
LINES = {"line": "series", "kind": "kind", "log_y": False, "floors": False}


def looks_of(series: list[str]) -> markers.Looks:
    """No speculation black, lookup grey, drafts in colours and markers of their own in the order of
    the table."""
    drafts = [name for name in series if name not in (PLAIN, NGRAM)]
    markers = style.markers(len(drafts) + 1)[1:]
    found = dict(zip(drafts, zip(style.colours(len(drafts)), markers, strict=True), strict=True))
    found |= {PLAIN: ("black", "o"), NGRAM: (style.GREY, "h")}
    return {name: found[name] for name in series}


@figure("acceptance")
def acceptance(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Tokens per target step over the kind of text, a series per draft, a panel per
    temperature."""
    rows = rows_of(table, "acceptance", SWEEP, (*NEEDED, "tokens_per_step"))
    drafted = rows[rows["series"] != PLAIN]
    with_numbers(drafted, "acceptance", ["tokens_per_step"])
    one_per_place(rows, "acceptance", PLACE)
    spec = Spec(
        "acceptance",
        None,
        **LINES,
        panel="temperature",
        x="place",
        names=tuple(drafted["text"].unique()),
        metric="tokens_per_step",
        level=1,
        level_label=PLAIN,
        x_label="text (kind)",
    )
    looks = looks_of(values_of(drafted, "series"))
    fig, _ = lines.lines(_placed(drafted, spec.names), spec, width=width, looks=looks)
    return fig, plotted(rows, ["tokens_per_step", "acceptance_rate"], PLACE)


def _placed(rows: pd.DataFrame, texts: tuple[str, ...]) -> pd.DataFrame:
    """Rows with their `place` on an axis of texts, its series next to each other."""
    series = values_of(rows, "series")
    shift = APART * (rows["series"].map(series.index) - (len(series) - 1) / 2)
    return rows.assign(place=rows["text"].map(texts.index) + shift, kind="measured")


@figure("acceptance_by_position")
def by_position(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Share of drafts whose i-th token was accepted, a line per draft, a panel per text, at the
    lowest temperature."""
    columns = list(table.filter(regex=r"^accepted_pos\d+$")) or ["accepted_pos1"]
    rows = rows_of(table, "by_position", SWEEP, (*NEEDED, *columns))
    ok = coldest(with_numbers(rows, "by_position", columns[:1]))
    cold = ok["temperature"].min()
    long = pd.concat([_at_position(ok, c) for c in columns], ignore_index=True)
    long = long[long["share"].notna()]
    spec = Spec(
        "by_position",
        None,
        **LINES,
        panel="panel",
        x="position",
        metric="share",
        log_x=False,
        x_label="position of the draft token (count)",
        y_label="drafts accepted up to here (share)",
    )
    long = long.assign(panel=long["text"] + ", " + reading("temperature", cold))
    fig, shown = lines.lines(long, spec, width=width, looks=looks_of(values_of(rows, "series")))
    for ax in fig.axes:
        ax.set_xticks(sorted(long["position"].unique()))
        ax.set_ylim(0, 1)
    return fig, shown.assign(temperature=cold)


def _at_position(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    shares = {f"share{end}": rows.get(f"{column}{end}", rows[column]).astype(float) for end in ENDS}
    return rows.assign(position=int(column.removeprefix("accepted_pos")), kind="full", **shares)


@figure("experts_hit")
def experts_hit(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Distinct experts of a layer that a target step hits over the kind of text, a series per
    draft, at the lowest temperature; dashed the formula for as many tokens."""
    rows = rows_of(table, "experts_hit", SWEEP, (*NEEDED, *COUNTED))
    with_numbers(rows, "experts_hit", ["experts_per_step"])
    found = coldest(experts(rows))
    one_per_place(found, "experts_hit", PLACE)
    spec = Spec(
        "experts_hit",
        None,
        **LINES,
        panel="temperature",
        x="place",
        names=tuple(found["text"].unique()),
        metric="experts_per_step",
        x_label="text (kind)",
        y_label="distinct experts per layer\nand step (count)",
        dashed="formula",
        dashed_label="formula, uniform routing",
    )
    looks = looks_of(values_of(found, "series"))
    fig, _ = lines.lines(_placed(found, spec.names), spec, width=width, looks=looks)
    more = [*PLACE, "step_tokens", "formula", "over_formula", "over_plain"]
    return fig, plotted(found, ["experts_per_step"], more)
