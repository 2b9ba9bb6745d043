"""Section 10 in words."""

import pandas as pd

from moebook.plot.style import cell_number
from moebook.predict.what_if import BINDS
from moebook.results.commentary import commentary
from moebook.results.page import Number
from moebook.sections.what_if.enrich import MEMORY, NAMES, chosen


def headline(table: pd.DataFrame) -> str:
    """B over A, and what they are."""
    a, b = _both(table)
    times = f"{b['over_a']:.2f} times [{b['over_a_lo95']:.2f}, {b['over_a_hi95']:.2f}]"
    return (
        f"**Predicted: B has {times} the throughput of A** (95 % interval). A: {a['what']}. "
        f"B: {b['what']}."
    )


def numbers(table: pd.DataFrame) -> tuple[Number, ...]:
    """Throughput and time per output token of A and B."""
    each = zip(NAMES, _both(table), strict=True)
    found = []
    for name, row in each:
        found.append(_number(row, "throughput_tok_s", 1, f"tokens/s, in and out, of {name}"))
        if pd.notna(row["tpot_s"]):
            found.append(_number(row, "tpot_s", 1e3, f"ms per output token of {name}"))
    return tuple(found)


def _number(row: pd.Series, metric: str, scale: float, words: str) -> Number:
    value, low, high = (
        cell_number(scale * row[f"{metric}{end}"]) for end in ("", "_lo95", "_hi95")
    )
    return Number(value, f"{words} [{low}, {high}]")


@commentary
def curves(table: pd.DataFrame) -> str:
    """How sure each curve is, and what of it lies outside of what was measured."""
    return _each(table, lambda row: ". ".join(filter(None, (row["sure"], row["notes"]))) + ".")


@commentary
def step_parts(table: pd.DataFrame) -> str:
    """What takes most of a decode step."""

    def told(row: pd.Series) -> str:
        gpu = {t: row[f"term_{t}_s"] for t in BINDS if f"term_{t}_s" in row and t != "host"}
        host, device = 1e3 * row["term_host_s"], 1e3 * sum(gpu.values())
        paced = "the host paces the step" if host > device else "the host keeps up"
        share = f"{max(gpu.values()) * 1e5 / device:.0f} % of the GPU's {device:.3g} ms"
        most = BINDS[max(gpu, key=gpu.get)]
        return f"{most} takes {share}; the host works {host:.3g} ms beside, so {paced}."

    return _each(table, told)


@commentary
def memory(table: pd.DataFrame) -> str:
    """Whether it fits."""

    def told(row: pd.Series) -> str:
        needed, usable = (v / 1e9 for v in (row[list(MEMORY)].sum(), row["usable_bytes"]))
        fits = "fits" if row["fits"] else f"**does not fit** ({row['lacks']})"
        left = f"weights and reserve leave room for {int(row['kv_tokens']):,} tokens of cache"
        return f"{fits}: {needed:.3g} of {usable:.3g} GB that the engine may use; {left}."

    return _each(table, told)


def _both(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    rows = chosen(table)
    return rows.loc["A"], rows.loc["B"]


def _each(table: pd.DataFrame, told) -> str:
    """A bullet for A and B each."""
    pairs = zip(NAMES, _both(table), strict=True)
    return "\n".join(f"- **{name}**: {told(row)}" for name, row in pairs)
