"""Reaches into vLLM for its own MoE layer, built alone: its routed experts with given weights and
routing, on any backend it has. No model, no attention, one device.

The layer comes from vLLM's factory under a VllmConfig that names the backend, so that the engine
itself selects the kernel or refuses, in its own words; weights go through its own processing
(packing, shuffling, online quantization). vLLM 0.26 calls the factory FusedMoE, 0.32
FusedMoEFactory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F

from moebook.engine.base import EngineFailed
from moebook.engine.layer import tuning
from moebook.engine.layer.variants import OWN, Inputs
from moebook.engine.vllm.patches import backend_of
from moebook.models.formats import FORMATS

TUNED = "triton_tuned"
MOST_TOKENS = 16384  # in one call of the layer


def engine_backends() -> tuple[str, ...]:
    from vllm.config.kernel import MoEBackend

    return get_args(MoEBackend)


def check_backend(backend: str) -> None:
    """EngineFailed, infeasible, for a name that neither moebook nor the installed vLLM has."""
    if backend in (*OWN, TUNED):
        return  # known without importing vLLM
    legal = (*OWN, TUNED, *engine_backends())
    if backend not in legal:
        raise EngineFailed("infeasible", f"backend is {backend!r}; allowed are {', '.join(legal)}")


class EngineLayer:
    def __init__(
        self,
        shape: dict,
        dtype: torch.dtype,
        quantization: str | None,
        backend: str,
        weights,
        device: str,
    ):
        """weights: (w13 (E, 2I, H), w2 (E, H, I)) in dtype; copied, since the engine repacks in
        place."""
        from vllm.config import KernelConfig, SchedulerConfig, VllmConfig

        self.device, self.hidden, self.top_k = device, shape["hidden_size"], shape["top_k"]
        self.config = VllmConfig(
            kernel_config=KernelConfig(moe_backend="triton" if backend == TUNED else backend),
            scheduler_config=SchedulerConfig.default_factory(max_num_batched_tokens=MOST_TOKENS),
        )  # sizes workspaces
        with self.running():
            _join_world_of_one()
            with torch.device(device):
                self.experts = _factory()(
                    num_experts=shape["num_experts"],
                    top_k=self.top_k,
                    hidden_size=self.hidden,
                    intermediate_size=shape["expert_ffn_dim"],
                    params_dtype=dtype,
                    renormalize=True,
                    quant_config=_quant_config(quantization, dtype),
                    prefix="experts",
                ).routed_experts
            w13, w2 = weights
            _fill(self.experts, "w13_weight", w13.unflatten(1, (2, -1)), halves=2)
            _fill(self.experts, "w2_weight", w2.unflatten(1, (1, -1)), halves=1)
            self.method = self.experts.quant_method
            self.method.process_weights_after_loading(self.experts)
            self.experts._ensure_moe_quant_config_init()

    @contextmanager
    def running(self):
        """Calls are made in here: the engine's current config, and a workspace of their own."""
        from vllm.config import set_current_vllm_config
        from vllm.v1.worker import workspace

        with set_current_vllm_config(self.config), torch.inference_mode():
            workspace.reset_workspace_manager()
            workspace.init_workspace_manager(torch.device(self.device))
            yield
        workspace.reset_workspace_manager()

    def __call__(self, inputs: Inputs):
        """(T, H). A kernel that routes by itself gets the logits, from which it finds the same
        routing."""
        x = inputs.x
        if (pad := self.experts.hidden_size - x.shape[1]) and not self.method.skip_forward_padding:
            x = F.pad(x, (0, pad))
        if self.method.is_monolithic:
            return self.method.apply_monolithic(
                layer=self.experts, x=x, router_logits=inputs.logits
            )[:, : self.hidden]
        ids = inputs.topk_ids
        if (kind := self.method.topk_indices_dtype) is not None:
            ids = ids.to(kind)
        return self.method.apply(
            layer=self.experts,
            x=x,
            topk_weights=inputs.topk_weights,
            topk_ids=ids,
            shared_experts=None,
            shared_experts_input=None,
        )[:, : self.hidden]

    @property
    def chosen_backend(self) -> str:
        """As the engine's selection names it, e.g. TRITON; a composite may still fall back for
        single shapes."""
        return backend_of(self.method)

    @property
    def weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.experts.parameters())

    def triton_facts(self, tokens: int) -> dict:
        """Whether a tuned configuration of this E, I and device was found, and the one in use;
        empty elsewhere."""
        if self.chosen_backend.upper() != "TRITON":
            return {"moe_config_tuned": None, "kernel_config": None}
        from vllm.model_executor.layers.fused_moe.fused_moe import (
            get_moe_configs,
            try_get_optimal_moe_config,
        )

        name, block_shape = self.triton_format()
        w13, w2 = self.experts.w13_weight.shape, self.experts.w2_weight.shape
        block_n, block_k = block_shape or (None, None)
        tuned = get_moe_configs(w2[0], w2[2], name, block_n, block_k) is not None
        config = try_get_optimal_moe_config(
            w13, w2, self.top_k, name, tokens, block_shape=block_shape
        )
        return {"moe_config_tuned": tuned, "kernel_config": dict(config)}

    def triton_format(self) -> tuple[str | None, list[int] | None]:
        """(name of the number format in vLLM's files of tuned configurations, quantization block
        shape)."""
        quant = self.method.moe_quant_config
        return quant.config_name(self.experts.moe_config.in_dtype), quant.block_shape


