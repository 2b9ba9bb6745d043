"""Balance statistics on counts whose answers are known by hand, and what imbalance costs from first
principles."""

import json

import numpy as np
import pytest

from moebook.models.costs import distinct_experts
from moebook.results import balance as b
from moebook.results import schema
from moebook.sections.load_balancing import skew as c

BALANCE = tuple(
    name.removeprefix("balance_")
    for name in schema.names("point_number")
    if name.startswith("balance_") and not name.endswith(("_lo", "_hi"))
)


def stat(counts, name):
    return float(b.statistics(np.array(counts))[name])


@pytest.mark.parametrize(
    ("counts", "known"),
    [
        (
            [5] * 16,
            {
                "max_over_mean": 1,
                "cv": 0,
                "entropy": 1,
                "gini": 0,
                "top_share": 1 / 16,
                "ep8_max_over_mean": 1,
            },
        ),
        (
            [0, 0, 0, 9],
            {
                "max_over_mean": 4,
                "cv": np.sqrt(3),
                "entropy": 0,
                "gini": 0.75,
                "top_share": 1,
                "ep2_max_over_mean": 2,
                "ep4_max_over_mean": 4,
            },
        ),
        (
            [2, 2, 6, 6],
            {
                "max_over_mean": 1.5,
                "cv": 0.5,
                "gini": 0.25,
                "ep2_max_over_mean": 1.5,
                "ep4_max_over_mean": 1.5,
                "entropy": (np.log(8) / 4 + 0.75 * np.log(8 / 3)) / np.log(4),
            },
        ),
        (
            [1, 2, 3, 4],
            {
                "gini": 0.25,
                "max_over_mean": 1.6,
                "cv": np.sqrt(1.25) / 2.5,
                "ep2_max_over_mean": 1.4,
            },
        ),
        ([6, 2, 2, 6], {"ep2_max_over_mean": 1.0}),
        ([10] * 18 + [100, 80], {"top_share": 0.5}),
    ],
)
def test_statistics_known_by_hand(counts, known):
    for name, value in known.items():
        assert stat(counts, name) == pytest.approx(value), name


def test_the_names_are_those_of_the_results_table_and_scale_does_not_matter():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, size=(3, 24))
    found, scaled, shuffled = (
        b.statistics(counts),
        b.statistics(7 * counts),
        b.statistics(rng.permuted(counts, axis=1)),
    )
    assert tuple(found) == BALANCE
    for name in BALANCE:
        np.testing.assert_allclose(found[name], scaled[name])
        if not name.startswith("ep"):
            np.testing.assert_allclose(found[name], shuffled[name])


def test_ranks_that_do_not_divide_and_layers_without_choices_have_no_number():
    assert np.isnan(stat([1] * 6, "ep4_max_over_mean")) and np.isnan(
        stat([1] * 4, "ep8_max_over_mean")
    )
    found = b.statistics(np.array([[0, 0], [3, 1]]))
    assert np.isnan(found["cv"][0]) and b.overall(found["cv"]) == pytest.approx(0.5)


def test_describe_gives_totals_layers_and_nulls():
    counts = np.array([[[3, 1, 0, 0], [1, 1, 1, 1]], [[1, 1, 1, 1], [1, 1, 1, 1]]], np.uint32)
    found = b.describe(counts, resamples=50)
    assert json.loads(found["expert_counts"]) == [[4, 2, 1, 1], [2, 2, 2, 2]]
    assert (
        found["balance_max_over_mean"] == pytest.approx(1.5)
        and found["balance_ep8_max_over_mean"] is None
    )
    layers = json.loads(found["balance_layers"])
    assert layers["max_over_mean"] == [2.0, 1.0]
    assert set(layers) == {f"{n}{e}" for n in b.PER_LAYER for e in ("", "_lo", "_hi")}
    assert {k for k in found if k.startswith("balance_")} == {
        *(f"balance_{n}{e}" for n in BALANCE for e in ("", "_lo", "_hi")),
        "balance_layers",
    }
    assert json.dumps(found) and b.describe(counts, 50) == b.describe(counts, 50)
    alone = b.describe(counts[:1])
    assert alone["balance_cv_lo"] is None and json.loads(alone["balance_layers"])["cv_lo"] == [
        None,
        None,
    ]
    with pytest.raises(ValueError, match="sequences x layers x experts"):
        b.describe(counts[0])


@pytest.mark.parametrize("share", [np.full(16, 1 / 16), c.zipf(16, 0.3), c.zipf(16, 1.0)])
def test_the_interval_covers_the_routers_own_balance(share):
    truth = b.statistics(share)
    rng = np.random.default_rng(1)
    covered = {name: 0 for name in ("cv", "max_over_mean", "gini", "entropy")}
    for _ in range(40):
        own = share * rng.lognormal(0, 0.05, size=(40, 1, 16))  # texts differ
        found = b.describe(
            rng.multinomial(200, own / own.sum(-1, keepdims=True)), resamples=200, seed=2
        )
        for name in covered:
            assert (
                found[f"balance_{name}_lo"]
                <= found[f"balance_{name}"]
                <= found[f"balance_{name}_hi"]
            )
            covered[name] += (
                found[f"balance_{name}_lo"] - 0.01
                <= truth[name]
                <= found[f"balance_{name}_hi"] + 0.01
            )
    assert min(covered.values()) >= 34, covered


