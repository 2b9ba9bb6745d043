"""Section 1's comparison of routings: what is normalised to what, and which regime a published fall
is nearer to."""

import pandas as pd
import pytest

from moebook.sections.hyperparameter_scaling import commentary, figures
from moebook.sections.hyperparameter_scaling.tables import (
    AUTHOR,
    OVER,
    ends,
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
    assert nearest(ends(regime_rows(made)))["regime"] == word
    assert f"nearest to `{word}`" in commentary.routing_regimes(made)


def test_imposed_routings_are_scaled_to_the_cards_that_were_published_of():
    shape = {"num_layers": 32, "expert_ffn_dim": 14336, "num_experts": 8, "series": ""}
    split = {"tensor_parallel": 1, "pipeline_parallel": 1, "expert_parallel": False}
    told = {"dtype": "bfloat16", "device_kind": "h200", "graphs": "light"}
    lengths = {"input_tokens": 1024, "output_tokens": 1024}
    made = table(uniform=(1100, 1000, 900), same=(4000, 3000, 1200))
    made = made.assign(**shape, **split, **told, **lengths)
    rows = regime_rows(made)
    there = rows[rows["kind"] == "predicted"].set_index(["regime", "top_k"])
    assert set(there["place"]) == {f"{MIXTRAL}, on 4 H100"} and len(there) == 6
    assert there.loc[("same", 2), [OVER, f"{OVER}_lo", f"{OVER}_hi"]].tolist() == [1, 1, 1]
    same = there.loc[("same", 8)]
    assert 0.4 < same[OVER] < same[f"{OVER}_hi"]  # what is the same for any K blunts the fall
    assert same[f"{OVER}_lo"] < same[OVER] < there.loc[("uniform", 8), OVER]
    found = nearest(ends(rows))
    assert found["regime"] == "same" and found["kind"] == "predicted"
    assert "inside the interval of `same` alone" in commentary.routing_regimes(made)


def test_figure_holds_every_row_and_without_the_sweep_the_words_say_so():
    made = table(uniform=(1100, 1000, 900), same=(4000, 3000, 1200))
    _, rows = figures.routing_regimes(made)
    assert set(rows["kind"]) == {"sampled", "published"} and len(rows) == 6 + 2
    assert "Not part of this plan" in commentary.routing_regimes(made.assign(sweeps="grid"))


def grid_of(**throughputs: tuple[float, float, float]) -> pd.DataFrame:
    made = table(**throughputs).assign(expert_ffn_dim=14336, num_experts=8)
    return made.assign(sweeps=["grid" if r == "model" else f"grid_{r}" for r in made["routing"]])


def test_the_gap_of_the_grid_is_fewest_over_most_active_under_each_routing():
    made = grid_of(model=(1200, 1100, 1000), same=(3000, 2000, 1000))
    _, rows = figures.gap_by_routing(made)
    assert rows.set_index("regime")["gap"].to_dict() == {"own routers": 1.2, "same": 3.0}
    said = commentary.gap_by_routing(made)
    assert "| own routers | same |" in said and "| +20 % | +200 % |" in said


def test_one_value_of_active_experts_has_no_gap():
    alone = grid_of(model=(1200, 1100, 1000)).query("top_k == 8")
    assert "No two values" in commentary.gap_by_routing(alone)
    with pytest.raises(ValueError, match="gap_by_routing"):
        figures.gap_by_routing(alone)
