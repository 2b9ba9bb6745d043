"""Bytes per element: of dtypes, and of the matrices that a quantization covers."""

DTYPE_BYTES = {
    "float32": 4,
    "float": 4,
    "bfloat16": 2,
    "float16": 2,
    "half": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "int8": 1,
}
EXPERTS, LINEAR = ("experts",), ("attention", "experts", "shared_experts", "dense_ffn")
INT4_BITS = 4 + (16 + 4) / 128  # groups of 128 share a 16-bit scale and a 4-bit zero
MXFP4_BITS = 4 + 8 / 32  # blocks of 32 share an 8-bit exponent
QUANTIZED = {  # bits per matrix element, and the components whose matrices are quantized
    "fp8": (8, LINEAR),
    "fp8_per_channel": (8, LINEAR),
    "fp8_weight_only": (8, LINEAR),
    "int8": (8, LINEAR),
    "int8_experts": (8, EXPERTS),
    "experts_int8": (8, EXPERTS),
    "mxfp4": (MXFP4_BITS, EXPERTS),
    "awq": (INT4_BITS, LINEAR),
    "awq_marlin": (INT4_BITS, LINEAR),
    "gptq": (INT4_BITS, LINEAR),
    "gptq_marlin": (INT4_BITS, LINEAR),
    "int4": (INT4_BITS, LINEAR),
}


def dtype_bytes(dtype: str) -> int:
    """Bytes per element. Raises ValueError for a dtype without one, such as 'auto'."""
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"dtype {dtype!r} has no known size; allowed: {', '.join(DTYPE_BYTES)}")
    return DTYPE_BYTES[dtype]


def matrix_bytes(plain: int, quantization: str | None) -> dict[str, float]:
    """Bytes per matrix element of the components that `quantization` covers, at most `plain`.
    Raises ValueError."""
    if quantization is None:
        return {}
    if quantization not in QUANTIZED:
        raise ValueError(
            f"quantization {quantization!r} is not known; allowed: None, {', '.join(QUANTIZED)}"
        )
    bits, covered = QUANTIZED[quantization]
    return dict.fromkeys(covered, min(bits / 8, plain))
