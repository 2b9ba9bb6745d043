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


def add_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with the DERIVED columns computed from TIMES and SIZES; `metric_reason` says why a row
    has nulls in them.

    Rows without times (failed, out of memory) get nulls. So does a row whose times contradict each
    other, as those of one held-up repeat or of an extrapolation can: one such row does not cost the
    rest of the table. (No other number that cannot have been measured comes here: a record is
    checked as it is read.)"""
    ttft, e2e, batch, inputs, outputs = (_numbers(table[name]) for name in (*TIMES, *SIZES))
    found = _formulas(ttft, e2e, batch, inputs, outputs)
    reasons = np.full(len(table), None, dtype=object)
    for i in np.flatnonzero(outputs < 2):
        reasons[i] = f"output_tokens = {outputs[i]:g}: no decode step; at least 2 are needed"
    for i in np.flatnonzero((ttft <= 0) | (e2e <= 0) | (outputs > 1) & (e2e < ttft)):
        reasons[i] = _why(ttft[i], e2e[i])
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


def _why(ttft: float, e2e: float) -> str:
    """What is wrong with a row's times."""
    under = [f"{name} {t:g}" for name, t in zip(TIMES, (ttft, e2e), strict=True) if t <= 0]
    if under:
        return f"{' and '.join(under)}: must be over 0"
    return (
        f"e2e_s {e2e:g} is under ttft_s {ttft:g}: a batch cannot end before its first tokens; "
        "measure again with more repeats or more output tokens"
    )
