"""Effects of section 7: planted imbalance, steps and correlations come back, and decide the
claims."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from moebook import sections
from moebook.results import verdicts as claims
from moebook.results.cells import Cells, Untested
from moebook.sections.load_balancing.claims import (
    coefficient_steps,
    imbalance_ratio,
    importance_rank,
    perplexity_cost,
    rank_error,
)

CV = {"no-balance": 1.2, "aux-0.001": 0.6, "aux-0.01": 0.3, "aux-0.1": 0.15, "loss-free": 0.4}
TEXTS = ("code", "prose", "numbers")


def row(sweep, series, method, text=None, **more):
    return {
        "sweeps": sweep,
        "series": series,
        "model": f"tiny-{series}",
        "method": method,
        "status": "ok",
        "reason": None,
        "expert_ffn_dim": 64,
        "num_experts": 16,
        "top_k": 4,
        "batch": 8,
        "input_tokens": 64,
        "output_tokens": 1,
        "text": text,
        "device": "synthetic",
        "key": f"{sweep}/{series}/{text}",
        "throughput_tok_s": None,
        **more,
    }


def table(cv=CV, width=0.05, cost=lambda s: 2.0, rho=None, experts=32) -> pd.DataFrame:
    """cv of each variant and text, +-width relative; perplexity cost % over no-balance; rho: series
    -> planted order."""
    rows = []
    for s, value in cv.items():
        rows += [
            row(
                "balance",
                s,
                "routing",
                t,
                balance_cv=value * (1 + i / 10),
                balance_cv_lo=value * (1 + i / 10 - width),
                balance_cv_hi=value * (1 + i / 10 + width),
            )
            for i, t in enumerate(TEXTS)
        ]
        rows.append(
            row(
                "training",
                s,
                "training",
                perplexity=10.0 * (1 if s == "no-balance" else 1 + cost(s) / 100),
            )
        )
    for s, strength in (rho or {}).items():
        rng = np.random.default_rng(len(s))
        counts = rng.permuted(np.tile(np.arange(1, experts + 1), (4, 1)), axis=1)
        noise = rng.permuted(np.tile(np.arange(1, experts + 1), (4, 1)), axis=1)
        rise = strength * counts + np.sqrt(1 - strength**2) * noise
        rows.append(
            row(
                "importance",
                s,
                "ablation",
                "all",
                perplexity=10.0,
                expert_counts=json.dumps(counts.tolist()),
                ablation_perplexity=json.dumps((10 + rise / 100).tolist()),
            )
        )
    return pd.DataFrame(rows)


def cells(frame, metric="balance_cv", sweep="balance|training"):
    return Cells.of(frame, sweep, metric)


def verdicts(frame):
    return {v.id: v for v in claims.evaluate(frame, sections.claims(), checks=False)}


def test_cells_hold_the_metric_with_its_interval():
    found = cells(table())
    assert len(found.ok) == 15 and len(found.planned) == 20
    row = found.ok.iloc[0]
    half = np.log(row["balance_cv_hi"] / row["balance_cv_lo"]) / 2
    assert found.values.value[0] == pytest.approx(1.2)
    assert found.values.se[0] == pytest.approx(half / 1.96, rel=1e-3)


def test_a_metric_that_the_table_lacks_is_named_where_the_sweep_is_there():
    with pytest.raises(ValueError, match=r"columns \['balance_cv'\] are missing"):
        cells(table().drop(columns="balance_cv"))
    with pytest.raises(Untested, match="no points of the sweep"):
        cells(table().drop(columns="balance_cv"), sweep="grid")


def test_imbalance_is_a_ratio_on_the_same_text():
    found = imbalance_ratio(cells(table()), "aux-0.01")
    assert found.values == pytest.approx([4, 4, 4]) and found.unit == "times"
    assert all(3.5 < item.ends()[0] < 4 < item.ends()[1] < 4.5 for item in found.items)
    family = imbalance_ratio(cells(table()), "aux-")
    assert sorted(family.values) == pytest.approx([2, 2, 2, 4, 4, 4, 8, 8, 8])
    assert "aux-0.001: 2.00" in family.text
    with pytest.raises(
        Untested, match="no measured points of nothing; series measured: no-balance"
    ):
        imbalance_ratio(cells(table()), "nothing")


def test_texts_are_not_mixed():
    frame = table()
    frame = frame[~((frame["series"] == "no-balance") & (frame["text"] == "prose"))]
    assert len(imbalance_ratio(cells(frame), "loss-free").items) == 2
    only = frame[(frame["series"] != "no-balance") | (frame["text"] != "code")]
    only = only[(only["series"] != "loss-free") | (only["text"] == "code")]
    with pytest.raises(Untested, match="no text that both no-balance and loss-free were read on"):
        imbalance_ratio(cells(only), "loss-free")


def test_steps_run_from_no_loss_to_the_strongest():
    found = coefficient_steps(cells(table()))
    assert len(found.items) == 9 and found.values == pytest.approx([-50] * 9)
    assert "no-balance 1.32, aux-0.001 0.66" in found.text
    risen = coefficient_steps(cells(table({**CV, "aux-0.1": 0.9})))
    assert (risen.values < 0).sum() == 6
    with pytest.raises(Untested, match="no measured points of aux-"):
        coefficient_steps(cells(table({"no-balance": 1.0, "loss-free": 0.2})))


def test_the_cost_in_perplexity_is_read_from_training():
    found = perplexity_cost(
        cells(table(cost=lambda s: {"aux-0.001": 0, "aux-0.01": 1, "aux-0.1": 5}.get(s, 9)))
    )
    assert found.values == pytest.approx([0, 1, 5], abs=1e-9) and found.unit == "%"
    assert "aux-0.1 +5.00 %" in found.text
    with pytest.raises(Untested, match="no perplexity of no-balance and aux-"):
        perplexity_cost(cells(table().assign(perplexity=np.nan)))


def test_importance_ranks_within_layers_and_over_variants():
    frame = table(rho={"no-balance": 1.0, "aux-0.01": 0.0, "loss-free": 0.0})
    made = cells(frame, "perplexity", "importance")
    assert importance_rank(made, "no-balance").values == pytest.approx([1])
    found = importance_rank(made, ["aux-", "loss-free"])
    assert [item.label for item in found.items] == ["aux-0.01", "loss-free"]
    assert (abs(found.values) < 0.4).all() and found.unit == "rho"


def test_the_error_of_ranks_covers_what_chance_gives():
    """Of ranks without relation the mean over layers lies in its interval about 95 times in 100."""
    rng, experts, layers = np.random.default_rng(0), 32, 4
    means = []
    for _ in range(400):
        rho = [spearmanr(*rng.normal(size=(2, experts))).statistic for _ in range(layers)]
        means.append(abs(np.mean(rho)) < 1.96 * rank_error(np.array(rho), experts))
    assert 0.92 < np.mean(means) < 0.98


def test_claims_of_section_7():
    even = verdicts(table(rho={"no-balance": 0.9, "aux-0.01": 0.1, "loss-free": -0.1}))
    assert even["balance-aux-loss"].label == "supported on other conditions"
    assert (
        even["balance-aux-loss"].effect == pytest.approx(2)
        and even["balance-aux-loss"].unit == "times"
    )
    assert even["frequency-not-importance"].verdict == "supported"
    assert "each variant trained once" in even["balance-aux-loss"].reason
    assert even["balance-vl2"].verdict == even["balance-molmoe"].verdict == "untested"
    reason = even["balance-vl2"].reason
    assert "MME images" in reason and "notebook 07 says how" in reason


def test_claims_of_section_7_the_other_way():
    other = verdicts(
        table({s: 1.0 for s in CV}, rho={"no-balance": 0.9, "aux-0.01": 0.95, "loss-free": 0.95})
    )
    assert other["balance-aux-loss"].verdict == "contradicted"
    assert other["frequency-not-importance"].verdict == "contradicted"
    between = verdicts(table({**CV, "no-balance": 0.9}, rho={"aux-0.01": 0.6, "loss-free": 0.5}))
    assert between["frequency-not-importance"].verdict == "undecided"


def test_other_sections_do_not_need_these_columns():
    frame = (
        table()
        .assign(sweeps="grid", throughput_tok_s=1.0)
        .drop(columns=["balance_cv", "perplexity"])
    )
    assert verdicts(frame)["balance-aux-loss"].verdict == "untested"
