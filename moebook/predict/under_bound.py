"""Which models, and which rows of a summary, are measured faster than their floor: what floors and
claims leave out."""

import pandas as pd

UNDER_FLOOR = 0.05


def under_the_floor(summary: pd.DataFrame) -> list[str]:
    """Models measured faster than their floor by over UNDER_FLOOR without speculation: they read
    fewer experts than near-uniform routing would, so neither the floor nor a comparison by speed
    speaks of them. A CPU's caches can beat its copy rate, so there this tells nothing. Steps with a
    draft are judged apart, by `is_under`."""
    return sorted(summary.loc[of_those_under(summary), "model"].unique())


def of_those_under(summary: pd.DataFrame) -> pd.Series:
    """The rows of models under their floor: all of one notebook and number format in which the
    tokens are routed alike. Weights in another format, or choices imposed, are routed
    otherwise."""
    under = is_under(summary)
    if "draft_tokens" in summary:
        under &= summary["draft_tokens"].fillna(0) == 0
    named = ("notebook", "model", "quantization", "routing", "identical")
    places = [summary[c].astype(str) for c in named if c in summary]
    alike = pd.Series(list(zip(*places, strict=True)), summary.index, dtype=object)
    return alike.isin(set(alike[under]))


def is_under(summary: pd.DataFrame) -> pd.Series:
    """Whether each row's TPOT lies under its floor by over UNDER_FLOOR; False on a CPU and where
    there is no floor. With a draft it tells that the tokens of a step share experts more than
    tokens drawn at random do."""
    if "floor_tpot_s" not in summary or "device_kind" not in summary:
        return pd.Series(False, summary.index)
    under = summary["tpot_s"] < (1 - UNDER_FLOOR) * summary["floor_tpot_s"]
    return under & (summary["device_kind"] != "cpu")
