"""Section 9: what the source claims, and the effects that decide each: one model against others, at
one workload and in one number format, as FP8 of one against bf16 of another would compare formats.

A model that was planned in that format and has no number there is named in the text, and the effect
is then not `whole`. At one workload throughput is tokens over E2E latency, so both follow from one
metric: twice the throughput is half the latency."""

from dataclasses import replace
from functools import partial

import numpy as np

from moebook.models import catalog, sizes
from moebook.results.cells import METRIC, Cells, Untested
from moebook.results.claims import INF, Claim, Part, at_least, at_most, within
from moebook.results.comparison import (
    Comparison,
    Effect,
    Item,
    items_of,
    percent,
)
from moebook.results.conditions import plain
from moebook.results.effects import of_series
from moebook.results.findings import routing_of
from moebook.sections.model_comparison.enrich import common_format

FFN_PARTS = ("experts", "shared_experts", "dense_ffn")


def model_lead(cells: Cells, model: str, over: str = "fastest") -> Effect:
    """How much faster a model is than the fastest (or slowest) other one, %."""
    cells, lacking = _in_one_format(cells, [model])
    _alike(cells)
    is_it = cells.ok["model"].to_numpy() == model
    if is_it.all():
        raise Untested(f"no other model was measured beside {model}{lacking}")
    best = {"fastest": np.max, "slowest": np.min}[over]
    rows = [int(is_it.argmax()), *np.flatnonzero(~is_it)]
    lead = of_series(
        cells, rows, lambda v: np.log(v[..., 0] / best(v[..., 1:], axis=-1)), "", percent
    )
    order = cells.ok["model"].iloc[np.argsort(-cells.values.value)]
    return _effect((lead,), cells, f"fastest to slowest: {plain(order)}", lacking)


def model_change(cells: Cells, model: str, over: str, column: str = METRIC) -> Effect:
    """Change of `column` from the model `over` to `model`, %."""
    found = _steps(cells, [over, model], column)
    return replace(found, basis=found.basis.iloc[::-1])


def model_order(cells: Cells, models: list[str], column: str) -> Effect:
    """Change of `column` from each of `models` to the next, %: all over 0 where they stand in this
    order."""
    return _steps(cells, models, column)


def _steps(cells: Cells, models: list[str], column: str) -> Effect:
    points = cells.planned.assign(sweeps="own")
    cells = Cells.of(points, "own", column, cells.change)
    cells, _ = _in_one_format(cells, models)
    at = np.array(_at(cells, models))
    _alike(cells.select(*(rows["model"].isin(models) for rows in (cells.ok, cells.planned))))
    pairs = Comparison(cells, at[1:], at[:-1], (), "")
    factor, form = (1e3, "{:,.1f} ms") if column.endswith("_s") else (1, "{:,.0f} tokens/s")
    values = zip(models, cells.values.value[at], strict=True)
    each = [f"{m} {form.format(factor * v)}" for m, v in values]
    items = items_of(pairs.log_ratios(), models[1:], percent)
    found = _effect(items, cells, ", ".join(each))
    return replace(found, basis=cells.ok.iloc[at])


def over_fastest(cells: Cells, models: list[str], of: str = "change") -> Effect:
    """Change of throughput (or, `of` latency, of E2E) from the fastest model to each of `models`,
    %."""
    cells, lacking = _in_one_format(cells, models)
    _alike(cells)
    fastest = int(cells.values.value.argmax())
    name = cells.ok["model"].iloc[fastest]
    if name in models:
        raise Untested(f"{name} is itself the fastest{lacking}")
    at = np.array(_at(cells, models))
    pairs = Comparison(cells, at, np.full(len(at), fastest), (), "")
    found = pairs.effect(over=of != "latency")
    items = tuple(replace(one, label=m) for one, m in zip(found.items, models, strict=True))
    each = ", ".join(f"{item.label} {item.value:+.0f} %" for item in items)
    return _effect(items, cells, f"over {name}: {each}", lacking)


