"""What Hugging Face configs say of a checkpoint's number format, read into a `NumberFormat`.

Spellings read: `quantization_config` and `compression_config`, at the top or in the language
model's part, with a `quant_method` (transformers, compressed-tensors) or a ModelOpt `producer`;
`hf_quant_config.json` beside the config (ModelOpt before 0.31), which the catalog puts in the
place of a missing `quantization_config`, as vLLM does."""

from collections.abc import Callable

from moebook.models.number_format import (
    FP4_CAPABILITY,
    FP8_CHANNEL,
    FP8_TENSOR,
    MXFP4,
    NumberFormat,
    Patterns,
    Rule,
    Stored,
    fp8_blocks,
    integers,
)
from moebook.models.quantization_groups import (
    BadNumberFormat,
    algorithm,
    compressed_rules,
    group_size,
    mapping,
    modelopt_rules,
    names_of,
    pair,
    whole,
)
from moebook.models.quantization_groups import names as patterns

KEYS = ("quantization_config", "compression_config", "quantization")  # the last: MLX's
PARTS = ("text_config", "language_config", "llm_config", "thinker_config")  # of multimodal ones
HF_QUANT_CONFIG = "hf_quant_config.json"
CACHE_STRATEGIES = ("tensor", "attn_head")  # of compressed-tensors' scales of a KV cache
EXPERTS_FP4 = ("deepseek_v4", "deepseek_v41")  # where their config does not say expert_dtype
EXPERTS = Patterns((r"re:.*\.experts\.",))
NOT_READ = "or remove the entry from a copy of the config, to measure the model with plain weights"


def quantization_of(config: dict) -> dict | None:
    """The config's own quantization entry, from wherever it stands; None where it has none."""
    for key in KEYS:
        if (found := config.get(key)) is not None and found != {}:
            if not isinstance(found, dict):
                raise BadNumberFormat(f"{key}: given {found!r}; a mapping with quant_method")
            return found
    parts = (config[part] for part in PARTS if isinstance(config.get(part), dict))
    return next(filter(None, map(quantization_of, parts)), None)


def without_quantization(config: dict) -> dict:
    """A copy of the config that says nothing of a number format: plain weights."""
    kept = {key: value for key, value in config.items() if key not in KEYS}
    for part in PARTS:
        if isinstance(kept.get(part), dict):
            kept[part] = without_quantization(kept[part])
    return kept


def read(config: dict) -> NumberFormat | None:
    """The number format of a config, None for plain weights. Raises BadNumberFormat."""
    entry = quantization_of(config)
    if entry is None:
        return None
    method = _method(entry)
    if method not in READERS:
        raise BadNumberFormat(
            f"quant_method: given {method!r}; known: {', '.join(READERS)}; {NOT_READ}"
        )
    experts = config.get("expert_dtype", "fp4" if config.get("model_type") in EXPERTS_FP4 else None)
    return READERS[method]({"expert_dtype": experts, **entry})


def _method(entry: dict) -> str:
    """`quant_method` as vLLM spells it; of a ModelOpt file, which has a producer or the part
    `quantization` in its place, `modelopt`."""
    producer, method = entry.get("producer"), entry.get("quant_method")
    by_modelopt = isinstance(producer, dict) and producer.get("name") == "modelopt"
    if method is None and (by_modelopt or isinstance(entry.get("quantization"), dict)):
        return "modelopt"
    if method is None and {"bits", "group_size"} <= set(entry):
        raise BadNumberFormat(
            "MLX's (bits and group_size without quant_method), which vLLM does not read: name the "
            f"model that it was made of, {NOT_READ}"
        )
    if not isinstance(method, str) or not method:
        raise BadNumberFormat(
            f"quantization_config without quant_method (given {sorted(entry)}); known: "
            f"{', '.join(READERS)}; {NOT_READ}"
        )
    method = method.lower().removeprefix("intel/")
    for spelled in ("compressed-tensors", "auto-round"):
        method = method.replace(spelled.replace("-", "_"), spelled)
    return "modelopt" if method.startswith("modelopt") else method


def _mxfp4(entry: dict) -> NumberFormat:
    """gpt-oss: experts alone; its list of modules not to convert names the rest."""
    ignored = names_of(entry, "modules_to_not_convert", "ignored_layers")
    return NumberFormat("mxfp4", ("mxfp4", "gpt_oss_mxfp4"), (Rule(MXFP4),), ignored, True)


