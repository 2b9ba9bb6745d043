"""Section 1 in the explorer: its figures as views."""

from moebook.explore.views import View

FFN, EXPERTS, ACTIVE = "expert_ffn_dim", "num_experts", "top_k"
VIEWS = (
    View("Fig 7: FFN width", "grid", FFN, ACTIVE, EXPERTS),
    View("Fig 8: experts", "grid", EXPERTS, ACTIVE, FFN),
    View("Fig 9: active experts", "grid", ACTIVE, EXPERTS, FFN),
    View("grid, all tokens routed the same", "grid_same", FFN, ACTIVE, EXPERTS),
    View("routing", "routing", ACTIVE, "routing", "model", over=(ACTIVE, 2)),
    View(
        "Fig 5: batch and active experts", "batch_topk", "batch", ACTIVE, "model", over=(ACTIVE, 1)
    ),
    View(
        "Fig 6: batch and length",
        "batch_length",
        "batch",
        "input_tokens",
        "model",
        over=("input_tokens", 128),
    ),
)
