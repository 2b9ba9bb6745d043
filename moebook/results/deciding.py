"""Which rows of a summary may decide claims, and why the others may not.

`with_decisions` adds two columns to a summary (a row per point); `claims.evaluate` leaves rows out
by `why_not`, so that what a table says and what a verdict rests on are one.

    decides   true: the row has a number of a run, and claims may rest on it
    note      why it decides nothing
"""

import pandas as pd

from moebook.models.one_rank import RANK
from moebook.predict.under_bound import is_under, of_those_under
from moebook.results.schema import PANDAS

COMPOSED = "composed"  # method of rows that were made of other rows, not run
CHECKS = {  # sweep -> why a row of it alone decides nothing
    "support": "a reduced depth that extrapolated points rest on: decides nothing itself",
    "validation": "a check of the methods against each other: decides nothing itself",
}
ONE_RANK = "one rank of a split model, which composed rows rest on: decides nothing itself"
BESIDE = "composed of one rank's time and communication: stands beside runs, decides nothing"
UNEVEN = "its routing was not near uniform; decides nothing"


def with_decisions(summary: pd.DataFrame) -> pd.DataFrame:
    """A copy with `decides` and `note`."""
    notes, lacking = why_not(summary), summary["status"] != "ok"
    decides = notes.isna() & ~lacking
    notes = notes.mask(lacking, summary["status"] + ": it has no number")
    return summary.assign(decides=decides, note=notes)


def why_not(summary: pd.DataFrame) -> pd.Series:
    """Why each row decides nothing, number or not; null for rows that may decide."""
    found = _under(summary)
    for mask, reason in (*_checks(summary), (summary["method"] == COMPOSED, BESIDE)):
        found = found.mask(found.isna() & mask, reason)
    return found


def _checks(summary: pd.DataFrame) -> list[tuple[pd.Series, str]]:
    """Rows that only check or support others: those of no other sweep, and single ranks."""
    sweeps = [set(str(names).split(",")) for names in summary["sweeps"]]
    found = [
        (pd.Series([name in own <= set(CHECKS) for own in sweeps], summary.index), reason)
        for name, reason in CHECKS.items()
    ]
    if "series" in summary:
        found.append((summary["series"].astype(str).str.startswith(RANK), ONE_RANK))
    return found


def _under(summary: pd.DataFrame) -> pd.Series:
    """Why rows of a model under its bound decide nothing; null for all others."""
    found = pd.Series(None, summary.index, dtype=PANDAS["text"])
    left_out = of_those_under(summary)
    if not left_out.any():
        return found
    pct = 100 * (1 - summary["tpot_s"].astype(float) / summary["floor_tpot_s"].astype(float))
    told = pct.map(f"measured under its physical limit by {{:.0f}} %: {UNEVEN}".format)
    found = found.mask(left_out, f"its model was measured under its limit elsewhere: {UNEVEN}")
    return found.mask(left_out & is_under(summary), told)
