"""Perplexities of checkpoint folders, by the engine and by transformers: `perplexity.py TEXT FOLDER
...`. Prints one JSON line. A script, because an engine in this process reads its environment at
import."""

import json
import math
import sys
from pathlib import Path

from moebook.engine.vllm.arguments import set_environment
from moebook.models import catalog
from moebook.study.plan import EngineSettings, Workload

WINDOWS, LENGTH, PARTS = 6, 32, 3


def theirs(folder: str, windows: list[list[int]]) -> list[float]:
    import torch
    from transformers import AutoModelForCausalLM

    ids = torch.tensor(windows)
    with torch.no_grad():
        logits = (
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids)
            .logits[:, :-1]
            .log_softmax(-1)
        )
    losses = -logits.gather(2, ids[:, 1:, None])[..., 0].mean(1)
    return [math.exp(part.mean()) for part in losses.chunk(PARTS)]


def main() -> None:
    from moebook.engine.base import EngineFailed
    from moebook.engine.vllm.engine import VllmEngine
    from moebook.engine.vllm.texts import text_windows

    text, *folders = sys.argv[1:]
    out = {}
    for folder in folders:
        settings = EngineSettings(
            dtype="float32", graphs="eager", max_model_len=64, kv_cache_gib=1, weights=folder
        )
        engine = VllmEngine(settings, catalog.load(folder).hf_config(), Path(folder) / "unused")
        asked = {"text": text, "repeats": PARTS}
        rows = engine.read("perplexity", workload=Workload(WINDOWS, LENGTH, 1), **asked)["repeats"]
        try:
            engine.read("perplexity", workload=Workload(10**6, LENGTH, 1), **asked)
        except EngineFailed as error:
            out["too short"] = str(error)
        engine.stop()
        out[folder] = {
            "ours": [row["perplexity"] for row in rows],
            "theirs": theirs(folder, text_windows(text, folder, WINDOWS, LENGTH)),
        }
    print(json.dumps(out))


if __name__ == "__main__":
    set_environment(on_gpu=False)
    main()
