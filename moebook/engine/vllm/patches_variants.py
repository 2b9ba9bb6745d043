"""Reaches into the MoE layers of a running vLLM: moebook's own expert computations in place of its
kernel. Shapes as in layer/variants.py."""

import torch

from moebook.engine.layer.variants import OWN


def install_variant(worker, name: str) -> int:
    """Every MoE layer computes its routed experts by OWN[name] from now on; returns the layers
    changed.

    Routers and shared experts stay the engine's own. Graphs captured before still replay the old
    kernel: an engine that has any captures anew afterwards (loop cannot be captured, it needs
    enforce_eager). RuntimeError where there is no such layer or its weights are not plain (E, 2I,
    H) and (E, H, I)."""
    from vllm.model_executor.layers.fused_moe import RoutedExperts

    layers = [m for m in worker.model_runner.model.modules() if isinstance(m, RoutedExperts)]
    if not layers:
        raise RuntimeError(f"{name} was not installed: the model has no MoE layer")
    for layer in layers:
        weights = _plain_weights(layer, name)
        layer.quant_method.apply = _apply_of(OWN[name], layer.quant_method, weights)
    return len(layers)


def _apply_of(compute, method, weights):
    """A stand-in for the method's `apply`. Shared experts that the kernel would have run, it
    runs."""
    from vllm.model_executor.layers.fused_moe.runner.shared_experts import SharedExpertsOrder

    def apply(layer, x, topk_weights, topk_ids, shared_experts=None, shared_experts_input=None):
        if shared_experts is not None and method.mk_can_overlap_shared_experts:
            shared_experts(shared_experts_input, SharedExpertsOrder.MK_INTERNAL_OVERLAPPED)
        if layer.apply_router_weight_on_input:
            x, topk_weights = (x * topk_weights).to(x.dtype), torch.ones_like(topk_weights)
        return compute(x, *weights, topk_weights.float(), topk_ids)

    return apply


def _plain_weights(layer, name: str):
    """(w13, w2) of a layer, unpacked where the CPU's kernel packed them; RuntimeError for what
    cannot be used."""
    method = layer.quant_method
    backend = getattr(getattr(method, "unquantized_backend", None), "value", None)
    against = {
        f"its weights are quantized ({type(method).__name__})": backend is None,
        "its kernel routes tokens by itself": method.is_monolithic,
        f"its activation is {layer.activation.value}, not silu": layer.activation.value != "silu",
        "its experts are spread over devices": layer.expert_map is not None,
        "its experts have biases": getattr(layer, "w13_bias", None) is not None,
        f"the {backend} kernel reorders its weights": backend not in (None, "TRITON", "CPU"),
    }
    if reasons := [reason for reason, holds in against.items() if holds]:
        raise RuntimeError(f"{name} was not installed in {layer.layer_name}: {', '.join(reasons)}")
    weights = layer.w13_weight.data, layer.w2_weight.data
    isa = getattr(method.moe_kernel.fused_experts, "isa", None) if backend == "CPU" else None
    return tuple(_unpack(w, isa) for w in weights) if isa else weights


def _unpack(packed, isa: str):
    """Undo vLLM's packing for CPU kernels, a permutation of each expert's numbers: pack their
    positions the same way, as digits of 7 bits that every dtype holds exactly, and read where each
    number went."""
    from vllm._custom_ops import cpu_prepack_moe_weight

    experts, count = packed.shape[0], packed[0].numel()
    where, moved = torch.arange(count), torch.zeros(count, dtype=torch.long)
    for shift in range(0, count.bit_length(), 7):
        digit = ((where >> shift) & 127).to(packed.dtype).view(1, *packed.shape[1:])
        moved += cpu_prepack_moe_weight(digit, isa).view(-1).long() << shift
    plain = torch.empty_like(packed)
    plain.view(experts, count)[:, moved] = packed.reshape(experts, count)
    return plain
