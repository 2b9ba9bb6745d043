"""What G devices would do, composed from one rank's measured time and the time ranks take to talk
to each other.

What vLLM sends, with one data-parallel group (model classes, vocab_parallel_embedding.py,
logits_processor.py and fused_moe/runner/moe_runner.py of 0.26 and 0.32), for a step over T tokens
with activations of w bytes:
  TP, TP+EP   2 L + 1 all-reduces of T H w (after attention, after the experts, after the
              embedding), an all-gather of the logits; OLMoE, which normalizes Q and K over all
              heads, two all-gathers a layer more. Every rank has every token, so experts on other
              ranks need no dispatch: their outputs are summed by the same all-reduce. The
              all-to-all of expert parallelism belongs to data-parallel attention
  PP, PP+EP   G - 1 sends of 2 T H w: hidden states and residual

    TP        TTFT = rank's TTFT(B) + sends of the prefill,   step = rank's step(B) + sends of a
              step
    PP, serial  all B sequences in one batch, one stage works:  G stage(B) + (G - 1) sends
    PP, filled  G micro-batches, all stages work:  step = G stage(B/G) + (G - 1) sends,  TTFT = (2 G
                - 1) stage(B/G) + sends
A pipeline lies between the two; its row has the middle of both, and both as its ends. The sum
counts embedding and head G times, so it is an upper bound of the time; a TP+EP rank alone skips the
bookkeeping of experts that live elsewhere, so that sum is a lower one.

Letters: B batch, S tokens, L layers, H hidden, G devices, T tokens of a step.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from moebook.models import catalog, one_rank
from moebook.models.architecture import Architecture
from moebook.models.formats import dtype_bytes
from moebook.predict.communication import Links, NoLinks, links_of, read_tables
from moebook.results.deciding import COMPOSED

NOTEBOOK = "05_parallelism"
MAX_TOKENS = 16384  # of one prefill step: vLLM's default for offline use on GPUs of 70 GiB and more
STEP_TIMES = ("ttft_s", "tpot_s")
TIMES = (*STEP_TIMES, "e2e_s")
NOTES = ("comm_from", "rounding")
PARTS = ("compute_ttft_s", "comm_ttft_s", "compute_tpot_s", "comm_tpot_s")


def count_of(rows: pd.DataFrame) -> pd.Series:
    """Devices of each row."""
    return rows["tensor_parallel"].astype(int) * rows["pipeline_parallel"].astype(int)


def shares_cores(rows: pd.DataFrame) -> bool:
    """Whether the ranks were those of one CPU: more of them are no more hardware."""
    return "device_kind" in rows and (rows["device_kind"].dropna() == "cpu").any()


def collectives(
    arch: Architecture, mode: str, ranks: int, tokens: int, sampled: int, width: int = 2
) -> list[tuple]:
    """(op, bytes, how often) of one step over `tokens` tokens, of which `sampled` get logits."""
    hidden = tokens * arch.hidden_size * width
    if mode.startswith("PP"):
        return [("send", 2 * hidden, ranks - 1)]
    found = [
        ("all_reduce", hidden, 2 * arch.num_layers + 1),
        ("all_gather", sampled * arch.vocab_size * width, 1),
    ]
    if arch.qk_norm == "full":
        found += [
            ("all_gather", tokens * heads * arch.head_dim * width, arch.num_layers)
            for heads in (arch.num_heads, arch.num_kv_heads)
        ]
    return found


def step_s(
    links: Links, arch: Architecture, mode: str, ranks: int, batch: int, width: int
) -> float:
    """Seconds of communication in one decode step."""
    return sum(
        times * links.seconds(op, size, ranks, in_graph=True)
        for op, size, times in collectives(arch, mode, ranks, batch, batch, width)
    )


def prefill_s(
    links: Links, arch: Architecture, mode: str, ranks: int, batch: int, length: int, width: int
) -> float:
    """Seconds of communication in the prefill of the batch, in chunks of at most MAX_TOKENS."""
    chunks = -(-batch * length // MAX_TOKENS)
    per_chunk = collectives(
        arch, mode, ranks, -(-batch * length // chunks), max(1, batch // chunks), width
    )
    return chunks * sum(times * links.seconds(op, size, ranks) for op, size, times in per_chunk)


def add_composed(summary: pd.DataFrame, roots: Iterable[str | Path]) -> pd.DataFrame:
    """The summary of section 5 with a row more for every planned mode over several devices, of
    method `composed`; any other summary as it is. roots: outputs folders whose measured links are
    used."""
    ranks = summary[summary["series"].astype(str).str.startswith(one_rank.RANK)]
    if ranks.empty:
        return summary
    known = ranks.dropna(subset=["device"])
    facts = known.iloc[0] if len(known) else None
    links = (
        None
        if facts is None
        else links_of(facts["device_kind"], facts["device"], read_tables(roots, NOTEBOOK))
    )
    return with_composed(summary, links)


def with_composed(summary: pd.DataFrame, links: Links | None) -> pd.DataFrame:
    """`add_composed` with the links given. The base of composed gains, one device, joins their
    sweep."""
    modes = summary[summary["series"].isin(one_rank.MODES)]
    made = [_row(planned, summary, links) for planned in modes.to_dict("records")]
    base = (summary["series"] == one_rank.ONE) & summary["sweeps"].str.split(",").map(
        lambda s: "shards" in s
    )
    sweeps = summary["sweeps"].mask(base, summary["sweeps"] + f",{COMPOSED}")
    rows = pd.DataFrame([row for row in made if row is not None])
    kinds = {
        **{c: summary[c].dtype for c in rows if c in summary},
        **dict.fromkeys(PARTS, "float64"),
    }
    columns = dict.fromkeys([*rows, *PARTS, *NOTES])
    return pd.concat(
        [summary.assign(sweeps=sweeps), rows.reindex(columns=list(columns)).astype(kinds)],
        ignore_index=True,
    )


def _row(planned: dict, summary: pd.DataFrame, links: Links | None) -> dict | None:
    """The composed row beside a planned one; None where no rank of it is planned."""
    mode, count, batch = (
        planned["series"],
        int(planned["tensor_parallel"] * planned["pipeline_parallel"]),
        planned["batch"],
    )
    ranks = summary[
        (summary["series"] == one_rank.rank_series(mode, count))
        & (summary["model"] == planned["model"])
        & (summary["input_tokens"] == planned["input_tokens"])
    ]
    whole, part = _at(ranks, batch), _at(ranks, batch / count) if mode.startswith("PP") else None
    if whole is None:
        return None
    kept = {
        c: planned[c]
        for c in (
            "notebook",
            "model",
            "series",
            "num_layers",
            "hidden_size",
            "expert_ffn_dim",
            "num_experts",
            "top_k",
            "dtype",
            "quantization",
            "kv_cache_dtype",
            "tensor_parallel",
            "pipeline_parallel",
            "expert_parallel",
            "graphs",
            "weights",
            "batch",
            "input_tokens",
            "output_tokens",
        )
        if c in planned
    }
    told = {
        c: whole.get(c)
        for c in ("device", "device_kind", "engine_version", "moe_backend", "n_repeats")
    }
    row = {
        **kept,
        **told,
        "key": f"{planned['key']} {COMPOSED}",
        "sweeps": COMPOSED,
        "method": COMPOSED,
        "draft_tokens": 0,
    }
    basis = [
        own["point_id"]
        for own in (whole, part)
        if own is not None and pd.notna(own.get("point_id"))
    ]
    row["rests_on"] = ",".join(dict.fromkeys(basis)) or None
    if whole["status"] != "ok":
        return {**row, "status": whole["status"], "reason": f"its rank alone: {whole['reason']}"}
    arch = catalog.load(planned["model"])
    return {
        **row,
        "status": "ok",
        "reason": None,
        "rounding": one_rank.rounding(arch, mode, count),
        **_composed(arch, mode, count, whole, part, links),
    }


def _at(ranks: pd.DataFrame, batch: float) -> dict | None:
    rows = ranks[ranks["batch"] == batch].to_dict("records")
    return rows[0] if rows else None


def _composed(
    arch: Architecture, mode: str, count: int, whole: dict, part: dict | None, links: Links | None
) -> dict:
    """Times with their ends. Where nothing is known of the links, the compute alone, and a status
    that says so."""
    batch, length = int(whole["batch"]), int(whole["input_tokens"])
    width = dtype_bytes(whole["dtype"])
    try:
        if links is None:
            raise NoLinks("no rank was measured, so the device is not known")
        comm = (
            prefill_s(links, arch, mode, count, batch, length, width),
            step_s(links, arch, mode, count, batch, width),
        )
        origin = links.told(count)
    except NoLinks as error:
        comm, origin = None, str(error)
    ways = [_times(whole, comm, *((count, count) if mode.startswith("PP") else (1, 1)))]
    if part is not None and part["status"] == "ok":
        small = comm and (comm[0], step_s(links, arch, mode, count, batch // count, width))
        ways.append(_times(part, small, 2 * count - 1, count))
    compute = {
        f"compute_{name}": _middle(w[f"compute_{name}"][0] for w in ways) for name in STEP_TIMES
    }
    if comm is None:
        return {**compute, "comm_from": origin, "status": "not_run", "reason": origin}
    times = {name: _middle(w[name][0] for w in ways) for name in STEP_TIMES}
    times |= {
        f"{name}_{end}": pick(w[name][i] for w in ways)
        for name in STEP_TIMES
        for i, end, pick in ((1, "lo", min), (2, "hi", max))
    }
    comms = {f"comm_{name}": times[name] - compute[f"compute_{name}"] for name in STEP_TIMES}
    run = _whole_run(times, batch, length, int(whole["output_tokens"]))
    return {**compute, **comms, **times, **run, "comm_from": origin}


def _whole_run(times: dict, batch: int, length: int, outputs: int) -> dict:
    """E2E latency and throughputs of TTFT and step, with their ends."""
    e2e = {
        end: times[f"ttft_s{end}"] + (outputs - 1) * times[f"tpot_s{end}"]
        for end in ("", "_lo", "_hi")
    }
    tokens = {
        "throughput_tok_s": batch * (length + outputs),
        "output_throughput_tok_s": batch * outputs,
    }
    rates = {
        f"{name}{end}": count / e2e[other]
        for name, count in tokens.items()
        for end, other in (("", ""), ("_lo", "_hi"), ("_hi", "_lo"))
    }
    return {**{f"e2e_s{end}": seconds for end, seconds in e2e.items()}, **rates}


def _times(rank: dict, comm: tuple[float, float] | None, ttfts: int, steps: int) -> dict:
    """(median, least, most) seconds of a way to run: so many times a rank's TTFT and step, and
    communication."""
    found = {}
    for name, times, extra in (
        ("ttft_s", ttfts, comm and comm[0]),
        ("tpot_s", steps, comm and comm[1]),
    ):
        own = [times * float(rank[name + end]) for end in ("", "_lo", "_hi")]
        found |= {f"compute_{name}": own, name: [v + (extra or 0.0) for v in own]}
    return found


def _middle(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def errors(summary: pd.DataFrame) -> pd.DataFrame:
    """Modes both run and composed: the measured row with `composed_<time>`, PARTS and `error_pct`,
    composed over measured E2E."""
    rows = summary[summary["series"].isin(one_rank.MODES) & (summary["status"] == "ok")]
    rows = rows.reindex(
        columns=[*rows, *(c for c in PARTS if c not in rows)]
    )  # nothing composed where no rank is
    place = [
        "model",
        "series",
        "tensor_parallel",
        "pipeline_parallel",
        "batch",
        "input_tokens",
        "output_tokens",
    ]
    composed, run = (rows[(rows["method"] == COMPOSED) == flag] for flag in (True, False))
    names = [name + end for name in TIMES for end in ("", "_lo", "_hi")]
    made = composed[[*place, *names, *PARTS]].rename(columns={n: f"composed_{n}" for n in names})
    both = run.drop(columns=list(PARTS)).merge(made, on=place).copy()
    return both.assign(error_pct=100 * (both["composed_e2e_s"] / both["e2e_s"] - 1))


def with_devices(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with `devices`, how many each row takes."""
    return summary.assign(devices=count_of(summary))


