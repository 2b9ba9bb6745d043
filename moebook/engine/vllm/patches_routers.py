"""Reaches into the routers of a running vLLM: watch their choices, impose choices, take experts
away.

Every function of a `worker` runs in the engine's own process; state stays on the worker object.
vLLM's routers all compute a step's choices in `_compute_routing`, which is wrapped. The engine must
be eager to be watched; imposed choices are also captured by decode graphs.

Letters: T tokens of a step, L MoE layers, E experts, K experts per token.
"""

from dataclasses import dataclass

from moebook.engine.vllm.patches import routers_of, self_routing
from moebook.study.routing import SAME, skew_of


@dataclass
class Tap:
    """Hooks of one model. choices: of each layer, an array (T, K) a step; steps: tokens of a step
    -> distinct experts of each call, layer after layer; removed: (layer, expert) that no token may
    choose."""

    routers: list
    choices: list[list] | None = None
    steps: dict[int, list[int]] | None = None
    removed: tuple[int, int] | None = None


def _routers(worker) -> list:
    if not (found := routers_of(worker)):
        raise RuntimeError("the model has no MoE layers: it has no routers to watch")
    return found


def patch_bias(worker) -> int:
    """vLLM 0.32's CPU router leaves out a selection bias unless it routes in groups (Ernie 4.5):
    one group of all experts computes what the model asks for. Returns the routers changed; 0 on a
    GPU and for models without a bias."""
    wrong = [
        router
        for router in routers_of(worker)
        if type(router).__name__ == "CPURouter"
        and router.e_score_correction_bias is not None
        and not router.use_grouped_topk
        and router.scoring_func == "softmax"
    ]
    for router in wrong:
        router.use_grouped_topk, router.num_expert_group, router.topk_group = True, 1, 1
    return len(wrong)


def impose(worker, routing: str | None) -> int:
    """Experts are drawn anew at each step, K without replacement, as study.routing says; each layer
    ranks its experts in an order of its own. None: the routers choose again. Decode graphs are
    captured anew after it. Returns the layers changed."""
    import torch

    routers, kernels = _routers(worker), self_routing(worker)
    for module in (*routers, *kernels):
        vars(module).pop("_compute_routing", None)
        vars(module).pop("forward_monolithic", None)
    if routing is None:
        return 0
    for layer, router in enumerate(routers):
        generator = torch.Generator().manual_seed(layer)
        ranks = torch.randperm(router.global_num_experts, generator=generator) + 1
        log_p = -(skew_of(routing) or 0.0) * ranks.double().log()
        draw = _drawer(log_p, alike=routing == SAME)
        router._compute_routing = _drawn(router, draw)
        if kernels:
            kernels[layer].forward_monolithic = _fed(kernels[layer], draw)
    return len(routers)


def _drawer(log_p, alike: bool):
    """router logits (T, E) -> as many drawn ones, whose K largest are K experts drawn without
    replacement with probability ~ exp(log_p). alike: one draw for all tokens of the step."""
    import torch

    def draw(router_logits):
        nonlocal log_p
        log_p = log_p.to(router_logits.device, torch.float32)
        drawn = router_logits[:1] if alike else router_logits
        noise = torch.empty_like(drawn, dtype=torch.float32).exponential_()
        return (log_p - noise.log()).expand(len(router_logits), -1)

    return draw


def _drawn(router, draw):
    """A router's choices, drawn, weights 1/K."""
    import torch

    def compute(hidden_states, router_logits, indices_type, *, input_ids=None):
        ids = draw(router_logits).topk(router.top_k, dim=-1).indices
        weights = torch.full(ids.shape, 1 / router.top_k, device=ids.device)
        return weights, ids.to(indices_type or torch.int32)

    return compute


def _fed(experts, draw):
    """Kernels that choose by themselves, given drawn logits."""
    plain = experts.forward_monolithic

    def forward(x, router_logits=None, input_ids=None):
        drawn = draw(router_logits).to(router_logits.dtype).contiguous()
        return plain(x=x, router_logits=drawn, input_ids=input_ids)

    return forward


def watch(worker) -> tuple[int, int]:
    """Wrap the routers, once per engine; (L, E) of the model."""
    tap = getattr(worker, "moebook_tap", None)
    if tap is None:
        tap = worker.moebook_tap = Tap(_routers(worker))
        for layer, router in enumerate(tap.routers):
            router._compute_routing = _watched(tap, layer, router)
    return len(tap.routers), tap.routers[0].global_num_experts


def _watched(tap: Tap, layer: int, router):
    plain = router._compute_routing

    def compute(hidden_states, router_logits, indices_type, *, input_ids=None):
        def choose(logits):
            return plain(hidden_states, logits, indices_type, input_ids=input_ids)

        if tap.removed is not None and tap.removed[0] == layer:
            weights, ids = _without(router, tap.removed[1], choose, router_logits)
        else:
            weights, ids = choose(router_logits)
        if tap.choices is not None:
            tap.choices[layer].append(ids.to("cpu", copy=True))
        if tap.steps is not None:
            tap.steps.setdefault(len(ids), []).append(len(ids.unique()))
        return weights, ids

    return compute


def _without(router, expert: int, choose, router_logits):
    """The router's choice as if the expert were not there; a selection bias cannot bring it
    back."""
    logits = router_logits.clone()
    logits[:, expert] = float("-inf")
    bias = getattr(router, "e_score_correction_bias", None)
    if bias is None:
        return choose(logits)
    router.e_score_correction_bias = bias.data.clone()
    router.e_score_correction_bias[expert] = float("-inf")
    try:
        return choose(logits)
    finally:
        router.e_score_correction_bias = bias


def remove(worker, layer: int | None, expert: int | None = None) -> None:
    """From now on no token chooses this expert of this layer; None: all are there again."""
    worker.moebook_tap.removed = None if layer is None else (layer, expert)


def begin_choices(worker) -> None:
    layers, _ = watch(worker)
    worker.moebook_tap.choices = [[] for _ in range(layers)]


def end_choices(worker) -> list:
    """(L, T, K) expert numbers chosen since begin_choices, as lists."""
    import torch

    choices, worker.moebook_tap.choices = worker.moebook_tap.choices, None
    return [torch.cat(steps).tolist() for steps in choices]


def begin_steps(worker) -> None:
    watch(worker)
    worker.moebook_tap.steps = {}


def end_steps(worker) -> dict[int, list[float]]:
    """tokens of a step -> distinct experts of a layer, mean over layers, of each such step in turn,
    since begin_steps."""
    import torch

    steps, worker.moebook_tap.steps = worker.moebook_tap.steps, None
    layers = len(worker.moebook_tap.routers)
    return {
        tokens: torch.tensor(seen, dtype=torch.float64).view(-1, layers).mean(1).tolist()
        for tokens, seen in steps.items()
    }
