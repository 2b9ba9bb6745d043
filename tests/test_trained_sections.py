"""Plans of sections 4 and 7 and of section 3's quality: what is measured, what shares an engine,
what is refused."""

from collections import Counter

import pytest
from made_up import write_checkpoint

from moebook import sections
from moebook.models.pruning.saliency import CRITERIA
from moebook.models.tiny import family
from moebook.problems import ParameterError
from moebook.sections.load_balancing import plan as load_balancing
from moebook.sections.pruning import plan as pruning
from moebook.sections.speculative_decoding import plan as speculative_decoding
from moebook.study.params import build
from moebook.study.plan import EngineSettings

COST = {
    "target": "Qwen3-30B-A3B",
    "drafts": ["Qwen3-0.6B", "Qwen3-1.7B"],
    "device": "h200",
    "acceptance": 0.7,
    "draft_tokens": [1, 2, 4],
    "draft_tokens_fixed": 4,
    "lengths": [128, 512],
    "batches": [1, 16],
    "batch": 16,
    "tokens": 512,
}


def plan(section: str, **given):
    found = sections.find(section)
    return found.plan(build(found.params, given, "test"))


def of(made, sweep: str) -> list:
    return [p for p in made.points if sweep in p.sweeps]


def refused(section: str, **given) -> str:
    with pytest.raises(ParameterError) as told:
        plan(section, **given)
    return str(told.value)


def test_every_sweep_of_the_cost_has_the_target_alone_beside_each_draft():
    made = plan("04", **COST)
    for sweep, places in (
        ("spec_length", {(16, 128), (16, 512)}),
        ("spec_batch", {(1, 512), (16, 512)}),
    ):
        found = Counter(
            (p.series, p.workload.batch, p.workload.input_tokens) for p in of(made, sweep)
        )
        names = {"no speculation", "draft Qwen3-0.6B", "draft Qwen3-1.7B"}
        assert found == dict.fromkeys({(s, *place) for s in names for place in places}, 1)
    tokens = {
        (p.series, p.engine.speculation.num_tokens if p.engine.speculation else 0)
        for p in of(made, "spec_tokens")
    }
    assert tokens == {
        ("no speculation", 0),
        *((f"draft Qwen3-{s}", k) for s in ("0.6B", "1.7B") for k in (1, 2, 4)),
    }


def test_graphs_hold_the_drafting_the_checking_and_the_drafts_first_pass_of_every_batch():
    made = plan("04", **COST)
    point = next(p for p in of(made, "spec_batch") if p.engine.speculation)
    assert point.engine.graph_batch_sizes == (5, 10, 20, 80, 100)
    alone = next(
        p
        for p in of(made, "spec_tokens")
        if p.engine.speculation and p.engine.speculation.num_tokens == 2
    )
    assert alone.engine.graph_batch_sizes == (18, 48, 66)  # 16, 48 and 64 tokens, in multiples of 3


def test_one_engine_a_draft_and_token_count():
    made = plan("04", **COST)
    cost = [p for p in made.measured if p.method != "acceptance"]
    assert len({p.build_key for p in cost}) == 1 + 2 * 3
    assert len({p.build_key for p in made.measured if p.method == "acceptance"}) == 5


def test_checks_are_one_place_each_and_other_graphs_all_of_the_target():
    made = plan("04", **COST, checked_acceptance=0.5, checked_graphs="light")
    assert [(p.series, p.engine.speculation.acceptance) for p in of(made, "spec_check")] == [
        ("draft Qwen3-0.6B", 0.5)
    ]
    graphs = of(made, "spec_graphs")
    assert {p.engine.graphs for p in graphs} == {"light"} and sum(
        p.engine.speculation is not None for p in graphs
    ) == 1


def test_trained_points_are_eager_and_cover_texts_and_temperatures():
    found = of(plan("04"), "acceptance")
    assert {p.engine.graphs for p in found} == {"eager"} and {p.engine.dtype for p in found} == {
        "float32"
    }
    assert len(found) == 5 * 3 and {p.text for p in found} == {
        f"tiny:cpu/heldout/{t}" for t in ("code", "prose", "numbers")
    }
    assert {p.workload.temperature for p in plan("04").measured} == {0.0}, (
        "a CPU's engine accepts nothing at others"
    )


