"""Ray itself, which nothing here imports before a cluster is asked for, and which of its nodes
results can come from."""

import os
import socket
from contextlib import suppress

from moebook.measure.executors.node import environment, provenance

PROBE_S = 120.0  # for each node's answer: a process of Ray's starts, and imports moebook
# Older Ray hides all GPUs from a task that asks for none. Only there, because such a task gets a
# process of its own.
SEES_GPUS = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}


def import_ray():
    """Ray, told to report nothing to its makers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ValueError(
            "--executor ray needs Ray, which is not installed: pip install -e '.[cluster]'"
        ) from None
    return ray


def check_address(address: str | None) -> None:
    if address and address.startswith("ray://"):
        raise ValueError(
            f"the address {address} is of a Ray client's server, through which no records can come "
            "one by one: give HOST:PORT of the head, on a machine that is in the cluster (`ray "
            "start --address=HOST:PORT`)"
        )


def connect(ray, address: str | None) -> None:
    """Join the cluster at that address (see RayCluster), or start one."""
    try:
        check_reachable(address)  # Ray itself tries for minutes
        ray.init(
            address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
    except Exception as error:  # Ray raises no narrower one where a node does not start in time
        raise ValueError(
            f"no Ray cluster at {address or 'RAY_ADDRESS, and none started here'}: {error}; start "
            "one with `ray start --head` and give its --address"
        ) from None


def check_joined(ray, address: str | None) -> None:
    """ValueError where this process is in another cluster than the one at an address."""
    joined = ray.get_runtime_context().gcs_address
    if address not in (None, "auto") and _resolved(address) != _resolved(joined):
        raise ValueError(
            f"--address: given {address!r}; this process is in the Ray cluster at {joined} already:"
            " leave it out, or leave that cluster with ray.shutdown()"
        )


def _resolved(address: str) -> tuple[str, str]:
    """Host, as a number where it has one, and port."""
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        host = socket.gethostbyname(host.strip("[]"))
    return host, port


def check_reachable(address: str | None) -> None:
    """OSError where nothing listens at HOST:PORT, or [HOST]:PORT."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def probe(ray, kind: str) -> dict[str, dict]:
    """Provenance of each living node that has anything to measure on, for plans of this kind, by
    Ray's id of it."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote, asked, found = ray.remote(num_cpus=0)(provenance), {}, {}
    for one in ray.nodes():
        if not one["Alive"] or not {"CPU", "GPU"} & set(one["Resources"]):
            continue
        options = {"runtime_env": SEES_GPUS} if "GPU" in one["Resources"] else {}
        there = NodeAffinitySchedulingStrategy(one["NodeID"], soft=False)
        task = remote.options(scheduling_strategy=there, **options)
        asked[one["NodeID"]] = task.remote(environment(), kind)
    for name, reply in asked.items():
        try:
            found[name] = ray.get(reply, timeout=PROBE_S)
        except ray.exceptions.RayTaskError as error:
            raise ValueError(
                f"a node of this Ray cluster cannot run moebook ({first_line(error.cause)}): "
                "install the same moebook on every node"
            ) from None
        except ray.exceptions.RayError:
            continue  # gone since, or does not answer
    return found


def source_of(facts: dict) -> tuple[str, str]:
    """Device and engine of a node's provenance."""
    return facts["device"], facts["engine_version"]


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"
