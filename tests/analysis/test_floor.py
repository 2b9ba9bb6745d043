import numpy as np
import pandas as pd
import pytest
from cases import floor as floor_row

from moebook.models import costs
from moebook.models.catalog import load
from moebook.models.edit import edit
from moebook.predict.roofline import Ceilings, add_floor

CEILINGS = Ceilings("synthetic", 3.0e12, 8.0e14, "bfloat16")
MIXTRAL = load("Mixtral-8x7B-v0.1")


def test_decode_floor_by_hand():
    """Mixtral, B = 1, one decode step at context 101: every weight but 6 of 8 experts, one
    embedding row, KV."""
    layers, hidden, ffn, vocab = 32, 4096, 14336, 32000
    attention = layers * (2 * hidden * hidden + 2 * hidden * 1024)
    experts = layers * 2 * 3 * hidden * ffn
    rest = layers * 8 * hidden + (2 * layers + 1) * hidden + vocab * hidden + hidden
    kv = layers * 2 * 1024 * (101 + 1)
    seconds = 2 * (attention + experts + rest + kv) / 3.0e12
    floor = floor_row(MIXTRAL, 1, 100, 2, CEILINGS)
    assert floor.floor_tpot_s == pytest.approx(seconds, rel=1e-6)
    assert floor.floor_e2e_s == pytest.approx(floor.floor_ttft_s + seconds)
    assert floor.floor_throughput_tok_s == pytest.approx(102 / floor.floor_e2e_s)


def test_prefill_of_a_long_prompt_is_bound_by_flops():
    cost = costs.prefill_cost(MIXTRAL, 16, 2048)
    floor = floor_row(MIXTRAL, 16, 2048, 2048, CEILINGS)
    assert floor.floor_ttft_s == pytest.approx(cost.total_flops / 8.0e14)
    assert cost.total_flops / 8.0e14 > cost.total_bytes / 3.0e12


def test_step_floor_is_the_mean_over_every_context():
    model = edit(MIXTRAL, num_layers=4)
    each = [
        max((c := costs.decode_cost(model, 16, n)).total_bytes / 3.0e12, c.total_flops / 8.0e14)
        for n in range(501, 501 + 399)
    ]
    assert floor_row(model, 16, 500, 400, CEILINGS).floor_tpot_s == pytest.approx(
        np.mean(each), rel=1e-9
    )


def test_one_output_token_and_several_devices():
    assert floor_row(MIXTRAL, 1, 10, 1, CEILINGS).floor_tpot_s is None
    one, four = (floor_row(MIXTRAL, 16, 128, 128, CEILINGS, pipeline_parallel=n) for n in (1, 4))
    assert four.floor_e2e_s == pytest.approx(one.floor_e2e_s / 4)


def test_each_rank_reads_a_cache_that_tensor_parallelism_does_not_split():
    """MLA's is whole on every rank; of two KV heads four ranks repeat each twice."""
    latent, grouped = load("DeepSeek-V2-Lite"), edit(MIXTRAL, num_layers=4)
    row = {"batch": 64, "input_tokens": 2048, "output_tokens": 2, "dtype": "bfloat16"}
    for arch, ranks, held in ((latent, 4, 1), (grouped, 4, 1 / 4), (grouped, 16, 1 / 8)):
        cost = costs.decode_cost(arch, 64, 2049)
        kv = cost.bytes["kv_cache"]
        split = pd.DataFrame([row | {"tensor_parallel": ranks, "pipeline_parallel": 1}])
        floor = add_floor(split, CEILINGS, lambda _, arch=arch: arch).iloc[0]
        moved = (cost.total_bytes - kv) / ranks + kv * held
        assert floor["floor_tpot_s"] == pytest.approx(moved / 3.0e12)


def test_fp8_reads_less_and_multiplies_twice_as_fast():
    plain, fp8 = (
        floor_row(MIXTRAL, 16, 2048, 2048, CEILINGS, quantization=q) for q in (None, "fp8")
    )
    assert fp8.floor_ttft_s == pytest.approx(plain.floor_ttft_s / 2)
    assert 0.5 < fp8.floor_tpot_s / plain.floor_tpot_s < 0.6


@pytest.mark.parametrize(
    "given, text",
    [
        ({"dtype": "float32"}, "measured in bfloat16"),
        ({"quantization": "int3"}, "known: None, fp8"),
    ],
)
def test_no_ceiling_is_an_error(given, text):
    with pytest.raises(ValueError, match=text):
        floor_row(MIXTRAL, 1, 8, 8, CEILINGS, **given)


