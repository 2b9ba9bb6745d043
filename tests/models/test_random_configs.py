"""Random legal configs of ten families agree with what transformers builds of them; random damage
to a config is a model or one message, never another error."""

import itertools
import json
import random

import pytest

from moebook.models import catalog, families, sizes
from moebook.models.architecture import UnknownModel, from_config
from moebook.predict import shipped
from moebook.predict.what_if import Unpredictable, predict
from moebook.study.settings import EngineSettings, Workload

SEEDS = range(6)


def attention(draw: random.Random) -> dict:
    kv_heads = draw.choice([1, 2, 3, 4])
    heads = kv_heads * draw.choice([1, 2, 4])
    head_dim = draw.choice([8, 16, 32])
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_size": heads * draw.choice([8, 16, 24]),
        "vocab_size": draw.randrange(50, 500),
        "max_position_embeddings": 512,
        "tie_word_embeddings": draw.random() < 0.5,
        "num_hidden_layers": draw.randrange(1, 7),
        "intermediate_size": 8 * draw.randrange(1, 20),
    }


def experts(draw: random.Random, number: str, chosen: str, width: str | None = None) -> dict:
    count = draw.randrange(2, 17)
    own = {width: 8 * draw.randrange(1, 20)} if width else {}
    return {number: count, chosen: draw.randrange(1, count + 1), **own}


def mixtral(draw):
    return {**attention(draw), **experts(draw, "num_local_experts", "num_experts_per_tok")}


def qwen3_moe(draw):
    return {
        **attention(draw),
        **experts(draw, "num_experts", "num_experts_per_tok", "moe_intermediate_size"),
        "decoder_sparse_step": draw.choice([1, 2]),
        "mlp_only_layers": draw.choice([[], [0]]),
        "attention_bias": draw.random() < 0.5,
    }


def deepseek_v3(draw):
    shape = attention(draw)
    del shape["head_dim"], shape["num_key_value_heads"]
    return {
        **shape,
        **experts(draw, "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"),
        "n_shared_experts": draw.choice([1, 2]),
        "first_k_dense_replace": draw.randrange(0, shape["num_hidden_layers"] + 1),
        "q_lora_rank": draw.choice([None, 24]),
        "kv_lora_rank": 16,
        "qk_nope_head_dim": draw.choice([8, 16]),
        "qk_rope_head_dim": 8,
        "v_head_dim": draw.choice([8, 24]),
        "n_group": 1,
        "topk_group": 1,
        "attention_bias": draw.random() < 0.3,
    }


def gpt_oss(draw):
    return {
        **attention(draw),
        **experts(draw, "num_local_experts", "num_experts_per_tok"),
        "sliding_window": 32,
        "attention_bias": draw.random() < 0.5,
    }


def ernie4_5_moe(draw):
    shape = attention(draw)
    del shape["head_dim"]
    return {
        **shape,
        **experts(draw, "moe_num_experts", "moe_k", "moe_intermediate_size"),
        "moe_num_shared_experts": draw.choice([0, 1, 2]),
        "moe_layer_start_index": draw.choice([0, 1]),
        "moe_layer_interval": draw.choice([1, 2]),
        "use_bias": draw.random() < 0.5,
    }


def qwen3_next(draw):
    return {
        **qwen3_moe(draw),
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": draw.choice([2, 4]),
        "linear_key_head_dim": 8,
        "linear_value_head_dim": draw.choice([8, 16]),
        "full_attention_interval": draw.choice([2, 4]),
    }


def glm4_moe(draw):
    return {
        **deepseek_v3(draw),
        **attention(draw),
        "use_qk_norm": draw.random() < 0.5,
        "first_k_dense_replace": 0,
    }


def granitemoehybrid(draw):
    shape = mixtral(draw)
    del shape["head_dim"]
    layers = [draw.choice(["mamba", "attention"]) for _ in range(shape["num_hidden_layers"])]
    heads = shape["hidden_size"] * 2 // 8
    return {
        **shape,
        "layer_types": layers,
        "shared_intermediate_size": draw.choice([8, 24]),
        "mamba_n_heads": heads,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
    }


def minimax_m2(draw):
    return {**attention(draw), **experts(draw, "num_local_experts", "num_experts_per_tok")}


def dots1(draw):
    return {**glm4_moe(draw), "n_shared_experts": 2}


