"""From plan.EngineSettings to the arguments of vLLM's LLM class."""

import json
import os
from pathlib import Path

from moebook import devices
from moebook.engine.vllm.speculative import speculative_config
from moebook.models import formats
from moebook.models.tiny import family

CORES = devices.core_ids()  # before any engine binds this process to fewer
BIND = "VLLM_CPU_OMP_THREADS_BIND"
USER_BINDS = BIND in os.environ


def engine_arguments(
    settings: dict,
    hf_config: dict,
    folder: Path,
    draft_config: dict | None = None,
    on_gpu: bool = False,
) -> dict:
    """Arguments of vLLM's LLM(...). settings: fields of plan.EngineSettings; folder: where a dummy
    model's config goes."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder
    if settings["weights"] == "dummy":
        (folder / "config.json").write_text(
            json.dumps(formats.with_format(hf_config, settings["quantization"]))
        )
    else:
        name = settings["weights"]
        model = family.folder(name, forks_engines=on_gpu) if family.is_tiny(name) else Path(name)
    arguments = {
        "model": str(model),
        "load_format": "dummy" if settings["weights"] == "dummy" else "auto",
        "skip_tokenizer_init": True,
        "enable_prefix_caching": False,
        "disable_log_stats": False,
        "seed": 0,
        "dtype": settings["dtype"],
        **formats.engine_arguments(settings["quantization"]),
        "kv_cache_dtype": settings["kv_cache_dtype"],
        "max_model_len": settings["max_model_len"],
        "tensor_parallel_size": settings["tensor_parallel"],
        "pipeline_parallel_size": settings["pipeline_parallel"],
        "enable_expert_parallel": settings["expert_parallel"],
        "trust_remote_code": settings["trust_remote_code"],
        "gpu_memory_utilization": settings["gpu_memory_utilization"],
        **_attention(settings["dtype"], hf_config, on_gpu),
    }
    if settings["graphs"] == "eager":
        arguments["enforce_eager"] = True
    elif settings["graphs"] == "light":
        arguments["compilation_config"] = {
            "mode": 0,
            "cudagraph_mode": "FULL_DECODE_ONLY",
            "cudagraph_capture_sizes": list(settings["graph_batch_sizes"]),
        }
    elif settings["graphs"] == "pieces":
        arguments["compilation_config"] = {
            "mode": 0,
            "cudagraph_mode": "FULL_AND_PIECEWISE",
            "cudagraph_capture_sizes": list(settings["graph_batch_sizes"]),
        }
    elif settings["graphs"] == "compiled":
        arguments["compilation_config"] = {
            "cudagraph_capture_sizes": list(settings["graph_batch_sizes"])
        }
    if settings["speculation"]:
        arguments["speculative_config"] = speculative_config(
            settings["speculation"], draft_config, folder
        )
    if settings["routed_experts"]:
        arguments["enable_return_routed_experts"] = True
    if settings["moe_backend"] not in (None, *formats.OWN_BACKENDS):
        arguments["moe_backend"] = settings["moe_backend"]
    return arguments


def engine_environment(settings: dict, hf_config: dict) -> dict[str, str]:
    """Environment variables an engine is started with. The smallest DeepSeek-VL2 has plain
    attention, but its family's config must name a KV rank, which the engine takes for MLA."""
    pieces = {"VLLM_USE_BREAKABLE_CUDAGRAPH": "1"} if settings["graphs"] == "pieces" else {}
    plain = {"VLLM_MLA_DISABLE": "1"} if hf_config.get("use_mla") is False else {}
    return {
        **formats.environment(settings["quantization"]),
        **pieces,
        **plain,
        **_ranks_on_cpu(settings),
    }


def _attention(dtype: str, hf_config: dict, on_gpu: bool) -> dict[str, str]:
    """At dtypes other than bfloat16 a CPU is asked for the engine's reference kernel of MLA: where
    it has AMX, the engine would choose a kernel that has bfloat16 alone."""
    mla = hf_config.get("kv_lora_rank") and hf_config.get("use_mla") is not False
    return {"attention_backend": "CPU_MLA"} if mla and dtype != "bfloat16" and not on_gpu else {}


def _ranks_on_cpu(settings: dict) -> dict[str, str]:
    """Cores of each rank, evenly: left to itself the CPU engine gives ranks a NUMA node each, of
    which most machines have one. It reads nothing of this on a GPU."""
    ranks = settings["tensor_parallel"] * settings["pipeline_parallel"]
    if ranks == 1 or USER_BINDS:
        return {}
    share = max(1, len(CORES) // ranks)
    parts = [CORES[i * share : (i + 1) * share] or CORES[-1:] for i in range(ranks)]
    return {BIND: "|".join(",".join(map(str, part)) for part in parts)}
