"""A section's commentary: text whose every number is computed from the table it speaks of.

@commentary
def over_batch(table): ...

over_batch(run)            in a notebook: Markdown
over_batch(run.table)      anywhere: the text
"""

from collections.abc import Callable
from functools import wraps

import pandas as pd


def commentary(say: Callable[..., str]) -> Callable:
    """Let a function (table, ...) -> text also take a notebook's run, and return Markdown then."""

    @wraps(say)
    def either(of, *args, **given):
        if isinstance(of, pd.DataFrame):
            return say(of, *args, **given)
        return of.say(say, *args, **given)

    return either
