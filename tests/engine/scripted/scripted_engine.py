"""An engine that runs nothing: its times follow from the workload, each point takes POINT_S. Like
vLLM it takes its number format from the config it is given; with MOEBOOK_SCRIPTED_STUBBORN set it
keeps the model's own, whatever is asked."""

import os
import time
from pathlib import Path

from moebook.engine.base import EngineFailed
from moebook.models import formats
from moebook.models.quantization_config import quantization_of
from moebook.study.settings import EngineSettings, Workload

HELD = {"mxfp4": "uint8", "fp8": "float8_e4m3fn", "int8_per_channel_weight_only": "int8"}
START_S, POINT_S = 0.05, 0.4
CAPACITY_TOKENS = 100_000


class ScriptedEngine:
    """See moebook.engine.base.Engine."""

    @classmethod
    def prepare(cls, on_gpu: bool) -> None:
        pass

    def __init__(
        self,
        settings: EngineSettings,
        config: dict,
        folder: Path,
        log: Path | None = None,
        draft_config: dict | None = None,
        on_gpu: bool = False,
    ):
        if not config.get("vocab_size"):
            raise EngineFailed("failed", "the config names no vocabulary")
        time.sleep(START_S)
        self.top_k = config.get("num_experts_per_tok")
        self.runs = _runs(settings, config)

    def facts(self) -> dict:
        told = {"engine_start_s": START_S, "kv_capacity_tokens": CAPACITY_TOKENS}
        return {**told, "runs": self.runs}

    def switch(self, top_k: int, routing: str | None) -> None:
        self.top_k = top_k

    def measure(self, workload: Workload, method: str, repeats: int) -> list[dict]:
        time.sleep(POINT_S)
        step_s = 1e-4 * self.top_k * workload.batch
        ttft_s = 1e-5 * workload.batch * workload.input_tokens
        e2e_s = ttft_s + step_s * (workload.output_tokens - 1)
        return [{"ttft_s": ttft_s, "e2e_s": e2e_s} for _ in range(repeats)]

    def read(self, method: str, **request) -> dict:
        return {"repeats": [{"perplexity": 2.0}] * request["repeats"], "facts": {}}

    def peak_memory_bytes(self) -> int | None:
        return 1

    def stop(self) -> None:
        pass


def _runs(settings: EngineSettings, config: dict) -> dict:
    stubborn = "MOEBOOK_SCRIPTED_STUBBORN" in os.environ
    given = config if stubborn else formats.with_format(config, settings.quantization)
    told = formats.engine_arguments(settings.quantization).get("quantization")
    entry = quantization_of(given)
    ran = entry["quant_method"] if entry else told
    return {
        "quantization": ran,
        "dtype": settings.dtype,
        "experts_dtype": HELD.get(ran, settings.dtype),
        "attention_dtype": "float8_e4m3fn" if ran == "fp8" else settings.dtype,
        "kv_cache_dtype": settings.dtype,
    }
