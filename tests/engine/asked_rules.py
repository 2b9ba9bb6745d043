"""What the installed engine itself says of splits and routers, as one JSON line. A script, because
an engine reads its environment at import."""

import json
import sys
import tempfile
from pathlib import Path

from moebook.engine.vllm import patches_built as built
from moebook.engine.vllm.arguments import set_environment


def split(config: dict, ranks: int) -> int | str:
    """Elements of the first of several ranks' weights, by the engine's own classes, or why it does
    not build them. Ranks that are not there are as many as its group says."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import parallel_state
    from vllm.model_executor.model_loader.utils import initialize_model

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        engine = built.engine_config(folder)
        engine.parallel_config.tensor_parallel_size = ranks
        with set_current_vllm_config(engine):
            built.one_rank()
            parallel_state._TP.world_size = ranks
            try:
                engine.model_config.verify_with_parallel_config(engine.parallel_config)
                with torch.device("meta"):
                    return sum(p.numel() for p in initialize_model(engine).parameters())
            except Exception as error:  # whatever it asserts
                return f"{type(error).__name__}: {error}"
            finally:
                parallel_state._TP.world_size = 1


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
        "splits": [split(*case) for case in cases["splits"]],
        "stages": [stages(*case) for case in cases["stages"]],
        "experts": [determine_expert_map(g, 0, e)[0] for e, g in cases["experts"]],
        "rows": [pad_vocab_size(rows) for rows in cases["rows"]],
        "phimoe": [routes(k) for k in cases["phimoe"]],
        "types": sorted(_CONFIG_REGISTRY),
    }


if __name__ == "__main__":
    set_environment(on_gpu=False)
    print(json.dumps(answers(json.loads(sys.argv[1]))))
