"""Forward hooks that see which experts a transformers model chooses; they know structures, not
class names.

In order of preference:

    experts   a module `...experts` whose forward is given the chosen indices (by their source, the
              decoders of transformers 5.19 but Llama 4 and JetMoE): the indices it is given. Exact.
    indices   a block with `experts` and a `gate` or `router` that returns whole numbers (DeepSeek's
              own remote code returns indices, weights, loss): those numbers.
    logits    a block with `experts` and a `gate` or `router` that returns logits (OLMoE and MolmoE
              style remote code, Llama 4): top-k of their softmax.

Where `experts` is a list of modules that are called with their tokens, those are counted too, and a
forward pass in which they got others than the router's choices is refused.

Refused: encoder-decoder MoEs (Switch, NLLB: tokens are dropped at a capacity), JetMoE, and logits
of routers that choose by groups or with a bias outside of the router. Zaya's router gives skipped
tokens to its expert 0: they count there.

Letters: T tokens of a sequence, E experts, K experts per token.
"""

import inspect
import re
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from moebook.engine.counts import CountsWriter

# names of the argument of chosen experts
INDICES = re.compile(r"ind(ex|ices)$|^selected_experts$|topk_ids$|topk_idx$")
ROUTERS = ("gate", "router")
EXPERTS_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
TOP_K_KEYS = ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_k", "moe_topk")
GROUPS = ("n_group", "num_expert_group", "num_groups")
# biases that logits do not show
OTHER_CHOICES = ("e_score_correction_bias", "expert_bias", "balancing_biases")
LOOKED_FOR = (
    "a module named 'experts' whose forward is given the chosen indices, or a block that holds "
    "'experts' and a 'gate' or 'router' which returns indices (T, K) or logits (T, E)"
)


class RoutingError(ValueError):
    """The model, the inputs or the folder do not allow a capture; the text says why and what to
    do."""


@dataclass
class Site:
    """One set of experts: its place, and what the last forward pass chose."""

    name: str  # of the experts or of the router that is hooked
    num_experts: int
    config: object = None  # tells K where neither block nor router does
    top_k: int = 0  # once known
    first: int = 0  # expert numbers before its own, in a layer with several sets
    chosen: list[torch.Tensor] = field(default_factory=list)
    served: torch.Tensor | None = None  # (E,) tokens each expert was called with

    def take(self) -> np.ndarray:
        """Choices (T, K) since the last call, in the order of tokens. RoutingError where the
        experts got others."""
        if not self.chosen:
            raise RoutingError(
                f"{self.name} chose no experts in this forward pass; the model did not run through "
                "it"
            )
        ids = torch.cat(self.chosen).cpu()
        if self.served is not None:
            self._compare(ids)
        self.clear()
        return ids.numpy() + self.first

    def _compare(self, ids: torch.Tensor) -> None:
        """With what the experts were called, unless they were not, or with all tokens."""
        chosen = torch.bincount(ids.flatten(), minlength=self.num_experts)
        uninformative = (0, len(ids) * self.num_experts)
        if int(self.served.sum()) not in uninformative and not torch.equal(chosen, self.served):
            raise RoutingError(
                f"{self.name} chooses its experts for {chosen.tolist()} tokens, but they were "
                f"called with {self.served.tolist()}: the block routes in a way that is not known"
            )

    def clear(self) -> None:
        self.chosen.clear()
        if self.served is not None:
            self.served.zero_()


