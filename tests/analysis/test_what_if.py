"""A prediction of one case: its sums, its intervals, what it says of cases beyond what was
measured, and what it refuses."""

from dataclasses import replace

import pytest

from moebook.models import catalog
from moebook.models.edit import edit
from moebook.predict import shipped
from moebook.predict.what_if import Unpredictable, predict
from moebook.study.settings import EngineSettings, Speculation, Workload

OLMOE = catalog.load("OLMoE-1B-7B-0125")
WORK = Workload(16, 1024, 256)


def test_metrics_are_those_of_the_study_and_intervals_hold_their_value():
    p = predict(OLMOE, EngineSettings(), WORK, "h200")
    e2e = p.ttft_s.value + 255 * p.tpot_s.value
    assert p.e2e_s.value == pytest.approx(e2e)
    assert p.throughput_tok_s.value == pytest.approx(16 * 1280 / e2e)
    assert p.output_throughput_tok_s.value == pytest.approx(16 * 256 / e2e)
    for found in (p.ttft_s, p.tpot_s, p.e2e_s, p.throughput_tok_s):
        assert found.lo95 < found.lo80 < found.value < found.hi80 < found.hi95
    assert p.bound_tpot_s < p.tpot_s.value and p.notes == ()


def test_the_step_is_the_greater_of_host_and_the_sum_of_the_gpus_terms():
    p = predict(OLMOE, EngineSettings(), WORK, "h200")
    gpu = sum(v for k, v in p.terms.items() if k != "host")
    assert p.tpot_s.value == pytest.approx(max(gpu, p.terms["host"]), rel=0.01)
    shallow = predict(edit(OLMOE, num_layers=2), EngineSettings(), Workload(1, 128, 128), "h200")
    assert shallow.binds == "host"


@pytest.mark.parametrize("device", shipped.names())
def test_fewer_experts_read_take_less_time(device):
    def tpot(routing):
        return predict(OLMOE, EngineSettings(routing=routing), WORK, device).tpot_s.value

    assert tpot("same") < tpot("zipf:2") < tpot("zipf:1") < tpot("uniform")


def test_several_devices_share_the_work_and_talk():
    mixtral = catalog.load("Mixtral-8x7B-v0.1")
    one, two = (predict(mixtral, EngineSettings(tensor_parallel=g), WORK, "h200") for g in (1, 2))
    assert one.terms["communication"] == 0 < two.terms["communication"]
    assert two.tpot_s.value < one.tpot_s.value < 2 * two.tpot_s.value
    assert two.memory.weights_bytes < 0.52 * one.memory.weights_bytes


def test_beyond_the_measured_range_an_interval_is_wider_and_says_so():
    inside, outside = (predict(OLMOE, EngineSettings(), Workload(b, 1024, 256)) for b in (128, 512))

    def width(p):
        return p.tpot_s.hi95 / p.tpot_s.value

    assert width(outside) > width(inside) and "batch 512 is outside" in outside.notes[0]


def test_a_format_without_measured_rows_says_so():
    p = predict(OLMOE, EngineSettings(quantization="int4"), WORK, "h100")
    assert any("no measured rows" in note for note in p.notes) and "no score" in p.source


def test_speculation_adds_the_drafts_steps_and_gains_tokens():
    target, work = catalog.load("Qwen3-30B-A3B"), Workload(1, 512, 256)
    drafted = EngineSettings(speculation=Speculation("draft_model", 3, "Qwen3-0.6B", 0.8))
    p = predict(target, drafted, work)
    assert p.terms["draft"] > 0
    with pytest.raises(Unpredictable, match="neither measured nor set"):
        unset = replace(drafted.speculation, acceptance=None)
        predict(target, replace(drafted, speculation=unset), work)


@pytest.mark.parametrize(
    "settings, work, device, words",
    [
        (EngineSettings(), WORK, "h300", "allowed: h100, h200; nearest"),
        (EngineSettings(tensor_parallel=3), WORK, "h200", "heads"),
        (EngineSettings(graphs="eager"), WORK, "h200", "without graphs"),
        (EngineSettings(), Workload(1, 4000, 4000), "h200", "4096 positions"),
    ],
)
def test_what_cannot_be_said_is_refused_in_words(settings, work, device, words):
    with pytest.raises(ValueError, match=words):
        predict(OLMOE, settings, work, device)


def test_memory_says_whether_a_batch_fits():
    small = predict(OLMOE, EngineSettings(), WORK, "h100").memory
    assert small.fits and small.per_gpu_bytes < small.usable_bytes
    large = predict(catalog.load("Mixtral-8x7B-v0.1"), EngineSettings(), WORK, "h100").memory
    assert not large.fits and large.kv_tokens == 0


