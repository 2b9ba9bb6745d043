"""What the measured points that ship tell of a prediction: the nearest to a case, which a
prediction of it leans on, and how sure a ratio of two predictions is.

Distance is counted in doublings: the root of the sum of squares of log2 ratios of batch, context
(tokens in and out), layers, hidden size, expert width, experts and active experts, with one more of
each kind of thing that differs (model, number format, ranks, routing).

A ratio, such as 1 over 8 active experts on four cards that nobody measured, is labelled predicted
and decides nothing. What the fit gets wrong of a model it gets wrong of both, so it is surer than
its parts: its half width is the quantile of differences of left-out errors between two points of
one model, format and way of splitting on one card, and of one class of batch where the two of the
ratio are. Pairs of all cards count together: some cards have few."""

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from moebook.models.one_rank import RANK
from moebook.predict import shipped
from moebook.predict.case import Case
from moebook.predict.shipped import LEVELS, batch_class
from moebook.predict.what_if import Interval, Prediction
from moebook.study.routing import MODEL, UNIFORM

SIZES = ("batch", "num_layers", "hidden_size", "expert_ffn_dim", "num_experts", "top_k")
ALIKE = ("device_kind", "model", "format", "tensor_parallel", "pipeline_parallel", "draft")


@dataclass(frozen=True)
class Near:
    """A measured point and how far it is; times in s."""

    distance: float
    model: str
    shape: str
    format: str
    batch: int
    input_tokens: int
    output_tokens: int
    ttft_s: float
    tpot_s: float
    point_id: str


def nearest(case: Case, device: str, count: int = 3) -> list[Near]:
    """The `count` nearest points of a device, each shape and workload once; ranks' shares, which
    no user runs, are left out."""
    a, w, s = case.arch, case.workload, case.settings
    here = {
        "batch": w.batch,
        "num_layers": a.num_layers,
        "hidden_size": a.hidden_size,
        "expert_ffn_dim": a.expert_ffn_dim,
        "num_experts": a.num_experts,
        "top_k": a.top_k,
    }
    context = w.input_tokens + w.output_tokens
    kinds = {
        "model": a.unedited_name,
        "format": case.format,
        "tensor_parallel": str(s.tensor_parallel),
        "pipeline_parallel": str(s.pipeline_parallel),
        "routing": s.routing or MODEL,
    }
    found = {}
    for row in shipped.points():
        shares = row["series"].startswith(RANK)
        drafts = row["draft_tokens"] not in ("", "0", "0.0")
        if row["device_kind"] != device or shares or drafts:
            continue
        sizes = sum(_doublings(here[name], row[name]) ** 2 for name in SIZES)
        there = int(row["input_tokens"]) + int(row["output_tokens"])
        sizes += _doublings(context, there) ** 2
        others = sum(_alike(row[name]) != _alike(value) for name, value in kinds.items())
        far = math.sqrt(sizes + others)
        place = (row["model"], *(row[n] for n in SIZES), row["format"], there)
        if place not in found or far < found[place][0]:
            found[place] = far, row
    ordered = sorted(found.values(), key=lambda each: each[0])[:count]
    return [_near(far, row) for far, row in ordered]


def _doublings(here: float, there: str | float) -> float:
    """log2 of the ratio; a size that one of both has not counts as 4 doublings."""
    size = float(there or 0)
    if not here or not size:
        return 0.0 if here == size else 4.0
    return math.log2(here / size)


def _alike(kind: str) -> str:
    return MODEL if kind == UNIFORM else kind


def _near(far: float, row: dict) -> Near:
    shape = f"L {row['num_layers']}, I {row['expert_ffn_dim']}, E {row['num_experts']}"
    shape += f", K {row['top_k']}, TP {row['tensor_parallel']}"
    counts = (int(row[name]) for name in ("batch", "input_tokens", "output_tokens"))
    times = (float(row[name]) for name in ("ttft_s", "tpot_s"))
    return Near(round(far, 2), row["model"], shape, row["format"], *counts, *times, row["point_id"])


@cache
def width(same_batch: bool) -> dict[int, float]:
    """level -> half width on the logarithm of a ratio of step times; same_batch: of two of one
    class of batch."""
    groups: dict[tuple, list[float]] = {}
    for row in shipped.points():
        if row["left_out_tpot_s"]:
            error = math.log(float(row["left_out_tpot_s"]) / float(row["tpot_s"]))
            batch = batch_class(int(row["batch"])) if same_batch else None
            groups.setdefault((batch, *(row[name] for name in ALIKE)), []).append(error)
    apart = [abs(a - b) for errors in groups.values() for a, b in itertools.combinations(errors, 2)]
    return {level: float(np.quantile(apart, level / 100)) for level in LEVELS}


def throughput_ratio(a: tuple[Case, Prediction], b: tuple[Case, Prediction]) -> Interval:
    """Throughput of a over b on one kind of card; exactly 1 of one and the same. One model (edits
    of it too), format and way of splitting have the narrow interval; any others that of two
    predictions that err apart."""
    if a == b:
        return Interval.of(1.0, dict.fromkeys(LEVELS, 0.0))
    value = a[1].throughput_tok_s.value / b[1].throughput_tok_s.value
    each = [math.log(p.throughput_tok_s.hi95 / p.throughput_tok_s.value) for _, p in (a, b)]
    less = [math.log(p.throughput_tok_s.hi80 / p.throughput_tok_s.value) for _, p in (a, b)]
    apart = {95: math.hypot(*each), 80: math.hypot(*less)}
    if _kin(a[0]) == _kin(b[0]):
        beyond = max(p.wider for _, p in (a, b))
        batches = {batch_class(case.workload.batch) for case, _ in (a, b)}
        found = width(same_batch=len(batches) == 1)
        apart = {n: min(apart[n], beyond * w) for n, w in found.items()}
    return Interval.of(value, apart)


def _kin(case: Case) -> tuple:
    s = case.settings
    split = s.tensor_parallel, s.pipeline_parallel, s.expert_parallel
    return case.arch.unedited_name, case.format, split, s.speculation