def _factory():
    import vllm.model_executor.layers.fused_moe as fused_moe

    return getattr(fused_moe, "FusedMoEFactory", None) or fused_moe.FusedMoE


def _quant_config(quantization: str | None, dtype: torch.dtype):
    """vLLM's config of a quantization made of plain weights at load; a name of moebook's or of
    vLLM's."""
    if quantization is None:
        return None
    from vllm.config.quantization import ONLINE_QUANT_SHORTHAND_NAMES, resolve_quantization_config
    from vllm.model_executor.layers.quantization.fp8 import Fp8Config
    from vllm.model_executor.layers.quantization.online.base import OnlineQuantizationConfig

    known = FORMATS.get(quantization)
    name = known.engine.get("quantization", quantization) if known else quantization
    online = [
        n for n in ONLINE_QUANT_SHORTHAND_NAMES if resolve_quantization_config(n, None) is not None
    ]
    if name == "fp8":
        config = Fp8Config()
    elif name in online:
        config = OnlineQuantizationConfig(resolve_quantization_config(name, None))
    else:
        raise EngineFailed(
            "infeasible",
            f"quantization is {quantization!r}; a layer's weights can be quantized to fp8, "
            f"{', '.join(online)}",
        )
    if dtype not in (allowed := config.get_supported_act_dtypes()):
        raise EngineFailed(
            "infeasible", f"{quantization} takes activations in {allowed}, not {dtype}"
        )
    return config


def _fill(experts, name: str, weight, halves: int) -> None:
    """Put weight (E, halves, rows, columns) into a parameter (E, halves * rows, columns), whose
    rows and columns may be padded with zeros; a parameter on the meta device is made first."""
    parameter = getattr(experts, name)
    if parameter.is_meta:
        parameter = torch.nn.Parameter(
            torch.empty(parameter.shape, dtype=parameter.dtype, device=weight.device), False
        )
        setattr(experts, name, parameter)
    _, _, rows, columns = weight.shape
    parameter.data.zero_()
    parameter.data.unflatten(1, (halves, -1))[:, :, :rows, :columns].copy_(weight)


def _join_world_of_one() -> None:
    """The parallel groups that the layer asks for their size. Gloo, since nothing is ever sent."""
    from vllm.distributed import parallel_state

    if parallel_state.model_parallel_is_initialized():
        return
    store = Path(tempfile.mkdtemp(prefix="moebook-")) / "store"
    parallel_state.init_distributed_environment(
        world_size=1,
        rank=0,
        distributed_init_method=f"file://{store}",
        local_rank=0,
        backend="gloo",
    )
    parallel_state.ensure_model_parallel_initialized(1, 1)


def candidates_for(layer: EngineLayer, tokens: int, experts: int, seed: int) -> Iterator[dict]:
    """Kernel configurations to try for a layer of `experts` experts on this GPU."""
    import vllm.model_executor.layers.fused_moe as fused_moe
    from vllm.model_executor.layers.fused_moe.fused_moe import get_config_file_name

    name, block_shape = layer.triton_format()
    folder = Path(fused_moe.__file__).parent / "configs"
    w2 = layer.experts.w2_weight
    shipped = tuning.shipped_configs(
        folder, get_config_file_name(w2.shape[0], w2.shape[2], name, block_shape), tokens
    )
    device = torch.cuda.get_device_properties(0)
    shared = getattr(device, "shared_memory_per_block_optin", 227 * 1024)
    return tuning.candidates(
        shipped, tokens * layer.top_k / experts, w2.element_size(), shared, block_shape, seed
    )


@contextmanager
def configured(config: dict | None) -> Iterator[None]:
    """vLLM's Triton kernel uses this configuration inside; None leaves its own choice. vLLM's
    override_config does not restore after an exception, and a search has many."""
    import vllm.model_executor.layers.fused_moe as fused_moe

    before = fused_moe._config
    fused_moe._config = config or before
    try:
        yield
    finally:
        fused_moe._config = before
