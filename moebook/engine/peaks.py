"""Measured peaks of the device: copy bandwidth (bytes read plus written, per second) and matrix
rate (FLOP/s).

Measured in a process of its own, because the worker must not touch CUDA before it forks engines.
"""

import json
import statistics
import subprocess
import sys
import time

from moebook.engine.base import EngineFailed

REPEATS = 9
SLOW_S = 1.0


def measure_in_child(dtype: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "moebook.engine.peaks", dtype],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise EngineFailed(
            "failed", f"measuring the device's peaks failed: {done.stderr.strip()[-300:]}"
        )
    return json.loads(done.stdout.strip().splitlines()[-1])


def _median_s(run, synchronize) -> float:
    for _ in range(3):
        run()
    seconds = []
    for _ in range(REPEATS):
        synchronize()
        started = time.perf_counter()
        run()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure(dtype: str) -> dict:
    """Median of 9 after 3 warm-ups, on random data: 4 GiB copies and 8192^3 products on a GPU, 256
    MiB and 1024^3 on a CPU; 256^3 where the first of these takes over SLOW_S, as 16-bit ones do on
    a CPU that has no instructions for them."""
    import torch

    on_gpu = torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    synchronize = torch.cuda.synchronize if on_gpu else (lambda: None)
    kind = getattr(torch, dtype)
    size = (4 << 30) if on_gpu else (256 << 20)
    n = 8192 if on_gpu else 1024
    a, b = (torch.randn(n, n, device=device).to(kind) for _ in range(2))
    started = time.perf_counter()
    a @ b
    synchronize()
    if not on_gpu and time.perf_counter() - started > SLOW_S:
        n = 256
        a, b = a[:n, :n].contiguous(), b[:n, :n].contiguous()
    product_s = _median_s(lambda: a @ b, synchronize)
    source = torch.empty(size // 4, dtype=torch.float32, device=device).normal_()
    target = torch.empty_like(source)
    copy_s = _median_s(lambda: target.copy_(source), synchronize)
    return {
        "copy_bytes_per_s": 2 * size / copy_s,
        "matmul_flops_per_s": 2 * n**3 / product_s,
        "dtype": dtype,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
