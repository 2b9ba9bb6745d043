"""What the installed engine itself says of splits and routers, as one JSON line. A script, because
an engine reads its environment at import."""

import json
import sys

from moebook.engine.vllm.arguments import set_environment


def answers(cases: dict) -> dict:
    import torch
    from vllm.distributed.utils import get_pp_indices
    from vllm.model_executor.layers.fused_moe.expert_map_manager import determine_expert_map
    from vllm.model_executor.layers.vocab_parallel_embedding import pad_vocab_size
    from vllm.model_executor.models.phimoe import phimoe_routing_function
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    def stages(layers: int, count: int) -> list[int]:
        ends = [get_pp_indices(layers, i, count) for i in range(count)]
        return [end - start for start, end in ends]

    def routes(top_k: int) -> str | None:
        try:
            phimoe_routing_function(torch.randn(3, 8), torch.randn(3, 8), top_k, False)
        except AssertionError as error:
            return str(error)

    return {
        "stages": [stages(*case) for case in cases["stages"]],
        "experts": [determine_expert_map(g, 0, e)[0] for e, g in cases["experts"]],
        "rows": [pad_vocab_size(rows) for rows in cases["rows"]],
        "phimoe": [routes(k) for k in cases["phimoe"]],
        "types": sorted(_CONFIG_REGISTRY),
    }


if __name__ == "__main__":
    set_environment(on_gpu=False)
    print(json.dumps(answers(json.loads(sys.argv[1]))))
