"""Perplexities of checkpoint folders, by the engine and by transformers: `tiny_perplexity.py TEXT FOLDER ...`. Prints one
JSON line. A script, because an engine in this process reads its environment at import."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from moebook.engine.worker import set_environment
from moebook.models import catalog
from moebook.plan import EngineSettings

WINDOWS, LENGTH, PARTS = 6, 64, 3


def theirs(folder: str, windows: list[list[int]]) -> list[float]:
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from moebook.models.evaluation import perplexity

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return [perplexity(model, part) for part in np.array_split(np.array(windows), PARTS)]


def main() -> None:
    from moebook.engine import texts
    from moebook.engine.vllm_engine import Engine

    text, *folders = sys.argv[1:]
    out = {}
    for folder in folders:
        settings = EngineSettings(dtype="float32", graphs="eager", max_model_len=128, kv_cache_gib=1, weights=folder)
        engine = Engine({**asdict(settings), "skew": settings.skew}, catalog.load(folder).hf_config(),
                        Path(folder) / "unused")
        rows = texts.perplexity(engine, {"batch": WINDOWS, "input_tokens": LENGTH}, text, folder, PARTS)["repeats"]
        engine.stop()
        out[folder] = {"ours": [row["perplexity"] for row in rows],
                       "theirs": theirs(folder, texts.text_windows(text, folder, WINDOWS, LENGTH))}
    print(json.dumps(out))


if __name__ == "__main__":
    set_environment(on_gpu=False)
    main()
