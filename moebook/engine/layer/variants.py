"""Two ways to compute one MoE layer's routed experts in plain torch, the float64 reference, the
drawn inputs, and how a variant replaces the kernel of a running engine.

Shapes, everywhere: x (T, H); w13 (E, 2I, H), gate rows first, then up; w2 (E, H, I); topk_weights
(T, K) float32; topk_ids (T, K) integer; out (T, H) in x's dtype. T tokens, H hidden, I expert FFN
dim, E experts, K experts per token."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from moebook.models.formats import OWN_BACKENDS


def expert_loop(x, w13, w2, topk_weights, topk_ids):
    """One expert after another, as eager model code does it: small kernels, launched one by one,
    read by the host."""
    out = torch.zeros_like(x)
    for expert in torch.unique(topk_ids).tolist():
        token, slot = torch.nonzero(topk_ids == expert, as_tuple=True)
        hidden = _swiglu(F.linear(x[token], w13[expert]))  # (n, I)
        rows = F.linear(hidden, w2[expert]) * topk_weights[token, slot, None]  # (n, H)
        out.index_add_(0, token, rows.to(x.dtype))
    return out


def grouped_gemm(x, w13, w2, topk_weights, topk_ids):
    """Permute by expert, two grouped products, unpermute, weighted sum: separate kernels, none
    fused. Nothing is read by the host, so a CUDA graph can capture it. Raises NotImplementedError
    where torch has no grouped product."""
    grouped_mm = _grouped_mm()
    (tokens, k), experts = topk_ids.shape, w13.shape[0]
    by_expert, order = topk_ids.reshape(-1).sort(stable=True)  # (T*K,)
    every = torch.arange(experts, device=x.device, dtype=by_expert.dtype)
    ends = torch.searchsorted(
        by_expert, every, right=True, out_int32=True
    )  # (E,), where each expert's rows end
    rows = x[order // k]  # (T*K, H)
    hidden = _swiglu(grouped_mm(rows, w13.transpose(1, 2), offs=ends))  # (T*K, I)
    sorted_out = grouped_mm(hidden, w2.transpose(1, 2), offs=ends)  # (T*K, H)
    out = torch.empty_like(sorted_out).index_copy_(0, order, sorted_out).view(tokens, k, -1)
    return torch.bmm(topk_weights.to(x.dtype)[:, None], out)[:, 0]


OWN = dict(zip(OWN_BACKENDS, (expert_loop, grouped_gemm), strict=True))


def _swiglu(gate_and_up):
    gate, up = gate_and_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def _grouped_mm():
    """Public since torch 2.10, private before."""
    found = getattr(F, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
    if found is None:
        raise NotImplementedError(
            f"torch {torch.__version__} has no grouped matrix product; 2.8 is the first that has"
        )
    return found


def reference(x, w13, w2, topk_weights, topk_ids, rows: int):
    """(min(rows, T), H) in float64, of the first `rows` tokens, one expert at a time."""
    x, weights, ids = x[:rows].double(), topk_weights[:rows].double(), topk_ids[:rows]
    out = torch.zeros_like(x)
    for expert in torch.unique(ids).tolist():
        token, slot = torch.nonzero(ids == expert, as_tuple=True)
        hidden = _swiglu(x[token] @ w13[expert].double().T)
        out.index_add_(0, token, (hidden @ w2[expert].double().T) * weights[token, slot, None])
    return out


def relative_error(out, ref) -> float:
    """||out - ref|| / ||ref|| over the rows that `ref` has."""
    return float((out[: len(ref)].double() - ref).norm() / ref.norm())


@dataclass(frozen=True)
class Inputs:
    """What a layer gets: x (T, H), router logits (T, E) float32, and the routing that follows from
    them."""

    x: torch.Tensor
    logits: torch.Tensor
    topk_weights: torch.Tensor
    topk_ids: torch.Tensor

    def rotated(self, x: torch.Tensor, by: int) -> "Inputs":
        """Another x, every expert replaced by the one `by` further: equal group sizes on other
        weights."""
        experts = self.logits.shape[1]
        ids = ((self.topk_ids.long() + by) % experts).to(self.topk_ids.dtype)
        return Inputs(x, self.logits.roll(by, dims=1), self.topk_weights, ids)


def draw_weights(shape: dict, dtype: torch.dtype, device: str, seed: int):
    """(w13, w2) ~ N(0, 1/fan_in), seeded; drawn expert by expert in float32, so the peak is little
    above the result."""
    h, i, e = shape["hidden_size"], shape["expert_ffn_dim"], shape["num_experts"]
    generator = torch.Generator(device).manual_seed(seed)
    w13 = torch.empty(e, 2 * i, h, dtype=dtype, device=device)
    w2 = torch.empty(e, h, i, dtype=dtype, device=device)
    for expert in range(e):
        for weight, fan_in in ((w13, h), (w2, i)):
            drawn = torch.randn(weight.shape[1:], device=device, generator=generator)
            weight[expert] = drawn.mul_(fan_in**-0.5)
    return w13, w2


def draw(
    shape: dict, tokens: int, dtype: torch.dtype, device: str, seed: int, skew: float | None = None
) -> Inputs:
    """x and router logits ~ N(0, 1), seeded: near-uniform routing; with a skew, K experts drawn
    without replacement with probability ~ rank^-skew (logits of log-probability and Gumbel noise).
    Softmax, top-k, renormalised; ids int32."""
    generator = torch.Generator(device).manual_seed(seed + 1)
    x = torch.randn(tokens, shape["hidden_size"], device=device, generator=generator).to(dtype)
    logits = torch.randn(tokens, shape["num_experts"], device=device, generator=generator)
    if skew is not None:
        noise = -torch.empty_like(logits).exponential_(generator=generator).log()
        logits = noise - skew * torch.arange(1, shape["num_experts"] + 1, device=device).log()
    weights, ids = torch.softmax(logits, dim=-1).topk(shape["top_k"], dim=-1)
    return Inputs(x, logits, weights / weights.sum(dim=-1, keepdim=True), ids.to(torch.int32))


def install_variant(worker, name: str) -> int:
    """Runs in the engine's process: every MoE layer computes its routed experts by OWN[name] from
    now on; returns the layers changed. Routers and shared experts stay the engine's own. Graphs
    captured before still replay the old kernel: an engine that has any captures anew afterwards
    (loop cannot be captured, it needs enforce_eager). RuntimeError where there is no such layer or
    its weights are not plain (E, 2I, H) and (E, H, I)."""
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
