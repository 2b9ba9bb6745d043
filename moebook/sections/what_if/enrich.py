"""Section 10's table: what is predicted of the two configurations of its parameters."""

import pandas as pd

from moebook.sections.what_if.table import table_of


def shown(res) -> pd.DataFrame:
    """A row per configuration and batch (table.py)."""
    return table_of(res.params.setups)
