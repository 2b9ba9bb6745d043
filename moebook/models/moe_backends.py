"""Names of what computes the experts: the engine's kernels, and moebook's own."""

# Backends of the fused MoE layer that vLLM 0.26 and 0.32 know (vllm.config.kernel.MoEBackend).
MOE_BACKENDS = (
    "auto",
    "triton",
    "deep_gemm",
    "deep_gemm_mega_moe",
    "cutlass",
    "flashinfer_trtllm",
    "flashinfer_cutlass",
    "flashinfer_cutedsl",
    "flashinfer_b12x",
    "marlin",
    "humming",
    "triton_unfused",
    "aiter",
    "flydsl",
    "hpc",
    "emulation",
)
OWN_BACKENDS = ("loop", "grouped")  # moebook's own computations, in place of the engine's
