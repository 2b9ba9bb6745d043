"""`python ray_cluster.py NODES FOLDER`: a Ray cluster of that many nodes on this machine, until
SIGTERM. FOLDER/cluster.json: its address, the process ids of its nodes' raylets and of its head's
gcs_server."""

import json
import signal
import sys
import tempfile
from pathlib import Path

from ray.cluster_utils import Cluster


def main() -> None:
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)  # where it notes its address
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as own:  # sockets need short paths

        def node(number: int) -> dict:
            """With device locks of its own: each stands for a machine."""
            locks = folder / f"locks-{number}"
            return {
                "num_cpus": 1,
                "object_store_memory": 80 << 20,
                "include_dashboard": False,
                "env_vars": {"MOEBOOK_LOCKS": str(locks)},
            }

        cluster = Cluster(initialize_head=True, head_node_args={**node(0), "temp_dir": own})
        nodes = [cluster.head_node, *(cluster.add_node(**node(n)) for n in range(1, count))]
        processes = [one.all_processes for one in nodes]
        told = {
            "address": cluster.address,
            "raylets": [own["raylet"][0].process.pid for own in processes],
            "gcs_server": processes[0]["gcs_server"][0].process.pid,
        }
        part = folder / "cluster.part"
        part.write_text(json.dumps(told))
        part.rename(folder / "cluster.json")
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
