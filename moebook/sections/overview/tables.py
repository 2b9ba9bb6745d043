"""Tables of notebook 00: where the source contradicts itself, all verdicts, agreement with the
reference."""

import pandas as pd

from moebook.results.report import verdict_table
from moebook.sections import profile
from moebook.sections.overview.conflicts import CONFLICTS


def conflicts() -> pd.DataFrame:
    """Places where the source contradicts itself."""
    frame = pd.DataFrame(CONFLICTS)
    ids = frame["claims"].map(lambda ids: ", ".join(ids) or "–")
    return frame.assign(claims=ids).rename(columns={"also_says": "also says"})


def claims(run):
    """All claims with the verdicts of the profile's results; where they come from is printed."""
    if run.params.dry_run:
        print("dry run: no results are read")
        return verdict_table([])
    found, origins = profile.all_verdicts(run.params.profile, run.params.output_root)
    print("\n".join(origins))
    return verdict_table(found)


def compared(run) -> pd.DataFrame | None:
    """Own results over the reference's, a row a notebook; what there is to say of each is
    printed."""
    if run.params.dry_run:
        print("dry run: no results are read")
        return None
    found = profile.compared(run.params.profile, run.params.output_root)
    tables = [one.table for one in found if not one.table.empty]
    if not tables:
        print(
            f"No point of profile {run.params.profile!r} was measured both here and for the "
            f"reference: nothing to compare."
        )
        return None
    print("\n".join(one.text for one in found))
    by_notebook = pd.concat(tables).groupby("notebook", sort=False)
    return by_notebook.agg(
        points=("ratio", "size"),
        median=("ratio", "median"),
        least=("ratio", "min"),
        most=("ratio", "max"),
        ranges_overlap=("within", "sum"),
    ).reset_index()
