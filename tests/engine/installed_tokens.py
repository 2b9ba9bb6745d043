"""Greedy tokens of tiny engines with their own kernel, with each of moebook's variants installed,
and with one that computes nothing; calls counted, and each layer's own and installed computation
compared on random input. Prints one JSON line. A script, because an engine reads its environment at
import."""

import json
import sys
from pathlib import Path

import torch
from greedy_tokens import scale_weights, tokens_of

from moebook.engine.layer import variants as moe_variants
from moebook.engine.vllm.arguments import set_environment
from moebook.engine.vllm.patches_variants import install_variant
from moebook.models import catalog
from moebook.models.edit import edit
from moebook.study.plan import EngineSettings

MODELS = {
    "tiny-mixtral": {"ffn_dim": 80},
    "tiny-qwen2-moe": {},
}  # 80: the CPU's kernel pads it to 96
calls = []


def counting(compute):
    def run(*args):
        calls.append(compute)
        return compute(*args)

    return run


def compare(worker, name: str) -> float:
    """Install, and return the largest relative difference between a layer's computation before and
    after."""
    layers = [m for m in worker.model_runner.model.modules() if type(m).__name__ == "RoutedExperts"]
    plain = [type(layer.quant_method).apply for layer in layers]
    assert install_variant(worker, name) == len(layers)
    differences = []
    for layer, own in zip(layers, plain, strict=True):
        x = torch.randn(33, layer.hidden_size)
        weights, ids = torch.randn(33, layer.global_num_experts).softmax(-1).topk(layer.top_k)
        given = {
            "layer": layer,
            "x": x,
            "topk_weights": weights,
            "topk_ids": ids.int(),
            "shared_experts": None,
            "shared_experts_input": None,
        }
        ref = own(layer.quant_method, **given).double()
        differences.append(moe_variants.relative_error(layer.quant_method.apply(**given), ref))
    return max(differences)


def tokens(model: str, folder: Path) -> dict:
    from moebook.engine.vllm.engine import VllmEngine

    settings = EngineSettings(dtype="float32", graphs="eager", max_model_len=128, kv_cache_gib=1)
    engine = VllmEngine(
        settings, edit(catalog.load(model), num_layers=2, **MODELS[model]).hf_config(), folder
    )
    engine.llm.collective_rpc(
        scale_weights
    )  # packed weights are a permutation: their scale is the plain ones'
    out = {"engine": tokens_of(engine)}
    for name in moe_variants.OWN:
        difference = engine.llm.collective_rpc(compare, args=(name,))[0]
        calls.clear()
        out[name] = {"tokens": tokens_of(engine), "difference": difference, "calls": len(calls)}
    engine.stop()
    return out


if __name__ == "__main__":
    set_environment(on_gpu=False)
    variants = {**moe_variants.OWN, "nothing": lambda x, *_: torch.zeros_like(x)}
    moe_variants.OWN.update({name: counting(compute) for name, compute in variants.items()})
    print(json.dumps({m: tokens(m, Path(sys.argv[1]) / m) for m in MODELS}))
