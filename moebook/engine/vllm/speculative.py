"""Speculative decoding in the engine: its arguments, and what its counters say of a run.

Counters (vLLM, since the engine's start): drafts proposed, draft tokens, draft tokens accepted, and
these by position."""

import json
from dataclasses import dataclass
from pathlib import Path

from moebook.models.tiny import family
from moebook.study.settings import Speculation

PREFIX = "vllm:spec_decode_num_"
LOOKUP = {
    "prompt_lookup_min": 2,
    "prompt_lookup_max": 4,
}  # n-gram lengths looked for in the sequence's own tokens


def speculative_config(speculation: dict, draft_config: dict | None, folder: Path) -> dict:
    """vLLM's speculative_config from plan.Speculation's fields; a dummy draft's config is written
    to `folder`."""
    found = {"method": speculation["method"], "num_speculative_tokens": speculation["num_tokens"]}
    if speculation["method"] == "ngram":
        found |= LOOKUP
    elif family.is_tiny(speculation["draft"]):
        found["model"] = str(family.folder(speculation["draft"]))
    else:
        (folder / "draft").mkdir(parents=True, exist_ok=True)
        (folder / "draft" / "config.json").write_text(json.dumps(draft_config))
        found |= {"model": str(folder / "draft"), "draft_load_config": {"load_format": "dummy"}}
    if (rates := Speculation(**speculation).rates) is not None:
        found |= {"rejection_sample_method": "synthetic", "synthetic_acceptance_rates": rates}
    return found


def mend_scan() -> None:
    """vLLM 0.32 looks through the attributes of every loaded module when a CPU engine starts, and
    fails on an object of llvmlite whose `__dict__` is no dict, which n-gram lookup brings in: such
    objects count as having no attributes. What one engine's scan has replaced stays replaced: later
    engines need none."""
    try:
        from vllm.triton_utils import dispatcher
    except ImportError:  # vLLM 0.26 has no such scan
        return
    dispatcher.vars = lambda value: found if isinstance(found := vars(value), dict) else {}
    if dispatcher._registry:
        dispatcher.register_kernels = lambda overrides: None


@dataclass(frozen=True)
class Counters:
    drafts: int = 0
    draft_tokens: int = 0
    accepted: int = 0
    by_position: tuple[int, ...] = ()

    @classmethod
    def of(cls, llm) -> "Counters":
        found = {
            m.name.removeprefix(PREFIX): getattr(m, "value", getattr(m, "values", None))
            for m in llm.get_metrics()
            if m.name.startswith(PREFIX)
        }
        return cls(
            found.get("drafts", 0),
            found.get("draft_tokens", 0),
            found.get("accepted_tokens", 0),
            tuple(found.get("accepted_tokens_per_pos", ())),
        )

    def since(self, before: "Counters") -> dict:
        """What a run's row tells: tokens a sequence gained per step, share of draft tokens
        accepted, by position."""
        drafts, tokens = self.drafts - before.drafts, self.draft_tokens - before.draft_tokens
        accepted = self.accepted - before.accepted
        if not drafts:
            return {"tokens_per_step": 1.0}
        earlier = before.by_position or (0,) * len(self.by_position)
        shares = [
            (now - then) / drafts for now, then in zip(self.by_position, earlier, strict=True)
        ]
        return {
            "tokens_per_step": 1 + accepted / drafts,
            "acceptance_rate": accepted / tokens,
            **{f"accepted_pos{i}": share for i, share in enumerate(shares, 1)},
        }
