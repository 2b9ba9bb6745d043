"""Section 10's table, of the two configurations of its parameters: a row per configuration and
batch, predicted; and a row per point that was measured nearby."""

from functools import lru_cache

import pandas as pd

from moebook.predict.points import Near, throughput_ratio
from moebook.predict.what_if import Interval, Prediction
from moebook.sections.what_if.setup import BATCHES, Setup

NAMES = ("A", "B")
CURVES = ("throughput_tok_s", "tpot_s")
MEMORY = ("weights_bytes", "cache_bytes", "reserve_bytes")


def table_of(setups: tuple[Setup, Setup]) -> pd.DataFrame:
    """Columns: setup (A, B), got (predicted, measured), what it is, batch, chosen (the
    configuration's own batch), throughput_tok_s and tpot_s with _lo95 and _hi95, their bound_ (the
    physical limit), memory in bytes of the fullest card, term_<name> in s of a decode step; over_a,
    with its ends, is the throughput of a configuration over that of A, of the chosen rows alone.
    ValueError, with the reason, where nothing can be said."""
    rows = [row for name, setup in zip(NAMES, setups, strict=True) for row in _rows(name, setup)]
    found = pd.DataFrame(rows)
    b = found["chosen"].eq(True) & found["setup"].eq("B")
    ratio = _ends("over_a", _ratio(*setups))
    return found.assign(**{column: b.map({True: value}) for column, value in ratio.items()})


def _ratio(a: Setup, b: Setup) -> Interval:
    """Throughput of B over A at their own batches."""
    return throughput_ratio((b.case(), b.predict()), (a.case(), a.predict()))


@lru_cache(16)  # of two configurations one moves
def _rows(name: str, setup: Setup) -> list[dict]:
    batches = sorted({*BATCHES, setup.batch})
    own = [_predicted(setup, batch, setup.predict(batch)) for batch in batches]
    return [{"setup": name, **row} for row in [*own, *map(_measured, setup.near())]]


def _predicted(setup: Setup, batch: int, p: Prediction) -> dict:
    after = max(1, setup.output_tokens - 1)
    row = {"got": "predicted", "batch": batch, "chosen": batch == setup.batch}
    row |= {"what": setup.model_copy(update={"batch": batch}).told()}
    row |= _ends("throughput_tok_s", p.throughput_tok_s) | _ends("tpot_s", p.tpot_s)
    row |= {"bound_tpot_s": p.bound_tpot_s, "binds": p.binds, "fits": p.memory.fits}
    row |= {"bound_throughput_tok_s": setup.rate(after * p.bound_tpot_s, batch)}
    told = (*MEMORY, "card_bytes", "usable_bytes", "lacks")
    row |= {part: getattr(p.memory, part) for part in told}
    terms = p.terms | {"latencies": p.terms["latencies"] + p.terms["step"]}
    row |= {f"term_{term}_s": seconds for term, seconds in terms.items() if term != "step"}
    return row | {"kv_tokens": p.memory.kv_tokens, "notes": "; ".join(p.notes), "sure": p.source}


def _ends(name: str, found: Interval | None) -> dict:
    ends = (None,) * 3 if found is None else (found.value, found.lo95, found.hi95)
    return dict(zip((name, f"{name}_lo95", f"{name}_hi95"), ends, strict=True))


def _measured(point: Near) -> dict:
    seconds = point.ttft_s + max(0, point.output_tokens - 1) * point.tpot_s
    tokens = point.batch * (point.input_tokens + point.output_tokens)
    what = f"{point.model}, {point.shape}, {point.format}, {point.input_tokens} + "
    return {
        "got": "measured",
        "batch": point.batch,
        "throughput_tok_s": tokens / seconds,
        "tpot_s": point.tpot_s,
        "what": f"{what}{point.output_tokens} tokens; {point.distance:g} doublings away",
        "point_id": point.point_id,
    }


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """The row of each configuration at its own batch, indexed by A and B."""
    return table[(table["got"] == "predicted") & table["chosen"].eq(True)].set_index("setup")


def shown(res) -> pd.DataFrame:
    """A row per configuration and batch (`table_of`)."""
    return table_of(res.params.setups)
