"""Prose of section 7: planted numbers, no holes in half-measured tables, and reasons where nothing
was measured."""

import random
import re

import numpy as np
import pandas as pd
import pytest
from balance_tables import cpu, gpu

from moebook.results.words import NOTHING
from moebook.sections.load_balancing import commentary as r

NAMES = sorted(r.__all__)
LOST = (
    "throughput",
    "ttft",
    "tpot",
    "layer_",
    "perplexity",
    "balance_",
    "expert",
    "load_",
    "loss_",
    "ablation",
    "train_",
    "parameters",
    "unigram",
    "floor_",
)


def unmeasured(table: pd.DataFrame, gone: np.ndarray) -> pd.DataFrame:
    gone = gone & (table["status"] == "ok").to_numpy()
    lost = {c: table[c].where(~gone) for c in table if c.startswith(LOST)}
    return table.assign(
        **lost,
        status=table["status"].mask(gone, "not_run"),
        reason=table["reason"].astype(object).mask(gone, "not measured yet"),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_which_only_a_part_was_measured_is_read_without_holes(name):
    table = cpu()
    for seed in range(8):
        rng = random.Random(seed)
        share = rng.random()
        gone = np.array([rng.random() < share for _ in range(len(table))])
        text = getattr(r, name)(unmeasured(table, gone))
        assert not re.search(r"\bnan\b|NaT|None|<NA>", text), text
        assert not re.search(r"^\W*\.|: ?\.|: ?;|; ?\.|\(\)", text), text


@pytest.mark.parametrize("name", [n for n in NAMES if n != "ways"])
def test_nothing_measured_is_said_with_the_reason(name):
    text = getattr(r, name)(unmeasured(cpu(), np.ones(len(cpu()), bool)))
    assert re.search(r"[Nn]othing|not measured", text) and "not measured yet" in text, text
    assert getattr(r, name)(cpu().assign(sweeps="other")).startswith(
        "Not part of this plan: sweep `"
    )


@pytest.mark.parametrize("name", NAMES)
def test_reading_changes_nothing(name):
    before = cpu().copy()
    assert getattr(r, name)(cpu()) == getattr(r, name)(cpu())
    pd.testing.assert_frame_equal(cpu(), before)


def mean(series: str, column: str) -> float:
    rows = gpu()[(gpu()["sweeps"] == "balance") & (gpu()["series"] == series)]
    return rows[column].mean()


def test_the_headline_sets_no_balance_against_the_most_even():
    text = r.headline(gpu())
    assert f"takes {mean('no-balance', 'balance_max_over_mean'):.1f} times" in text
    most, cv = mean("aux-0.1", "balance_max_over_mean"), mean("aux-0.1", "balance_cv")
    assert f"with aux-0.1, {most:.1f} times and {cv:.2f}" in text
    assert re.search(r"ρ = no-balance \+0\.\d+, aux-0.01 \+0\.\d+, loss-free", text)


def test_training_tells_size_tokens_and_perplexities():
    text = r.training(gpu())
    assert "5 models" in text and "4.2 million parameters, 8 layers of 64 experts, 8 active" in text
    assert (
        "33.0 million tokens in 2,000 steps" in text
        and "no-balance 9.00" in text
        and "aux-0.1 9.54" in text
    )
    assert "token frequencies alone give 120.0" in text


def test_heat_names_the_level_of_chance():
    assert "Of 73,728 tokens" in r.heat(gpu()) and "coefficient of variation of 0.010" in r.heat(
        gpu()
    )


def test_domains_move_more_choices_where_nothing_balances():
    shares = [int(s) for s in re.findall(r"\*\* (\d+) %", r.domains(gpu()))]
    assert len(shares) == 5 and shares[0] == max(shares) > 3 * shares[3]


def test_quality_is_over_no_balance():
    text = r.quality(gpu())
    assert "no-balance has perplexity 9.00" in text and "**aux-0.1** +6.00 % perplexity" in text
    assert "trained once" in text


def test_ep_and_importance_tell_each_variant():
    assert f"**no-balance** {mean('no-balance', 'balance_ep2_max_over_mean'):.2f} on 2" in r.ep(
        gpu()
    )
    assert r.importance(gpu()).count("ρ = ") == 3 and "over 8 layers of 64 experts" in r.importance(
        gpu()
    )


def test_skew_saves_reading_on_one_device_and_costs_ranks():
    assert re.search(
        r"\*\*synthetic-OL-1B-7B\*\* at zipf 2: -4\d % time at 16 tokens \(29 experts hit in place "
        r"of 56\)",
        r.skew_layer(gpu()),
    )
    assert "0 of 84 skewed layers are slower" in r.skew_layer(gpu())
    assert "batch 16 +33 % at zipf 2 (1,811 to 2,401 tokens/s)" in r.skew_engine(gpu())
    text = r.skew_ep(gpu())
    assert (
        text.startswith("PREDICTED for synthetic-OL-1B-7B")
        and "2.11 times on 8 ranks, one device measured 1.00" in text
    )


def test_both_ways_of_counting_are_compared():
    rows = cpu()[cpu()["sweeps"] == "balance"].head(2).assign(sweeps="capture_check")
    same = pd.concat([rows.head(1), rows.head(1).assign(series="engine")], ignore_index=True)
    assert "0.000 % of" in r.ways(same) and NOTHING not in r.ways(same)
    assert "one way only" in r.ways(cpu())
