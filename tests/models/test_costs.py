"""FLOPs and bytes of one step: hand-computed cases, and what must hold of any model."""

import pytest

from moebook.models import catalog, costs, sizes
from moebook.models.edit import edit

MIXTRAL = catalog.load("tiny-mixtral")  # L=4 H=256 E=8 K=2 I=512, 8 heads of 32, 4 kv heads, V=4096
DEEPSEEK = catalog.load(
    "tiny-deepseek-v2"
)  # L=4 (1 dense of 512) H=256, 4 heads of 64+64, v 64, latent 512+64
MOE = [n for n in catalog.names() if catalog.load(n).is_moe]


def test_decode_flops_by_hand():
    cost = costs.decode_cost(MIXTRAL, batch=3, context=100)
    assert cost.flops == {
        "attention": 2 * 3 * 4 * (256 * 256 * 2 + 256 * 128 * 2),
        "router": 2 * 3 * 4 * 256 * 8,
        "shared_experts": 0,
        "dense_ffn": 0,
        "linear_attention": 0,
        "other": 0,
        "experts": 2 * 3 * 4 * 2 * 3 * 256 * 512,
        "lm_head": 2 * 3 * 4096 * 256,
        "attention_scores": 3 * 4 * (2 * 256 * 100 + 2 * 256 * 100),
    }
    assert cost.total_flops == sum(cost.flops.values())


def test_decode_bytes_by_hand_at_batch_one():
    cost = costs.decode_cost(MIXTRAL, batch=1, context=100)
    assert cost.bytes == pytest.approx(
        {
            "embedding": 2 * 256,
            "attention": 2 * 4 * 196608,
            "router": 2 * 4 * 8 * 256,
            "experts": 2 * 4 * 2 * 3 * 256 * 512,
            "shared_experts": 0,
            "dense_ffn": 0,
            "linear_attention": 0,
            "other": 0,
            "norms": 2 * 9 * 256,
            "lm_head": 2 * 4096 * 256,
            "kv_cache": 2 * 4 * 256 * (100 + 1),
        }
    )
    assert cost.total_bytes == pytest.approx(sum(cost.bytes.values()))


def test_mla_decode_by_hand():
    cost = costs.decode_cost(DEEPSEEK, batch=2, context=50)
    projections = 256 * 4 * 128 + 256 * 576 + 512 * 4 * 128 + 4 * 64 * 256
    assert cost.flops["attention"] == 2 * 2 * 4 * projections
    assert cost.flops["attention_scores"] == 2 * 4 * 4 * 2 * 50 * (512 + 64 + 512)
    assert cost.flops["dense_ffn"] == 2 * 2 * 3 * 256 * 512
    assert cost.flops["shared_experts"] == 2 * 2 * 3 * 3 * 256 * 256
    assert cost.bytes["kv_cache"] == 2 * 2 * 4 * 576 * (50 + 1)


def test_prefill_by_hand():
    cost = costs.prefill_cost(MIXTRAL, batch=2, input_tokens=3)
    assert cost.flops["experts"] == 2 * 6 * 4 * 2 * 3 * 256 * 512
    assert cost.flops["attention_scores"] == 2 * 4 * (1 + 2 + 3) * 4 * 256
    assert cost.flops["lm_head"] == 2 * 2 * 4096 * 256
    assert cost.bytes["kv_cache"] == 2 * 6 * 4 * 256 * 2


def test_prefill_attention_is_the_sum_of_its_positions():
    for name in ("tiny-mixtral", "gpt-oss-20b", "Llama-4-Scout-17B-16E-Instruct"):
        arch = catalog.load(name)
        steps = sum(costs.decode_cost(arch, 1, c).flops["attention_scores"] for c in range(1, 301))
        assert costs.prefill_cost(arch, 1, 300).flops["attention_scores"] == steps


def test_mla_prefill_is_not_absorbed():
    cost = costs.prefill_cost(DEEPSEEK, batch=1, input_tokens=10)
    assert cost.flops["attention_scores"] == 2 * 4 * 4 * 55 * (64 + 64 + 64)


