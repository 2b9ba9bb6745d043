"""Two ways to compute one MoE layer's routed experts in plain torch, the float64 reference, and the
drawn inputs.

Shapes, everywhere: x (T, H); w13 (E, 2I, H), gate rows first, then up; w2 (E, H, I); topk_weights
(T, K) float32; topk_ids (T, K) integer; out (T, H) in x's dtype. T tokens, H hidden, I expert FFN
dim, E experts, K experts per token."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from moebook.study.settings import OWN_BACKENDS


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