def test_the_sampling_floor_is_what_an_even_router_shows():
    rng = np.random.default_rng(3)
    choices = np.argsort(rng.random((60, 500, 32)), axis=-1)[
        ..., :4
    ]  # 60 layers, 500 tokens, 4 of 32
    counts = np.stack([np.bincount(layer.ravel(), minlength=32) for layer in choices])
    found, floor = b.statistics(counts), b.sampling_floor(500, 4, 32)
    assert floor["cv"] == pytest.approx(found["cv"].mean(), rel=0.05)
    assert floor["max_over_mean"] == pytest.approx(found["max_over_mean"].mean(), rel=0.03)
    assert b.sampling_floor(10, 4, 4) == {"cv": 0.0, "max_over_mean": 1.0}


def test_rank_correlation_of_planted_orders():
    rng = np.random.default_rng(5)
    counts = rng.permuted(np.tile(np.arange(32), (4, 1)), axis=1)
    same = b.rank_correlation(counts, np.exp(counts / 8))
    assert same.value == same.lo == same.hi == pytest.approx(1) and same.per_layer.shape == (4,)
    assert b.rank_correlation(counts, -counts).value == pytest.approx(-1)
    none = b.rank_correlation(counts, rng.normal(size=counts.shape))
    assert none.lo < 0 < none.hi and none.hi - none.lo < 0.6
    flat = b.rank_correlation(
        np.array([[1, 1, 1, 1], [1, 2, 3, 4]]), np.array([[1, 2, 3, 4], [1, 2, 3, 4]])
    )
    assert np.isnan(flat.per_layer[0]) and flat.value == pytest.approx(1)
    with pytest.raises(ValueError, match="layers x experts"):
        b.rank_correlation(counts, counts[:, :3])


@pytest.mark.parametrize(
    ("experts", "k", "tokens"), [(8, 2, 4), (64, 8, 16), (128, 8, 1000), (16, 16, 3)]
)
def test_uniform_routing_hits_what_shapes_says(experts, k, tokens):
    assert c.expected_distinct(c.skewed(experts, k, 0.0), tokens) == pytest.approx(
        distinct_experts(experts, k, tokens)
    )


@pytest.mark.parametrize(("experts", "k", "skew"), [(8, 2, 1.0), (16, 4, 2.0)])
def test_inclusion_is_that_of_drawing_one_expert_after_another(experts, k, skew):
    p, rng, draws = c.zipf(experts, skew), np.random.default_rng(6), 40_000
    left = np.tile(p, (draws, 1))
    for _ in range(k):  # one after another, from those left
        chosen = (left.cumsum(1) < rng.random((draws, 1)) * left.sum(1, keepdims=True)).sum(1)
        left[np.arange(draws), chosen] = 0
    np.testing.assert_allclose(c.inclusion(p, k), (left == 0).mean(0), atol=0.01)


def test_inclusion_at_its_ends():
    p = c.zipf(8, 1.0)
    np.testing.assert_allclose(c.inclusion(p, 1), p)
    np.testing.assert_allclose(c.inclusion(p, 8), 1)
    assert c.inclusion(p, 3).sum() == pytest.approx(3) and (np.diff(c.inclusion(p, 3)) < 0).all()
    assert c.expected_distinct(c.inclusion(p, 3), 1) == pytest.approx(3)
    with pytest.raises(ValueError, match="top_k 9 of 8 experts"):
        c.inclusion(p, 9)


def test_ranks_by_hand():
    q = c.zipf(8, 1.0)  # of one expert a token: a rank each, so the fullest holds the most likely
    assert c.ep_slowdown(8, 1, 1.0, 8) == pytest.approx(8 * q[0])
    hit = [1 - (1 - share) ** 2 for share in (q[0], 1 / 8)]
    assert c.ep_slowdown(8, 1, 1.0, 8, tokens=2) == pytest.approx(hit[0] / hit[1])
    assert c.ep_slowdown(8, 2, 1.0, 1) == pytest.approx(1)
    with pytest.raises(ValueError, match="3 ranks do not divide 4 experts"):
        c.ep_slowdown(4, 2, 1.0, 3)


def test_ranks_pay_when_computing_and_not_when_reading():
    slow = [c.ep_slowdown(64, 8, s, 8) for s in (0.0, 1.0, 2.0)]
    assert slow[0] == pytest.approx(1) and 1.3 < slow[1] < slow[2] < 8
    assert c.ep_slowdown(64, 8, 2.0, 8, tokens=16) < 1


LAYER = {
    "batch": 64,
    "top_k": 8,
    "num_experts": 64,
    "hidden_size": 2048,
    "expert_ffn_dim": 1024,
    "dtype": "bfloat16",
    "quantization": None,
}


def test_a_skewed_layer_saves_bytes_where_reading_binds_and_nothing_where_computing_does():
    hit = [c.expected_distinct(c.skewed(64, 8, s), 64) for s in (0.0, 2.0)]
    reading = c.predicted_layer_ratio(LAYER, 2.0, c.Rates(1e12, 1e18))
    assert hit[1] / hit[0] < reading < 1 and reading == pytest.approx(hit[1] / hit[0], rel=0.03)
    assert c.predicted_layer_ratio(LAYER, 2.0) == pytest.approx(reading)
    assert c.predicted_layer_ratio(LAYER, 2.0, c.Rates(1e15, 1e12)) == 1
    assert c.predicted_layer_ratio(LAYER, 0.0) == 1
