"""Reaches into a running vLLM: what it chose, top-k, memory, deliveries, garbage.

This file and its neighbours `patches_*.py` are the only ones that touch vLLM's objects beyond its
public LLM class. All were seen to work with VERSIONS: tests/engine/test_patches.py fails on another
one. Functions of a `worker` run in the engine's own process, sent there by
`LLM.collective_rpc`."""

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ATTENTION_OUTPUTS = ("attn.o_proj", "attn.out_proj", "attn.dense", "attn.wo", "attention.o_proj")
VERSIONS = ("0.26", "0.32")  # of vLLM (major.minor) that every function here was seen to work with


def patch_scan() -> None:
    """vLLM 0.32 looks through the attributes of every loaded module when a CPU engine starts, and
    fails on an object of llvmlite whose `__dict__` is no dict, which n-gram lookup brings in: such
    objects count as having no attributes. What one engine's scan has replaced stays replaced: later
    engines need none. vLLM 0.26 has no such scan."""
    try:
        from vllm.triton_utils import dispatcher
    except ImportError:
        return
    dispatcher.vars = lambda value: found if isinstance(found := vars(value), dict) else {}
    if dispatcher._registry:
        dispatcher.register_kernels = lambda overrides: None


@contextmanager
def uncollected() -> Iterator[None]:
    """Within the block nothing is collected but by the interpreter itself: vLLM collects, freezes
    and unfreezes several times as an engine starts and stops, each time through all of its modules,
    0.5 s. A process forked within the block would stay so."""
    plain = {name: getattr(gc, name) for name in ("collect", "freeze", "unfreeze")}
    for name in plain:
        setattr(gc, name, lambda *generation: 0)
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(gc, name, function)


def collect() -> None:
    """Free what an engine leaves; what is left then, modules above all, is not looked through
    again."""
    gc.collect()
    gc.freeze()


def shut_down(llm) -> None:
    llm.llm_engine.engine_core.shutdown()


def kv_capacity_tokens(llm) -> int:
    """Tokens of context that the cache holds at once, as the engine's log says it: with windows or
    recurrent layers no multiple of a block."""
    return llm.llm_engine.vllm_config.cache_config.kv_cache_size_tokens


def tokens_per_prefill_step(llm) -> int:
    """The most tokens that one step takes; a longer batch prefills in chunks."""
    return llm.llm_engine.vllm_config.scheduler_config.max_num_batched_tokens


@contextmanager
def delivering_to(llm, tell: Callable[[list], None]) -> Iterator[None]:
    """While the block runs, `tell` gets what every step of the engine delivers: its outputs with
    new tokens (request_id, new_token_ids, finish_reason)."""
    core = llm.llm_engine.engine_core
    plain = core.get_output

    def get_output():
        out = plain()
        if gained := [o for o in out.outputs if o.new_token_ids]:
            tell(gained)
        return out

    core.get_output = get_output
    try:
        yield
    finally:
        core.get_output = plain


def inspect_worker(worker) -> dict:
    """The attention backend, the MoE method and kernel class, bytes of the weights (None where
    kernels keep experts in a form of their own); `runs`, the number formats that the engine runs
    (see `number_formats`)."""
    runner = worker.model_runner
    backends = {group.backend.get_name() for groups in runner.attn_groups for group in groups}
    methods = (getattr(module, "quant_method", None) for module in runner.model.modules())
    moe = next((m for m in methods if m is not None and "MoE" in type(m).__name__), None)
    return {
        "runs": number_formats(worker),
        "attention_backend": ",".join(sorted(backends)),
        "moe_backend": None if moe is None else backend_of(moe),
        "moe_config_tuned": None,
        "weights_bytes": None if self_routing(worker) else _bytes_of(runner.model.parameters()),
    }


def _bytes_of(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def number_formats(worker) -> dict:
    """In the engine's own words: `quantization` as it resolved it (None: plain weights), `dtype` of
    the model, dtype and method of the first `experts` and `attention` weights (not of linear
    attention), dtype of the KV cache. A weight that a kernel keeps in a form of its own has no
    dtype."""
    runner, asked = worker.model_runner, worker.cache_config.cache_dtype
    found = {"experts": None, "attention": None}
    for name, module in runner.model.named_modules():
        if "MoE" in type(getattr(module, "quant_method", None)).__name__:
            found["experts"] = found["experts"] or _held(module, "w13_weight")
        elif name.endswith(ATTENTION_OUTPUTS) and "linear" not in name:
            found["attention"] = found["attention"] or _held(module, "weight")
    return {
        "quantization": worker.model_config.quantization,
        "dtype": _word(worker.model_config.dtype),
        **{f"{part}_dtype": held and held[0] for part, held in found.items()},
        **{f"{part}_method": held and held[1] for part, held in found.items()},
        "kv_cache_dtype": _word(runner.kv_cache_dtype) if asked == "auto" else str(asked),
    }


def _held(module, name: str) -> tuple[str | None, str]:
    """Dtype of a module's weight, packed or not, and the scheme or method that multiplies with
    it."""
    import torch

    names = (name, f"{name}_packed", name.replace("weight", "qweight"))
    weights = (getattr(module, one, None) for one in names)
    dtype = next((_word(w.dtype) for w in weights if isinstance(w, torch.Tensor)), None)
    method = getattr(module, "scheme", None) or getattr(module, "quant_method", None)
    return dtype, type(method).__name__


def _word(dtype) -> str:
    return str(dtype).removeprefix("torch.")


def backend_of(method) -> str:
    """A MoE method's backend as vLLM's selection names it, e.g. TRITON; without one, the method's
    class."""
    kinds = ("unquantized", "fp8", "int8", "mxfp8", "nvfp4")
    names = (getattr(method, f"{kind}_backend", None) for kind in kinds)
    found = next((name for name in names if name is not None), type(method).__name__)
    return str(getattr(found, "value", found))


def routers_of(worker) -> list:
    """The routers of the target model, in the order of its layers."""
    from vllm.model_executor.layers.fused_moe.router.base_router import BaseRouter

    modules = worker.model_runner.model.modules()
    values = (value for module in modules for value in vars(module).values())
    return list({id(value): value for value in values if isinstance(value, BaseRouter)}.values())


def self_routing(worker) -> list:
    """Modules whose expert kernels take the router's logits and choose by themselves (vLLM calls
    such kernels monolithic: MXFP4 of gpt-oss on a GPU)."""
    modules = worker.model_runner.model.modules()
    experts = (m for m in modules if hasattr(m, "forward_monolithic"))
    return [m for m in experts if m.quant_method.is_monolithic]


def set_top_k(worker, top_k: int) -> int:
    """Set every router's top-k; decode graphs are captured anew after it. Returns routers set: none
    where kernels choose by themselves, for these keep their own."""
    routers = [] if self_routing(worker) else routers_of(worker)
    for router in routers:
        router.top_k = top_k
    for module in worker.model_runner.model.modules():
        if (config := vars(module).get("moe_config")) is not None:
            config.experts_per_token = top_k
            module.top_k = top_k
    return len(routers)


def recapture(worker) -> None:
    """Capture the decode graphs anew, where the engine has any."""
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
    """Peak bytes the engine held, KV cache included, since the last call."""
    import torch

    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        return peak
    text = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) * 1024
