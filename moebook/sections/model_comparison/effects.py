"""Effects of comparing whole models that decide claims: one model against others, at one workload
and in one format.

Two models are compared in one series (number format) only: FP8 of one against bf16 of another would
be a comparison of formats. Where several series hold a comparison, `_series` takes that with most
models. A model that was planned in it and has no number there is told in the text, and the effect
is then not `whole`.

At one workload throughput is tokens over E2E latency, so both follow from one metric: twice the
throughput is half the latency."""

from dataclasses import replace

import numpy as np

from moebook.models import catalog, sizes
from moebook.results.cells import METRIC, Cells, Untested
from moebook.results.pairs import Effect, plain, summarise
from moebook.sections.model_comparison.accuracy import common_format

FFN = ("experts", "shared_experts", "dense_ffn")
LATENCIES = ("ttft_s", "tpot_s", "e2e_s")
SECONDS_TO_MS = 1e3


def model_lead(cells: Cells, model: str, over: str = "fastest") -> Effect:
    """How much faster a model is than the fastest (or slowest) other one, %."""
    cells, told = _one_series(cells, [model])
    mine, others = _at(cells, model), [i for i, m in enumerate(cells.ok["model"]) if m != model]
    if not others:
        raise Untested(f"no other model was measured beside {model}{told}")
    best = {"fastest": np.max, "slowest": np.min}[over](cells.samples[:, others], axis=1)
    order = cells.ok["model"].iloc[np.argsort(-cells.samples[0])]
    text = f"fastest to slowest: {plain(order)}{told}"
    return _effect(100 * (cells.samples[:, mine] / best - 1), cells, len(others), text, told)


def model_change(
    cells: Cells, model: str, over: str, column: str = METRIC, of: str = "change"
) -> Effect:
    """Change of `column` from the model `over` to `model`, %; `of` latency: of what a throughput
    means in E2E latency."""
    cells, told = _one_series(_in(cells, column), [model, over])
    ratio = cells.samples[:, _at(cells, model)] / cells.samples[:, _at(cells, over)]
    text = ", ".join(
        f"{m} {_reading(cells.samples[0, _at(cells, m)], column)}" for m in (over, model)
    )
    found = _effect(100 * ((1 / ratio if of == "latency" else ratio) - 1), cells, 1, text, "")
    return replace(found, basis=cells.ok.iloc[[_at(cells, model), _at(cells, over)]])


def over_fastest(cells: Cells, models: list[str], of: str = "change") -> Effect:
    """Change of throughput (or, `of` latency, of E2E) from the fastest model to each of `models`,
    %, their mean."""
    cells, told = _one_series(cells, models)
    best = cells.samples.max(axis=1)
    ratios = np.column_stack([cells.samples[:, _at(cells, m)] / best for m in models])
    change = 100 * ((1 / ratios if of == "latency" else ratios) - 1)
    fastest = cells.ok["model"].iloc[int(cells.samples[0].argmax())]
    each = ", ".join(f"{m} {value:+.0f} %" for m, value in zip(models, change[0], strict=True))
    return _effect(change.mean(axis=1), cells, len(models), f"over {fastest}: {each}{told}", told)


def model_order(cells: Cells, models: list[str], column: str) -> Effect:
    """Least change of `column` from one of `models` to the next, %: over 0 where they stand in this
    order."""
    cells, told = _one_series(_in(cells, column), models)
    values = cells.samples[:, [_at(cells, m) for m in models]]
    steps = 100 * (values[:, 1:] / values[:, :-1] - 1)
    text = ", ".join(f"{m} {_reading(v, column)}" for m, v in zip(models, values[0], strict=True))
    found = _effect(steps.min(axis=1), cells, steps.shape[1], text, "")
    return replace(found, basis=cells.ok.iloc[[_at(cells, m) for m in models]])


def ffn_share(cells: Cells, models: list[str], of: str) -> Effect:
    """Least share of FFN layers (routed, shared, dense) in all or in active parameters of published
    models, %: counted from their configs, without noise and whatever was measured."""
    counts = {"total": sizes.parameter_counts, "active": sizes.active_counts}[of]
    shares = {}
    for name in models:
        own = counts(catalog.load(name))
        shares[name] = 100 * sum(own[part] for part in FFN) / sum(own.values())
    least = min(shares, key=shares.get)
    under = [m for m, share in shares.items() if share <= 50]
    text = f"from {shares[least]:.1f} % ({least}) to {max(shares.values()):.1f} %" + (
        f"; not most of it: {plain(under)}" if under else ""
    )
    return Effect(
        shares[least],
        shares[least],
        shares[least],
        "% of parameters",
        len(models),
        cells.ok.iloc[:0],
        (),
        text,
    )


def _in(cells: Cells, column: str) -> Cells:
    """The same points with the samples of another metric."""
    points = cells.planned.drop(columns="values", errors="ignore").assign(sweeps="own")
    return Cells.of(points, "own", len(cells.samples) - 1, cells.seed, column)


def _one_series(cells: Cells, models: list[str]) -> tuple[Cells, str]:
    """The cells of the series in which most models are, of those in which all of `models` are, and
    a text on the models planned in it that have no number. Untested where no series has all of
    `models`."""
    if absent := [m for m in models if m not in set(cells.planned["model"])]:
        raise Untested(f"not among the models compared: {plain(absent)}")
    name = common_format(cells.ok, models)
    kept = cells.select(cells.ok["series"] == name, cells.planned["series"] == name)
    lacking = [m for m in models if m not in set(kept.ok["model"])]
    if lacking:
        own = kept.planned[kept.planned["model"].isin(lacking)]
        reasons = own["reason"].fillna(own["status"])
        raise Untested(
            f"no format has a number of {plain(models)} alike; in {name} none of {plain(lacking)}"
            + (f" ({reasons.iloc[0]})" if len(reasons) else "")
        )
    gone = kept.planned[kept.planned["status"] != "ok"].drop_duplicates("model")
    each = "; ".join(f"{row.model}: {row.reason or row.status}" for row in gone.itertuples())
    return kept, f"; not measured in {name}: {each}" if each else ""


def _at(cells: Cells, model: str) -> int:
    return int(np.flatnonzero(cells.ok["model"].to_numpy() == model)[0])


def _reading(value: float, column: str) -> str:
    return f"{SECONDS_TO_MS * value:,.1f} ms" if column in LATENCIES else f"{value:,.0f} tokens/s"


def _effect(stat: np.ndarray, cells: Cells, n: int, text: str, told: str) -> Effect:
    name = cells.ok["series"].iloc[0]
    imposed = cells.ok["skew"].notna() if "skew" in cells.ok else cells.ok["model"].isna()
    drawn = (
        f"; routing imposed as uniform: {plain(cells.ok.loc[imposed, 'model'])}"
        if imposed.any()
        else ""
    )
    found = summarise(stat, "%", n, cells.ok, (), f"in {name}: {text}{drawn}")
    return replace(found, whole=not told)
