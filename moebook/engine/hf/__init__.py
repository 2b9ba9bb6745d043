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
import itertools
import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from moebook.engine.counts import CountsWriter
from moebook.models import keys

# names of the argument of chosen experts
INDICES = re.compile(r"ind(ex|ices)$|^selected_experts$|topk_ids$|topk_idx$")
ROUTERS = ("gate", "router")
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


class Site:
    """One set of experts, seen by hooks: what the last forward passes chose.

    name: of the module that is hooked. first: expert numbers before its own, in a layer with
    several sets."""

    def __init__(self, name: str, module: nn.Module, experts: nn.Module):
        self.name, self.module, self.num_experts = name, module, _num_experts(experts)
        self.first, self.chosen = 0, []

    def hook(self) -> list:
        """Hooks' handles."""
        raise NotImplementedError

    def add(self, ids: torch.Tensor) -> None:
        """(..., K)"""
        self.chosen.append(ids.detach().reshape(-1, ids.shape[-1]))

    def take(self) -> np.ndarray:
        """Choices (T, K) since the last call, in the order of tokens."""
        if not self.chosen:
            raise RoutingError(
                f"{self.name} chose no experts in this forward pass; the model did not run through "
                "it"
            )
        ids = torch.cat(self.chosen).cpu()
        self.check(ids)
        self.clear()
        return ids.numpy() + self.first

    def check(self, ids: torch.Tensor) -> None:
        """RoutingError where the experts got others than these."""

    def clear(self) -> None:
        self.chosen = []


