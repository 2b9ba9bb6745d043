"""Trained tiny models in a real engine: choices counted, experts removed, drafts checked, routing
imposed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import warm

from moebook.models import catalog
from moebook.models.costs import distinct_experts

SCRIPT = Path(__file__).parent / "tiny_engine.py"
MEMBERS = ("aux-0.01", "loss-free")


@pytest.fixture(scope="module")
def found(tiny_cache, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("tiny")
    done = warm.run(
        [str(SCRIPT), str(folder)],
        "warm_engine",
        env={**os.environ, "MOEBOOK_CACHE": str(tiny_cache), "VLLM_LOGGING_LEVEL": "ERROR"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.engine
@pytest.mark.parametrize("member", MEMBERS)
def test_choices_counted_at_the_engines_routers_are_those_of_transformers(found, member):
    """The loss-free member's bias decides its choices: a router without it would differ."""
    target = found["targets"][member]
    ours, theirs = np.array(target["ours"]), np.array(target["theirs"]["counts"])
    assert (
        ours.sum()
        == theirs.sum()
        == 3 * 40 * ours.shape[0] * catalog.load(f"tiny:test/{member}").top_k
    )
    assert np.abs(ours - theirs).sum() <= 0.01 * theirs.sum(), "equal but for near ties"


@pytest.mark.engine
@pytest.mark.parametrize("member", MEMBERS)
def test_removing_an_expert_changes_the_perplexity_and_nothing_stays_changed(found, member):
    target = found["targets"][member]
    base = target["ablation"]["repeats"][0]["perplexity"]
    table = json.loads(target["ablation"]["facts"]["ablation_perplexity"])
    assert base == pytest.approx(target["theirs"]["perplexity"], rel=3e-3) == target["after"]
    used = np.array(target["ours"]) > 0
    assert (np.abs(np.array(table)[used] / base - 1) > 1e-6).all(), (
        "every expert that was used matters a little"
    )
    assert np.allclose(np.array(table)[~used], base, rtol=1e-4)


@pytest.mark.engine
@pytest.mark.parametrize("way", ["draft", "ngram"])
def test_greedy_output_with_drafts_is_the_plain_one_token_by_token(found, way):
    plain, own = ([row["output_digests"] for row in found[w]["rows"]] for w in ("plain", way))
    assert own == plain and all(len(d.split(",")) == 3 for d in own)
    assert len(found[way]["training"]) == 8 and found[way]["training"] == found["plain"]["training"]


@pytest.mark.engine
def test_accepted_tokens_are_counted_by_position(found):
    for row in found["draft"]["rows"]:
        by_position = [row[f"accepted_pos{i}"] for i in (1, 2, 3)]
        assert 1 >= by_position[0] >= by_position[1] >= by_position[2] >= 0
        assert row["tokens_per_step"] == pytest.approx(1 + sum(by_position))
        assert row["acceptance_rate"] == pytest.approx(sum(by_position) / 3)
    assert all(row["tokens_per_step"] == 1 for row in found["plain"]["rows"])
    assert all(
        row["tokens_per_step"] >= 1 and row["e2e_s"] > row["ttft_s"]
        for row in found["draft"]["timed"]
    )


@pytest.mark.engine
def test_a_checking_step_has_the_drafts_tokens_and_hits_more_experts(found):
    plain, draft = found["plain"]["rows"][0], found["draft"]["rows"][0]
    assert (plain["step_tokens"], draft["step_tokens"]) == (3, 12)
    assert plain["experts_per_step"] < draft["experts_per_step"] <= 8


@pytest.mark.engine
@pytest.mark.parametrize("member", MEMBERS)
def test_a_step_of_real_batches_hits_k_experts_where_all_sequences_are_alike(found, member):
    arch = catalog.load(f"tiny:test/{member}")
    random, alike = (found["targets"][member]["steps"][way] for way in ("random", "alike"))
    for one in (random, alike):
        courses = np.array(json.loads(one["facts"]["step_experts"]))
        means = [row["experts_per_step"] for row in one["repeats"]]
        assert courses.shape == (2, 11) and courses.mean(1) == pytest.approx(means, abs=1e-4)
        assert {row["step_tokens"] for row in one["repeats"]} == {4}
        assert courses.min() >= arch.top_k and courses.max() <= arch.num_experts
    assert {row["experts_per_step"] for row in alike["repeats"]} == {arch.top_k}
    assert min(row["experts_per_step"] for row in random["repeats"]) > arch.top_k


@pytest.mark.engine
def test_imposed_routing_is_uniform_skewed_or_the_same_for_all(found):
    even, skewed, same = (found["skewed"][s]["4"] for s in ("uniform", "zipf:3", "same"))
    arch = catalog.load("tiny:test/aux-0.01")
    assert even == pytest.approx(distinct_experts(arch.num_experts, arch.top_k, 4), rel=0.12)
    assert skewed < 0.8 * even
    assert same == arch.top_k
