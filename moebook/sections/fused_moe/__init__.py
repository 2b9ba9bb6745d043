"""Section 6: what does fusing the MoE layer gain (Fig 14)? The source does not define its non-fused
layer; here it is a"""
