"""Greedy tokens and the number of experts really routed to, of engines built with 4 and 1 active
experts, and of the first switched to 1. Prints one JSON line. A script, because an engine in this
process reads its environment at import."""

import json
import sys
from pathlib import Path

from moebook.engine.vllm.arguments import set_environment
from moebook.models import catalog
from moebook.models.edit import edit
from moebook.study.plan import EngineSettings

BASE = edit(catalog.load("tiny-mixtral"), num_layers=2, ffn_dim=128)


def scale_weights(worker) -> None:
    """Dummy weights of 1e-3 hardly move the residual; scaled, other experts give other tokens."""
    for name, parameter in worker.model_runner.model.named_parameters():
        parameter.data.mul_(1.0 if "norm" in name else 100.0)
        if "norm" in name:
            parameter.data.fill_(1.0)


def tokens_of(engine) -> list[list[int]]:
    from vllm import SamplingParams

    prompts = [{"prompt_token_ids": [(7 * i + 3 * j) % 4000 for j in range(16)]} for i in range(4)]
    outputs = engine.llm.generate(
        prompts,
        SamplingParams(temperature=0, max_tokens=16, detokenize=False, ignore_eos=True),
        use_tqdm=False,
    )
    return [list(o.outputs[0].token_ids) for o in outputs]


def routed_experts(engine) -> int:
    """How many experts the router picks for one token, read where it picks them."""
    from vllm.model_executor.layers.fused_moe.router.base_router import BaseRouter

    seen = []
    plain = BaseRouter.select_experts

    def watched(self, *args, **kwargs):
        out = plain(self, *args, **kwargs)
        seen.append(out[1].shape[1])
        return out

    BaseRouter.select_experts = watched
    try:
        tokens_of(engine)
    finally:
        BaseRouter.select_experts = plain
    (count,) = set(seen)
    return count


def main() -> None:
    from moebook.engine.vllm.engine import VllmEngine

    settings, out = EngineSettings(graphs="eager", max_model_len=128, kv_cache_gib=1), {}
    for top_k in (4, 1):
        engine = VllmEngine(
            settings, edit(BASE, top_k=top_k).hf_config(), Path(sys.argv[1]) / str(top_k)
        )
        engine.llm.collective_rpc(scale_weights)
        out[f"fresh_{top_k}"] = tokens_of(engine)
        if top_k == 4:
            out["routed_to_4"] = routed_experts(engine)
            engine.switch(1, None)
            out["switched_to_1"] = tokens_of(engine)
            out["routed_to_1"] = routed_experts(engine)
        engine.stop()
    print(json.dumps(out))


if __name__ == "__main__":
    set_environment(on_gpu=False)
    main()