def test_distinct_experts():
    assert costs.distinct_experts(64, 8, 1) == pytest.approx(8)
    assert costs.distinct_experts(64, 8, 16) == pytest.approx(56.4, abs=0.05)
    assert costs.distinct_experts(8, 8, 1) == 8
    assert costs.distinct_experts(8, 2, 2) == pytest.approx(8 * (1 - 0.75**2))
    assert costs.distinct_experts(0, 0, 5) == 0
    with pytest.raises(ValueError, match="top_k 9 of 8 experts"):
        costs.distinct_experts(8, 9, 1)


def read_once(arch) -> set[str]:
    """Components that a step reads as they are held: of the embedding rows are read, and a tied
    head is the embedding."""
    tied = {"lm_head"} if arch.tie_embeddings else set()
    return set(sizes.COMPONENTS) - {"embedding", "vision", "mtp"} - tied


@pytest.mark.parametrize("name", MOE)
def test_a_huge_batch_reads_every_weight_but_the_embedding(name):
    arch = catalog.load(name)
    read = costs.decode_cost(arch, 10**6, 1).bytes
    held = sizes.component_bytes(arch)
    for component in read_once(arch):
        assert read[component] == pytest.approx(held[component])


@pytest.mark.parametrize("name", MOE)
def test_a_single_token_reads_its_active_weights(name):
    arch = catalog.load(name)
    read = costs.decode_cost(arch, 1, 1, quantization=None).bytes
    active = sizes.active_counts(arch)
    for component in read_once(arch):
        assert read[component] == pytest.approx(2 * active[component])


def test_experts_read_grow_with_experts_active_experts_and_batch():
    def experts(num_experts, top_k, batch):
        arch = edit(MIXTRAL, num_experts=num_experts, top_k=top_k)
        return costs.decode_cost(arch, batch, 64).bytes["experts"]

    assert experts(4, 2, 16) < experts(8, 2, 16) < experts(16, 2, 16) < experts(32, 2, 16)
    assert experts(8, 1, 16) < experts(8, 2, 16) < experts(8, 4, 16) < experts(8, 8, 16)
    assert experts(8, 2, 1) < experts(8, 2, 4) < experts(8, 2, 16)
    assert experts(8, 2, 1) == pytest.approx(experts(32, 2, 1))


def test_flops_do_not_depend_on_the_number_of_experts_but_for_the_router():
    few, many = (costs.decode_cost(edit(MIXTRAL, num_experts=e), 4, 64).flops for e in (8, 32))
    assert {c for c in few if few[c] != many[c]} == {"router"}
    assert many["router"] == 4 * few["router"]


def test_flops_of_the_matrices_are_twice_the_active_ones():
    for name in MOE:
        arch = catalog.load(name)
        flops = costs.decode_cost(arch, 1, 1).flops
        matrices = sizes.matrix_counts(arch)
        matrices["experts"] = matrices["experts"] // arch.num_experts * arch.top_k
        for component in (
            "attention",
            "router",
            "experts",
            "shared_experts",
            "dense_ffn",
            "linear_attention",
        ):
            assert flops[component] == 2 * matrices[component]


@pytest.mark.parametrize(
    "name, values_per_layer",
    [
        ("DeepSeek-V2-Lite", 576),
        ("DeepSeek-V3", 576),
        ("deepseek-vl2", 576),
        ("tiny-deepseek-v2", 576),
        ("Mixtral-8x7B-v0.1", 2 * 8 * 128),
        ("deepseek-vl2-tiny", 2 * 10 * 128),
        ("gpt-oss-20b", 2 * 8 * 64),
        ("Qwen3-30B-A3B", 2 * 4 * 128),
    ],
)
def test_kv_values_per_layer(name, values_per_layer):
    arch = catalog.load(name)
    assert sizes.kv_bytes_per_token(arch) == arch.num_layers * values_per_layer * 2
    assert sizes.kv_bytes_per_token(arch, "fp8") == arch.num_layers * values_per_layer