class RouterHooks:
    """Hooks on every MoE layer of a transformers model, as a context manager.

        with RouterHooks(model) as hooks:
            with CountsWriter(path, hooks.num_layers, hooks.num_experts) as writer:
                model(input_ids=ids)                    # (1, T)
                write_sequence(writer, hooks.take())

    names: one per MoE layer, in order. Sets of experts side by side in one layer (Ernie 4.5 VL:
    text, vision) are one layer, numbered one after the other. RoutingError for a model without MoE
    layers, or with none that can be hooked."""

    def __init__(self, model: nn.Module):
        self.model, self._handles = model, []
        self._layers: dict[str, list[tuple[Site, nn.Module]]] = {}
        for site, module in _sites(model):
            self._layers.setdefault(_layer_of(site.name), []).append((site, module))
        for sites in self._layers.values():
            for (before, _), (site, _) in zip(sites, sites[1:], strict=False):
                site.first = before.first + before.num_experts
        self.names = tuple(self._layers)
        self.num_layers = len(self.names)
        self.num_experts = max(
            sites[-1][0].first + sites[-1][0].num_experts for sites in self._layers.values()
        )

    def __enter__(self) -> "RouterHooks":
        for sites in self._layers.values():
            for site, module in sites:
                self._handles += _hook(site, module)
        return self

    def __exit__(self, *_) -> None:
        while self._handles:
            self._handles.pop().remove()
        self.clear()

    def clear(self) -> None:
        for sites in self._layers.values():
            for site, _ in sites:
                site.clear()

    def take(self) -> list[list[np.ndarray]]:
        """Per layer the choices (T, K) of its sets of experts since the last call; sets that did
        not run are left out."""
        return [
            [site.take() for site, _ in sites if site.chosen or len(sites) == 1]
            for sites in self._layers.values()
        ]


def write_sequence(
    writer: CountsWriter, layers: list[list[np.ndarray]], keep: np.ndarray | None = None
) -> None:
    """What RouterHooks.take gave, or its tokens `keep` (T,) alone, as one sequence of the
    writer."""
    for layer, sets in enumerate(layers):
        if keep is not None and (len(sets) != 1 or len(sets[0]) != len(keep)):
            raise RoutingError(
                f"MoE layer {layer} chose experts for {sum(map(len, sets))} tokens in {len(sets)} "
                f"sets, but the input has {len(keep)}: which is which is not known; give neither "
                "image_token_id nor padding"
            )
        for ids in sets:
            writer.add_layer(layer, ids if keep is None else ids[keep])
    writer.end_sequence()


def _sites(model: nn.Module) -> list[tuple[Site, nn.Module]]:
    """Each set of routed experts with the module to hook: the experts, or the block that holds them
    and their router."""
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if getattr(config, "is_encoder_decoder", False):
        raise RoutingError(
            f"a model of type {kind!r} is an encoder-decoder, whose MoE layers drop tokens: not "
            f"counted"
        )
    found = [
        (site, module)
        for name, module in model.named_modules()
        if (site := _site(name, module, text))
    ]
    if not found and not _has_experts(model, text):
        raise RoutingError(
            f"a model of type {kind!r} has no MoE layers; use a Mixture-of-Experts model"
        )
    if not found:
        raise RoutingError(
            f"the MoE layers of a model of type {kind!r} cannot be hooked: none has {LOOKED_FOR}"
        )
    return found


def _site(name: str, module: nn.Module, config) -> Site | None:
    if name.split(".")[-1] == "experts" and _index_argument(module):
        return Site(name, _num_experts(module), config)
    experts = getattr(module, "experts", None)
    router = next((r for r in ROUTERS if isinstance(getattr(module, r, None), nn.Module)), None)
    if router and isinstance(experts, nn.Module) and not _index_argument(experts):
        return Site(f"{name}.{router}", _num_experts(experts), config)
    return None


def _has_experts(model: nn.Module, config) -> bool:
    counts = [getattr(config, key, None) for key in EXPERTS_KEYS]
    return any(isinstance(n, int) and n > 1 for n in counts) or any(
        "experts" in name for name, _ in model.named_modules()
    )


def _layer_of(name: str) -> str:
    """The part of a module's name up to the last number: model.layers.3.mlp.experts ->
    model.layers.3."""
    found = re.match(r"(.*\.\d+)(?=\.|$)", name)
    return found[1] if found else name


def _index_argument(module: nn.Module) -> str | None:
    """The name of the argument of a module's forward that holds chosen experts; it follows the
    hidden states."""
    names = [*inspect.signature(module.forward).parameters]
    return names[1] if len(names) > 1 and INDICES.search(names[1]) else None


