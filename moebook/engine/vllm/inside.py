"""Functions that run in the engine's own process, sent there by `LLM.collective_rpc`: what it
chose, top-k, memory.

They are the only code that reaches into vLLM's objects; vLLM 0.26 and 0.32 have both model runners
seen here."""

import re
from pathlib import Path


def inspect_worker(worker) -> dict:
    """Runs in the engine's process: the attention backend, the MoE method and kernel class, bytes
    of the weights."""
    runner = worker.model_runner
    backends = {group.backend.get_name() for groups in runner.attn_groups for group in groups}
    moe = None
    for module in runner.model.modules():
        method = getattr(module, "quant_method", None)
        if method is not None and "MoE" in type(method).__name__:
            moe = backend_of(method)
            break
    weights = sum(p.numel() * p.element_size() for p in runner.model.parameters())
    return {
        "attention_backend": ",".join(sorted(backends)),
        "moe_backend": moe,
        "moe_config_tuned": None,
        "weights_bytes": weights,
    }


def backend_of(method) -> str:
    """A MoE method's backend as vLLM's selection names it, e.g. TRITON; without one, the method's
    class."""
    names = (
        getattr(method, f"{kind}_backend", None)
        for kind in ("unquantized", "fp8", "int8", "mxfp8", "nvfp4")
    )
    found = next((name for name in names if name is not None), type(method).__name__)
    return str(getattr(found, "value", found))


def set_top_k(worker, top_k: int) -> int:
    """Runs in the engine's process: set every router's top-k and capture the decode graphs anew;
    returns routers set."""
    from vllm.model_executor.layers.fused_moe.router.base_router import BaseRouter

    runner, routers = worker.model_runner, set()
    for module in runner.model.modules():
        for value in vars(module).values():
            if isinstance(value, BaseRouter):
                value.top_k = top_k
                routers.add(id(value))
        if (config := vars(module).get("moe_config")) is not None:
            config.experts_per_token = top_k
            module.top_k = top_k
    recapture(worker)
    return len(routers)


def recapture(worker) -> None:
    """Runs in the engine's process: capture the decode graphs anew, where it has any."""
    if not worker.model_config.enforce_eager:
        _forget_graphs(worker.model_runner)
        worker.model_runner.capture_model()


def _forget_graphs(runner) -> None:
    """Both of vLLM's model runners keep captured graphs by batch size, and would replay or refuse
    to replace them. The newer runner's old graphs are kept aside: their memory pool must not fall
    out of use before the next capture."""
    manager = getattr(runner, "cudagraph_manager", None)
    if manager is not None:
        runner.__dict__.setdefault("moebook_old_graphs", []).append(dict(manager.graphs))
        manager.graphs.clear()
        manager._graphs_captured = False
        return
    from vllm.compilation.cuda_graph import CUDAGraphWrapper

    CUDAGraphWrapper.clear_all_graphs()


def read_peak_memory(worker) -> int | None:
    """Runs in the engine's process: peak bytes the engine held, KV cache included, since the last
    call."""
    import torch

    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        return peak
    text = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) * 1024