SPLITS = [{}, {"tensor_parallel": 2, "expert_parallel": True}, {"tensor_parallel": 8}]
LADDER = [Workload(*w) for w in ((1, 64, 64), (16, 64, 64), (2048, 64, 64), (2048, 900, 64))]


@pytest.mark.parametrize("device", shipped.names())
@pytest.mark.parametrize("split", SPLITS, ids=["TP 1", "EP 2", "TP 8"])
def test_every_model_of_the_catalog_is_predicted_without_nonsense(device, split):
    """More sequences and longer ones take longer, times lie over their bound, and memory agrees
    with itself."""
    predicted = 0
    for name in catalog.names():
        arch, last = catalog.load(name), None
        for work in LADDER:
            try:
                p = predict(arch, EngineSettings(quantization="own", **split), work, device)
            except Unpredictable:
                assert split or work.input_tokens == 900, name
                break
            predicted += 1
            for found in (p.ttft_s, p.tpot_s, p.e2e_s, p.throughput_tok_s):
                ends = (found.lo95, found.lo80, found.value, found.hi80, found.hi95)
                assert ends[0] > 0 and list(ends) == sorted(ends) and ends[-1] < 1e9, name
            tokens = work.batch * (work.input_tokens + work.output_tokens)
            assert p.throughput_tok_s.value * p.e2e_s.value == pytest.approx(tokens)
            assert p.bound_tpot_s < p.tpot_s.value, name
            assert p.memory.fits == (p.memory.per_gpu_bytes <= p.memory.usable_bytes), name
            assert p.memory.fits == (p.memory.kv_tokens >= tokens), (name, work, p.memory)
            assert not last or p.tpot_s.value >= last.tpot_s.value, name
            assert not last or p.ttft_s.value >= last.ttft_s.value, name
            last = p
    assert predicted > 60


def test_mlas_cache_is_on_every_rank_and_in_the_bound():
    """Its bytes do not shrink with tensor ranks, as those of Mixtral's 8 KV heads do."""
    long = Workload(64, 15000, 500)

    def cache(name, ranks):
        p = predict(catalog.load(name), EngineSettings(tensor_parallel=ranks), long, "h200")
        return p.memory.cache_bytes, p.terms["attention"], p.bound_tpot_s

    one, eight = (cache("DeepSeek-V2-Lite", ranks) for ranks in (1, 4))
    assert one[0] == eight[0] and eight[1] > 0.9 * one[1] and eight[2] > 0.6 * one[2]
    one, eight = (cache("Mixtral-8x7B-v0.1", ranks) for ranks in (1, 8))
    assert eight[0] == one[0] / 8 and eight[1] < one[1] / 4 and eight[2] < one[2] / 7.9


def test_the_first_prompt_has_a_pass_of_its_own():
    """A batch of short prompts takes two passes, both paced by the host."""
    graphs = EngineSettings(graphs="light")
    one, two = (predict(OLMOE, graphs, Workload(b, 32, 8), "h200").ttft_s.value for b in (1, 2))
    assert 1.9 < two / one < 2.1


def test_a_lone_narrow_expert_does_not_draw_all_bandwidth():
    """All tokens take one expert of few columns: its product falls into few blocks."""
    narrow, wide = (
        predict(
            edit(catalog.load("Mixtral-8x7B-v0.1"), top_k=1, ffn_dim=width),
            EngineSettings(routing="same"),
            WORK,
            "h200",
        ).terms["experts"]
        for width in (1792, 14336)
    )
    assert wide / narrow < 6.5


def test_expert_parallelism_of_a_dense_model_is_refused():
    settings = EngineSettings(tensor_parallel=2, expert_parallel=True)
    with pytest.raises(Unpredictable, match="expert parallelism wants experts"):
        predict(catalog.load("Qwen3-8B"), settings, WORK, "h200")


def test_a_ratio_of_one_models_cells_is_surer_than_of_two_models():
    from moebook.predict.case import Case
    from moebook.predict.points import throughput_ratio

    mixtral, settings = catalog.load("Mixtral-8x7B-v0.1"), EngineSettings(tensor_parallel=4)

    def told(arch):
        return Case(arch, settings, WORK), predict(arch, settings, WORK, "h200")

    one, eight = told(edit(mixtral, top_k=1)), told(edit(mixtral, top_k=8))
    kin, strangers = (throughput_ratio(one, b) for b in (eight, told(OLMOE)))
    assert kin.value > 1 and kin.lo95 < kin.lo80 < kin.value < kin.hi80 < kin.hi95
    assert kin.hi95 / kin.value < strangers.hi95 / strangers.value
    a, b = one[1].throughput_tok_s.value, eight[1].throughput_tok_s.value
    assert kin.value == pytest.approx(a / b)
