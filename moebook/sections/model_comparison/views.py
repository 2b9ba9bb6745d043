"""Section 9 in the explorer: its figures as views."""

import pandas as pd

from moebook.explore.views import View
from moebook.sections.model_comparison import breakdown
from moebook.sections.model_comparison.params import LLMS


def _parts(_: pd.DataFrame) -> pd.DataFrame:
    found = breakdown.with_shares(breakdown.parameter_counts())
    return found.assign(status="ok", method="computed")


def _sizes(_: pd.DataFrame) -> pd.DataFrame:
    found = breakdown.model_sizes().drop(columns="arch")
    return found.assign(status="ok", method="computed")


COUNTED = (
    View(
        "Fig 1: parameters by part",
        None,
        "model",
        "component",
        None,
        "total_share_pct",
        table=_parts,
    ),
    View("models", None, "top_k", "model", None, "active_parameters", log_x=False, table=_sizes),
)
VIEWS = (
    View("Fig 3: language models", LLMS, "model", "series"),
    View("Fig 4: vision-language models", "vlms", "model", "series"),
    *COUNTED,
)
