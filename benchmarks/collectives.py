"""What ranks need to talk to each other: seconds of each collective over bytes, alone on the links.

    all_reduce   bytes of the tensor that is summed             (TP and TP+EP: twice a layer, T x H
                 of the activations)
    all_gather   bytes that every rank has in the end           (logits over the vocabulary; Q and K
                 before a full norm)
    all_to_all   bytes that every rank holds and deals out      (experts with data parallelism, for
                 comparison)
    send         bytes from rank 0 to rank 1                    (PP: activations to the next stage)
    all_reduce in graph   the all-reduces replayed from a CUDA graph, as decode steps run them

On the profile's device: NCCL on GPUs, gloo on a CPU. A repeat is the mean of back-to-back calls,
the slowest rank's; a row has the median, the smallest and the largest of its repeats. Reading: flat
at first (latency), then bytes over bandwidth.

    python3 benchmarks/collectives.py --profile 2xh100          # seconds, after the start of the
                                                                ranks

Writes outputs/<profile>/05_parallelism/collectives.json, all of it or none: {device, device_kind,
versions, backend, rows}. Nothing is measured for a profile whose device is not here, and the
results that ship with moebook are never written."""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # also from a checkout that is not installed

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from moebook import devices, paths, sections
from moebook.devices import lock
from moebook.measure.files import write_atomic
from moebook.study.params import load

NOTEBOOK = "05_parallelism"
SMALL_BYTES, LARGE_BYTES = 2**20, 2**26
WARM_UP = 3
OPS = ("all_reduce", "all_gather", "all_to_all", "send")


