"""Tiny random models of many Mixture-of-Experts families, made from transformers' classes, and the
whole model with experts or channels masked. Sizes differ from each other: hidden 64, expert FFN 48,
8 experts of which a token uses 2, so that no axis is taken for another."""

import copy
import functools
from contextlib import contextmanager

import torch
import transformers
from tiny_moe import outputs_removed

E, K, H, I = 8, 2, 64, 48  # noqa: E741
COMMON = {
    "vocab_size": 128,
    "hidden_size": H,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "intermediate_size": I,
    "num_experts_per_tok": K,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
_WIDE = {"intermediate_size": 80, "moe_intermediate_size": I}
_MLA = {
    "q_lora_rank": None,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
}
_ROUTED = {"n_routed_experts": E, **_WIDE, "n_shared_experts": 2, "first_k_dense_replace": 1}
_GROUPS = {"n_group": 2, "topk_group": 1}
_ONE_GROUP = {"n_group": 1, "topk_group": 1}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
_MAMBA = {"mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1}
_SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 32}
_LOCAL, _NUM = {"num_local_experts": E}, {"num_experts": E}
_VISION = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2}

# Family, and what its config has beside COMMON. Those under ONE come as one tensor per expert,
# those under FUSED with the experts of a layer in one tensor.
ONE = {
    "mixtral": _LOCAL,
    "phimoe": _LOCAL,
    "olmoe": _NUM,
    "flex_olmo": _NUM,
    "qwen2_moe": {**_NUM, **_WIDE, "shared_expert_intermediate_size": 96},
    "qwen3_moe": {**_NUM, **_WIDE, "head_dim": 16, "mlp_only_layers": [0]},
    "qwen3_next": {**_NUM, **_WIDE, **_LINEAR, "shared_expert_intermediate_size": 40},
    "qwen3_5_moe_text": {**_NUM, **_WIDE, **_LINEAR, "shared_expert_intermediate_size": 40},
    "deepseek_v2": {**_ROUTED, **_MLA, **_GROUPS, "topk_method": "group_limited_greedy"},
    "deepseek_v3": {**_ROUTED, **_MLA, **_GROUPS},
    "deepseek_v32": {**_ROUTED, **_MLA, **_GROUPS, "q_lora_rank": 32, "index_topk": 16},
    "glm4_moe": {**_ROUTED, **_ONE_GROUP, "head_dim": 16},
    "glm4_moe_lite": {**_ROUTED, **_MLA, **_ONE_GROUP},
    "dots1": {**_ROUTED, **_ONE_GROUP, "head_dim": 16},
    "ernie4_5_moe": {**_WIDE, "moe_num_experts": E, "moe_k": K, "moe_num_shared_experts": 2},
    "hunyuan_v1_moe": {**_NUM, "moe_topk": K, "head_dim": 16},
    "minimax": {**_LOCAL, "head_dim": 16, "layer_types": ["linear_attention", "full_attention"]},
    "minimax_m2": {**_LOCAL, "head_dim": 16},
    "mimo_v2_flash": {**_ROUTED, **_ONE_GROUP, **_SLIDING, "head_dim": 16, "v_head_dim": 16},
    "jamba": {
        **_NUM,
        **_MAMBA,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "kimi_linear": {
        **_WIDE,
        **_NUM,
        **_MLA,
        "num_experts_per_token": K,
        "linear_head_dim": 16,
        "linear_num_heads": 4,
    },
    "lfm2_moe": {
        **_NUM,
        **_WIDE,
        "layer_types": ["conv", "full_attention"],
        "num_dense_layers": 1,
    },
    "afmoe": {**_NUM, **_WIDE, "num_shared_experts": 1, "num_dense_layers": 1, "head_dim": 16},
    "exaone_moe": {**_NUM, **_WIDE, **_ONE_GROUP, **_SLIDING, "first_k_dense_replace": 1},
    "solar_open": {**_ROUTED, **_ONE_GROUP, "head_dim": 16},
    "nemotron_h": {
        **_ROUTED,
        **_ONE_GROUP,
        "head_dim": 16,
        "layers_block_type": ["attention", "moe"],
        "moe_shared_expert_intermediate_size": 40,
    },
    "laguna": {**_NUM, **_WIDE, "head_dim": 16, "shared_expert_intermediate_size": 40},
}
FUSED = {
    "gpt_oss": {**_LOCAL, **_SLIDING, "head_dim": 16},
    "llama4_text": {
        **_LOCAL,
        "intermediate_size_mlp": 80,
        "num_experts_per_tok": 1,
        "head_dim": 16,
        "interleave_moe_layer_step": 2,
    },
    "granitemoe": _LOCAL,
    "granitemoeshared": {**_LOCAL, "shared_intermediate_size": 40},
    "granitemoehybrid": {
        **_LOCAL,
        **_MAMBA,
        "shared_intermediate_size": 40,
        "layer_types": ["mamba", "attention"],
    },
    "dbrx": {
        "d_model": H,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 64,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": I, "moe_num_experts": E, "moe_top_k": K},
    },
    "jetmoe": {**_LOCAL, "kv_channels": 16, "num_key_value_heads": 2},
    "aria_text": {"moe_num_experts": E, "moe_topk": K, "moe_num_shared_experts": 2},
    "gemma4_text": {
        **_NUM,
        **_WIDE,
        "top_k_experts": K,
        "enable_moe_block": True,
        "head_dim": 16,
        "global_head_dim": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "vocab_size_per_layer_input": 128,
        "hidden_size_per_layer_input": 16,
    },
    "zaya": {**_NUM, **_WIDE, "num_experts_per_tok": 1},
    "qwen3_vl_moe": {
        "text_config": {**COMMON, **_NUM, **_WIDE, "head_dim": 16},
        "vision_config": {**_VISION, "out_hidden_size": H, "deepstack_visual_indexes": [0]},
    },
}
MODELS = {**ONE, **FUSED}


@functools.cache
def build(name: str):
    """A random model in float32, the same at each call; biases and buffers of its routers are not
    zero."""
    torch.manual_seed(0)
    given = MODELS[name] if "text_config" in MODELS[name] else {**COMMON, **MODELS[name]}
    config = transformers.AutoConfig.for_model(name, **given)
    auto = transformers.AutoModelForCausalLM
    if type(config) not in auto._model_mapping:
        auto = transformers.AutoModelForImageTextToText
    model = auto.from_config(config).float().eval()
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if key.endswith("bias") and tensor.is_floating_point():
            tensor.data.uniform_(0, 0.2)
        elif tensor.ndim > 1 and "norm" not in key and "vis" not in key:
            tensor.data.normal_(0, 0.15)
    return model


def load(folder, like):
    """The model of a folder, of the class of `like`, after a check that its keys are those the
    model needs."""
    model, told = type(like).from_pretrained(folder, output_loading_info=True)
    wrong = {key: told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    assert not any(wrong.values()), wrong
    return model.float().eval()


def tokens():
    return torch.randint(3, 128, (2, 24), generator=torch.Generator().manual_seed(1))


def logits(model):
    with torch.no_grad():
        return model(input_ids=tokens(), use_cache=False).logits


def top_k(name: str) -> int:
    return 1 if name == "zaya" else K


def _routing(model, site: str, experts: int) -> dict:
    """Tensors of a site, outside its experts, that have an entry or row for each expert."""
    module = model.get_submodule(site)
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {
        name: tensor
        for name, tensor in tensors
        if {*tensor.shape[:1], *tensor.shape[-1:]} & {experts, experts + 1}  # Zaya: one may skip
        if not any(part in name for part in _FFN)
    }


_FFN = ("gate_up_proj", "up_proj", "down_proj", "shared", "linear", "experts.fc", "mlp.w", "mlp.v1")


@contextmanager
def experts_removed(model, kept: dict[str, list[int]]):
    """The whole model, whose routers give the experts not in `kept` a logit and a selection bias of
    -inf."""
    masks, biases = {}, []
    for site, staying in kept.items():
        gone = [e for e in range(E) if e not in staying]
        for tensor in _routing(model, site, E).values():
            if tensor.ndim == 2 and len(tensor) >= E:
                masks[tensor.data_ptr()] = gone
            else:
                biases.append((tensor, tensor.detach().clone()))
                tensor.data[..., gone] = -torch.inf
    try:
        assert len(masks) == len(kept)
        with outputs_removed(masks):
            yield model
    finally:
        for tensor, values in biases:
            tensor.data.copy_(values)


def channels_zeroed(model, pruned, kept: dict) -> torch.nn.Module:
    """A copy of the model without the channels of each expert that are not in `kept` (by site, (E,
    I')), and of each other FFN that is narrower in `pruned` without those of least norm."""
    masked = copy.deepcopy(model)
    for site, staying in kept.items():
        for name, tensor in masked.get_submodule(site).named_parameters():
            if "shared" in name or not any(part in name for part in _DOWN) or "bias" in name:
                continue
            whole = tensor.data.view(E, I, H) if name.endswith("mlp.w2") else tensor.data
            if whole.ndim == 3 and I in whole.shape:
                for expert in range(E):
                    gone = [c for c in range(I) if c not in staying[expert]]
                    axis = list(whole[expert].shape).index(I)
                    whole[expert].index_fill_(axis, torch.tensor(gone), 0)
    for name, module in masked.named_modules():
        down = getattr(module, "down_proj", None)
        if isinstance(down, torch.nn.Linear) and hasattr(module, "up_proj"):
            left = pruned.get_submodule(name).down_proj.in_features
            rows = [getattr(module, key, None) for key in ("gate_proj", "up_proj")]
            norms = sum(row.weight.square().sum(1) for row in rows if row is not None)
            norms += down.weight.square().sum(0)
            down.weight.data[:, norms.argsort()[: down.in_features - left]] = 0
    return masked


_DOWN = ("down_proj", "output_linear", "mlp.w2", "fc2")
