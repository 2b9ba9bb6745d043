"""Section 8's table: other devices' rows and rooflines join one's own; claims are judged on one's
own rows alone."""

import pandas as pd

from moebook.results.loading import Results
from moebook.sections.accelerator_comparison import other_devices


def shown(res: Results) -> pd.DataFrame:
    return other_devices.joined(res)


def files(res: Results) -> dict[str, bytes]:
    """The other profiles' rows, for machines that lack theirs."""
    return other_devices.kept_files(res)
