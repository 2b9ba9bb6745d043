"""Seconds of forward passes from the work in them and a device's factors.

    pass = the greater of what the GPU and the host take, in a soft maximum (SHARPNESS)
    GPU  = sum over parts of sqrt(floor^2 + (bytes / (b BW))^2 + (FLOPs / (f peak))^2)
           + bytes between kernels / (b BW) + latencies + all-reduces
    host = a time a pass, with a share a sequence; in prefill, where kernels and all-reduces are
           launched one by one, a time a layer as well, but for passes that a graph was captured
           for

BW and peak are the card's published rates, so that an efficiency b or f lies under 1. A part's
floor is what its kernels take however little they read: a matrix product that runs over a width of
H takes time with H, for each block of H waits for the one before. A root of squares stands between
perfect overlap (the maximum) and none (the sum). Experts' products that fall into fewer than
`blocks` blocks draw less than the whole bandwidth: where all tokens take one narrow expert.

N passes are computed at once: every array below has N rows, or is a number for all."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np
import yaml

from moebook.predict import work
from moebook.predict.case import Case
from moebook.predict.work import COUNTS, PARTS, STREAMS, Pass
from moebook.study.settings import Workload

SHARPNESS = 12
WIDTH = 4096  # H that floors of matrix products are given for
COMPILED = ("compiled", "default")
CAPTURED_TOKENS = 512  # of the largest pass with a graph under the engine's defaults
# What compilation saves of a layer of MLA: DeepSeek-V2-Lite on one H200 (vLLM 0.26.0), the engine's
# defaults against light graphs: 0.75, 0.85, 0.60 and 0.87 ms a step at four workloads, 27 layers.
FUSED_MLA_S = 28e-6

# factors.yaml: factor -> (start, freedom), and those of each number format.
FACTORS, OF_FORMAT = yaml.safe_load(
    resources.files("moebook.predict").joinpath("factors.yaml").read_text(encoding="utf-8")
).values()


@dataclass(frozen=True)
class Rates:
    """Published rates of a card."""

    bytes_per_s: float
    flops_per_s: float


class Batch:
    """Decode steps and prefills of N cases as arrays."""

    def __init__(self, cases: list[Case], rates: list[Rates]):
        steps = [
            work.decode(c.arch, c.settings, c.workload.batch, _middle(c.workload)) for c in cases
        ]
        fills = [
            work.prefill(c.arch, c.settings, c.workload.batch, c.workload.input_tokens)
            for c in cases
        ]
        self.cases = cases
        self.decode = _Arrays(steps)
        self.prefills = [  # of the first sequence, and of all others
            (np.array([n for n, _ in each], float), _Arrays([p for _, p in each]))
            for each in zip(*fills, strict=True)
        ]
        self.bandwidth = np.array([r.bytes_per_s for r in rates])
        self.peak = np.array([r.flops_per_s for r in rates])
        self.formats = np.array([c.format for c in cases])
        s = [c.settings for c in cases]
        self.tensor = np.array([e.tensor_parallel for e in s])
        self.pipeline = np.array([e.pipeline_parallel for e in s])
        self.whole = np.array([e.expert_parallel and e.tensor_parallel > 1 for e in s])
        self.compiled = np.array([e.graphs in COMPILED for e in s])
        self.graphs = np.array([e.graphs == "default" for e in s])
        self.imposed = np.array([c.imposed for c in cases])
        self.qk_norm = np.array([c.arch.qk_norm is not None for c in cases])
        self.width = np.array([c.arch.hidden_size / WIDTH for c in cases])
        self.batch = np.array([c.workload.batch for c in cases], float)
        self.gained = np.array([c.tokens_per_step for c in cases])
        drafting = [(i, c.drafting) for i, c in enumerate(cases) if c.drafting]
        self.drafting = np.array([i for i, _ in drafting], int)
        self.drafted = np.array(
            [cases[i].settings.speculation.num_tokens for i in self.drafting], float
        )
        self.drafts = (
            Batch([c for _, c in drafting], [rates[i] for i in self.drafting]) if drafting else None
        )

    def seconds(self, f: Mapping) -> tuple[np.ndarray, np.ndarray]:
        """(N,) of a prefill, (N,) of a decode step for each token that it gains. f: factors, with
        each row's format's own already chosen (`of_rows`)."""
        step = self.step_terms(f)
        ttft = self._prefill_s(f)
        if self.drafts:
            ttft[self.drafting] += self.drafts.seconds(_plain(f, self.drafting))[0]
        whole = _greater(_gpu_s(step), step["host"]) + step.get("draft", 0.0)
        return ttft, whole / self.gained

    def host_paced(self, f: Mapping) -> tuple[np.ndarray, np.ndarray]:
        """(N,) whether the host takes longer than the GPU: in prefill, and in a decode step."""
        both = self.prefill_terms(f), self.step_terms(f)
        return tuple(terms["host"] > _gpu_s(terms) for terms in both)

    def step_terms(self, f: Mapping) -> dict[str, np.ndarray]:
        """Seconds of a decode step by term; `host` runs beside all others but `draft`, the steps of
        a draft model before it."""
        terms = self._gpu(self.decode, f, "")
        terms["step"] = f["pass_s"] + np.zeros_like(self.batch)
        several = self.tensor * self.pipeline > 1
        terms["host"] = (
            f["host_s"] + several * f["host_ranks_s"] + f["host_sequence_s"] * self.batch
        )
        if self.drafts:
            terms["draft"] = np.zeros_like(self.batch)
            terms["draft"][self.drafting] = (
                self.drafted * self.drafts.seconds(_plain(f, self.drafting))[1]
            )
        return terms

    def prefill_terms(self, f: Mapping) -> dict[str, np.ndarray]:
        """The same of one pass of a prefill, after the first sequence's."""
        return self._fill_terms(self.prefills[1][1], f)

    def _fill_terms(self, a: "_Arrays", f: Mapping) -> dict[str, np.ndarray]:
        terms = self._gpu(a, f, "prefill_")
        terms["step"] = f["prefill_s"] + np.zeros_like(self.batch)
        n = a.count
        layers = n("layer") * (f["prefill_layer_s"] + f["prefill_layer_s of format"])
        layers = layers + n("moe_layer") * (
            f["prefill_moe_layer_s"] + self.imposed * f["prefill_imposed_s"]
        )
        layers = layers + n("mla_layer") * f["prefill_mla_layer_s"]
        layers = layers + n("state_layer") * f["prefill_state_layer_s"]
        layers = layers + n("layer") * (self.tensor > 1) * f["prefill_ranks_layer_s"]
        several = self.tensor * self.pipeline > 1
        launched = np.where(self.compiled, f["prefill_compiled"], 1.0)
        captured = self.graphs & (a.tokens <= CAPTURED_TOKENS)
        launched = np.where(captured, f["prefill_captured"], launched)
        terms["host"] = f["prefill_host_s"] + several * f["host_ranks_s"] + layers * launched
        return terms

    def _prefill_s(self, f: Mapping) -> np.ndarray:
        stages = np.where(self.pipeline > 1, f["pipeline_prefill"], 1.0)
        whole = f["prefill_sequence_s"] * self.batch
        for passes, arrays in self.prefills:
            terms = self._fill_terms(arrays, f)
            whole = whole + passes * stages * _greater(_gpu_s(terms), terms["host"])
        return whole

    def _gpu(self, a: "_Arrays", f: Mapping, phase: str) -> dict[str, np.ndarray]:
        n = a.count

        def part(name: str, floor, share_b=1.0, share_f=1.0) -> np.ndarray:
            read = a.bytes[name] / (self.bandwidth * f[f"b_{name}"] * share_b)
            done = a.flops[name] / (self.peak * f[f"{phase}f_{name}"] * share_f)
            return np.sqrt(floor**2 + read**2 + done**2)

        of = {name: f[f"{name} of format"] for name in OF_FORMAT}
        whole = np.where(self.whole, f["whole_experts"], 1.0)
        floor = self.width * f["floor_experts_s"] * n("moe_layer")
        attention = f["floor_attention_s"] * n("layer")
        drawn = np.minimum(1.0, a.blocks / f["blocks"])  # two thirds of the bytes are the first's
        drawn = 3 / (2 / drawn[0] + 1 / drawn[1])
        experts = part("experts", floor, of["b_experts"] * drawn, of["f_experts"]) * whole
        dense = part(
            "dense", self.width * f["floor_dense_s"] * n("layer"), of["b_dense"], of["f_dense"]
        )
        softmax = part("softmax", attention * (a.bytes["softmax"] > 0))
        latent = part("latent", attention * (a.bytes["latent"] > 0))
        state = part("state", attention * (a.bytes["state"] > 0))
        stream = a.bytes["stream"] / (self.bandwidth * f[f"{phase}b_stream"])
        logits = a.bytes["logits"] / (self.bandwidth * f["b_logits"])
        layers = n("layer") * (f["layer_s"] + of["layer_s"] + self.qk_norm * f["qk_norm_layer_s"])
        layers = layers + n("moe_layer") * (f["moe_layer_s"] + self.imposed * f["imposed_layer_s"])
        for kind in ("shared", "scaled", "state"):
            layers = layers + n(f"{kind}_layer") * f[f"{kind}_layer_s"]
        fused = np.where(self.compiled, FUSED_MLA_S, 0.0)
        mla = n("mla_layer") * np.maximum(0.0, f["mla_layer_s"] - fused)
        return {
            "experts": experts,
            "dense": dense,
            "attention": softmax + latent + state,
            "activations": stream,
            "head": logits,
            "latencies": layers * np.where(self.compiled, f["compiled"], 1.0) + mla,
            "communication": self._communication(a, f, phase),
        }

    def _communication(self, a: "_Arrays", f: Mapping, phase: str) -> np.ndarray:
        """All-reduces over the tensor ranks, and sends between stages. Beyond 4 ranks the latency
        grows as from 2 to 4, by the doubling. Small messages have kernels of the engine's own, the
        large ones of a prefill go through NCCL, nearer to the links' rate."""
        g, link = self.tensor, f[f"{phase}link_bytes_per_s"]
        doublings = np.log2(np.maximum(g, 2)) - 1
        latency = f["all_reduce_2_s"] * (f["all_reduce_4_s"] / f["all_reduce_2_s"]) ** doublings
        ring = 2 * (g - 1) / g * a.message / link
        reduced = np.where(g > 1, a.all_reduces * (latency + ring), 0.0)
        sent = (self.pipeline - 1) * (f["send_s"] + a.message / link)
        return reduced + sent


