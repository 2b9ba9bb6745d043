"""Results of other devices beside one's own, and rooflines: the table that section 8's figures and
readings take.

    measured   an engine on the device, of this profile or of one in `beside`
    endpoint   a server elsewhere, as seen from here
    roofline   computed from published figures (analysis/accelerators.py), run nowhere

`joined` adds to each row its `source_kind`, a `device_label`, the device's ceilings as measured and
as published, and the lengths at which its curve should bend (analysis/bends.py). Where an engine
was faster than the measured ceilings allow, they are none (a CPU's engine can have better 16-bit
kernels than the product that was timed), and floors are left out. What other profiles have measured
is read from their outputs and kept in beside.parquet, so that a profile's figures can
be drawn again where those outputs are not. Claims are judged on one's own rows alone."""

from pathlib import Path

import pandas as pd

from moebook import devices, paths
from moebook.models import catalog
from moebook.models.catalog import Architecture
from moebook.models.edit import language_part
from moebook.models.formats import SERIES
from moebook.predict.roofline import FLOOR_COLUMNS, Case, Ceilings, case_of, no_ceiling
from moebook.predict.under_bound import UNDER_FLOOR
from moebook.results import loading
from moebook.results import table as results
from moebook.sections.accelerator_comparison import accelerators, knees, section
from moebook.study.params import load as load_params
from moebook.study.plan import Plan

FILE = "beside.parquet"
BENDS = ("bend_compute", "bend_bandwidth", "bend_capacity")
PRECISIONS = ("bf16", "fp8", "int4 weights")  # of rooflines: the widest that the accelerator holds
MEASURED = ("copy_bytes_per_s", "matmul_flops_per_s")
BEATEN = (
    "measured faster than the device's measured ceilings allow: they are none for this engine's "
    "kernels"
)
PUBLISHED = ("published_bytes_per_s", "published_flops_per_s")


def joined(res) -> pd.DataFrame:
    """The summary of `res` (loading.Results), those of `beside`, and rooflines; a dry run has its
    own rows alone."""
    own = _labelled(res.summary, res.plan, res.metadata["ceilings"])
    if res.params.dry_run:
        return own
    table = _concat([own, *others(res)])
    return _concat([table, *_rooflines(res.params, table)])


def others(res) -> list[pd.DataFrame]:
    """Each other profile's rows: as measured here, else as kept, else the reference's. Beside the
    reference stands only the reference."""
    kept = _kept(res.source_folder / FILE)
    found = [_measured(res, profile, kept.get(profile)) for profile in res.params.beside]
    return [rows for rows in found if rows is not None]


def kept_files(res) -> dict[str, bytes]:
    """The other profiles' rows as a file of one's own outputs; none where there are no rows."""
    found = others(res)
    if not found:
        return {}
    table = _concat(found)
    told = {"profiles": list(table["profile"].unique()), "notebook": res.plan.notebook}
    return {FILE: results.frame_bytes(table, told)}


def _kept(path: Path) -> dict[str, pd.DataFrame]:
    return (
        dict(list(results.read_frame(path)[0].groupby("profile", sort=False)))
        if path.exists()
        else {}
    )


def _measured(res, profile: str, kept: pd.DataFrame | None) -> pd.DataFrame | None:
    """Rows of another profile; None where there are none at all."""
    file = paths.params_file(profile, res.plan.notebook)
    if not file.exists():
        return kept
    params = load_params(section.params, file)
    plan = section.plan(params)
    params = params.model_copy(update={"output_root": res.params.output_root})
    own = None if res.is_reference else loading.own_results(params, plan, loading.Enrich())
    if own is None and kept is not None:
        return kept
    try:
        other = own or loading.reference_results(params, plan, loading.Enrich())
    except loading.NoResults:
        return None
    return _labelled(other.summary, plan, other.metadata["ceilings"])


def _labelled(summary: pd.DataFrame, plan: Plan, ceilings: dict | None) -> pd.DataFrame:
    endpoint = summary["method"] == "endpoint"
    known, published = ceilings or {}, devices.published(plan.device)
    label = plan.device.upper()
    here = summary["tensor_parallel"].map(lambda n: label if n == 1 else f"{n}×{label}")
    rows = summary.assign(
        profile=plan.profile,
        source_kind=endpoint.map({True: "endpoint", False: "measured"}),
        device_label=here.mask(endpoint, summary["series"]),
        **{name: known.get(name) for name in MEASURED},
        **dict(
            zip(
                PUBLISHED,
                (published.bandwidth_bytes_per_s, published.bf16_flops_per_s),
                strict=True,
            )
        ),
    )
    rows.loc[endpoint, [*MEASURED, *PUBLISHED]] = None
    rows = rows.assign(**_bends(rows, plan, Ceilings(**known)) if known else dict.fromkeys(BENDS))
    return _without_beaten(rows) if known else rows


def _without_beaten(rows: pd.DataFrame) -> pd.DataFrame:
    """Without floors that a measurement beats, and without the bend that rests on a matrix rate so
    beaten."""
    floors = [c for c in FLOOR_COLUMNS if c in rows]
    beaten = {
        phase: rows[f"floor_{phase}"].astype(float) > (1 + UNDER_FLOOR) * rows[phase].astype(float)
        for phase in ("ttft_s", "tpot_s")
    }
    either = beaten["ttft_s"] | beaten["tpot_s"]
    return rows.assign(
        **{c: rows[c].mask(either) for c in floors},
        floor_reason=rows["floor_reason"].mask(either, BEATEN),
        bend_compute=rows["bend_compute"].mask(
            rows["dtype"].isin(rows.loc[beaten["ttft_s"], "dtype"])
        ),
    )


