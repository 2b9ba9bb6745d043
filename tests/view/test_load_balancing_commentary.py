"""Prose of section 7: planted numbers, no holes in half-measured tables, and reasons where nothing
was measured."""

import random
import re

import numpy as np
import pandas as pd
import pytest
from balance_tables import VARIANTS, cpu, gpu

from moebook.results.commentary import NOTHING
from moebook.sections.load_balancing import commentary as r

NAMES = sorted(
    name
    for name, one in vars(r).items()
    if getattr(one, "__module__", "") == r.__name__ and name != "numbers"
)
NAMES = [name for name in NAMES if not name.startswith("_")]
LOST = (
    "throughput",
    "ttft",
    "tpot",
    "layer_",
    "perplexity",
    "balance_",
    "expert",
    "step_experts",
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


def cells(text: str) -> dict[str, list[str]]:
    """Of the table in a commentary: first cell of each line -> the others."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines[2:]}


def test_the_headline_sets_no_balance_against_the_most_even():
    text = r.headline(gpu())
    assert f"takes {mean('no-balance', 'balance_max_over_mean'):.1f} times" in text
    most, cv = mean("aux-0.1", "balance_max_over_mean"), mean("aux-0.1", "balance_cv")
    assert f"With aux-0.1 these are {most:.1f} times and {cv:.2f}." in text
    assert re.search(r"ρ = no-balance \+0\.\d+, aux-0.01 \+0\.\d+, loss-free", text)


def test_training_tells_size_tokens_and_perplexities():
    text = r.training(gpu())
    assert (
        "5 models" in text and "Token frequencies alone" in text and "perplexity of 120.0" in text
    )
    found = cells(text)
    assert list(found) == list(VARIANTS) and found["aux-0.1"][0] == "9.54"
    assert found["no-balance"] == ["9.00", "4.2", "8", "64, 8", "33.0", "2,000", "410"]


def test_heat_maps_name_the_level_of_chance():
    text = r.heatmaps(gpu())
    assert "of 73,728 tokens" in text and "coefficient of variation of 0.010" in text
    most = max(float(line[0]) for line in cells(text).values())
    assert cells(text)["no-balance"][0] == f"{most:.1f}"


def test_domains_move_more_choices_where_nothing_balances():
    shares = [int(line[0].removesuffix(" %")) for line in cells(r.domains(gpu())).values()]
    assert len(shares) == 5 and shares[0] == max(shares) > 3 * shares[3]


def test_training_ends_as_uneven_as_it_was_planted():
    found = cells(r.over_training(gpu()))
    first, last = (float(number) for number in found["no-balance"][:2])
    assert last > 5 * first and found["no-balance"][2].endswith("at step 2,000")
    assert float(found["aux-0.1"][1]) < last / 5


def test_real_batches_lie_between_one_choice_for_all_and_even_draws():
    text = r.real_batches(gpu())
    code, drawn = "0.60 (code of tiny-no-balance, batch 4)", "0.90 (random ids of"
    assert f"Real batches lie at {code} to {drawn}" in text
    assert cells(text)["tiny-no-balance"] == ["16", "0.60", "0.90", "0.00"]


def test_quality_is_over_no_balance():
    text = r.balance_and_quality(gpu())
    assert cells(text)["no-balance"][:2] == ["9.00", "+0.00 %"]
    assert cells(text)["aux-0.1"][:2] == ["9.54", "+6.00 %"] and "trained once" in text


def test_ep_and_importance_tell_each_variant():
    ranks = cells(r.ep_balance(gpu()))["no-balance"]
    assert ranks[0] == f"{mean('no-balance', 'balance_ep2_max_over_mean'):.2f}"
    text = r.importance(gpu())
    assert list(cells(text)) == ["no-balance", "aux-0.01", "loss-free"]
    assert "over 8 layers of 64 experts" in text


def test_skew_saves_reading_on_one_device_and_costs_ranks():
    text = r.skew_layer(gpu())
    routing, fastest, hit, _ = cells(text)["synthetic-OL-1B-7B"]
    assert routing == "zipf 2" and re.fullmatch(r"16 tokens: -4\d % time", fastest)
    assert hit == "29 in place of 56" and "0 of 84 skewed layers are slower" in text
    found = cells(r.skew_engine(gpu()))["16"]
    assert found == ["zipf 2", "2,401", "1,811", "+33 %"]
    text = r.skew_ep(gpu())
    assert text.startswith("Time of a layer of synthetic-OL-1B-7B") and "PREDICTED" in text
    assert list(cells(text)) == ["reading (64 tokens)", "computing (16384 tokens)"]
    computing = cells(text)["computing (16384 tokens)"]
    assert computing[0] == "1.00" and computing[-1] == "2.11"


def test_both_ways_of_counting_are_compared():
    rows = cpu()[cpu()["sweeps"] == "balance"].head(2).assign(sweeps="capture_check")
    same = pd.concat([rows.head(1), rows.head(1).assign(series="engine")], ignore_index=True)
    assert "0.000 % of" in r.ways(same) and NOTHING not in r.ways(same)
    assert "one way only" in r.ways(cpu())
