"""Section 5's summary: with a row for every planned mode, composed of one rank's measured time."""

import pandas as pd

from moebook.results.loading import Results, architecture_of
from moebook.sections.parallelism.composed import add_composed


def summary(res: Results) -> pd.DataFrame:
    return add_composed(res.summary, res.roots, architecture_of(res.plan))