def _bends(rows: pd.DataFrame, plan: Plan, ceilings: Ceilings) -> pd.DataFrame:
    """Lengths at which each row's curve should bend; the same for all lengths of a curve, and none
    of an endpoint's."""
    architectures = {p.key: p.architecture for p in plan.points}
    known: dict[tuple, tuple] = {}
    for row in rows[rows["source_kind"] == "measured"].to_dict("records"):
        arch = architectures[row["key"]]
        case = case_of(row, lambda _, arch=arch: arch)
        curve = (
            arch.name,
            arch.source,
            case.batch,
            case.dtype,
            case.quantization,
            row["device_memory_bytes"],
        )
        if curve not in known:
            known[curve] = _bends_of(case, ceilings, row["device_memory_bytes"])
        known[row["key"]] = known[curve]
    told = [known.get(key, (None,) * len(BENDS)) for key in rows["key"]]
    return pd.DataFrame(told, columns=list(BENDS), index=rows.index, dtype="float64")


def _bends_of(case: Case, ceilings: Ceilings, memory_bytes) -> tuple:
    """None where the device's rate in this dtype, or its memory, is not known."""
    compute = None if no_ceiling(case, ceilings) else knees.compute_bound_from(case, ceilings)
    fits = (
        None
        if pd.isna(memory_bytes)
        else knees.fits_until(case, float(memory_bytes) * case.num_devices)
    )
    return compute, knees.kv_over_weights_from(case), fits


def _rooflines(params, table: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows of every accelerator at the batches and lengths that the source's model has in the
    table: in the precisions that were measured on it, else in the widest that it holds."""
    arch = language_part(catalog.load(params.source_model), chunked=False)
    places = table[(table["model"] == arch.name) & table["sweeps"].str.contains("scout|endpoint")]
    places = (
        places[["batch", "input_tokens", "output_tokens"]].drop_duplicates().itertuples(index=False)
    )
    places = list(places) or [
        (params.endpoint_batch, n.tokens_in, n.tokens_out) for n in params.endpoint_lengths
    ]
    if not places:
        return []
    measured = table[
        (table["model"] == arch.name)
        & (table["source_kind"] == "measured")
        & (table["status"] == "ok")
    ]
    largest = max(places, key=lambda p: p[0] * (p[1] + p[2]))
    rows = []
    for accelerator in map(accelerators.load, params.rooflines):
        own = measured.loc[
            measured["device_label"] == accelerator.name.removesuffix(" SXM"), "series"
        ].unique()
        for series in [s for s in own if s in SERIES] or [_widest(arch, accelerator, largest)]:
            rows += _roofline_rows(
                arch, accelerator, places, series, _no_room(arch, accelerator, largest, series)
            )
    return [pd.DataFrame(rows)] if rows else []


def _roofline_rows(
    arch: Architecture,
    accelerator: accelerators.Accelerator,
    places: list[tuple],
    series: str,
    reason: str | None,
) -> list[dict]:
    dtype, quantization, _ = SERIES[series]
    rows = []
    for batch, tokens_in, tokens_out in places:
        row = {
            "model": arch.name,
            "num_layers": arch.num_layers,
            "sweeps": "scout",
            "method": "roofline",
            "source_kind": "roofline",
            "series": series,
            "device_label": accelerator.name.removesuffix(" SXM"),
            "decides": False,
            "note": "a roofline: run nowhere, decides nothing",
            "dtype": dtype,
            "quantization": quantization,
            "batch": batch,
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "status": "infeasible",
            "reason": reason,
            "tensor_parallel": 1,
            "published_bytes_per_s": accelerator.bandwidth_bytes_per_s,
            "published_flops_per_s": accelerator.flops_per_s["bf16"],
        }
        if reason is None:
            found = accelerators.roofline(
                arch, batch, tokens_in, tokens_out, accelerator, dtype, quantization
            )
            row |= {
                "status": "ok",
                "reason": found.note or None,
                "tensor_parallel": found.devices,
                **{name.removeprefix("floor_"): value for name, value in vars(found.floor).items()},
            }
        rows.append(row)
    return rows


def _widest(arch: Architecture, accelerator: accelerators.Accelerator, largest: tuple) -> str:
    """The widest of PRECISIONS that the accelerator has and that fits, else the last."""
    own = (
        PRECISIONS if not accelerator.spans else PRECISIONS[1:]
    )  # the source's CS-3 held FP8 weights
    return next(
        (series for series in own if _no_room(arch, accelerator, largest, series) is None), own[-1]
    )


def _no_room(
    arch: Architecture, accelerator: accelerators.Accelerator, largest: tuple, series: str
) -> str | None:
    """Why the accelerator has no roofline at the largest of the places in this precision, or
    None."""
    dtype, quantization, _ = SERIES[series]
    try:
        accelerators.roofline(arch, *largest, accelerator, dtype, quantization)
    except ValueError as error:
        return str(error)
    return None


def _concat(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables under each other, without columns that are empty in one of them deciding its type."""
    first = tables[0]
    return pd.concat([first, *(t.dropna(axis=1, how="all") for t in tables[1:])], ignore_index=True)
