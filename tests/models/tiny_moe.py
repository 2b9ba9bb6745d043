"""Tiny random MoE models, saved as transformers saves them, and the full model with experts or
channels masked."""

import functools
from contextlib import contextmanager

import torch
import transformers

COMMON = {
    "vocab_size": 128,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "intermediate_size": 64,
    "num_experts_per_tok": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
MLA = {
    "n_routed_experts": 8,
    "moe_intermediate_size": 64,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "q_lora_rank": None,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
}
QWEN = {"num_experts": 8, "moe_intermediate_size": 64}
MODELS = {
    "mixtral": ("mixtral", {"num_local_experts": 8}),
    "phimoe": ("phimoe", {"num_local_experts": 8}),
    "olmoe": ("olmoe", {"num_experts": 8, "norm_topk_prob": False}),
    "olmoe renormalised": ("olmoe", {"num_experts": 8, "norm_topk_prob": True}),
    "qwen2_moe": (
        "qwen2_moe",
        {**QWEN, "shared_expert_intermediate_size": 96, "norm_topk_prob": False},
    ),
    "qwen3_moe": ("qwen3_moe", {**QWEN, "head_dim": 16, "norm_topk_prob": True}),
    "deepseek_v2": ("deepseek_v2", {**MLA, "topk_method": "greedy", "n_group": 1, "topk_group": 1}),
    "deepseek_v2 groups": (
        "deepseek_v2",
        {**MLA, "topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1},
    ),
    "deepseek_v3": ("deepseek_v3", {**MLA, "n_group": 1, "topk_group": 1}),
    "deepseek_v3 groups": ("deepseek_v3", {**MLA, "n_group": 2, "topk_group": 1}),
}


@functools.cache
def build(name: str, layers: int = 2):
    """A random model in float32, the same at each call; its router biases are not zero."""
    kind, extra = MODELS[name]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind, **{**COMMON, **extra, "num_hidden_layers": layers}
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for key, buffer in model.named_buffers():
        if key.endswith("e_score_correction_bias"):
            buffer.uniform_(0, 0.2)
    return model


def load(folder):
    """The model of a folder, after a check that its keys are those the model needs."""
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert (
        not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    ), told
    return model.eval()


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits


def tokens(count: int = 96):
    return torch.randint(0, 128, (2, count // 2), generator=torch.Generator().manual_seed(1))


def experts_of(model) -> dict:
    """By layer number the MoE block: it has `experts`, and a router named gate or router."""
    blocks = {i: layer.mlp for i, layer in enumerate(model.model.layers)}
    return {i: block for i, block in blocks.items() if hasattr(block, "experts")}


def site(layer: int) -> str:
    """What scores and reports call a MoE layer."""
    return f"model.layers.{layer}.mlp"


def router_of(block):
    return block.gate if hasattr(block, "gate") else block.router


@contextmanager
def outputs_removed(masks: dict[int, list[int]]):
    """Linear layers, by the address of their weights, whose outputs of these numbers are -inf."""
    linear = torch.nn.functional.linear

    def masked(x, weight, bias=None):
        out = linear(x, weight, bias)
        if gone := masks.get(weight.data_ptr()):
            out = out.index_fill(-1, torch.tensor(gone), -torch.inf)
        return out

    torch.nn.functional.linear = masked
    try:
        yield
    finally:
        torch.nn.functional.linear = linear


@contextmanager
def experts_removed(model, kept: dict[str, list[int]]):
    """The full model, whose routers give the experts not in `kept` (by MoE layer) a logit of -inf
    (and, with a bias, a score of -inf)."""
    masks, biases = {}, []
    for layer, block in experts_of(model).items():
        gone = [e for e in range(block.experts.num_experts) if e not in kept[site(layer)]]
        router = router_of(block)
        masks[router.weight.data_ptr()] = gone
        if getattr(router, "e_score_correction_bias", None) is not None:
            biases.append((router.e_score_correction_bias, router.e_score_correction_bias.clone()))
            router.e_score_correction_bias[gone] = -torch.inf
    try:
        with outputs_removed(masks):
            yield model
    finally:
        for bias, values in biases:
            bias.copy_(values)
