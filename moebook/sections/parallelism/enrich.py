"""Section 5's summary has a row more for every planned mode: what G devices would do, composed from
one rank's measured time and the time ranks take to communicate. And throughput over devices: what
was run and what was composed, against one device, and against each other.

What vLLM sends, with one data-parallel group (model classes, vocab_parallel_embedding.py,
logits_processor.py and fused_moe/runner/moe_runner.py of 0.26 and 0.32), for a step over T tokens
with activations of w bytes:
  TP, TP+EP   2 L + 1 all-reduces of T H w (after attention, after the experts, after the
              embedding), and an all-gather of the logits; OLMoE, which normalizes Q and K over all
              heads, two all-gathers a layer more. Every rank has every token, so experts on other
              ranks need no dispatch: their outputs are summed by the same all-reduce. The
              all-to-all of expert parallelism belongs to data-parallel attention
  PP, PP+EP   G - 1 sends of 2 T H w: hidden states and residual

Times:
  TP          TTFT = rank's TTFT(B) + communication of the prefill
              step = rank's step(B) + communication of a step
  PP, serial  all B sequences in one batch, one stage works: step = G stage(B) + (G - 1) sends
  PP, filled  G micro-batches, all stages work: step = G stage(B/G) + (G - 1) sends,
              TTFT = (2 G - 1) stage(B/G) + sends

A pipeline lies between the two; its row has the middle of both, and both as its ends. The sum
counts embedding and head G times, so it is an upper bound of the time. A TP+EP rank alone skips the
bookkeeping of experts that live elsewhere, so that sum is a lower one.

Letters: B batch, S tokens, L layers, H hidden, G devices, T tokens of a step."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from moebook.models import one_rank
from moebook.models.architecture import Architecture
from moebook.models.formats import dtype_bytes
from moebook.models.one_rank import MODES, ONE
from moebook.predict.communication import Links, NoLinks, links_of, read_tables
from moebook.predict.roofline import ArchitectureOf
from moebook.results import schema
from moebook.results.cells import COMPOSED, of_sweep
from moebook.results.loading import Results, architecture_of

SPLIT = ["model", "series", "tensor_parallel", "pipeline_parallel"]
PLACE = [*SPLIT, "batch", "input_tokens", "output_tokens"]
TIMES = ("ttft_s", "tpot_s", "e2e_s")
PARTS = ("compute_ttft_s", "comm_ttft_s", "compute_tpot_s", "comm_tpot_s")
ENDS = ("", "_lo", "_hi")


def with_devices(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `devices`, how many each takes."""
    return rows.assign(devices=rows["tensor_parallel"] * rows["pipeline_parallel"])


def shares_cores(rows: pd.DataFrame) -> bool:
    """Whether the ranks were those of one CPU: more of them are no more hardware."""
    return "device_kind" in rows and (rows["device_kind"].dropna() == "cpu").any()


def over_devices(summary: pd.DataFrame) -> pd.DataFrame:
    """Modes over devices at the largest batch of all modes: what was run, what was composed and one
    device. With `devices`; `added`, times the hardware of one (G, but ranks of a CPU share its
    cores); and `efficiency_pct` (and _lo, _hi), throughput over `added` times that of one device. A
    mode's row without a number is left out where a composed one stands for it."""
    rows = with_devices(of_sweep(summary, f"modes|{COMPOSED}"))
    batch = rows[rows["series"].isin(MODES)].groupby("series")["batch"].max().min()
    rows = rows[rows["batch"] == batch]
    rows = rows.assign(added=1 if shares_cores(rows) else rows["devices"])
    ok, composed = rows["status"] == "ok", rows["method"] == COMPOSED
    places = pd.MultiIndex.from_frame(rows[["model", "series", "devices"]])
    replaced = places.isin(places[ok & composed]) & (rows["status"] != "oom")
    rows = rows[ok | ~(composed | replaced)]
    one = rows[(rows["series"] == ONE) & (rows["status"] == "ok")].drop_duplicates("model")
    alone = rows["model"].map(one.set_index("model")["throughput_tok_s"]) * rows["added"]
    shares = {f"efficiency_pct{e}": 100 * rows[f"throughput_tok_s{e}"] / alone for e in ENDS}
    return rows.assign(**shares)


def runs(summary: pd.DataFrame) -> pd.DataFrame:
    """Modes that the engine itself was run in, over several devices."""
    return summary[
        summary["series"].isin(MODES)
        & (summary["status"] == "ok")
        & (summary["method"] != COMPOSED)
    ]