FAMILIES = [mixtral, qwen3_moe, deepseek_v3, gpt_oss, ernie4_5_moe]
FAMILIES += [qwen3_next, glm4_moe, granitemoehybrid, minimax_m2, dots1]


def legal(family, seed: int) -> dict:
    return {"model_type": family.__name__, **family(random.Random(f"{family.__name__}{seed}"))}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_legal_config_counts_as_transformers_builds_it(family, seed, meta_model):
    config = legal(family, seed)
    arch, model = from_config(config, "x", "test"), meta_model(config)
    if arch.counts:
        buffers = arch.counts.buffers
    else:
        balanced = families.family_of(config) == "deepseek_v3"
        buffers = arch.num_moe_layers * arch.num_experts * balanced
    assert sizes.total_parameters(arch) == sum(p.numel() for p in model.parameters()) + buffers
    kept = ("k_proj", "v_proj", "kv_a_proj_with_mqa")
    width = sum(
        module.out_features
        for path, module in model.named_modules()
        if path.rsplit(".", 1)[-1] in kept and "linear" not in path
    )
    assert sizes.kv_bytes_per_token(arch) == 2 * width


WORKS = [(1, 1, 2), (3, 70, 9), (3, 300, 9), (500, 300, 9)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_legal_config_is_predicted_without_nonsense(family):
    """On every card with a calibration: ends in order, more work takes longer, memory agrees with
    itself. Several ranks may be refused, and a config that its engine's class cannot read."""
    predicted = 0
    for seed, device, ranks in itertools.product(SEEDS, shipped.names(), (1, 2)):
        arch, last = from_config(legal(family, seed), "x", "test"), (0.0, 0.0)
        settings = EngineSettings(tensor_parallel=ranks, graphs="default")
        for work in itertools.starmap(Workload, WORKS):
            try:
                p = predict(arch, settings, work, device)
            except Unpredictable as error:
                assert ranks == 2 or "reads 'rotary_dim'" in str(error)
                break
            for found in (p.ttft_s, p.tpot_s, p.e2e_s, p.throughput_tok_s):
                ends = [found.lo95, found.lo80, found.value, found.hi80, found.hi95]
                assert ends[0] > 0 and ends == sorted(ends) and ends[-1] < float("inf")
            now = p.ttft_s.value, p.tpot_s.value
            assert now[0] >= last[0] and now[1] >= last[1]
            tokens = work.batch * (work.input_tokens + work.output_tokens)
            assert p.memory.fits == (p.memory.per_gpu_bytes <= p.memory.usable_bytes)
            assert p.memory.fits == (p.memory.kv_tokens >= tokens)
            last, predicted = now, predicted + 1
    assert predicted >= len(SEEDS) * len(shipped.names()) * len(WORKS) or family is minimax_m2


DAMAGE = [None, -1, 0, 1.5, "64", "", [], {}, [3], {"a": 1}, True, 10**12, float("nan"), 7]


@pytest.mark.parametrize("family", FAMILIES)
def test_damage_is_a_model_or_one_message(family):
    draw = random.Random(family.__name__)
    outcomes = set()
    for seed in range(40):
        config = legal(family, seed)
        for key in draw.sample(sorted(config), draw.choice([1, 1, 2])):
            if draw.random() < 0.2:
                del config[key]
            else:
                config[key] = draw.choice(DAMAGE)
        try:
            arch = from_config(config, "damaged", "test")
        except UnknownModel as error:
            assert str(error).startswith("damaged: its config") and "\n" not in str(error)
            outcomes.add("message")
        else:
            assert sizes.total_parameters(arch) > 0 and sizes.kv_bytes_per_token(arch) >= 0
            outcomes.add("model")
    assert outcomes == {"message", "model"}


def test_a_damaged_file_is_a_model_or_one_message(tmp_path):
    draw = random.Random(7)
    path = tmp_path / "config.json"
    whole = json.dumps(catalog.load("tiny-deepseek-v2").hf_config()).encode()
    messages = 0
    for _ in range(200):
        bytes_ = bytearray(whole)
        for _ in range(draw.choice([1, 3])):
            bytes_[draw.randrange(len(bytes_))] = draw.randrange(256)
        path.write_bytes(bytes_[: draw.randrange(1, 2 * len(bytes_))])
        try:
            catalog.load(str(path))
        except UnknownModel as error:
            assert "\n" not in str(error)
            messages += 1
    assert messages > 100
