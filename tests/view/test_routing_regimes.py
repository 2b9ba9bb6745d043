"""Section 1's comparison of routings: what is normalised to what, and which regime a published fall
is nearer to."""

import pandas as pd
import pytest

from moebook.sections.hyperparameter_scaling import commentary, figures
from moebook.sections.hyperparameter_scaling.regimes import (
    AUTHOR,
    OVER,
    falls,
    nearest,
    published,
    regime_rows,
)

MIXTRAL = "Mixtral-8x7B-v0.1"


def table(**throughputs: tuple[float, float, float]) -> pd.DataFrame:
    """Of each routing the throughput at 1, 2 and 8 active experts."""
    rows = [
        {"model": MIXTRAL, "top_k": k, "routing": routing, "throughput_tok_s": value}
        for routing, values in throughputs.items()
        for k, value in zip((1, 2, 8), values, strict=True)
    ]
    shared = {"sweeps": "routing", "identical": False, "method": "sampled", "status": "ok"}
    return pd.DataFrame(rows).assign(**shared, batch=16, reason=None)


def test_each_regime_is_over_its_own_two_active_and_the_published_one_beside():
    found = regime_rows(table(uniform=(1100, 1000, 900), same=(4000, 3000, 1200)))
    at = found.set_index(["regime", "top_k"])[OVER]
    assert at["same", 8] == pytest.approx(0.4) and at["uniform", 1] == pytest.approx(1.1)
    theirs = published().set_index(["model", "top_k"])["throughput_tok_s"]
    assert at[AUTHOR, 8] == pytest.approx(theirs[MIXTRAL, 8] / theirs[MIXTRAL, 2])
    assert at[AUTHOR, 8] == pytest.approx(0.578, abs=0.001)  # -42 %


@pytest.mark.parametrize(("same", "word"), [(1200, "same"), (2950, "uniform")])
def test_the_published_fall_is_said_to_be_nearest_to_one(same, word):
    made = table(uniform=(1100, 1000, 560 if word == "uniform" else 900), same=(4000, 3000, same))
    assert nearest(falls(regime_rows(made)).loc[MIXTRAL]) == word
    assert f"nearest to `{word}`" in commentary.routing_regimes(made)


def test_figure_holds_every_row_and_without_the_sweep_the_words_say_so():
    made = table(uniform=(1100, 1000, 900), same=(4000, 3000, 1200))
    _, rows = figures.routing_regimes(made)
    assert set(rows["kind"]) == {"sampled", "published"} and len(rows) == 6 + 2
    assert "Not part of this plan" in commentary.routing_regimes(made.assign(sweeps="grid"))