def test_windows_bound_the_kv_cache_read():
    arch = catalog.load("gpt-oss-20b")

    def read(context):
        return costs.decode_cost(arch, 1, context).bytes["kv_cache"]

    assert read(128) - read(127) == 24 * 1024 * 2
    assert read(4096) - read(4095) == 12 * 1024 * 2


def windowed(arch) -> int:
    """Layers that attend to a window or a chunk."""
    return sum(group.layers for group in arch.attention_groups if group.window)


def test_window_numbers_of_the_two_windowed_families():
    scout, oss = catalog.load("Llama-4-Scout-17B-16E-Instruct"), catalog.load("gpt-oss-120b")
    assert (scout.window, windowed(scout)) == (8192, 36)
    assert (oss.window, windowed(oss)) == (128, 18)


def test_tied_head_is_still_read_and_computed():
    cost = costs.decode_cost(catalog.load("Qwen3-0.6B"), 1, 1)
    assert cost.bytes["lm_head"] == 2 * 151936 * 1024
    assert cost.flops["lm_head"] == 2 * 151936 * 1024


def test_quantization_touches_only_what_it_covers():
    plain = sizes.component_bytes(MIXTRAL)
    fp8, int8 = (sizes.component_bytes(MIXTRAL, quantization=q) for q in ("fp8", "int8_experts"))
    assert {c for c in plain if plain[c] != fp8[c]} == {"attention", "experts"}
    assert {c for c in plain if plain[c] != int8[c]} == {"experts"}
    assert fp8["experts"] * 2 == int8["experts"] * 2 == plain["experts"]
    assert sizes.weight_bytes(MIXTRAL, "float32") == 2 * sizes.weight_bytes(MIXTRAL)


def test_biases_stay_in_the_plain_dtype():
    arch = catalog.load("gpt-oss-20b")
    biases = 24 * 32 * (2 * 2880 + 2880)
    matrices = 24 * 32 * 3 * 2880 * 2880
    assert sizes.component_bytes(arch, quantization="fp8")["experts"] == matrices + 2 * biases


def test_activations_grow_with_tokens_and_active_experts():
    few, many = sizes.activation_bytes(MIXTRAL, 1024), sizes.activation_bytes(MIXTRAL, 4096)
    assert isinstance(few, int)
    assert few < many
    assert sizes.activation_bytes(edit(MIXTRAL, top_k=8), 4096) > many
    logits = 2 * 256 * 4096 * 4
    assert few == 1024 * (3 * 256 + 2 * (1024 + 512)) * 2 + logits


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: sizes.weight_bytes(MIXTRAL, "auto"), "dtype 'auto'.*allowed: float32"),
        (
            lambda: sizes.weight_bytes(MIXTRAL, quantization="fp5"),
            "quantization 'fp5'.*allowed: None, fp8",
        ),
        (lambda: costs.decode_cost(MIXTRAL, 0, 5), "batch is 0"),
        (lambda: costs.prefill_cost(MIXTRAL, 1, 0), "input_tokens is 0"),
    ],
)
def test_errors_say_what_is_allowed(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_several_tokens_of_a_sequence_in_one_step_by_hand():
    """B = 3 sequences of 4 tokens, the first at context 100: 12 tokens of weights and head, each
    cache read once."""
    cost = costs.decode_cost(MIXTRAL, batch=3, context=100, tokens_per_sequence=4)
    wide = costs.decode_cost(MIXTRAL, batch=12, context=100)
    assert {**cost.flops, "attention_scores": 0} == {**wide.flops, "attention_scores": 0}
    assert cost.flops["attention_scores"] == 3 * 4 * 2 * 2 * 256 * (100 + 101 + 102 + 103)
    assert cost.bytes["kv_cache"] == 2 * 3 * 4 * 256 * (103 + 4)
    assert {**cost.bytes, "kv_cache": 0} == {**wide.bytes, "kv_cache": 0}
    assert costs.decode_cost(MIXTRAL, 3, 100, tokens_per_sequence=1) == costs.decode_cost(
        MIXTRAL, 3, 100
    )
    with pytest.raises(ValueError, match="tokens_per_sequence is 0"):
        costs.decode_cost(MIXTRAL, 3, 100, tokens_per_sequence=0)