class _Arrays:
    """N passes: each part's bytes and FLOPs, (N,)."""

    def __init__(self, passes: list[Pass]):
        self.bytes = {k: np.array([p.bytes[k] for p in passes]) for k in (*PARTS, *STREAMS)}
        self.flops = {k: np.array([p.flops[k] for p in passes]) for k in PARTS}
        self._counts = {k: np.array([p.counts[k] for p in passes], float) for k in COUNTS}
        self.blocks = np.array([p.blocks for p in passes]).T
        self.tokens = np.array([p.tokens for p in passes], float)
        self.message = np.array([p.message_bytes for p in passes])
        self.all_reduces = np.array([p.all_reduces for p in passes], float)

    def count(self, name: str) -> np.ndarray:
        return self._counts[name]


def of_rows(factors: Mapping, formats: Mapping[str, Mapping], rows: np.ndarray) -> dict:
    """Factors with each row's format's own chosen. formats: class -> OF_FORMAT's factors; 16-bit
    has none. Each factor is a number, or (N,) with one a row."""
    chosen = dict(factors)
    for name in OF_FORMAT:
        plain = 0.0 if name.endswith("_s") else 1.0
        chosen[f"{name} of format"] = (
            sum(np.where(rows == kind, own[name] - plain, 0.0) for kind, own in formats.items())
            + plain
        )
    return chosen


def _plain(factors: Mapping, rows: np.ndarray) -> dict:
    """Factors of `rows`, all of them taken as 16-bit."""
    own = {k: v[rows] if np.ndim(v) else v for k, v in factors.items()}
    return own | {f"{name} of format": float(not name.endswith("_s")) for name in OF_FORMAT}


def _gpu_s(terms: Mapping[str, np.ndarray]) -> np.ndarray:
    return sum(v for k, v in terms.items() if k not in ("host", "draft"))


def _greater(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    top = np.maximum(a, b)
    return top * ((a / top) ** SHARPNESS + (b / top) ** SHARPNESS) ** (1 / SHARPNESS)


def _middle(w: Workload) -> int:
    return w.input_tokens + max(1, w.output_tokens // 2)