def _num_experts(experts: nn.Module) -> int:
    for key in ("total_experts", *EXPERTS_KEYS):
        if isinstance(count := getattr(experts, key, None), int):
            return count
    if isinstance(experts, nn.ModuleList | nn.ModuleDict):
        return len(experts)
    stacked = [p for p in experts.parameters() if p.dim() == 3]
    if not stacked:
        raise RoutingError(
            f"{type(experts).__name__} does not say how many experts it has, nor holds weights (E, "
            f"., .)"
        )
    return len(stacked[0])


def _hook(site: Site, module: nn.Module) -> list:
    if argument := _index_argument(module):
        return [module.register_forward_pre_hook(_on_experts(site, argument), with_kwargs=True)]
    router = getattr(module, site.name.split(".")[-1])
    handles = [router.register_forward_hook(_on_router(site, module, router))]
    if isinstance(module.experts, nn.ModuleList):
        site.served = torch.zeros(site.num_experts, dtype=torch.int64)
        handles += [
            expert.register_forward_pre_hook(_on_one_expert(site, number))
            for number, expert in enumerate(module.experts)
        ]
    return handles


def _on_experts(site: Site, argument: str):
    def hook(_, args: tuple, kwargs: dict) -> None:
        ids = kwargs[argument] if argument in kwargs else args[1]
        site.chosen.append(ids.detach().reshape(-1, ids.shape[-1]))

    return hook


def _on_router(site: Site, block: nn.Module, router: nn.Module):
    def hook(_, args: tuple, output) -> None:
        outputs = output if isinstance(output, tuple | list) else [output]
        tensors = [t for t in outputs if isinstance(t, torch.Tensor)]
        indices = [t for t in tensors if _are_indices(t)]
        logits = [t for t in tensors if _are_logits(t, site.num_experts)]
        if len(indices) == 1 and indices[0].shape[-1] <= site.num_experts:
            site.top_k = indices[0].shape[-1]
            site.chosen.append(indices[0].detach().reshape(-1, site.top_k))
        elif logits and not indices:
            site.top_k = site.top_k or _top_k(site, block, router)
            scores = logits[-1].detach().reshape(-1, site.num_experts).softmax(-1, torch.float32)
            site.chosen.append(scores.topk(site.top_k, dim=-1).indices)
        else:
            shapes = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in tensors)
            raise RoutingError(
                f"{site.name} returns {shapes or type(output).__name__}; looked for {LOOKED_FOR}"
            )

    return hook


def _are_indices(t: torch.Tensor) -> bool:
    return t.dim() > 1 and not t.is_floating_point() and t.dtype != torch.bool


def _are_logits(t: torch.Tensor, num_experts: int) -> bool:
    return t.dim() > 1 and t.is_floating_point() and t.shape[-1] == num_experts


def _top_k(site: Site, block: nn.Module, router: nn.Module) -> int:
    """K of a router that returns logits only. RoutingError where nothing tells it, or the choice is
    more than top-k."""
    modules = [block, router]
    configs = [getattr(block, "config", None), getattr(router, "config", None), site.config]
    odd = {
        key
        for holder in modules + configs
        for key in OTHER_CHOICES + GROUPS
        if _says_otherwise(key, getattr(holder, key, None))
    }
    if odd:
        raise RoutingError(
            f"{site.name} returns logits, but its block has {', '.join(sorted(odd))}: it chooses "
            "others than the top-k of its logits, in a way that is not known"
        )
    # A config's top_k is that of sampling.
    asked = [(module, key) for module in modules for key in ("top_k", *TOP_K_KEYS)]
    asked += [(config, key) for config in configs for key in TOP_K_KEYS]
    told = (getattr(holder, key, None) for holder, key in asked)
    if k := next((k for k in told if isinstance(k, int)), None):
        return k
    raise RoutingError(
        f"{site.name} returns logits, but neither it, its block nor their config has one of "
        f"{', '.join(TOP_K_KEYS)}"
    )


def _says_otherwise(key: str, value) -> bool:
    return value is not None and (key in OTHER_CHOICES or value > 1)


def _on_one_expert(site: Site, number: int):
    def hook(_, args: tuple) -> None:
        if args:
            site.served[number] += args[0].shape[:-1].numel()

    return hook
