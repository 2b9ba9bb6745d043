"""What rows measured on one card would be on several: scaled by the performance model, labelled so,
and deciding nothing."""

from dataclasses import replace

import pandas as pd

from moebook.predict import measured
from moebook.predict.ratio import throughput_ratio
from moebook.predict.what_if import Interval, predict

SOURCES_CARDS = 4  # what the source's runs of these sections were split over


def faster(
    a: pd.Series, b: pd.Series, ranks: int = SOURCES_CARDS, device: str | None = None
) -> Interval | None:
    """Throughput of row a over row b of a summary, were both split over `ranks` tensor ranks of
    `device` (None: of their own kind): what was measured, times what the model says that the ratio
    changes by. The interval is that of a predicted ratio there. None where nothing can be said: no
    calibration of a device, or the engine refuses the split."""
    here, there = [], []
    try:
        kind = device or a["device_kind"]
        for row in (a, b):
            case = measured.case(row)
            here.append(_predicted(case, row["device_kind"]))
            split = replace(case.settings, tensor_parallel=ranks)
            there.append((case := replace(case, settings=split), _predicted(case, kind)))
        found = throughput_ratio(*there)
    except (KeyError, ValueError):  # a table without these columns, or a case that is refused
        return None
    model = here[0].throughput_tok_s.value / here[1].throughput_tok_s.value
    anchor = a["throughput_tok_s"] / b["throughput_tok_s"] / model
    return Interval(*(anchor * value for value in vars(found).values()))


def _predicted(case, kind: str):
    return predict(case.arch, case.settings, case.workload, kind)


def words(pairs: dict[str, tuple[pd.Series, pd.Series]]) -> str:
    """What each pair's ratio would be on the source's cards, in a sentence; empty where none can be
    predicted. pairs: what a over b is, and both rows."""
    found = {name: faster(*rows) for name, rows in pairs.items()}
    said = [f"{name} {percent(x)}" for name, x in found.items() if x is not None]
    if not said:
        return ""
    start = f"Scaled to the source's {SOURCES_CARDS} cards (TP {SOURCES_CARDS}) by the performance"
    return f" {start} model, predicted, deciding nothing: {'; '.join(said)}, with 95 % intervals."


def percent(ratio: Interval) -> str:
    """A ratio as a change in percent with its 95 % interval."""
    value, low, high = (100 * (x - 1) for x in (ratio.value, ratio.lo95, ratio.hi95))
    return f"{value:+.0f} % [{low:+.0f}, {high:+.0f}]"
