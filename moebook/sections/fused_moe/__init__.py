"""Section 6: what does fusing the MoE layer gain (Fig 14)? The source does not define its non-fused
layer; here it has variants: an eager loop over experts, grouped GEMMs with separate permute,
activation and unpermute, the engine's fused kernel, and every other backend the engine has.

Two levels: one MoE layer alone over token counts (no engine), and whole engines over batch and
length."""

from moebook.section import Section

section = Section("06_fused_moe")
