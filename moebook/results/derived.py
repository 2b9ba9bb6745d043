"""The study's metrics, from the two times that are measured: TTFT and end-to-end latency.

TTFT is the time of a run limited to one output token, E2E the time from submitting the batch to its
last token, both for the whole batch of B sequences, S_in input and S_out output tokens each. What
is between them is decoding:

    tpot              (E2E - TTFT) / (S_out - 1)          one decode step; what most people call ITL
                      or TPOT
    itl_paper         (E2E - TTFT) / (B S_out - 1)        as MoE-Inference-Bench prints it
    itl_predecessor   (E2E - TTFT) / (B (S_out - 1))      as LLM-Inference-Bench's notebooks compute
                      it
    throughput        B (S_in + S_out) / E2E              counts input tokens
    output throughput B S_out / E2E

Times in seconds, throughput in tokens/s. A missing time gives null, never 0. One output token has
no decode step, so the three inter-token times are null and `metric_reason` says why."""

import numpy as np
import pandas as pd

DERIVED = (
    "tpot_s",
    "itl_paper_s",
    "itl_predecessor_s",
    "throughput_tok_s",
    "output_throughput_tok_s",
)
TIMES = ("ttft_s", "e2e_s")
SIZES = ("batch", "input_tokens", "output_tokens")


class MetricError(ValueError):
    """A table that lacks what metrics are computed of; the message names it."""


def add_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with the DERIVED columns computed from TIMES and SIZES; `metric_reason` says why a row
    has nulls in them.

    Rows without times (failed, out of memory) get nulls. So does a row whose times contradict each
    other (an extrapolation can), or cannot have been measured: one such row does not cost the rest
    of the table. MetricError where columns are missing."""
    if missing := [c for c in (*TIMES, *SIZES) if c not in table]:
        needed = ", ".join((*TIMES, *SIZES))
        raise MetricError(f"columns {missing} are missing; needed: {needed}")
    ttft, e2e, batch, inputs, outputs = (_numbers(table[name]) for name in (*TIMES, *SIZES))
    found = _formulas(ttft, e2e, batch, inputs, outputs)
    reasons = np.full(len(table), None, dtype=object)
    for i in np.flatnonzero(outputs < 2):
        reasons[i] = f"output_tokens = {outputs[i]:g}: no decode step; at least 2 are needed"
    for i in np.flatnonzero(_doubtful(ttft, e2e, batch, inputs, outputs)):
        reasons[i] = _why(ttft[i], e2e[i], batch[i], inputs[i], outputs[i])
        for values in found.values():
            values[i] = np.nan
    return table.assign(**found, metric_reason=reasons)


def _numbers(column: pd.Series) -> np.ndarray:
    return pd.to_numeric(column).to_numpy(dtype=float, na_value=np.nan)


def _formulas(ttft, e2e, batch, inputs, outputs) -> dict[str, np.ndarray]:
    """The DERIVED columns, (N,) each."""
    decoding = np.where(outputs >= 2, e2e - ttft, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (
            decoding / (outputs - 1),
            decoding / (batch * outputs - 1),
            decoding / (batch * (outputs - 1)),
            batch * (inputs + outputs) / e2e,
            batch * outputs / e2e,
        )
    return dict(zip(DERIVED, found, strict=True))


def _doubtful(ttft, e2e, *sizes) -> np.ndarray:
    """(N,) whether a row has times or sizes that cannot have been measured."""
    found = (sizes[-1] > 1) & (e2e < ttft)
    for time in (ttft, e2e):
        found |= ~(np.isnan(time) | ((time > 0) & (time < np.inf)))
    for size in sizes:
        found |= ~((size >= 1) & (size % 1 == 0))
    return found


def _why(ttft, e2e, *sizes) -> str:
    """What is wrong with a doubtful row."""
    found = [
        f"{name} {value:g}: must be over 0"
        for name, value in zip(TIMES, (ttft, e2e), strict=True)
        if not (np.isnan(value) or 0 < value < np.inf)
    ]
    found += [
        f"{name} {value:g}: must be a whole number of at least 1"
        for name, value in zip(SIZES, sizes, strict=True)
        if not (value >= 1 and value % 1 == 0)
    ]
    return "; ".join(found) or (
        f"e2e_s {e2e:g} is under ttft_s {ttft:g}: a batch cannot end before its first tokens; "
        "measure again with more repeats or more output tokens"
    )
