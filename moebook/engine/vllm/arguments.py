"""What vLLM is told: environment variables, and the arguments of its LLM class."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from moebook import devices
from moebook.models import catalog, formats
from moebook.models.quantization_config import quantization_of
from moebook.models.tiny import family
from moebook.study.settings import OWN_BACKENDS, EngineSettings, Speculation

CORES = devices.core_ids()  # before any engine binds this process to fewer
BIND = "VLLM_CPU_OMP_THREADS_BIND"
USER_BINDS = BIND in os.environ
GRAPHS = {  # moebook's names of graph settings that name batch sizes; `default` says nothing
    "light": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"},
    "pieces": {"mode": 0, "cudagraph_mode": "FULL_AND_PIECEWISE"},
    "compiled": {},
}
NGRAM_LENGTHS = {"prompt_lookup_min": 2, "prompt_lookup_max": 4}  # of the sequence's own tokens


def set_environment(on_gpu: bool) -> None:
    """What vLLM reads at import; a value the user has set stands."""
    common = {
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # functions sent to the engine's own process
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    gpu = {
        "VLLM_WORKER_MULTIPROCESSING_METHOD": "fork",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "VLLM_USE_DEEP_GEMM": "0",
        "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "0",  # 1.5 s an engine for graphs of 0.05 GiB
    }
    cpu = {
        "VLLM_TARGET_DEVICE": "cpu",  # also where cards or another build of vLLM are
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # libgomp's own count where threads outnumber cores: its default, 300 000, costs a step on
        # busy cores twentyfold
        "GOMP_SPINCOUNT": "1000",
    }
    for name, value in {**common, **(gpu if on_gpu else cpu)}.items():
        os.environ.setdefault(name, value)


@contextmanager
def environment_of(variables: dict[str, str]) -> Iterator[None]:
    """These environment variables within the block; afterwards all are as they were."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def engine_environment(settings: EngineSettings, hf_config: dict) -> dict[str, str]:
    """Environment variables an engine is started with."""
    variables = formats.environment(settings.quantization) | _ranks_on_cpu(settings)
    if settings.kv_cache_gib:
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)
    if settings.graphs == "pieces":
        variables["VLLM_USE_BREAKABLE_CUDAGRAPH"] = "1"
    # The smallest DeepSeek-VL2 has plain attention, but its family's config must name a KV rank,
    # which the engine takes for MLA.
    if hf_config.get("use_mla") is False:
        variables["VLLM_MLA_DISABLE"] = "1"
    return variables


def _ranks_on_cpu(settings: EngineSettings) -> dict[str, str]:
    """Cores of each rank, evenly: left to itself the CPU engine gives ranks a NUMA node each, of
    which most machines have one. It reads nothing of this on a GPU."""
    ranks = settings.num_devices
    if ranks == 1 or USER_BINDS:
        return {}
    share = max(1, len(CORES) // ranks)
    parts = [CORES[i * share : (i + 1) * share] or CORES[-1:] for i in range(ranks)]
    return {BIND: "|".join(",".join(map(str, part)) for part in parts)}


def engine_arguments(
    settings: EngineSettings,
    hf_config: dict,
    folder: Path,
    draft_config: dict | None = None,
    on_gpu: bool = False,
) -> dict:
    """Arguments of vLLM's LLM(...). folder: where configs of models with dummy weights go."""
    dummy = settings.weights == "dummy"
    if dummy:
        model = _written(folder, formats.with_format(hf_config, settings.quantization))
    else:
        model = checkpoint_folder(settings.weights, forks_engines=on_gpu)
    arguments = {
        "model": str(model),
        "load_format": "dummy" if dummy else "auto",
        "skip_tokenizer_init": True,
        "enable_prefix_caching": False,
        "disable_log_stats": False,
        "seed": 0,
        "dtype": settings.dtype,
        **formats.engine_arguments(settings.quantization),
        "kv_cache_dtype": settings.kv_cache_dtype,
        "max_model_len": settings.max_model_len,
        "tensor_parallel_size": settings.tensor_parallel,
        "pipeline_parallel_size": settings.pipeline_parallel,
        "enable_expert_parallel": settings.expert_parallel,
        "trust_remote_code": settings.trust_remote_code or catalog.trusted_by_default(),
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        **_attention(settings.dtype, hf_config, on_gpu),
        **_gated_delta_net(hf_config, on_gpu),
        **_graphs(settings.graphs, settings.graph_batch_sizes),
    }
    if settings.speculation:
        speculation = speculative_config(settings.speculation, draft_config, folder)
        arguments["speculative_config"] = speculation
    if _deprecated(settings, hf_config):
        arguments["allow_deprecated_quantization"] = True
    if settings.routed_experts:
        arguments["enable_return_routed_experts"] = True
    if settings.moe_backend not in (None, *OWN_BACKENDS):
        arguments["moe_backend"] = settings.moe_backend
    return arguments


def _deprecated(settings: EngineSettings, hf_config: dict) -> bool:
    """Whether the model comes in a format that vLLM 0.26 and 0.32 run only when told so."""
    entry = quantization_of(hf_config) if settings.quantization == formats.OWN else None
    return entry is not None and entry.get("quant_method") == "fbgemm_fp8"


def checkpoint_folder(weights: str, **options) -> Path:
    """Of a trained model, or of a member of the tiny family."""
    return family.folder(weights, **options) if family.is_tiny(weights) else Path(weights)


def _written(folder: Path, hf_config: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hf_config))
    return folder


def _attention(dtype: str, hf_config: dict, on_gpu: bool) -> dict[str, str]:
    """At dtypes other than bfloat16 a CPU is asked for the engine's reference kernel of MLA: where
    it has AMX, the engine would choose a kernel that has bfloat16 alone."""
    mla = hf_config.get("kv_lora_rank") and hf_config.get("use_mla") is not False
    return {"attention_backend": "CPU_MLA"} if mla and dtype != "bfloat16" and not on_gpu else {}


def _gated_delta_net(hf_config: dict, on_gpu: bool) -> dict[str, str]:
    """On Hopper vLLM 0.26 prefills the linear attention of Qwen3-Next and its kin by FlashInfer,
    and ends where that is not installed: its Triton kernel then."""
    text = hf_config.get("text_config") or hf_config
    has = "linear_num_value_heads" in text and on_gpu
    return {"gdn_prefill_backend": "triton"} if has and find_spec("flashinfer") is None else {}


def _graphs(graphs: str, batch_sizes: tuple[int, ...]) -> dict:
    if graphs == "eager":
        return {"enforce_eager": True}
    if graphs == "default":
        return {}
    sizes = {"cudagraph_capture_sizes": list(batch_sizes)}
    return {"compilation_config": {**GRAPHS[graphs], **sizes}}


def speculative_config(speculation: Speculation, draft_config: dict | None, folder: Path) -> dict:
    """vLLM's speculative_config."""
    found = {"method": speculation.method, "num_speculative_tokens": speculation.num_tokens}
    if speculation.method == "ngram":
        found |= NGRAM_LENGTHS
    elif family.is_tiny(speculation.draft):
        found["model"] = str(family.folder(speculation.draft))
    else:
        found["model"] = str(_written(folder / "draft", draft_config))
        found["draft_load_config"] = {"load_format": "dummy"}
    if (rates := speculation.rates) is not None:
        found |= {"rejection_sample_method": "synthetic", "synthetic_acceptance_rates": rates}
    return found