def _fp8(entry: dict) -> NumberFormat:
    """DeepSeek's and Qwen's FP8: a scale for each block of `weight_block_size`, else one for each
    matrix. DeepSeek-V4's experts are in MXFP4 or NVFP4 (vLLM 0.32: deepseek_v4's quant_config)."""
    stored, block = FP8_TENSOR, entry.get("weight_block_size")
    if block is not None:
        stored = fp8_blocks(*pair("weight_block_size", block))
    scheme = entry.get("activation_scheme", "dynamic")
    if scheme not in ("dynamic", "static"):
        raise BadNumberFormat(f"activation_scheme: given {scheme!r}; dynamic or static")
    ignored = names_of(entry, "modules_to_not_convert", "ignored_layers")
    experts, needs = [], None
    if (given := entry.get("moe_quant_algo")) is not None:
        packed, needs = algorithm(given), FP4_CAPABILITY
        experts = [Rule(packed, EXPERTS)]
    elif entry["expert_dtype"] == "fp4":
        experts = [Rule(MXFP4, EXPERTS)]
    rules, names = (*experts, Rule(stored)), ("fp8", "deepseek_v4_fp8")
    return NumberFormat("fp8", names, rules, ignored, needs_capability=needs)


def _fbgemm(entry: dict) -> NumberFormat:
    ignored = names_of(entry, "modules_to_not_convert")
    return NumberFormat("fbgemm_fp8", ("fbgemm_fp8",), (Rule(FP8_CHANNEL),), ignored)


def _gptq(entry: dict) -> NumberFormat:
    """Rules of GPTQModel's `dynamic` that begin with `-:` take modules out, the others give
    modules bits and groups of their own; `modules_in_block_to_quantize` names all that are."""
    dynamic = mapping("dynamic", entry.get("dynamic") or {}, "rules by pattern")
    out = [f"re:{rule[2:]}" for rule in dynamic if rule.startswith("-:")]
    own = [
        Rule(
            _gptq_stored({**entry, **mapping(f"dynamic.{rule}", told, "bits and group_size")}),
            patterns("dynamic", [f"re:{rule.removeprefix('+:')}"]),
        )
        for rule, told in dynamic.items()
        if not rule.startswith("-:")
    ]
    engine_names = ("gptq", "gptq_marlin", "auto_gptq", "moe_wna16")
    only = entry.get("modules_in_block_to_quantize") or []
    only = [name for one in only for name in (one if isinstance(one, list) else [one])]
    every = Rule(_gptq_stored(entry), patterns("modules_in_block_to_quantize", only))
    rules = (*own, every)
    head = bool(entry.get("lm_head"))
    return NumberFormat("gptq", engine_names, rules, patterns("dynamic", out), head=head)


def _gptq_stored(entry: dict) -> Stored:
    bits = whole(entry, "bits", allowed=(2, 3, 4, 8))
    columns = group_size(entry, "group_size", default=-1)
    return integers(bits, columns, zero=not entry.get("sym", True))


def _auto_round(entry: dict) -> NumberFormat:
    """AutoRound packs as GPTQ or AWQ does; modules of `extra_config` have bits of their own, 16
    where they are not packed."""
    extra = mapping("extra_config", entry.get("extra_config") or {}, "bits by module")
    told = {name: mapping(f"extra_config.{name}", own, "bits") for name, own in extra.items()}
    out = [name for name, own in told.items() if _over_8(own)]
    own = [
        Rule(_gptq_stored({**entry, **one}), patterns("extra_config", [name]))
        for name, one in told.items()
        if name not in out
    ]
    rules = (*own, Rule(_gptq_stored(entry)))
    return NumberFormat("auto-round", ("auto-round", "inc"), rules, patterns("extra_config", out))


def _over_8(own: dict) -> bool:
    return isinstance(own.get("bits"), int) and own["bits"] > 8


def _awq(entry: dict) -> NumberFormat:
    bits = whole(entry, "bits", "w_bit", allowed=(4, 8))
    group = group_size(entry, "group_size", "q_group_size", default=128)
    stored = integers(bits, group, zero=bool(entry.get("zero_point", True)))
    ignored = names_of(entry, "modules_to_not_convert")
    names = ("awq", "awq_marlin", "auto_awq", "moe_wna16")
    return NumberFormat("awq", names, (Rule(stored),), ignored)


