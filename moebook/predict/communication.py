"""Seconds of a collective over G ranks: from a measured table where there is one, else from the
links' published rate.

Ring formulas (the factors of NVIDIA's nccl-tests, doc/PERFORMANCE.md), n bytes, one-way rate r,
latency l of a message:
  all-reduce   2 (G - 1) l + 2 (G - 1) / G  n / r
  all-gather     (G - 1) l +   (G - 1) / G  n / r     n: bytes every rank has in the end
  send                   l +                n / r A table (benchmarks/collectives.py) is
                         interpolated over bytes, linearly between sizes and by its last rate
                         beyond. Numbers of ranks that it lacks are scaled from the nearest one it
                         has by the same formulas, latency and rate apart: the smallest size's
                         seconds count as latency. Neither has NVLink's in-switch reductions or an
                         engine's own all-reduce kernels for small tensors, which are faster; so a
                         step's communication is rather over- than underestimated."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import yaml

STEPS = {"all_reduce": lambda g: 2 * (g - 1), "all_gather": lambda g: g - 1, "send": lambda g: 1}
SHARES = {
    "all_reduce": lambda g: 2 * (g - 1) / g,
    "all_gather": lambda g: (g - 1) / g,
    "send": lambda g: 1.0,
}
IN_GRAPH = " in graph"


class NoLinks(ValueError):
    """Nothing is known of how fast these devices reach each other; the message says what to do."""


@dataclass(frozen=True)
class Links:
    """device_kind as in links.yaml; table: (op, ranks) -> (bytes, seconds), ascending; origin:
    where the table is from."""

    device_kind: str
    table: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    origin: str | None = None

    def seconds(self, op: str, num_bytes: float, ranks: int, in_graph: bool = False) -> float:
        """Of one collective; in_graph: as a decode graph replays it, where the table knows of that;
        a send stands between two graphs. Raises NoLinks."""
        known = sorted(g for name, g in self.table if name == op)
        if not known:
            return self._by_formula(op, num_bytes, ranks)
        base = min(known, key=lambda g: (abs(g - ranks), g))
        sizes, seconds = self.table[op, base]
        share = (
            self._share_in_graph(base, (sizes[0], num_bytes))
            if in_graph and op != "send"
            else (1.0, 1.0)
        )
        latency, whole = seconds[0] * share[0], _at(sizes, seconds, num_bytes) * share[1]
        rest = max(0.0, whole - latency)
        return latency * STEPS[op](ranks) / STEPS[op](base) + rest * SHARES[op](ranks) / SHARES[op](
            base
        )

    def _share_in_graph(self, ranks: int, sizes: Iterable[float]) -> tuple[float, ...]:
        """What replay from a graph leaves of a collective's seconds at each size: as of the
        all-reduce's, which alone the table has both ways. Most of a small one is its launch by the
        host, and a graph spares that to all of them."""
        ways = [self.table.get((f"all_reduce{way}", ranks)) for way in (IN_GRAPH, "")]
        if None in ways:
            return tuple(1.0 for _ in sizes)
        return tuple(_at(*ways[0], size) / _at(*ways[1], size) for size in sizes)

    def told(self, ranks: int) -> str:
        """Where the seconds over so many ranks come from. Raises NoLinks."""
        measured = sorted({g for _, g in self.table})
        if ranks in measured:
            return f"measured over {ranks} ranks ({self.origin})"
        if measured:
            base = min(measured, key=lambda g: (abs(g - ranks), g))
            return (
                f"measured over {base} ranks ({self.origin}), scaled to {ranks} by the ring "
                "formula, latency too"
            )
        rate, latency, source = self._published()
        without = "" if latency else ", without latency and so a lower bound"
        return f"ring formula at {rate / 1e9:g} GB/s one way{without} ({source})"

    def _by_formula(self, op: str, num_bytes: float, ranks: int) -> float:
        rate, latency, _ = self._published()
        return STEPS[op](ranks) * (latency or 0.0) + SHARES[op](ranks) * num_bytes / rate

    def _published(self) -> tuple[float, float | None, str]:
        facts = _published().get(self.device_kind)
        if facts is None or facts["bandwidth_bytes_per_s"] is None:
            raise NoLinks(
                f"no rate is published for the links of device kind {self.device_kind!r}: measure "
                "them with benchmarks/collectives.py on a machine that has several"
            )
        return facts["bandwidth_bytes_per_s"], facts["latency_s"], facts["source"]


@cache
def _published() -> dict:
    return yaml.safe_load(resources.files("moebook.predict").joinpath("links.yaml").read_text())


def _at(sizes: np.ndarray, seconds: np.ndarray, num_bytes: float) -> float:
    if num_bytes <= sizes[-1]:
        return float(np.interp(num_bytes, sizes, seconds))
    return float(seconds[-1] * num_bytes / sizes[-1])


def links_of(device_kind: str, device: str, tables: Iterable[dict]) -> Links:
    """The links of a device, with all that `tables` (of benchmarks/collectives.py) measured on this
    device by name."""
    own = [t for t in tables if t["device"] == device]
    found: dict[tuple[str, int], dict[int, float]] = {}
    for row in (r for t in own for r in t["rows"]):
        found.setdefault((row["op"], row["ranks"]), {})[row["bytes"]] = row["seconds"]
    table = {
        key: (np.array(sorted(by)), np.array([by[n] for n in sorted(by)]))
        for key, by in found.items()
    }
    return Links(device_kind, table, f"{device}, {own[0]['backend']}" if own else None)


def read_tables(roots: Iterable[str | Path], notebook: str) -> list[dict]:
    """The measured tables of all profiles below the outputs folders. ValueError where a file is
    none."""
    tables = []
    for path in [
        p for root in roots for p in sorted(Path(root).glob(f"*/{notebook}/collectives.json"))
    ]:
        try:
            data = json.loads(path.read_text())
            _ = (
                data["device"],
                data["backend"],
                [(r["op"], r["ranks"], r["bytes"], r["seconds"]) for r in data["rows"]],
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} holds no table of benchmarks/collectives.py ({error!r}); remove it and "
                "measure again"
            ) from None
        tables.append(data)
    return tables
