"""What a trained tiny family does in the engine: `tiny_engine.py OUT`. Writes one JSON file. A
script, because an engine in this process reads its environment at import; MOEBOOK_CACHE holds the
trained family of preset `test`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from moebook.engine.vllm.arguments import set_environment
from moebook.models import catalog
from moebook.study.plan import EngineSettings, Workload
from moebook.study.settings import Speculation

TARGETS = ("aux-0.01", "loss-free")
TEXT = "tiny:test/heldout/all"
WORK = Workload(3, 40, 24, temperature=0.0)


def start(weights: str, out: Path, spec: Speculation | None = None, routing: str | None = None):
    from moebook.engine.vllm.engine import VllmEngine

    settings = EngineSettings(
        dtype="float32",
        graphs="eager",
        max_model_len=96,
        kv_cache_gib=1,
        weights=weights,
        speculation=spec,
        routing=routing,
    )
    draft = catalog.load(spec.draft).hf_config() if spec and spec.draft else None
    return VllmEngine(settings, catalog.load(weights).hf_config(), out / "model", None, draft)


def theirs(weights: str, windows: list[list[int]]) -> dict:
    """Counts and losses as transformers has them, whole and without expert 1 of layer 0."""
    import torch
    from transformers import AutoModelForCausalLM

    from moebook.engine.vllm.arguments import checkpoint_folder

    model = AutoModelForCausalLM.from_pretrained(checkpoint_folder(weights), dtype=torch.float32)
    arch = catalog.load(weights)
    counts = np.zeros((arch.num_layers, arch.num_experts), int)

    def count(layer):
        def hook(module, args, kwargs):
            ids = kwargs.get("top_k_index", args[1] if len(args) > 1 else None)
            counts[layer] += np.bincount(ids.numpy().ravel(), minlength=arch.num_experts)

        return hook

    experts = [m for name, m in model.named_modules() if name.endswith("mlp.experts")]
    hooks = [m.register_forward_pre_hook(count(i), with_kwargs=True) for i, m in enumerate(experts)]
    ids = torch.tensor(windows)
    with torch.no_grad():
        logits = model(ids).logits[:, :-1].log_softmax(-1)
    for hook in hooks:
        hook.remove()
    losses = -logits.gather(2, ids[:, 1:, None])[..., 0].mean(1)
    return {"counts": counts.tolist(), "perplexity": float(losses.mean().exp())}


def read_target(weights: str, out: Path) -> dict:
    from moebook.engine import counts
    from moebook.engine.vllm import texts

    engine = start(weights, out)
    work = replace(WORK, output_tokens=1)
    file = out / f"{weights.rpartition('/')[2]}.npz"
    engine.read("routing", workload=work, text=TEXT, repeats=1, counts_file=str(file))
    removed = engine.read(
        "ablation",
        workload=work,
        text=TEXT,
        repeats=1,
        counts_file=str(out / "a.npz"),
    )
    again = engine.read("perplexity", workload=work, text=TEXT, repeats=1)
    drawn, alike = (
        engine.read(
            "step_experts",
            workload=Workload(4, 20, 12, temperature=0.0, identical=identical),
            text=text,
            repeats=2,
        )
        for text, identical in ((None, False), (TEXT, True))
    )
    engine.stop()
    ours = counts.read(file).counts.sum(0).tolist()
    return {
        "ours": ours,
        "ablation": removed,
        "steps": {"random": drawn, "alike": alike},
        "after": again["repeats"][0]["perplexity"],
        "theirs": theirs(weights, texts.text_windows(TEXT, weights, WORK.batch, WORK.input_tokens)),
    }


def speculate(weights: str, out: Path, spec: Speculation | None) -> dict:
    engine = start(weights, out, spec)
    rows = engine.read("acceptance", workload=WORK, text=TEXT, repeats=2)["repeats"]
    timed = engine.measure(Workload(2, 16, 16), "full", 3)
    engine.stop()
    return {"rows": rows, "timed": timed, "training": engine.facts()["training"]}


def skewed(weights: str, out: Path, routing: str) -> dict:
    from moebook.engine.vllm import patches_routers

    engine = start(weights, out, routing=routing)
    engine.rpc(patches_routers.begin_steps)
    engine.run_prompts([[i + 1] * 30 for i in range(4)], 30, 0.0)
    steps = engine.rpc(patches_routers.end_steps)
    engine.stop()
    return {str(tokens): sum(seen) / len(seen) for tokens, seen in steps.items()}


def main() -> None:
    out = Path(sys.argv[1])
    target = f"tiny:test/{TARGETS[0]}"
    draft = Speculation("draft_model", 3, "tiny:test/draft-large")
    found = {
        "targets": {t: read_target(f"tiny:test/{t}", out) for t in TARGETS},
        "plain": speculate(target, out, None),
        "draft": speculate(target, out, draft),
        "ngram": speculate(target, out, Speculation("ngram", 3)),
        "skewed": {s: skewed(target, out, s) for s in ("uniform", "zipf:3", "same")},
    }
    (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    set_environment(on_gpu=False)
    main()
