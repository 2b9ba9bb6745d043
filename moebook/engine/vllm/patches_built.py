"""Sizes of models by vLLM's own classes, for those that transformers does not know: built on
torch's meta device, without memory. A program, because building sets up state of a whole process:

    echo '{"architectures": ["DeepseekForCausalLM"], ...}' |
        python -m moebook.engine.vllm.patches_built

It prints a line for each config that it reads: `tensors` (name, shape), `kept` (by layer, what its
attention keeps, as vLLM's cache manager is told it) and `config` (of the language model, as vLLM
reads it), or `error` in vLLM's words. It was seen to work with 0.32, and not tried with 0.26."""

import json
import os
import re
import select
import sys
import tempfile
from math import prod
from pathlib import Path

from moebook.engine import die_with_parent
from moebook.engine.vllm.arguments import set_environment

IDLE_S = 60
# vLLM's names of fused experts, and transformers'.
RENAMED = (
    (re.compile(r"experts\.(\w+\.)?w13_"), "experts.gate_up_proj_"),
    (re.compile(r"experts\.(\w+\.)?w2_"), "experts.down_proj_"),
)


def built(config: dict, folder: Path) -> dict:
    """Of one config; folder: an empty one, for its config.json."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda look: look()  # 10 s; its errors would be lost
    _register(config)
    for of_class in set(config["architectures"]) & set(registry.ModelRegistry.models):
        registry.ModelRegistry.models[of_class].load_model_cls()  # its own error, if any
    (folder / "config.json").write_text(json.dumps(config))
    engine = engine_config(str(folder))
    with set_current_vllm_config(engine):
        one_rank()
        with torch.device("meta"):
            model = initialize_model(engine)
        layers = engine.compilation_config.static_forward_context
        attending = [(n, a) for n, a in layers.items() if isinstance(a, AttentionLayerBase)]
        kept = [(name, _kept(layer, engine)) for name, layer in attending]
    text = engine.model_config.hf_text_config.to_dict()
    return {
        "tensors": [[_renamed(name), shape] for name, shape in _tensors(model)],
        "kept": [[name, group] for name, group in kept if group],
        "config": json.loads(json.dumps(text, default=str)),
    }


def engine_config(folder: str):
    """vLLM's, for the model of a folder with a config.json alone."""
    from vllm.engine.arg_utils import EngineArgs

    return EngineArgs(
        model=folder,
        skip_tokenizer_init=True,
        load_format="dummy",
        enforce_eager=True,
        enable_prefix_caching=False,  # a CPU has none beside MLA
        dtype="bfloat16",
    ).create_engine_config()


def _register(config: dict) -> None:
    """A plain class for a type that only code of a checkpoint's own reads: keys as they stand."""
    from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    kind = config.get("model_type")
    if isinstance(kind, str) and kind not in CONFIG_MAPPING and kind not in _CONFIG_REGISTRY:
        AutoConfig.register(kind, type("Plain", (PreTrainedConfig,), {"model_type": kind}))


def one_rank() -> None:
    from vllm import distributed
    from vllm.distributed import parallel_state

    if not parallel_state.model_parallel_is_initialized():
        place = tempfile.mkdtemp()
        distributed.init_distributed_environment(1, 0, f"file://{place}/store", 0, "gloo")
        distributed.initialize_model_parallel(1, 1)


def _tensors(model):
    """Vocabularies without the rows that vLLM fills them up with; a tied head once."""
    seen = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            shape = list(parameter.shape)
            if shape[:1] == [getattr(module, "num_embeddings_per_partition", None)]:
                shape[0] = module.org_vocab_size
            yield f"{path}.{name}", shape


def _renamed(name: str) -> str:
    for pattern, own in RENAMED:
        name = pattern.sub(own, name)
    return name.removesuffix("_weight") if "experts." in name else name


def _kept(layer, engine) -> dict | None:
    """Keyword arguments of models.attention.AttentionGroup for one layer of vLLM's."""
    spec = layer.get_kv_cache_spec(engine)
    if spec is None:
        return None
    if hasattr(spec, "shapes"):
        return _state(spec)
    width, values = spec.head_size, spec.head_size_v
    kept = {
        "heads": getattr(layer, "num_heads", 0),
        "kv_heads": spec.num_kv_heads,
        "head_dim": width,
        "value_dim": values,
        "kv_values": spec.num_kv_heads * (width + values),
        "window": getattr(spec, "sliding_window", None),
    }
    if hasattr(layer, "kv_lora_rank"):
        return kept | {
            "kind": "mla",
            "kv_heads": layer.num_heads,
            "head_dim": layer.qk_nope_head_dim + layer.qk_rope_head_dim,
            "value_dim": layer.v_head_dim,
            "kv_values": layer.kv_lora_rank + layer.qk_rope_head_dim,
            "latent": layer.kv_lora_rank,
        }
    chunk = getattr(spec, "attention_chunk_size", None)
    kind = "chunk" if chunk else "window" if kept["window"] else "full"
    return kept | {"kind": kind, "window": chunk or kept["window"]}


def _state(spec) -> dict:
    """A recurrent state; what is of two dimensions keeps the inputs of a convolution. Its dtype is
    not told: vLLM takes another on a CPU."""
    convolutions = [prod(shape) for shape in spec.shapes if len(shape) == 2]
    states = [shape for shape in spec.shapes if len(shape) > 2]
    return {
        "kind": "linear",
        "heads": states[0][0] if states else 0,
        "conv_values": sum(convolutions),
        "state_values": sum(map(prod, states)),
    }


def answer(config: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return built(config, Path(folder))
        except Exception as error:  # code of any model, on sizes that it cannot build
            return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def serve() -> None:
    """An answer for each line; ends with its parent, or after a while without a question."""
    die_with_parent()
    set_environment(on_gpu=False)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints is no answer
    while select.select([sys.stdin], [], [], IDLE_S)[0] and (line := sys.stdin.readline()):
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    serve()