def ffn_share(cells: Cells, models: list[str], of: str) -> Effect:
    """Share of FFN layers (routed, shared, dense) in all or in active parameters of published
    models, %: counted from their configs, without noise and whatever was measured."""
    counts = {"total": sizes.parameter_counts, "active": sizes.active_counts}[of]
    items = []
    for name in models:
        own = counts(catalog.load(name))
        items.append(Item(name, 100 * sum(own[part] for part in FFN_PARTS) / sum(own.values())))
    items.sort(key=lambda item: item.value)
    text = f"from {items[0].value:.1f} % ({items[0].label}) to {items[-1].value:.1f} %"
    if under := [item.label for item in items if item.value <= 50]:
        text += f"; not most of it: {plain(under)}"
    return Effect(tuple(items), "% of parameters", cells.ok.iloc[:0], (), text)


def _alike(cells: Cells) -> None:
    """Untested where the routing of some of the models is imposed and that of others is not: how
    many experts a step reads decides its time."""
    routing = routing_of(cells.ok)
    if routing.nunique() > 1:
        each = "; ".join(
            f"{name}: {plain(cells.ok.loc[own.index, 'model'])}"
            for name, own in routing.groupby(routing)
        )
        raise Untested(f"the models are not routed alike, so their times do not compare ({each})")


def _in_one_format(cells: Cells, models: list[str]) -> tuple[Cells, str]:
    """The cells of the series in which most models are, of those in which all of `models` are, and
    a text on the models planned in it that have no number. Untested where no series has all of
    `models`."""
    if absent := [m for m in models if m not in set(cells.planned["model"])]:
        raise Untested(f"not among the models compared: {plain(absent)}")
    name = common_format(cells.ok, models)
    kept = cells.select(cells.ok["series"] == name, cells.planned["series"] == name)
    if lacking := [m for m in models if m not in set(kept.ok["model"])]:
        own = kept.planned[kept.planned["model"].isin(lacking)]
        reasons = [f" ({reason})" for reason in own["reason"].fillna(own["status"])]
        raise Untested(
            f"no format has a number of {plain(models)} alike; in {name} none of {plain(lacking)}"
            f"{''.join(reasons[:1])}"
        )
    gone = kept.planned[kept.planned["status"] != "ok"].drop_duplicates("model")
    each = "; ".join(f"{row.model}: {row.reason or row.status}" for row in gone.itertuples())
    return kept, f"; not measured in {name}: {each}" if each else ""


def _at(cells: Cells, models: list[str]) -> list[int]:
    return [int((cells.ok["model"] == model).argmax()) for model in models]


def _effect(items: tuple[Item, ...], cells: Cells, text: str, lacking: str = "") -> Effect:
    name, routing = cells.ok["series"].iloc[0], plain(sorted(set(routing_of(cells.ok))))
    text = f"in {name}, routing {routing}: {text}{lacking}"
    return Effect(items, "%", cells.ok, (), text, not lacking)


SOURCE = {"batch": [64], "input_tokens": [2048], "output_tokens": [2048], "device": "H100"}
OLMOE = "OLMoE-1B-7B-0125"
FIG_1 = ["Mixtral-8x7B-v0.1", "OLMoE-1B-7B-0125", "Qwen1.5-MoE-A2.7B"]
ACCURATE = ["Qwen3-30B-A3B", "Mixtral-8x7B-v0.1"]
VL2 = [f"deepseek-vl2-{size}-textonly" for size in ("tiny", "small", "base")]
BASE_OVER_TINY = partial(model_change, model=VL2[2], over=VL2[0])