def over_devices(summary: pd.DataFrame) -> pd.DataFrame:
    """Modes over devices at the largest batch of all modes: what was run, what was composed and one
    device, with `devices`, `added` (times the hardware of one: G, but ranks of a CPU share its
    cores) and `efficiency_pct` (and _lo, _hi), throughput over `added` times that of one device. A
    mode's row without a number is left out where a composed one stands for it."""
    rows = summary[summary["sweeps"].str.split(",").map(lambda s: "modes" in s or COMPOSED in s)]
    split = rows[rows["series"].isin(one_rank.MODES)]
    common = split.groupby("series")["batch"].max().min()
    rows = rows[rows["batch"] == common].copy()
    devices = count_of(rows)
    rows = rows.assign(devices=devices, added=1 if shares_cores(rows) else devices)
    ok, run = rows["status"] == "ok", rows["method"] != COMPOSED
    place = pd.Series(
        list(zip(rows["model"], rows["series"], rows["devices"], strict=True)),
        index=rows.index,
        dtype=object,
    )
    rows = rows[ok | (run & ((rows["status"] == "oom") | ~place.isin(set(place[ok & ~run]))))]
    one = rows[(rows["series"] == one_rank.ONE) & (rows["status"] == "ok")].drop_duplicates("model")
    base = one.set_index("model")["throughput_tok_s"]
    alone = rows["model"].map(base).astype(float) * rows["added"]
    shares = {
        f"efficiency_pct{end}": 100 * rows[f"throughput_tok_s{end}"] / alone
        for end in ("", "_lo", "_hi")
    }
    return pd.concat([rows, pd.DataFrame(shares)], axis=1)