def errors(summary: pd.DataFrame) -> pd.DataFrame:
    """Modes both run and composed: the measured row with `composed_<time>` (and _lo, _hi), PARTS
    and `error_pct`, composed over measured E2E."""
    times = {f"{name}{end}": f"composed_{name}{end}" for name in TIMES for end in ENDS}
    composed = summary[(summary["method"] == COMPOSED) & (summary["status"] == "ok")]
    made = composed.reindex(columns=[*PLACE, *times, *PARTS]).rename(columns=times)
    both = runs(summary).drop(columns=list(PARTS), errors="ignore").merge(made, on=PLACE)
    return both.assign(error_pct=100 * (both["composed_e2e_s"] / both["e2e_s"] - 1))


NOTEBOOK = "05_parallelism"
MAX_TOKENS = 16384  # of one prefill step: vLLM's default for offline use on GPUs of 70 GiB and more
OF_THE_MODE = ("notebook", "series", *schema.identity())
OF_THE_RANK = ("device", "device_kind", "engine_version", "moe_backend", "n_repeats")


def collectives(
    arch: Architecture, mode: str, ranks: int, tokens: int, sampled: int, width: int = 2
) -> list[tuple]:
    """(op, bytes, how often) of one step over `tokens` tokens, of which `sampled` get logits;
    width: bytes of an activation."""
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
    """Seconds of communication in one decode step. NoLinks where nothing is known of the links."""
    return sum(
        times * links.seconds(op, size, ranks, in_graph=True)
        for op, size, times in collectives(arch, mode, ranks, batch, batch, width)
    )


