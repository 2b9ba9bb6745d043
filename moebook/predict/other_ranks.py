"""What rows measured on one card would be on several: predicted beside them, labelled so, and
deciding nothing."""

from dataclasses import replace

import pandas as pd

from moebook.predict import measured
from moebook.predict.ratio import throughput_ratio
from moebook.predict.what_if import Interval, predict

SOURCES_CARDS = 4  # what the source's runs of these sections were split over


def faster(a: pd.Series, b: pd.Series, ranks: int = SOURCES_CARDS) -> Interval | None:
    """Throughput of row a over row b of a summary, were both split over `ranks` tensor ranks; None
    where nothing can be said: no calibration of their device, or the engine refuses the split."""
    told = []
    try:
        for row in (a, b):
            case = measured.case(row)
            case = replace(case, settings=replace(case.settings, tensor_parallel=ranks))
            known = predict(case.arch, case.settings, case.workload, row["device_kind"])
            told.append((case, known))
    except (KeyError, ValueError):  # a table without these columns, or a case that is refused
        return None
    return throughput_ratio(*told, a["device_kind"])


def words(pairs: dict[str, tuple[pd.Series, pd.Series]]) -> str:
    """What each pair's ratio would be on the source's cards, in a sentence; empty where none can be
    predicted. pairs: what a over b is, and both rows."""
    found = {name: faster(*rows) for name, rows in pairs.items()}
    said = [
        f"{name} {100 * (x.value - 1):+.0f} % [{100 * (x.lo95 - 1):+.0f}, "
        f"{100 * (x.hi95 - 1):+.0f}]"
        for name, x in found.items()
        if x is not None
    ]
    if not said:
        return ""
    start = f"On the source's {SOURCES_CARDS} cards (TP {SOURCES_CARDS}), predicted, deciding"
    return f" {start} nothing: {'; '.join(said)}, with 95 % intervals."
