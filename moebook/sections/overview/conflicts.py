"""Where the source contradicts itself, and the claims that this touches."""

CONFLICTS = [
    {
        "id": "batch-linear",
        "about": "batch scaling",
        "says": "throughput grows sub-linearly, by two orders of magnitude from batch 1 to 128",
        "also_says": "throughput grows linearly with batch, over 8 times",
        "claims": ["batch-scaling"],
    },
    {
        "id": "converge-or-gap",
        "about": "active experts at FFN 14336",
        "says": "throughputs of different active-expert counts converge at FFN 14336",
        "also_says": "1 active expert is 60-80 % faster than 8 at large FFN",
        "claims": ["ffn-converges", "active-gap-large"],
    },
    {
        "id": "nine-or-eight-tasks",
        "about": "accuracy tasks",
        "says": "nine language tasks are announced",
        "also_says": (
            "eight are listed: ARC-c, ARC-e, BoolQ, HellaSwag, MMLU, OpenBookQA, RTE, WinoGrande"
        ),
        "claims": [],
    },
    {
        "id": "table-1-shapes",
        "about": "model shapes",
        "says": (
            "the slide's Table 1 prints, for example, Qwen3-30B-A3B with hidden 5120 and FFN 13824"
        ),
        "also_says": (
            "the published config has hidden 2048 and FFN 768; six rows of the table differ from "
            "the configs"
        ),
        "claims": [],
    },
    {
        "id": "mixtral-on-one-gpu",
        "about": "parallelism",
        "says": "Mixtral-8x7B in FP16 has a point at one 80 GB H100",
        "also_says": "its FP16 weights alone are 93 GB",
        "claims": ["tp-scales"],
    },
    {
        "id": "scout-on-one-gpu",
        "about": "accelerators",
        "says": "Llama-4-Scout was run on one H100 beside one CS-3",
        "also_says": (
            "at 109 B parameters it fits one H100 in INT4 only, while CS-3 held FP8 weights: not "
            "like for like"
        ),
        "claims": ["cs3-latency", "h100-knee"],
    },
    {
        "id": "length-direction",
        "about": "input length",
        "says": "throughput increases with input length",
        "also_says": "its own figure shows throughput falling with length",
        "claims": ["length-penalty"],
    },
    {
        "id": "pruning-gain",
        "about": "pruning",
        "says": "50 % pruning raises throughput significantly",
        "also_says": "pruning does not significantly speed up vLLM (LExI)",
        "claims": ["prune-half-helps", "prune-no-gain"],
    },
]
