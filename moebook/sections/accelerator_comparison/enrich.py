"""Section 8's table: results of other devices and rooflines join one's own. Claims are judged on
one's own rows alone.

    measured   an engine on the device, of this profile or of one in `beside`
    endpoint   a server elsewhere, as seen from here
    roofline   computed from published figures (accelerators.py), run nowhere

Each row has its `source_kind`, a `device_label`, the device's measured peaks and published rates,
and the lengths at which its curve should bend (knees.py). Where an engine was faster than the
measured peaks allow, they are none (a CPU's engine can have better 16-bit kernels than the product
that was timed), and roofline bounds are left out. What other profiles have measured is read from
their outputs and kept in beside.parquet, so that a profile's figures can be drawn again where those
outputs are not."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd

from moebook import devices, paths
from moebook.models import catalog
from moebook.models.architecture import Architecture
from moebook.models.edit import language_part
from moebook.models.formats import SERIES
from moebook.predict.case import Case, case_of
from moebook.predict.columns import UNDER_FLOOR
from moebook.predict.roofline import FLOOR_COLUMNS, Ceilings, no_ceiling
from moebook.results import loading, parquet
from moebook.results.loading import Results
from moebook.sections.accelerator_comparison import accelerators, knees, section
from moebook.sections.accelerator_comparison.accelerators import Accelerator
from moebook.study.labels import label_in
from moebook.study.params import load as load_params
from moebook.study.plan import Plan

FILE = "beside.parquet"
PRECISIONS = ("bf16", "fp8", "int4 weights")  # of rooflines: the widest that the accelerator holds
MEASURED = ("copy_bytes_per_s", "matmul_flops_per_s")
PUBLISHED = ("published_bytes_per_s", "published_flops_per_s")
PLACE = ["batch", "input_tokens", "output_tokens"]
BEATEN = (
    "measured faster than the device's measured ceilings allow: they are none for this engine's "
    "kernels"
)


def shown(res: Results) -> pd.DataFrame:
    """One's own summary, those of `beside`, and rooflines; a dry run has its own rows alone."""
    own = _labelled(res.summary, res.plan, res.metadata["ceilings"])
    if res.params.dry_run:
        return own
    table = _concat([own, *_others(res)])
    return _concat([table, _rooflines(res.params, res.plan, table)])


def files(res: Results) -> dict[str, bytes]:
    """The other profiles' rows, for machines that lack their outputs; none where there are no
    rows."""
    found = _others(res)
    if not found:
        return {}
    table = _concat(found)
    about = {"profiles": list(table["profile"].unique()), "notebook": res.plan.notebook}
    return {FILE: parquet.frame_bytes(table, about)}


def _others(res: Results) -> list[pd.DataFrame]:
    """Each other profile's rows: as measured here, else as kept, without the predictions of that
    day's fit, else the reference's. Beside the reference stands only the reference."""
    file, kept = res.source_folder / FILE, {}
    if file.exists():
        rows = parquet.read_frame(file)[0]
        rows = rows.drop(columns=[c for c in rows if c.startswith("predicted_")])
        kept = dict(list(rows.groupby("profile", sort=False)))
    found = [_other(res, profile, kept.get(profile)) for profile in res.params.beside]
    return [rows for rows in found if rows is not None]


def _other(res: Results, profile: str, kept: pd.DataFrame | None) -> pd.DataFrame | None:
    """Rows of another profile; None where there are none at all."""
    file: Path = paths.params_file(profile, res.plan.notebook)
    if not file.exists():
        return kept
    params = load_params(section.params, file)
    plan = section.plan(params)
    params = params.model_copy(update={"output_root": res.params.output_root})
    plain = loading.Enrich()
    own = None if res.is_reference else loading.own_results(params, plan, plain)
    if own is None and kept is not None:
        return kept
    try:
        other = own or loading.reference_results(params, plan, plain)
    except loading.NoResults:
        return None
    return _labelled(other.summary, plan, other.metadata["ceilings"])


def _labelled(summary: pd.DataFrame, plan: Plan, ceilings: dict | None) -> pd.DataFrame:
    """The rows with what the module's docstring says of each."""
    endpoint = summary["method"] == "endpoint"
    known, published = ceilings or {}, devices.published(plan.device)
    label, count = plan.device.upper(), summary["tensor_parallel"]
    rates = {name: known.get(name) for name in MEASURED} | {
        "published_bytes_per_s": published.bandwidth_bytes_per_s,
        "published_flops_per_s": published.bf16_flops_per_s,
    }
    rows = summary.assign(
        profile=plan.profile,
        source_kind=endpoint.map({True: "endpoint", False: "measured"}),
        device_label=(count.astype(str) + f"×{label}").mask(count == 1, label),
        **rates,
    )
    rows["device_label"] = rows["device_label"].mask(endpoint, rows["series"])
    rows.loc[endpoint, [*MEASURED, *PUBLISHED]] = None
    if not known:
        return rows.assign(**dict.fromkeys(knees.COMPUTED))
    return _without_beaten(rows.assign(**_knees(rows, plan, Ceilings(**known))))


