"""The ratio of two predictions with its interval, such as 1 over 8 active experts on four cards
that nobody measured: labelled predicted, it decides nothing.

What the fit gets wrong of a model it gets wrong of both, so a ratio is surer than its parts. Its
half width is the quantile of differences of left-out errors between two points of one model, format
and way of splitting on one card, and of one class of batch where the two of the ratio are. Pairs of
all cards count together: some cards have few."""

import csv
import itertools
import math
from functools import cache
from importlib import resources

import numpy as np

from moebook.predict.shipped import FOLDER, LEVELS, POINTS, batch_class
from moebook.predict.step import Case
from moebook.predict.what_if import Interval, Prediction

ALIKE = ("device_kind", "model", "format", "tensor_parallel", "pipeline_parallel", "draft")


@cache
def width(same_batch: bool) -> dict[int, float]:
    """level -> half width on the logarithm of a ratio of step times; same_batch: of two of one
    class of batch."""
    groups: dict[tuple, list[float]] = {}
    file = resources.files("moebook.predict").joinpath(FOLDER, POINTS)
    with file.open(newline="") as text:
        for row in csv.DictReader(text):
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
