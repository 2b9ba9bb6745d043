"""Effects that decide claims of section 9: one model against others, at one workload and in one
number format, as FP8 of one against bf16 of another would compare formats.

A model that was planned in that format and has no number there is named in the text, and the effect
is then not `whole`. At one workload throughput is tokens over E2E latency, so both follow from one
metric: twice the throughput is half the latency."""

from dataclasses import replace

import numpy as np

from moebook.models import catalog, sizes
from moebook.results.cells import METRIC, Cells, Untested
from moebook.results.comparison import Effect, plain, summarise
from moebook.sections.model_comparison.pareto import common_format

FFN = ("experts", "shared_experts", "dense_ffn")


def model_lead(cells: Cells, model: str, over: str = "fastest") -> Effect:
    """How much faster a model is than the fastest (or slowest) other one, %."""
    cells, lacking = _in_one_format(cells, [model])
    is_it = cells.ok["model"].to_numpy() == model
    if is_it.all():
        raise Untested(f"no other model was measured beside {model}{lacking}")
    best = {"fastest": np.max, "slowest": np.min}[over](cells.samples[:, ~is_it], axis=1)
    order = cells.ok["model"].iloc[np.argsort(-cells.samples[0])]
    lead = 100 * (cells.samples[:, is_it.argmax()] / best - 1)
    return _effect(lead, cells, (~is_it).sum(), f"fastest to slowest: {plain(order)}", lacking)


def model_change(cells: Cells, model: str, over: str, column: str = METRIC) -> Effect:
    """Change of `column` from the model `over` to `model`, %."""
    found = _steps(cells, [over, model], column)
    return replace(found, basis=found.basis.iloc[::-1])


def model_order(cells: Cells, models: list[str], column: str) -> Effect:
    """Least change of `column` from one of `models` to the next, %: over 0 where they stand in this
    order."""
    return _steps(cells, models, column)


def _steps(cells: Cells, models: list[str], column: str) -> Effect:
    points = cells.planned.drop(columns="values", errors="ignore").assign(sweeps="own")
    cells = Cells.of(points, "own", len(cells.samples) - 1, cells.seed, column)
    cells, _ = _in_one_format(cells, models)
    at = _at(cells, models)
    values = cells.samples[:, at]
    steps = 100 * (values[:, 1:] / values[:, :-1] - 1)
    factor, form = (1e3, "{:,.1f} ms") if column.endswith("_s") else (1, "{:,.0f} tokens/s")
    each = [f"{m} {form.format(factor * v)}" for m, v in zip(models, values[0], strict=True)]
    found = _effect(steps.min(axis=1), cells, steps.shape[1], ", ".join(each))
    return replace(found, basis=cells.ok.iloc[at])


def over_fastest(cells: Cells, models: list[str], of: str = "change") -> Effect:
    """Change of throughput (or, `of` latency, of E2E) from the fastest model to each of `models`,
    %, their mean."""
    cells, lacking = _in_one_format(cells, models)
    ratios = cells.samples[:, _at(cells, models)] / cells.samples.max(axis=1, keepdims=True)
    change = 100 * ((1 / ratios if of == "latency" else ratios) - 1)
    fastest = cells.ok["model"].iloc[cells.samples[0].argmax()]
    each = ", ".join(f"{m} {value:+.0f} %" for m, value in zip(models, change[0], strict=True))
    return _effect(change.mean(axis=1), cells, len(models), f"over {fastest}: {each}", lacking)


def ffn_share(cells: Cells, models: list[str], of: str) -> Effect:
    """Least share of FFN layers (routed, shared, dense) in all or in active parameters of published
    models, %: counted from their configs, without noise and whatever was measured."""
    counts = {"total": sizes.parameter_counts, "active": sizes.active_counts}[of]
    shares = {}
    for name in models:
        own = counts(catalog.load(name))
        shares[name] = 100 * sum(own[part] for part in FFN) / sum(own.values())
    least = min(shares, key=shares.get)
    text = f"from {shares[least]:.1f} % ({least}) to {max(shares.values()):.1f} %"
    if under := [model for model, share in shares.items() if share <= 50]:
        text += f"; not most of it: {plain(under)}"
    value = (shares[least],) * 3
    return Effect(*value, "% of parameters", len(models), cells.ok.iloc[:0], (), text)


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


def _effect(stat: np.ndarray, cells: Cells, n: int, text: str, lacking: str = "") -> Effect:
    name = cells.ok["series"].iloc[0]
    imposed = cells.ok["skew"].notna() if "skew" in cells.ok else cells.ok["model"].isna()
    drawn = f"; routing imposed as uniform: {plain(cells.ok.loc[imposed, 'model'])}"
    text = f"in {name}: {text}{lacking}{drawn if imposed.any() else ''}"
    return summarise(stat, "%", int(n), cells.ok, (), text, not lacking)
