"""A short search for a better configuration of vLLM's fused Triton kernel, over the parameters that
its own tool tunes.

Configurations that vLLM ships for this device and number format come first (other E and I, nearest
token count), then a seeded shuffle of the space, without those that cannot fit or make no sense for
the number of rows per expert."""

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SPACE = {
    "BLOCK_SIZE_M": (16, 32, 64, 128, 256),
    "BLOCK_SIZE_N": (32, 64, 128, 256),
    "BLOCK_SIZE_K": (64, 128, 256),
    "GROUP_SIZE_M": (1, 16, 32, 64),
    "num_warps": (4, 8),
    "num_stages": (2, 3, 4, 5),
}
ACCUMULATORS_PER_THREAD = 128  # 32-bit registers of the output tile; 255 is all that a thread has


def search(
    candidates: Iterator[dict], seconds_of: Callable[[dict], float], budget_s: float
) -> tuple[dict, float, int]:
    """(best configuration, its seconds, how many ran) within about budget_s. One that does not
    compile, does not fit or does not run is skipped; ValueError when none ran."""
    best, best_s, tried, end = None, float("inf"), 0, time.monotonic() + budget_s
    for config in candidates:
        if time.monotonic() > end:
            break
        try:
            seconds = seconds_of(config)
        except Exception as error:
            if "CUDA error" in str(error):  # the device is lost to this process
                raise
            continue
        tried += 1
        if seconds < best_s:
            best, best_s = config, seconds
    if best is None:
        raise ValueError(f"no kernel configuration ran within {budget_s:g} s")
    return best, best_s, tried


def candidates(
    shipped: list[dict],
    rows_per_expert: float,
    item_bytes: int,
    shared_bytes: int,
    block_shape: list[int] | None,
    seed: int,
) -> Iterator[dict]:
    """Shipped configurations, then the shuffled space; none twice."""
    space = [dict(zip(SPACE, values, strict=True)) for values in itertools.product(*SPACE.values())]
    random.Random(seed).shuffle(space)
    seen = set()
    for config in [*shipped, *(c for c in space if sensible(c, rows_per_expert))]:
        key = tuple(sorted(config.items()))
        if key not in seen and fits(config, item_bytes, shared_bytes, block_shape):
            seen.add(key)
            yield config


def fits(config: dict, item_bytes: int, shared_bytes: int, block_shape: list[int] | None) -> bool:
    """Tiles in shared memory (bytes a block may have), accumulators in registers, whole
    quantization blocks."""
    m, n, k = (config[f"BLOCK_SIZE_{d}"] for d in "MNK")
    if (m + n) * k * item_bytes * config["num_stages"] > shared_bytes:
        return False
    if m * n > 32 * config["num_warps"] * ACCUMULATORS_PER_THREAD:
        return False
    return block_shape is None or (block_shape[0] % n == 0 and k == block_shape[1])


def sensible(config: dict, rows_per_expert: float) -> bool:
    """A row tile neither far above nor far below the rows an expert gets; groups only of several
    row tiles."""
    m = config["BLOCK_SIZE_M"]
    if not rows_per_expert / 32 <= m <= max(16, 4 * rows_per_expert):
        return False
    return config["GROUP_SIZE_M"] == 1 or rows_per_expert > m


def shipped_configs(folder: Path, file_name: str, tokens: int) -> list[dict]:
    """Those that vLLM ships for the device and format of `file_name` (E=..,N=..,device..), of the
    token count nearest to `tokens` in each file; the most frequent first."""
    ending, count = file_name.split(",", 2)[2], {}
    for path in sorted(folder.glob("E=*.json")):
        if path.name.split(",", 2)[2] != ending:
            continue
        by_tokens = {int(n): c for n, c in json.loads(path.read_text()).items() if n.isdigit()}
        config = by_tokens[min(by_tokens, key=lambda n: abs(n - tokens))]
        if set(SPACE) <= set(config):
            key = tuple((name, config[name]) for name in SPACE)
            count[key] = count.get(key, 0) + 1
    return [dict(key) for key in sorted(count, key=count.get, reverse=True)]
