"""Any OpenAI-compatible server as an accelerator, through vLLM's own `vllm bench serve`.

What is timed, in seconds on this machine's clock, the network included. One wave sends the B
requests of the batch at once, each a random prompt of S_in tokens to be continued by S_out; there
is one wave a repeat, and one before to warm up.

    TTFT          from the wave's start until the last request has its first token
    E2E           from the wave's start until the last request has its last token
    request TTFT, request E2E      of each request, from when it was sent
    step          time between two deliveries of one request; a delivery is one token unless the
                  server sends several at a time (tokens_per_step)

No prompt is sent twice: seeds are drawn afresh and recorded, because a prefix cache at the server,
which cannot be turned off from here, would answer a known prompt in no time.

A wave counts whole or not at all. Any request that fails, and any answer of another length than
S_out (servers that do not know `ignore_eos` stop early), fails the point with the server's
reason."""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from moebook import devices, engine
from moebook.engine.base import EngineFailed, percentiles
from moebook.engine.endpoint.access import Access
from moebook.engine.vllm import bench_serve
from moebook.engine.vllm.failures import clean
from moebook.study.settings import Workload

# by which a server's count of a prompt may differ: other tokens, chat template
PROMPT_SHARE, PROMPT_TOKENS = 0.05, 32


def bench(workload: Workload, repeats: int, folder: Path) -> dict:
    """`repeats` and `facts` of a workload at the endpoint of the environment. EngineFailed, its
    text free of secrets."""
    access = Access.from_environment()
    try:
        return _bench(access, workload, repeats, folder)
    except Exception as error:
        status, text = getattr(error, "status", "failed"), str(error)
        text = text if isinstance(error, EngineFailed) else f"{type(error).__name__}: {text}"
        raise EngineFailed(status, clean(access.scrub(text))) from None


def _bench(access: Access, workload: Workload, repeats: int, folder: Path) -> dict:
    api = access.probe()
    seeds = [secrets.randbelow(2**31) for _ in range(repeats + 1)]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        files = [Path(scratch) / f"{i}.json" for i in range(len(seeds))]
        waves = [
            bench_serve.wave(access, api, workload, seed, file)
            for seed, file in zip(seeds, files, strict=True)
        ]
        reason = _run(access, waves)
        results = [json.loads(file.read_text()) for file in files if file.exists()]
    for number, result in enumerate(results):
        if problem := problem_of(result, workload):
            which = f"repeat {number}" if number else "warm-up"
            raise EngineFailed("failed", f"{which}: {problem}")
    if reason or len(results) < len(waves):
        raise EngineFailed(
            "failed", f"vllm bench serve ended after {len(results)} of {len(waves)} waves: {reason}"
        )
    rows = [
        {**row(result), "seed": seed} for seed, result in zip(seeds[1:], results[1:], strict=True)
    ]
    tokens = [n for result in results for n in result["input_lens"]]
    return {
        "repeats": rows,
        "facts": {
            "endpoint_model": access.model,
            "endpoint_api": api,
            "bench_version": engine.version(devices.detect().kind),
            "requests_ok": len(tokens),
            "requests_failed": 0,
            "prompt_tokens": sum(tokens) / len(tokens),
            "output_tokens_returned": sum(n for result in results for n in result["output_lens"]),
        },
    }


def _run(access: Access, waves: list[list[str]]) -> str:
    """Run the waves in a process of its own; its output goes to the log, scrubbed. Returns why it
    failed, or nothing."""
    hidden = ("OPENAI_API_KEY", "MOEBOOK_ENDPOINT_KEY")  # another service's key stays here
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    if access.key:
        environment["OPENAI_API_KEY"] = access.key
    done = subprocess.run(
        [sys.executable, "-m", bench_serve.__name__],
        input=json.dumps(waves),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    print(access.scrub(done.stdout), flush=True)
    errors = re.findall(r"^.*(?:\w+Error|\w+Exception|error)\b: .+$", done.stdout, re.MULTILINE)
    return "" if done.returncode == 0 else (errors or [f"exit code {done.returncode}"])[-1]


def problem_of(result: dict, workload: Workload) -> str | None:
    """Why a wave's times are not those of the workload, or None."""
    if failed := bench_serve.failures(result):
        reasons = "; ".join(
            f"{count} x {reason}" for reason, count in Counter(failed).most_common()
        )
        return f"{len(failed)} of {len(result['errors'])} requests failed: {reasons}"
    asked, returned = workload.output_tokens, result["output_lens"]
    if set(returned) != {asked}:
        other = sum(n != asked for n in returned)
        return (
            f"{other} of {len(returned)} answers have {min(returned)} to {max(returned)} tokens "
            f"instead of {asked}, so their times do not compare: the server ignores `ignore_eos`, "
            "cut them short or does not report their length"
        )
    asked, sent = workload.input_tokens, np.array(result["input_lens"])
    if np.abs(sent - asked).max() > PROMPT_SHARE * asked + PROMPT_TOKENS:
        return (
            f"the server counts {sent.min()} to {sent.max()} tokens in prompts of {asked}: set "
            f"MOEBOOK_ENDPOINT_TOKENIZER to the tokenizer of its model"
        )
    return None


def row(result: dict) -> dict:
    """Metrics of one wave (s): those of the batch from the wave's start, those of requests from
    when each was sent."""
    ttft = np.array(result["ttfts"])
    e2e = ttft + [sum(deliveries) for deliveries in result["itls"]]
    start = np.array(result.get("start_times", np.zeros(len(ttft))))
    start -= start.min()
    steps = np.concatenate(result["itls"])
    found = {
        "ttft_s": float((start + ttft).max()),
        "e2e_s": float((start + e2e).max()),
        **percentiles("request_ttft", ttft),
        **percentiles("request_e2e", e2e),
    }
    if len(steps):
        gained = sum(result["output_lens"]) - len(ttft)
        found |= {**percentiles("step", steps), "tokens_per_step": gained / len(steps)}
    return found
