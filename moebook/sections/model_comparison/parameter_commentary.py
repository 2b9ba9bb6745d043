"""Fig 1 in words."""

import pandas as pd

from moebook.results.commentary import commentary
from moebook.sections.model_comparison import parameters


@commentary
def parameter_shares(_: pd.DataFrame) -> str:
    """Fig 1 in words: the share of routed and shared experts' FFN layers in all and in active
    parameters."""
    rows = parameters.parameter_shares()
    ffn = rows["component"].isin(["experts", "shared_experts", "dense_ffn"])
    totals = rows.groupby("model", sort=False)[["total_parameters", "active_parameters"]].sum()
    share = (
        100
        * rows[ffn].groupby("model", sort=False)[["total_parameters", "active_parameters"]].sum()
        / totals
    )
    least, least_active = share["total_parameters"].idxmin(), share["active_parameters"].idxmin()
    return (
        f"FFN layers (routed, shared and dense) hold {share['total_parameters'].min():.0f} % "
        f"({least}) to "
        f"{share['total_parameters'].max():.0f} % of all parameters, and "
        f"{share['active_parameters'].min():.0f} % "
        f"({least_active}) to {share['active_parameters'].max():.0f} % of those active for one "
        f"token."
    )
