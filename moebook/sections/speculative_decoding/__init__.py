"""Section 4: what speculative decoding costs and gains for a MoE target (Fig 12)."""