def calls(op: str, num_bytes: int, ranks: int, device: str):
    """The collective over `num_bytes` of bf16, ready to be called."""
    whole = torch.ones(num_bytes // 2, dtype=torch.bfloat16, device=device)
    part = torch.ones(num_bytes // 2 // ranks, dtype=torch.bfloat16, device=device)
    rank, other = dist.get_rank(), torch.empty_like(whole)

    def send():
        if rank < 2:
            dist.send(whole, 1) if rank == 0 else dist.recv(whole, 0)

    gather = getattr(
        dist, "all_gather_single", dist.all_gather_into_tensor
    )  # its name from PyTorch 2.13 on
    return {
        "all_reduce": lambda: dist.all_reduce(whole),
        "all_gather": lambda: gather(whole[: part.numel() * ranks], part),
        "all_to_all": lambda: dist.all_to_all_single(
            other[: part.numel() * ranks], whole[: part.numel() * ranks]
        ),
        "send": send,
    }[op]


def in_graph(call, count: int):
    """`count` calls as one CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(
        graph, capture_error_mode="thread_local"
    ):  # NCCL's watchdog thread goes on
        for _ in range(count):
            call()
    return graph.replay


def timed(call, count: int, repeats: int, device: str, graph: bool) -> list[float]:
    """Seconds of one call, `repeats` times the mean over `count`; those of the slowest rank."""
    for _ in range(WARM_UP):
        call()
    batch = in_graph(call, count) if graph else (lambda: [call() for _ in range(count)])
    batch()
    seconds = []
    for _ in range(repeats):
        _wait(device)
        dist.barrier()
        started = time.perf_counter()
        batch()
        _wait(device)
        seconds.append((time.perf_counter() - started) / count)
    slowest = torch.tensor(
        seconds, dtype=torch.float64 if device == "cpu" else torch.float32, device=device
    )
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return slowest.tolist()


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def one_rank(rank: int, ranks: int, folder: str, asked: argparse.Namespace) -> None:
    """Measure as rank `rank`; rank 0 writes its rows into the folder."""
    on_gpu = torch.cuda.is_available()
    device = f"cuda:{rank}" if on_gpu else "cpu"
    if on_gpu:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(1)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{folder}/meet{ranks}",
        rank=rank,
        world_size=ranks,
    )
    rows = []
    for graph in (False, True)[: 1 + on_gpu]:  # graphs last: what fails there leaves the other rows
        for num_bytes in (2**i for i in range(asked.smallest, asked.largest + 1)):
            rows += [
                _row(op, num_bytes, ranks, device, graph, asked.repeats)
                for op in (OPS[:1] if graph else OPS)
            ]
            if _any_rank(time.time() > asked.stop_at, device):
                break
        if rank == 0:
            Path(folder, f"rows{ranks}.json").write_text(json.dumps(rows))
    dist.destroy_process_group()


def _row(op: str, num_bytes: int, ranks: int, device: str, graph: bool, repeats: int) -> dict:
    count = 50 if num_bytes <= SMALL_BYTES else 10 if num_bytes <= LARGE_BYTES else 3
    seconds = timed(calls(op, num_bytes, ranks, device), count, repeats, device, graph)
    return {
        "op": op + " in graph" * graph,
        "ranks": ranks,
        "bytes": num_bytes,
        "seconds": statistics.median(seconds),
        "seconds_lo": min(seconds),
        "seconds_hi": max(seconds),
        "repeats": repeats,
    }


def _any_rank(flag: bool, device: str) -> bool:
    """Whether any rank says so: all of them stop after the same size."""
    told = torch.tensor([float(flag)], device=device)
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return bool(told.item())


def rank_counts(given: list[int] | None, there: int) -> list[int]:
    """Powers of two up to what is there, or what was asked for. SystemExit, with what to do, for
    what cannot be."""
    if there < 2:
        raise SystemExit(
            f"collectives need 2 ranks or more, and here is {there} device: nothing was measured"
        )
    counts = given or [2**i for i in range(1, there.bit_length()) if 2**i <= there]
    if wrong := [c for c in counts if not 2 <= c <= there]:
        raise SystemExit(
            f"--ranks {' '.join(map(str, wrong))}: here are {there} devices; allowed: 2 to {there}"
        )
    return counts


def _rows(ranks: int, folder: Path, asked: argparse.Namespace) -> list[dict]:
    """Rows of one number of ranks, each of which has its own time; where a rank died after the
    plain collectives, those."""
    written = folder / f"rows{ranks}.json"
    asked.stop_at = time.time() + asked.stop_after_seconds
    try:
        mp.spawn(one_rank, args=(ranks, str(folder), asked), nprocs=ranks)
    except Exception as error:
        if not written.exists():
            raise
        print(
            f"{ranks} ranks: nothing replayed from graphs: {str(error).strip().splitlines()[-1]}",
            file=sys.stderr,
        )
    return json.loads(written.read_text())


def measure(asked: argparse.Namespace, device: devices.Device, path: Path) -> dict:
    """The table over every number of ranks, and where and with what it was measured. path: where it
    goes."""
    there = device.count if device.on_gpu else devices.cores()
    counts, rows = rank_counts(asked.ranks, there), []
    os.environ.update(
        device.environment()
    )  # before anything here looks for CUDA, and so for all ranks
    asked.largest = asked.largest or (28 if device.on_gpu else 22)
    with lock.held(device, path, max(counts)):
        for ranks in counts:
            with tempfile.TemporaryDirectory() as folder:
                rows += _rows(ranks, Path(folder), asked)
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if device.on_gpu else None
    return {
        "device": device.name,
        "device_kind": device.kind,
        "device_count": there,
        "driver": device.driver,
        "torch": torch.__version__,
        "backend": "nccl" if device.on_gpu else "gloo",
        "nccl": nccl,
        "nccl_nvls_enable": os.environ.get("NCCL_NVLS_ENABLE"),
        "rows": rows,
    }


def device_of(profile: str) -> devices.Device:
    """The device of a profile's section 5, as this machine has it. SystemExit for no profile, or
    where it is not here."""
    if profile not in (have := paths.profiles(NOTEBOOK)):
        raise SystemExit(
            f"--profile {profile}: no profile of section 5; profiles: {', '.join(have)}"
        )
    try:
        params = load(sections.find(NOTEBOOK).params, paths.params_file(profile, NOTEBOOK))
        return devices.require(params.device)
    except ValueError as error:
        raise SystemExit(f"--profile {profile}: {error}") from None


def own_file(asked: argparse.Namespace) -> Path:
    """Where the table goes. SystemExit for the folder of the results that ship with moebook."""
    if wrong := paths.output_root_problem(asked.output_root):
        raise SystemExit(f"--output-root {asked.output_root}: {wrong}")
    return paths.output_root(asked.output_root) / asked.profile / NOTEBOOK / "collectives.json"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--profile",
        required=True,
        help="whose device is measured; folder of outputs/ to write into",
    )
    parser.add_argument("--output-root", default=paths.OUTPUTS)
    parser.add_argument(
        "--ranks",
        type=int,
        nargs="+",
        help="numbers of ranks; default: 2, 4, ... up to what is there",
    )
    parser.add_argument(
        "--smallest", type=int, default=10, help="log2 of the smallest size in bytes"
    )
    parser.add_argument(
        "--largest", type=int, help="likewise of the largest; default: 28, on a CPU 22"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--stop-after-seconds",
        type=float,
        default=60.0,
        help="of each number of ranks, begin no further size after that long",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    asked = arguments(argv)
    device, path = device_of(asked.profile), own_file(asked)
    try:
        table = measure(asked, device, path)
    except devices.DeviceInUse as error:
        raise SystemExit(str(error)) from None
    write_atomic(path, json.dumps(table, indent=1).encode())
    print(f"{len(table['rows'])} rows of {table['device']} ({table['backend']}) in {path}")


if __name__ == "__main__":
    main()
