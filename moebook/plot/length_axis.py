"""Lengths in figures: where as many tokens go in as out, a number on the axis; where not, a place
of its own for each pair, so that pairs which share their input do not fall on one another."""

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from moebook.plot.figure import reading, values_of
from moebook.results.commentary import lengths_of

HELD = ("model", "batch")  # named where a figure holds them fixed
OF_STARTS = (
    "throughput_tok_s",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "gain_pct",
    "over_floor",
)  # whose bars are between starts
INPUT, LENGTH, PLACE = "input_tokens", "length", "length_place"


def alike(rows: pd.DataFrame) -> bool:
    """Whether in every row as many tokens go in as out."""
    return all(length.tokens_in == length.tokens_out for length in lengths_of(rows))


def words_of(rows: pd.DataFrame) -> list[str]:
    """The lengths of the rows as a title says them, shortest first."""
    return [length.words for length in sorted(set(lengths_of(rows)))]


def conditions(fig: Figure, rows: pd.DataFrame) -> str:
    """What all rows of a figure share, and what its bars are: `Mixtral-8x7B-v0.1; batch 16; 2048 in
    + out; bars: 95 % intervals between engine starts`. A legend's bars are left to it."""
    if "perplexity" in rows:  # its axes name the model; batch and lengths are windows of a text
        return ""
    shared = [c for c in HELD if c in rows and rows[c].nunique() == 1]
    found = [reading(c, values_of(rows, c)[0]) for c in shared]
    lengths = [INPUT, "output_tokens"]
    is_layer = "method" in rows and (rows["method"] == "layer").any()  # which has tokens alone
    if set(lengths) <= set(rows) and rows[lengths].notna().all(axis=None) and not is_layer:
        words = words_of(rows)
        found += words if len(words) == 1 else []
    drawn = [c for ax in fig.axes for c in ax.containers if isinstance(c, ErrorbarContainer)]
    told = any("bars" in t.get_text() for legend in fig.legends for t in legend.get_texts())
    if drawn and not told and (what := _bars(rows)):
        found.append(f"bars: {what}")
    return "; ".join(found)


def _bars(rows: pd.DataFrame) -> str:
    """What the ends of the rows' values are, as docs/data_dictionary.md has it."""
    ended = [str(column).removesuffix("_hi") for column in rows if str(column).endswith("_hi")]
    if any(column in OF_STARTS for column in ended):
        return "95 % intervals between engine starts"
    if any(column.startswith("balance_") for column in ended):
        return "95 % intervals over sequences of the text"
    return "range of the repeats" if ended else ""


def placed(rows: pd.DataFrame, spec) -> tuple[pd.DataFrame, object]:
    """Rows and a panels.Spec whose lengths are pairs where some are: `length` for lines and panels,
    their order for x."""
    if INPUT not in (spec.panel, spec.line, spec.x) or alike(rows):
        return rows, spec
    lengths = pd.Series(lengths_of(rows), index=rows.index, dtype=object)
    order = {length: i for i, length in enumerate(sorted(set(lengths)))}
    changed = {role: LENGTH for role in ("panel", "line") if getattr(spec, role) == INPUT}
    if spec.x == INPUT:
        changed |= {"x": PLACE, "log_x": False}
    return rows.assign(**{LENGTH: lengths, PLACE: lengths.map(order)}), replace(spec, **changed)


def as_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, their input a Length where in some row another number of tokens goes out."""
    if INPUT not in rows or rows[INPUT].isna().any() or alike(rows):
        return rows
    return rows.assign(**{INPUT: pd.Series(lengths_of(rows), index=rows.index, dtype=object)})


def ticks(axes: list[Axes], rows: pd.DataFrame, most: int) -> None:
    """A tick per pair, evenly thinned to `most`: input over output."""
    known = rows.drop_duplicates(PLACE).sort_values(PLACE)
    step = -(-len(known) // most)
    labels = [f"{length.tokens_in}\n+ {length.tokens_out}" for length in known[LENGTH]]
    for ax in axes:
        ax.set_xticks(known[PLACE].iloc[::step], labels[::step])
        ax.set_xlim(known[PLACE].iloc[0] - 0.4, known[PLACE].iloc[-1] + 0.4)