def prefill_s(
    links: Links, arch: Architecture, mode: str, ranks: int, batch: int, length: int, width: int
) -> float:
    """Seconds of communication in the prefill of the batch, in chunks of at most MAX_TOKENS."""
    chunks = -(-batch * length // MAX_TOKENS)
    tokens, sampled = -(-batch * length // chunks), max(1, batch // chunks)
    sent = collectives(arch, mode, ranks, tokens, sampled, width)
    return chunks * sum(times * links.seconds(op, size, ranks) for op, size, times in sent)


def add_composed(
    summary: pd.DataFrame, roots: Iterable[str | Path], architecture_of: ArchitectureOf
) -> pd.DataFrame:
    """The summary of section 5 with a row more, of method `composed`, for every planned mode over
    several devices whose rank is planned, too. roots: outputs folders whose measured links are
    used. architecture_of: the whole model of a row."""
    ranks = summary[summary["series"].astype(str).str.startswith(one_rank.RANK)]
    if ranks.empty:
        return summary
    known = ranks.dropna(subset=["device"])[["device_kind", "device"]].drop_duplicates()
    tables = read_tables(roots, NOTEBOOK)
    links = links_of(*known.iloc[0], tables) if len(known) else None
    return with_composed(summary, links, architecture_of)


def with_composed(
    summary: pd.DataFrame, links: Links | None, architecture_of: ArchitectureOf
) -> pd.DataFrame:
    """`add_composed` with the links given (None: no rank was measured, so the device is not known).
    One device, which composed gains are over, joins their sweep. Where nothing is known of the
    links, a row has its compute alone, and the status says so."""
    modes = with_devices(summary[summary["series"].isin(one_rank.MODES)]).reset_index(drop=True)
    pipeline = modes["series"].str.startswith("PP")
    whole = _ranks(summary, modes, modes["batch"])
    part = _ranks(summary, modes, (modes["batch"] / modes["devices"]).where(pipeline))
    models = [architecture_of(row) for _, row in modes.iterrows()]
    ok = whole["status"] == "ok"
    names = ["prefill", "step", "small_step", "comm_from"]
    pairs = list(zip(modes.itertuples(), models, strict=True))
    comm = pd.DataFrame([_sent(mode, arch, links) for mode, arch in pairs], columns=names)
    lost = ok & comm["step"].isna()
    rows = modes[[c for c in OF_THE_MODE if c in modes]].assign(
        **{c: whole[c] for c in OF_THE_RANK if c in whole},
        key=modes["key"] + f" {COMPOSED}",
        sweeps=COMPOSED,
        method=COMPOSED,
        rests_on=_joined(whole["point_id"], part["point_id"]),
        status=whole["status"].mask(lost, "not_run"),
        reason=("its rank alone: " + whole["reason"]).mask(ok, comm["comm_from"].where(lost)),
        **_times(modes, whole[ok], part[ok & (part["status"] == "ok")], comm),
        comm_from=comm["comm_from"].where(ok),
        rounding=[one_rank.rounding(arch, m.series, m.devices) for m, arch in pairs],
    )
    rows["rounding"] = rows["rounding"].where(ok)
    rows = rows[whole["status"].notna()]
    kinds = {c: summary[c].dtype for c in rows if c in summary}
    base = (summary["series"] == one_rank.ONE) & summary["sweeps"].str.contains("shards")
    sweeps = summary["sweeps"].mask(base, summary["sweeps"] + f",{COMPOSED}")
    return pd.concat([summary.assign(sweeps=sweeps), rows.astype(kinds)], ignore_index=True)


def _ranks(summary: pd.DataFrame, modes: pd.DataFrame, batch: pd.Series) -> pd.DataFrame:
    """For each mode the row of its rank alone at a batch; empty where none is planned."""
    pairs = zip(modes["series"], modes["devices"], strict=True)
    series = [one_rank.rank_series(*pair) for pair in pairs]
    wanted = modes[["model", "input_tokens"]].assign(series=series, batch=batch.astype(float))
    known = summary.astype({"batch": float}).drop_duplicates(list(wanted))
    return wanted.merge(known, on=list(wanted), how="left")


def _sent(mode, arch: Architecture, links: Links | None) -> tuple:
    """Seconds of communication of a mode's prefill, of its step and of that of B/G sequences, with
    where they are from; None, and why, where nothing is known of the links."""
    over = (links, arch, mode.series, mode.devices)
    width = dtype_bytes(mode.dtype)
    try:
        if links is None:
            raise NoLinks("no rank was measured, so the device is not known")
        return (
            prefill_s(*over, mode.batch, mode.input_tokens, width),
            step_s(*over, mode.batch, width),
            step_s(*over, mode.batch // mode.devices, width),
            links.told(mode.devices),
        )
    except NoLinks as error:
        return None, None, None, str(error)


def _joined(*ids: pd.Series) -> list[str | None]:
    return [",".join(filter(pd.notna, row)) or None for row in zip(*ids, strict=True)]


def _times(
    modes: pd.DataFrame, whole: pd.DataFrame, part: pd.DataFrame, comm: pd.DataFrame
) -> pd.DataFrame:
    """A row per mode: PARTS, TTFT, step, E2E (s) and throughputs (tokens/s) with _lo and _hi; of a
    pipeline the middle of its ways to run, and their ends."""
    count = modes["devices"]
    serial = count.where(modes["series"].str.startswith("PP"), 1)
    ways = [
        _way(whole, serial, serial, comm["prefill"], comm["step"]),
        _way(part, 2 * count - 1, count, comm["prefill"], comm["small_step"]),
    ]
    every = pd.concat(ways).groupby(level=0)
    found = every.mean().reindex(modes.index)
    for name in ("ttft_s", "tpot_s"):
        found[f"{name}_lo"], found[f"{name}_hi"] = (
            every[f"{name}_lo"].min(),
            every[f"{name}_hi"].max(),
        )
        found[f"comm_{name}"] = found[name] - found[f"compute_{name}"]
    steps, total = modes["output_tokens"] - 1, modes["input_tokens"] + modes["output_tokens"]
    for end, other in zip(ENDS, ("", "_hi", "_lo"), strict=True):
        found[f"e2e_s{end}"] = found[f"ttft_s{end}"] + steps * found[f"tpot_s{end}"]
        slow = found[f"ttft_s{other}"] + steps * found[f"tpot_s{other}"]
        found[f"throughput_tok_s{end}"] = modes["batch"] * total / slow
        found[f"output_throughput_tok_s{end}"] = modes["batch"] * modes["output_tokens"] / slow
    return found


def _way(
    rank: pd.DataFrame, ttfts: pd.Series, steps: pd.Series, prefill: pd.Series, step: pd.Series
) -> pd.DataFrame:
    """Seconds of a way to run: so many times a rank's TTFT and step, with communication."""
    found = {}
    for name, times, sent in (("ttft_s", ttfts, prefill), ("tpot_s", steps, step)):
        found[f"compute_{name}"] = times * rank[name]
        found |= {f"{name}{end}": times * rank[f"{name}{end}"] + sent for end in ENDS}
    return pd.DataFrame(found).loc[rank.index]


def summary(res: Results) -> pd.DataFrame:
    return add_composed(res.summary, res.roots, architecture_of(res.plan))