class Experts(Site):
    """Experts whose forward is given the chosen indices."""

    def hook(self) -> list:
        return [self.module.register_forward_pre_hook(self._see, with_kwargs=True)]

    def _see(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.add(kwargs.get(_index_argument(module), args[1] if len(args) > 1 else None))


class Router(Site):
    """A router, and the block that holds it and its experts. config: of the model, which has K
    where neither block nor router has."""

    def __init__(self, name: str, block: nn.Module, router: str, config):
        super().__init__(f"{name}.{router}", getattr(block, router), block.experts)
        self.block, self.config, self.top_k = block, config, 0
        self.served = torch.zeros(
            self.num_experts, dtype=torch.int64
        )  # tokens each was called with

    def hook(self) -> list:
        handles = [self.module.register_forward_hook(self._see)]
        if isinstance(self.block.experts, nn.ModuleList):
            for number, expert in enumerate(self.block.experts):
                handles.append(expert.register_forward_pre_hook(partial(self._serve, number)))
        return handles

    def clear(self) -> None:
        super().clear()
        self.served.zero_()

    def check(self, ids: torch.Tensor) -> None:
        """Unless the experts were not called, or with all tokens."""
        chosen = torch.bincount(ids.flatten(), minlength=self.num_experts)
        uninformative = (0, len(ids) * self.num_experts)
        if int(self.served.sum()) not in uninformative and not torch.equal(chosen, self.served):
            raise RoutingError(
                f"{self.name} chooses its experts for {chosen.tolist()} tokens, but they were "
                f"called with {self.served.tolist()}: the block routes in a way that is not known"
            )

    def _serve(self, number: int, _, args: tuple) -> None:
        if args:
            self.served[number] += args[0].shape[:-1].numel()

    def _see(self, _, args: tuple, output) -> None:
        outputs = output if isinstance(output, tuple | list) else [output]
        tensors = [t for t in outputs if isinstance(t, torch.Tensor)]
        wide = [t for t in tensors if t.dim() > 1 and t.dtype != torch.bool]
        indices = [t for t in wide if not t.is_floating_point()]
        logits = [t for t in wide if t.is_floating_point() and t.shape[-1] == self.num_experts]
        if len(indices) == 1 and indices[0].shape[-1] <= self.num_experts:
            self.add(indices[0])
        elif logits and not indices:
            self.top_k = self.top_k or self._asked_top_k()
            scores = logits[-1].softmax(-1, torch.float32)
            self.add(scores.topk(self.top_k, dim=-1).indices)
        else:
            shapes = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in tensors)
            raise RoutingError(
                f"{self.name} returns {shapes or type(output).__name__}; looked for {LOOKED_FOR}"
            )

    def _asked_top_k(self) -> int:
        """K of a router that returns logits only. RoutingError where nothing tells it, or the
        choice is more than top-k."""
        modules = [self.block, self.module]
        configs = [*(getattr(module, "config", None) for module in modules), self.config]
        holders = modules + configs
        odd = {k for k in OTHER_CHOICES for h in holders if getattr(h, k, None) is not None}
        odd |= {k for k in GROUPS for h in holders if (getattr(h, k, None) or 0) > 1}
        if odd:
            raise RoutingError(
                f"{self.name} returns logits, but its block has {', '.join(sorted(odd))}: it "
                "chooses others than the top-k of its logits, in a way that is not known"
            )
        # A config's top_k is that of sampling.
        asked = [getattr(module, "top_k", None) for module in modules]
        asked += [keys.find(holder, "top_k") for holder in holders]
        if k := next((k for k in asked if isinstance(k, int) and k), None):
            return k
        raise RoutingError(
            f"{self.name} returns logits, but neither it, its block nor their config has one of "
            f"{', '.join(keys.SPELLINGS['top_k'])}"
        )


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
        self.layers: dict[str, list[Site]] = {}
        for site in sites_of(model):
            before = self.layers.setdefault(_layer_of(site.name), [])
            site.first = sum(other.num_experts for other in before)
            before.append(site)
        self.names, self.num_layers = tuple(self.layers), len(self.layers)
        self.num_experts = max(
            sum(site.num_experts for site in sites) for sites in self.layers.values()
        )
        self._handles = []

    def __enter__(self) -> "RouterHooks":
        self._handles = [handle for site in self._sites() for handle in site.hook()]
        return self

    def __exit__(self, *_) -> None:
        for handle in self._handles:
            handle.remove()
        self.clear()

    def _sites(self) -> Iterator[Site]:
        return itertools.chain.from_iterable(self.layers.values())

    def clear(self) -> None:
        for site in self._sites():
            site.clear()

    def take(self) -> list[list[np.ndarray]]:
        """Per layer the choices (T, K) of its sets of experts since the last call; sets that did
        not run are left out. RoutingError where one chose nothing, or its experts got others."""
        return [
            [site.take() for site in sites if site.chosen or len(sites) == 1]
            for sites in self.layers.values()
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


def sites_of(model: nn.Module) -> list[Site]:
    """Each set of routed experts. RoutingError for a model without any that can be hooked."""
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if getattr(config, "is_encoder_decoder", False):
        raise RoutingError(
            f"a model of type {kind!r} is an encoder-decoder, whose MoE layers drop tokens: not "
            "counted"
        )
    sites = (_site(name, module, text) for name, module in model.named_modules())
    if found := [site for site in sites if site is not None]:
        return found
    if not _has_experts(model, text):
        raise RoutingError(
            f"a model of type {kind!r} has no MoE layers; use a Mixture-of-Experts model"
        )
    raise RoutingError(
        f"the MoE layers of a model of type {kind!r} cannot be hooked: none has {LOOKED_FOR}"
    )


def _site(name: str, module: nn.Module, config) -> Site | None:
    if name.split(".")[-1] == "experts" and _index_argument(module):
        return Experts(name, module, module)
    experts = getattr(module, "experts", None)
    router = next((r for r in ROUTERS if isinstance(getattr(module, r, None), nn.Module)), None)
    if router and isinstance(experts, nn.Module) and not _index_argument(experts):
        return Router(name, module, router, config)
    return None


def _has_experts(model: nn.Module, config) -> bool:
    count = keys.find(config, "experts")
    many = isinstance(count, int) and count > 1
    return many or any("experts" in name for name, _ in model.named_modules())


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
    for count in (getattr(experts, "total_experts", None), keys.find(experts, "experts")):
        if isinstance(count, int):
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