CLAIMS = (
    Claim(
        id="olmoe-fastest",
        statement="OLMoE has the highest throughput of the compared models, over 40 % above the "
        "next.",
        decided_by="throughput of OLMoE over the fastest other model at batch 64, length 2048, all "
        "in one number format",
        source_range={"gap_pct_at_least": 40},
        sweep="llms",
        source=SOURCE,
        parts=(
            Part("the highest", partial(model_lead, model=OLMOE), at_least(0)),
            Part("40 % above the next", partial(model_lead, model=OLMOE), at_least(40)),
        ),
    ),
    Claim(
        id="olmoe-ttft",
        statement="OLMoE's TTFT is about 70 % ahead of DeepSeek-V2-Lite's.",
        decided_by="TTFT of DeepSeek-V2-Lite over OLMoE at batch 64, length 2048, both in one "
        "number format",
        source_range={"gap_pct": 70},
        sweep="llms",
        source=SOURCE,
        metric="ttft_s",
        parts=(
            Part(
                "longer on DeepSeek-V2-Lite",
                partial(model_change, model="DeepSeek-V2-Lite", over=OLMOE, column="ttft_s"),
                within(60, 80, contradicted_below=0, contradicted_above=INF),
                why="about 70 %: to within 10 points; ahead by another amount holds in part",
            ),
        ),
    ),
    Claim(
        id="phi-slowest",
        statement="Phi-3.5-MoE is the slowest of the compared models.",
        decided_by="throughput of Phi-3.5-MoE over the slowest other model, all in one number "
        "format",
        source_range={},
        sweep="llms",
        source=SOURCE,
        parts=(
            Part(
                "over the slowest other",
                partial(model_lead, model="Phi-3.5-MoE-instruct", over="slowest"),
                at_most(0),
            ),
        ),
    ),
    Claim(
        id="accurate-is-slow",
        statement="Qwen3-30B-A3B and Mixtral cost 60-100 % more latency and 30-50 % less "
        "throughput than the most efficient model.",
        decided_by="E2E and throughput of both over the fastest model, all in one number format",
        source_range={"latency_pct": [60, 100], "throughput_pct": [-50, -30]},
        sweep="llms",
        source=SOURCE,
        parts=(
            Part("latency", partial(over_fastest, models=ACCURATE, of="latency"), within(60, 100)),
            Part("throughput", partial(over_fastest, models=ACCURATE), within(-50, -30)),
        ),
    ),
    Claim(
        id="vl2-order",
        statement="DeepSeek-VL2 Tiny is faster than Small, Small than Base: TTFT about 30 %, ITL "
        "240 %, E2E 260 % apart.",
        decided_by="E2E of each language part over the next smaller one's, and TTFT, TPOT and E2E "
        "of Base's over Tiny's",
        source_range={"ttft_pct": 30, "itl_pct": 240, "e2e_pct": 260},
        sweep="vlms",
        source={"model": ["deepseek-vl2"], "batch": [64], "device": "H100"},
        metric="e2e_s",
        parts=(
            Part("order", partial(model_order, models=VL2, column="e2e_s"), at_least(0)),
            Part(
                "TTFT apart",
                partial(BASE_OVER_TINY, column="ttft_s"),
                within(20, 40),
                decides=False,
                why="about 30 %: to within 10 points; without the vision tower, which the source's "
                "TTFT includes, so it does not decide",
            ),
            Part(
                "TPOT apart",
                partial(BASE_OVER_TINY, column="tpot_s"),
                within(200, 280),
                why="240 % to within a sixth; batch is equal, so the source's ITL and TPOT differ "
                "by the same factor",
            ),
            Part(
                "E2E apart",
                partial(BASE_OVER_TINY, column="e2e_s"),
                within(220, 300),
                why="260 % to within a sixth",
            ),
        ),
    ),
    Claim(
        id="ffn-dominates",
        statement="FFN layers hold most of the total and of the active parameters.",
        decided_by="share of routed, shared and dense FFN parameters in total and active, from the "
        "published configs of the models of Fig 1",
        source_range={},
        sweep="llms",
        source={},
        parts=(
            Part("of all parameters", partial(ffn_share, models=FIG_1, of="total"), at_least(50)),
            Part(
                "of active parameters",
                partial(ffn_share, models=FIG_1, of="active"),
                at_least(50),
                why="in every model; embedding, head and vision tower count as active in full",
            ),
        ),
    ),
)