def _without_beaten(rows: pd.DataFrame) -> pd.DataFrame:
    """Without roofline bounds that a measurement beats, and without the knee that rests on a matrix
    rate so beaten."""
    ttft, tpot = (
        rows[f"floor_{phase}"].astype(float) > (1 + UNDER_FLOOR) * rows[phase].astype(float)
        for phase in ("ttft_s", "tpot_s")
    )
    bounds = [c for c in FLOOR_COLUMNS if c in rows]
    slow = rows["dtype"].isin(rows.loc[ttft, "dtype"])
    return rows.assign(
        **{c: rows[c].mask(ttft | tpot) for c in bounds},
        floor_reason=rows["floor_reason"].mask(ttft | tpot, BEATEN),
        bend_compute=rows["bend_compute"].mask(slow),
    )


def _knees(rows: pd.DataFrame, plan: Plan, ceilings: Ceilings) -> pd.DataFrame:
    """Lengths at which each row's curve should bend; the same for all lengths of a curve, and none
    of an endpoint's."""
    architectures = {p.key: p.architecture for p in plan.points}
    measured = rows[rows["source_kind"] == "measured"].assign(input_tokens=1, output_tokens=1)
    rows_ = measured.to_dict("records")
    cases = [case_of(row, architectures[row["key"]]) for row in rows_]
    memory = measured["device_memory_bytes"].astype(float)
    of_case = cache(_knees_of)
    found = [of_case(case, ceilings, m) for case, m in zip(cases, memory, strict=True)]
    columns = list(knees.COMPUTED)
    return pd.DataFrame(found, measured.index, columns, dtype="float64").reindex(rows.index)


def _knees_of(case: Case, ceilings: Ceilings, memory_bytes: float) -> tuple:
    """None where the device's rate in this dtype, or its memory, is not known."""
    rate_known, memory_known = not no_ceiling(case, ceilings), memory_bytes == memory_bytes
    return (
        knees.compute_bound_from(case, ceilings) if rate_known else None,
        knees.kv_over_weights_from(case),
        knees.fits_until(case, memory_bytes) if memory_known else None,
    )


def _rooflines(params, plan: Plan, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of every accelerator at the batches and lengths that the source's model has in the
    table: in the precisions that were measured on it, else in the widest that it holds."""
    arch = language_part(catalog.load(params.source_model), chunked=False)
    arch = replace(arch, name=label_in(plan.points, arch))
    own = table[table["model"] == arch.name]
    places = own.loc[own["sweeps"].str.contains("scout|endpoint"), PLACE].drop_duplicates()
    if places.empty:
        lengths = [
            (params.endpoint_batch, n.tokens_in, n.tokens_out) for n in params.endpoint_lengths
        ]
        places = pd.DataFrame(lengths, columns=PLACE)
    places = list(places.itertuples(index=False, name=None))
    measured = own[(own["source_kind"] == "measured") & (own["status"] == "ok")]
    rows = []
    for accelerator in map(accelerators.load, params.rooflines if places else ()):
        run = measured.loc[measured["device_label"] == accelerator.label, "series"].unique()
        for series in [s for s in run if s in SERIES] or [_widest(arch, accelerator, places)]:
            rows += _roofline_rows(arch, accelerator, places, series)
    return pd.DataFrame(rows)


def _roofline_rows(
    arch: Architecture, accelerator: Accelerator, places: list[tuple], series: str
) -> list[dict]:
    dtype, quantization, _ = SERIES[series]
    every = {
        "model": arch.name,
        "num_layers": arch.num_layers,
        "sweeps": "scout",
        "method": "roofline",
        "source_kind": "roofline",
        "series": series,
        "device_label": accelerator.label,
        "decides": False,
        "note": "a roofline: run nowhere, decides nothing",
        "dtype": dtype,
        "quantization": quantization,
        "status": "infeasible",
        "reason": _no_room(arch, accelerator, places, series),
        "tensor_parallel": 1,
        "published_bytes_per_s": accelerator.bandwidth_bytes_per_s,
        "published_flops_per_s": accelerator.flops_per_s["bf16"],
    }
    rows = [{**every, **dict(zip(PLACE, place, strict=True))} for place in places]
    for row, place in zip(rows if every["reason"] is None else (), places, strict=False):
        found = accelerators.roofline(arch, *place, accelerator, dtype, quantization)
        row |= {"status": "ok", "reason": found.note or None, "tensor_parallel": found.devices}
        row |= {name.removeprefix("floor_"): value for name, value in vars(found.floor).items()}
    return rows


def _widest(arch: Architecture, accelerator: Accelerator, places: list[tuple]) -> str:
    """The widest of PRECISIONS that the accelerator has and that fits, else the last."""
    own = PRECISIONS[1:] if accelerator.spans else PRECISIONS  # the source's CS-3 held FP8 weights
    fitting = (series for series in own if _no_room(arch, accelerator, places, series) is None)
    return next(fitting, own[-1])


def _no_room(
    arch: Architecture, accelerator: Accelerator, places: list[tuple], series: str
) -> str | None:
    """Why the accelerator has no roofline at the largest of the places in this precision, or
    None."""
    dtype, quantization, _ = SERIES[series]
    largest = max(places, key=lambda place: place[0] * (place[1] + place[2]))
    try:
        accelerators.roofline(arch, *largest, accelerator, dtype, quantization)
    except ValueError as error:
        return str(error)
    return None


def _concat(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables under each other, without columns that are empty in one of them deciding its type."""
    first, *others = tables
    return pd.concat([first, *(t.dropna(axis=1, how="all") for t in others)], ignore_index=True)