def test_ceilings_must_be_measured():
    with pytest.raises(ValueError, match="copy_bytes_per_s 0"):
        Ceilings("x", 0, 1, "bfloat16")


def test_add_floor_keeps_rows_and_says_why_one_is_null():
    base = {
        "model": "m",
        "batch": 16,
        "input_tokens": 128,
        "output_tokens": 64,
        "dtype": "bfloat16",
        "quantization": None,
        "kv_cache_dtype": "auto",
        "tensor_parallel": 1,
        "pipeline_parallel": 1,
        "device": "synthetic",
        "status": "ok",
    }
    table = pd.DataFrame(
        [
            base,
            {**base, "status": "oom", "device": None},
            {**base, "status": "infeasible"},
            {**base, "device": "other"},
            {**base, "dtype": "float32"},
            {**base, "quantization": "int8"},
        ],
        index=[5, 5, 7, 8, 9, 10],
    )
    out = add_floor(table, CEILINGS, lambda row: MIXTRAL)
    wanted = floor_row(MIXTRAL, 16, 128, 64, CEILINGS)
    assert list(out.index) == list(table.index)
    assert out["floor_e2e_s"].tolist()[:2] == [pytest.approx(wanted.floor_e2e_s)] * 2
    assert out["floor_e2e_s"].isna().tolist() == [False, False, True, True, True, True]
    assert (
        pd.isna(out["floor_reason"].iloc[0])
        and "ceilings are those of synthetic" in out["floor_reason"].iloc[3]
    )
    assert "float32" in out["floor_reason"].iloc[4] and "int8" in out["floor_reason"].iloc[5]


def test_fp16_takes_the_ceiling_of_bf16_where_tensor_cores_have_one_rate_and_nowhere_else():
    gpu = Ceilings("NVIDIA synthetic", 3.0e12, 8.0e14, "bfloat16")
    assert floor_row(MIXTRAL, 16, 128, 64, gpu, "float16") == floor_row(MIXTRAL, 16, 128, 64, gpu)
    half = Ceilings("NVIDIA synthetic", 3.0e12, 8.0e14, "float16")
    assert floor_row(MIXTRAL, 16, 128, 64, half) == floor_row(MIXTRAL, 16, 128, 64, gpu)
    single = Ceilings("NVIDIA synthetic", 3.0e12, 4.0e14, "float32")
    for ceilings, dtype in ((gpu, "float32"), (CEILINGS, "float16"), (single, "float16")):
        with pytest.raises(ValueError, match=f"dtype {dtype}: the matrix rate of"):
            floor_row(MIXTRAL, 16, 128, 64, ceilings, dtype)


def test_weight_only_formats_read_less_and_multiply_no_faster():
    plain = floor_row(MIXTRAL, 16, 2048, 2048, CEILINGS)
    for quantization in ("fp8_weight_only", "int8_experts", "int4"):
        found = floor_row(MIXTRAL, 16, 2048, 2048, CEILINGS, quantization=quantization)
        assert found.floor_ttft_s == pytest.approx(plain.floor_ttft_s)
        assert found.floor_tpot_s < 0.6 * plain.floor_tpot_s
    per_channel, fp8 = (
        floor_row(MIXTRAL, 16, 512, 64, CEILINGS, quantization=q)
        for q in ("fp8_per_channel", "fp8")
    )
    assert per_channel == fp8


def test_an_fp8_cache_halves_the_bytes_of_the_context():
    work = (MIXTRAL, 64, 4096, 2, CEILINGS)
    plain, fp8 = (floor_row(*work, kv_cache_dtype=d).floor_tpot_s for d in ("auto", "fp8"))
    assert (plain - fp8) * 3.0e12 == pytest.approx(64 * 32 * 2 * 1024 * 4097, rel=0.01)


@pytest.mark.parametrize("method", ["layer", "perplexity"])
def test_points_that_time_no_engine_have_no_floor(method):
    base = {
        "model": "m",
        "batch": 16,
        "input_tokens": 1,
        "output_tokens": 1,
        "dtype": "bfloat16",
        "quantization": None,
        "kv_cache_dtype": "auto",
        "tensor_parallel": 1,
        "pipeline_parallel": 1,
        "device": "synthetic",
        "status": "ok",
    }
    out = add_floor(
        pd.DataFrame([{**base, "method": method}, {**base, "method": "full"}]),
        CEILINGS,
        lambda row: MIXTRAL,
    )
    assert out["floor_e2e_s"].isna().tolist() == [True, False]
    assert out["floor_reason"].iloc[0] == "no run of an engine was timed" and pd.isna(
        out["floor_reason"].iloc[1]
    )
