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

Times in seconds, throughput in tokens/s. A missing time (None, NaN, pandas.NA) gives None, never 0.
One output token has no decode step, so the three inter-token times are None and `no_decode_reason`
says why."""

import pandas as pd

DERIVED = (
    "tpot_s",
    "itl_paper_s",
    "itl_predecessor_s",
    "throughput_tok_s",
    "output_throughput_tok_s",
)
NEEDED = ("ttft_s", "e2e_s", "batch", "input_tokens", "output_tokens")


class MetricError(ValueError):
    """Times or sizes that cannot have been measured; the message gives each and what is allowed."""


def _given(value) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _problems(ttft_s, e2e_s, batch, input_tokens, output_tokens) -> list[str]:
    ttft_s, e2e_s = _given(ttft_s), _given(e2e_s)
    found = [
        f"{name} {value!r}: must be over 0"
        for name, value in (("ttft_s", ttft_s), ("e2e_s", e2e_s))
        if value is not None and not 0 < value < float("inf")
    ]
    found += [
        f"{name} {value!r}: must be a whole number of at least {least}"
        for name, value, least in (
            ("batch", batch, 1),
            ("input_tokens", input_tokens, 1),
            ("output_tokens", output_tokens, 1),
        )
        if _given(value) is None or value < least or float(value) % 1
    ]
    if not found and None not in (ttft_s, e2e_s) and output_tokens > 1 and e2e_s < ttft_s:
        found.append(
            f"e2e_s {e2e_s:g} is under ttft_s {ttft_s:g}: a batch cannot end before its first "
            "tokens; measure again with more repeats or more output tokens"
        )
    return found


def no_decode_reason(output_tokens: int) -> str | None:
    """Why there is no time per output token, or None where there is one."""
    return (
        None
        if output_tokens >= 2
        else f"output_tokens = {output_tokens}: no decode step; at least 2 are needed"
    )


def tpot(ttft_s: float | None, e2e_s: float | None, output_tokens: int) -> float | None:
    """Seconds of one decode step of the whole batch."""
    return _per_token(ttft_s, e2e_s, 1, output_tokens, output_tokens - 1)


def itl_paper(
    ttft_s: float | None, e2e_s: float | None, batch: int, output_tokens: int
) -> float | None:
    """Seconds per generated token across the batch, MoE-Inference-Bench's formula."""
    return _per_token(ttft_s, e2e_s, batch, output_tokens, batch * output_tokens - 1)


def itl_predecessor(
    ttft_s: float | None, e2e_s: float | None, batch: int, output_tokens: int
) -> float | None:
    """Seconds per generated token across the batch, the formula of LLM-Inference-Bench's
    notebooks."""
    return _per_token(ttft_s, e2e_s, batch, output_tokens, batch * (output_tokens - 1))


def throughput(
    e2e_s: float | None, batch: int, input_tokens: int, output_tokens: int
) -> float | None:
    """Tokens/s, input and output tokens counted."""
    _refuse(_problems(None, e2e_s, batch, input_tokens, output_tokens))
    e2e_s = _given(e2e_s)
    return None if e2e_s is None else batch * (input_tokens + output_tokens) / e2e_s


def output_throughput(e2e_s: float | None, batch: int, output_tokens: int) -> float | None:
    """Tokens/s, output tokens only."""
    _refuse(_problems(None, e2e_s, batch, 1, output_tokens))
    e2e_s = _given(e2e_s)
    return None if e2e_s is None else batch * output_tokens / e2e_s


def _per_token(ttft_s, e2e_s, batch, output_tokens, tokens) -> float | None:
    _refuse(_problems(ttft_s, e2e_s, batch, 1, output_tokens))
    ttft_s, e2e_s = _given(ttft_s), _given(e2e_s)
    if ttft_s is None or e2e_s is None or no_decode_reason(output_tokens):
        return None
    return (e2e_s - ttft_s) / tokens


def _refuse(problems: list[str]) -> None:
    if problems:
        raise MetricError("; ".join(problems))


def add_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with the DERIVED columns computed from NEEDED ones; `metric_reason` says why a row has
    nulls in them.

    Rows without times (failed, out of memory) get nulls. So does a row whose times contradict each
    other (an extrapolation can): one such row does not cost the rest of the table. MetricError
    where columns are missing."""
    missing = [c for c in NEEDED if c not in table]
    if missing:
        raise MetricError(f"columns {missing} are missing; needed: {', '.join(NEEDED)}")
    rows = [_derive(**row) for row in table[list(NEEDED)].to_dict("records")]
    derived = pd.DataFrame(rows, columns=[*DERIVED, "metric_reason"]).astype(
        {name: "float64" for name in DERIVED}
    )
    return table.assign(**{name: derived[name].to_numpy() for name in derived})


def _derive(ttft_s, e2e_s, batch, input_tokens, output_tokens) -> tuple:
    if problems := _problems(ttft_s, e2e_s, batch, input_tokens, output_tokens):
        return *(None,) * len(DERIVED), "; ".join(problems)
    return (
        tpot(ttft_s, e2e_s, output_tokens),
        itl_paper(ttft_s, e2e_s, batch, output_tokens),
        itl_predecessor(ttft_s, e2e_s, batch, output_tokens),
        throughput(e2e_s, batch, input_tokens, output_tokens),
        output_throughput(e2e_s, batch, output_tokens),
        no_decode_reason(output_tokens),
    )
