"""Section 9's table names the file of measured accuracies where the parameters give one."""

import pandas as pd

from moebook.results.loading import Results
from moebook.sections.model_comparison.pareto import COLUMN


def summary(res: Results) -> pd.DataFrame:
    file = res.params.accuracy_file
    return res.summary if file is None else res.summary.assign(**{COLUMN: file})