@pytest.mark.parametrize(
    "given, told",
    [
        ({"drafts": ["tiny:cpu/draft-smal"]}, "nearest: draft-small"),
        ({**COST, "drafts": ["tiny-mixtral"]}, "a draft must share the target's tokens"),
        ({"trained_drafts": ["Qwen3-0.6B"]}, "a vocabulary of 151936 tokens"),
        ({"trained_target": "tiny:cpux/aux-0.01"}, "allowed: cpu, gpu, test"),
        ({"trained_target": "tiny:cpu/draft-small"}, "trained_target"),
        ({"target": "Qwen3-0.6B"}, "dense model"),
        ({"acceptance": 0.7}, "null on a CPU"),
        ({**COST, "acceptance": 1.5}, "less than 1"),
        ({"draft_tokens": [9]}, "at most 8"),
        ({"temperatures": [0.0, 1.0]}, "0 alone on a CPU"),
        ({"temperatures": [-1.0]}, "greater than or equal to 0"),
        ({"texts": ["poems"]}, "allowed: all, code, prose, numbers"),
    ],
)
def test_what_section_4_refuses(given, told):
    assert told in refused("04", **given)


def test_every_variant_is_counted_on_every_text_and_compared_by_the_ways_there_are():
    made = plan("07", capture_ways=["engine", "hooks"], device="h200")
    found = Counter((p.series, p.text) for p in of(made, "balance"))
    assert len(found) == len(family.TARGETS) * 3 and set(found.values()) == {1}
    assert [p.engine.routed_experts for p in of(made, "capture_check")] == [True, False]
    assert {p.method for p in of(made, "training")} == {"training"} and not any(
        p.needs_engine for p in of(made, "training")
    )


def test_skewed_layers_and_engines_start_at_uniform():
    made = plan("07", skews=[0.0, 1.5])
    for sweep in ("skew_layer", "skew_engine"):
        assert {(p.series, p.engine.skew) for p in of(made, sweep)} == {
            ("zipf 0", 0.0),
            ("zipf 1.5", 1.5),
        }


def test_a_users_checkpoint_is_counted_on_the_users_texts(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "a.txt").write_text("words " * 1200)
    made = plan("07", checkpoints=[str(tmp_path)], checkpoint_texts=[str(tmp_path / "a.txt")])
    own = [p for p in of(made, "balance") if p.series == "trained"]
    assert [(p.engine.weights, p.text) for p in own] == [(str(tmp_path), str(tmp_path / "a.txt"))]
    (tmp_path / "b.txt").write_bytes(b"a\0b")
    assert "binary" in refused(
        "07", checkpoints=[str(tmp_path)], checkpoint_texts=[str(tmp_path / "b.txt")]
    )
    (tmp_path / "c.txt").write_text(" \n")
    assert "the file is empty" in refused(
        "07", checkpoints=[str(tmp_path)], checkpoint_texts=[str(tmp_path / "c.txt")]
    )


@pytest.mark.parametrize(
    "given, told",
    [
        ({"preset": "huge"}, "allowed: cpu, gpu, test"),
        ({"variants": ["aux-1"]}, "nearest: 'aux-0.1'"),
        ({"checkpoints": ["Qwen3-8B"], "checkpoint_texts": ["README.md"]}, "dense model"),
        ({"checkpoints": ["tiny-mixtral"]}, "text files that the checkpoints are to read"),
        ({"capture_ways": ["x"]}, "allowed: hooks, engine"),
        ({"skews": [-0.5]}, "greater than or equal to 0"),
        ({"ablation_sequences": 7}, "a multiple of repeats = 3"),
    ],
)
def test_what_section_7_refuses(given, told):
    assert told in refused("07", **given)


def test_quality_under_pruning_covers_every_kind_and_criterion():
    made = plan("03", quality_ratios_pct=[25, 50])
    own = of(made, "quality")
    assert len(own) == 1 + 2 * 2 * len(CRITERIA) and {p.method for p in own} == {"perplexity"}
    assert (
        own[0].series == "baseline"
        and own[-1].engine.weights == "tiny:cpu/aux-0.01/intra-50-routed_activation"
    )
    assert not of(plan("03", quality_target=None), "quality")
    assert "nearest" in refused("03", criteria=["norms"]) and "tiny:cpu" in refused(
        "03", quality_target="aux-0.01"
    )


def test_defaults_are_the_cpu_profile():
    for module in (speculative_decoding, load_balancing, pruning):
        assert module.Params().device == "cpu" and module.Params().problems() == []
    assert EngineSettings().speculation is None
