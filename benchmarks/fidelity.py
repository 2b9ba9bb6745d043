"""The same point through `vllm bench latency` and through moebook, one after the other: median E2E
of each.

Both run one batch of random prompts through `LLM.generate` with the same engine arguments; what
differs is whose loop times it. Expected: within 3 % on a GPU. Prints one JSON line.

  python benchmarks/fidelity.py --model OLMoE-1B-7B-0125 --batch 16 --tokens 128 --graphs light
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from moebook import devices, engine
from moebook.engine.vllm.arguments import set_environment
from moebook.measure.run import WorkerHandle
from moebook.models import catalog
from moebook.models.edit import edit
from moebook.study.plan import EngineSettings

# what `vllm bench latency` runs; the command itself looks for a package named vllm, which the CPU
# build is not
BENCH_LATENCY = """
from vllm.benchmarks import latency
from vllm.utils.argparse_utils import FlexibleArgumentParser
if __name__ == "__main__":
    parser = FlexibleArgumentParser()
    latency.add_cli_args(parser)
    latency.main(parser.parse_args())
"""


def through_vllm(
    device, arch, settings: EngineSettings, batch: int, tokens: int, repeats: int, folder: Path
) -> list[float]:
    (folder / "config.json").write_text(json.dumps(arch.hf_config()))
    graphs = {
        "eager": ["--enforce-eager"],
        "default": [],
        "light": [
            "--compilation-config",
            json.dumps(
                {
                    "mode": 0,
                    "cudagraph_mode": "FULL_DECODE_ONLY",
                    "cudagraph_capture_sizes": [batch],
                }
            ),
        ],
    }[settings.graphs]
    command = [
        sys.executable,
        "-c",
        BENCH_LATENCY,
        "--model",
        str(folder),
        "--load-format",
        "dummy",
        "--skip-tokenizer-init",
        "--disable-detokenize",
        "--dtype",
        settings.dtype,
        "--max-model-len",
        str(settings.max_model_len),
        "--batch-size",
        str(batch),
        "--input-len",
        str(tokens),
        "--output-len",
        str(tokens),
        "--num-iters-warmup",
        "2",
        "--num-iters",
        str(repeats),
        "--gpu-memory-utilization",
        str(settings.gpu_memory_utilization),
        "--output-json",
        str(folder / "latency.json"),
        *graphs,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **device.environment()}
    )
    if done.returncode:
        sys.exit(f"vllm bench latency failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return json.loads((folder / "latency.json").read_text())["latencies"]


def through_moebook(
    device, arch, settings: EngineSettings, batch: int, tokens: int, repeats: int, log: Path
) -> list[float]:
    workload = {"batch": batch, "input_tokens": tokens, "output_tokens": tokens, "seed": 0}
    with WorkerHandle(log, device) as worker:
        for request in (
            {"op": "start", "settings": asdict(settings), "config": arch.hf_config()},
            {"op": "measure", "workload": workload, "method": "full", "repeats": repeats},
        ):
            reply = worker.ask(request, 600)
            if not reply["ok"]:
                sys.exit(f"moebook: {reply['status']}: {reply['reason']}")
    return [row["e2e_s"] for row in reply["repeats"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="OLMoE-1B-7B-0125", help="its vocabulary must exceed 10,000 ids"
    )
    parser.add_argument(
        "--layers", type=int, default=None, help="fewer layers, where the model does not fit"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--graphs", default="eager", choices=("eager", "light", "default"))
    given = parser.parse_args()
    device = devices.detect()
    set_environment(device.on_gpu)
    arch = edit(catalog.load(given.model), num_layers=given.layers)
    settings = EngineSettings(
        graphs=given.graphs,
        graph_batch_sizes=(given.batch,),
        max_model_len=2 * given.tokens,
        kv_cache_gib=None if device.on_gpu else 1,
    )
    with tempfile.TemporaryDirectory() as folder:
        theirs = through_vllm(
            device, arch, settings, given.batch, given.tokens, given.repeats, Path(folder)
        )
        ours = through_moebook(
            device,
            arch,
            settings,
            given.batch,
            given.tokens,
            given.repeats,
            Path(folder) / "worker.log",
        )
    difference = 100 * (statistics.median(ours) / statistics.median(theirs) - 1)
    print(
        json.dumps(
            {
                "benchmark": "fidelity",
                **vars(given),
                "device": device.name,
                "engine": engine.version(device.kind),
                "vllm_bench_e2e_s": theirs,
                "moebook_e2e_s": ours,
                "difference_pct": round(difference, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