def _bitsandbytes(entry: dict) -> NumberFormat:
    """NF4 has a 32-bit scale for 64 elements, or with double quantization an 8-bit one."""
    if entry.get("load_in_4bit") or entry.get("_load_in_4bit"):
        scale = 8 if entry.get("bnb_4bit_use_double_quant") else 32
        kind = str(entry.get("bnb_4bit_quant_type", "nf4")).upper()
        stored = Stored(f"bitsandbytes {kind}", 4, (1, 64), scale)
    else:
        stored = Stored("bitsandbytes INT8", 8, (1, 0))
    ignored = names_of(entry, "llm_int8_skip_modules")
    refused = (
        "bitsandbytes: vLLM 0.26 reads it with a loader of its own that needs the checkpoint's "
        "weights, and 0.32 knows it no more: ask for another format, such as bf16 or fp8"
    )
    name = "bitsandbytes"
    return NumberFormat(name, (name,), (Rule(stored),), ignored, refused=refused)


def _compressed(entry: dict) -> NumberFormat:
    rules, fp4 = compressed_rules(entry)
    ignored = names_of(entry, "ignore")
    names = ("compressed-tensors", "mxfp4", "gpt_oss_mxfp4")
    needs = FP4_CAPABILITY if fp4 else None
    return NumberFormat(
        "compressed-tensors",
        names,
        rules,
        ignored,
        needs_capability=needs,
        kv_cache=_compressed_cache(entry),
        refused=_sparse(entry),
    )


def _compressed_cache(entry: dict) -> str | None:
    """vLLM makes its KV cache FP8 where a `kv_cache_scheme` is there, and takes no other."""
    if entry.get("kv_cache_scheme") is None:
        return None
    scheme = mapping("kv_cache_scheme", entry["kv_cache_scheme"], "num_bits, type and strategy")
    told = {key: scheme.get(key) for key in ("num_bits", "type", "strategy")}
    if told["num_bits"] != 8 or told["type"] != "float" or told["strategy"] not in CACHE_STRATEGIES:
        raise BadNumberFormat(
            f"kv_cache_scheme: given {told}; num_bits 8, type float, and a strategy of "
            f"{' or '.join(CACHE_STRATEGIES)} (vLLM 0.32: compressed_tensors.py)"
        )
    return "fp8"


def _sparse(entry: dict) -> str | None:
    """Why no engine here runs a checkpoint of sparse matrices; None where it has none."""
    sparsity = mapping("sparsity_config", entry.get("sparsity_config") or {}, "format and targets")
    if not sparsity.get("targets"):
        return None
    return (
        "sparsity_config: vLLM has taken out sparse matrices (0.32: compressed_tensors.py): ask "
        "for another format, such as bf16 or fp8"
    )


def _modelopt(entry: dict) -> NumberFormat:
    """Of hf_quant_config.json (`quantization`), or of a config's entry that has the same keys."""
    told = entry.get("quantization", entry)
    if not isinstance(told, dict):
        raise BadNumberFormat(f"quantization: given {told!r}; a mapping with quant_algo")
    rules, fp4 = modelopt_rules(told)
    ignored = names_of(told, "exclude_modules", "ignore")
    names = ("modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed")
    needs = FP4_CAPABILITY if fp4 else None
    return NumberFormat(
        "modelopt", names, rules, ignored, needs_capability=needs, kv_cache=_kv_cache(told)
    )


def _kv_cache(told: dict) -> str | None:
    """Of a ModelOpt checkpoint vLLM makes its KV cache FP8 where the file says so."""
    scheme = told.get("kv_cache_scheme") or told.get("kv_cache_quant_algo")
    if isinstance(scheme, dict):
        fp8 = scheme.get("type") == "float" and scheme.get("num_bits") == 8
        return "fp8" if fp8 and scheme.get("dynamic") is False else None
    return "fp8" if str(scheme).upper() == "FP8" else None


READERS: dict[str, Callable[[dict], NumberFormat]] = {
    "mxfp4": _mxfp4,
    "gpt_oss_mxfp4": _mxfp4,
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
    "gptq": _gptq,
    "gptq_marlin": _gptq,
    "auto-round": _auto_round,
    "awq": _awq,
    "awq_marlin": _awq,
    "bitsandbytes": _bitsandbytes,
}
