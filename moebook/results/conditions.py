"""Which cells a claim speaks of: narrowed to its conditions.

Where the plan holds the source's values of an axis they are used, and missing cells make a claim
untested; a plan at another scale is read over its own range, and `differs` says so."""

import numpy as np

from moebook.results.cells import Cells, Untested, status_counts

NAMES = {
    "expert_ffn_dim": "expert FFN dim",
    "num_experts": "experts",
    "top_k": "active experts",
    "batch": "batch",
    "length": "input = output tokens",
    "model": "model",
    "series": "series",
    "draft_tokens": "draft tokens",
    "skew": "Zipf exponent",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "text": "text",
}


def plain(values) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, (int, float, np.number)) else str(v) for v in values)


def span(low, high) -> str:
    """`1 to 64`"""
    return f"{low:g} to {high:g}"


def other(axis: str, own: str, source: str) -> tuple[str, ...]:
    """That the plan has other values of an axis than the source; nothing where it has the same."""
    return () if own == source else (f"{NAMES[axis]} {own} (source {source})",)


def narrow(
    cells: Cells, where: dict | None, model: str | None = None, like: str | None = None
) -> tuple[Cells, tuple[str, ...]]:
    """The cells that the claim speaks of, and how they differ from the source's."""
    differs: tuple[str, ...] = ()
    if model is not None:
        cells, differs = of_model(cells, model, like)
    for axis, spec in (where or {}).items():
        planned = sorted(cells.planned[axis].dropna().unique())
        values = [v for v in spec["values"] if v in planned]
        if not values:
            if len(planned) < 2:
                raise Untested(
                    f"{NAMES[axis]} has "
                    f"{f'one value ({plain(planned)})' if planned else 'no value'}; the claim "
                    f"speaks of {plain(spec['values'])}"
                )
            half = len(planned) // 2
            values = planned[:half] if spec["side"] == "smallest" else planned[-half:]
        if set(values) != set(spec["values"]):
            differs += other(axis, plain(values), plain(spec["values"]))
        cells = _keep(cells, axis, values)
    return cells, differs


def _keep(cells: Cells, axis: str, values: list) -> Cells:
    kept = cells.select(cells.ok[axis].isin(values), cells.planned[axis].isin(values))
    if kept.ok.empty:
        raise Untested(
            f"no measured cell with {NAMES[axis]} {plain(values)} ({status_counts(kept.planned)})"
        )
    return kept


def of_model(cells: Cells, model: str, like: str | None) -> tuple[Cells, tuple[str, ...]]:
    """Cells of the named model, or of the one stand-in whose name holds `like`."""
    names = sorted(cells.planned["model"].astype(str).unique())
    same = [n for n in names if n.startswith(model)]
    near = [n for n in names if like and like in n.lower()]
    if not same and not near:
        raise Untested(f"no points of {model}; the table has {', '.join(names)}")
    chosen = (same or near)[0]
    return _keep(cells, "model", [chosen]), () if same else (f"model {chosen} (source {model})",)
