"""`moebook predict`: times, rates and memory of a model on a device, with intervals; `moebook
calibrate`: a calibration of one's own cards from one's own results."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from moebook.cli.common import AsJson

app = typer.Typer()
WIDTH = "{:>6} {:>22} {:>22} {:>9} {:>24} {:>11}  {:<26} {}"
TERMS = {
    "dense": "other weights",
    "head": "sampling",
    "latencies": "latencies of layers",
    "step": "latency of a pass",
}
TENSOR_RANKS = (2, 4, 8, 16, 32)
HEAD = ("batch", "TTFT s [95 %]", "TPOT ms [95 %]", "bound ms", "output tokens/s [95 %]",
        "all tok/s", "what binds", "fits")  # fmt: skip


@app.command()
def predict(
    model: Annotated[
        str,
        typer.Argument(help="a catalog name, checkpoint folder, config.json or Hugging Face id"),
    ],
    device: Annotated[
        str | None, typer.Option(help="kind of card: h100, h200 (by default)")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="cards; by default TP x PP")] = None,
    tp: Annotated[int | None, typer.Option(help="tensor parallel ranks")] = None,
    pp: Annotated[int, typer.Option(help="pipeline stages")] = 1,
    ep: Annotated[bool, typer.Option("--ep", help="whole experts on the tensor ranks")] = False,
    format_: Annotated[
        str, typer.Option("--format", help="number format: own, bf16, fp8, 'int4 weights', ...")
    ] = "own",
    batch: Annotated[str, typer.Option(help="sequences at once, e.g. 1,16,64")] = "1,16,64",
    tokens_in: Annotated[int, typer.Option("--input", help="tokens in")] = 1024,
    tokens_out: Annotated[int, typer.Option("--output", help="tokens out")] = 256,
    routing: Annotated[str, typer.Option(help="uniform, same, or zipf:S")] = "uniform",
    graphs: Annotated[
        str, typer.Option(help="default (the engine's own), compiled, pieces, light")
    ] = "default",
    calibration: Annotated[
        Path | None, typer.Option(help="a file of `moebook calibrate`; its card is the device")
    ] = None,
    as_json: AsJson = False,
    explain: Annotated[bool, typer.Option("--explain", help="the sum, term by term")] = False,
) -> None:
    """Predict TTFT, TPOT, rates and memory of a model on a device, with 80 and 95 % intervals."""
    from moebook.models import catalog
    from moebook.predict import shipped, what_if
    from moebook.study.settings import Workload

    sizes = _batches(batch)
    for name, value in (("--input", tokens_in), ("--output", tokens_out)):
        if value < 1:
            raise ValueError(f"{name}: given {value}; allowed: 1 or more")
    arch = catalog.load(model)
    settings = _settings(gpus, tp, pp, ep, format_, routing, graphs)
    works = [Workload(size, tokens_in, tokens_out) for size in sizes]
    asked = device and device.lower()
    known = shipped.read(calibration) if calibration else shipped.load(asked or "h200")
    if asked not in (None, known.device_kind):
        raise ValueError(f"--device: given {device!r}; {calibration} is of {known.device_kind}")
    device = known.device_kind
    told = [what_if.predict(arch, settings, work, device, known) for work in works]
    if as_json:
        rows = [_row(arch, settings, w, p, device) for w, p in zip(works, told, strict=True)]
        typer.echo(json.dumps(rows, indent=1))
        return
    lines = _table(arch, settings, works, told, device)
    lost = next((one for one in zip(works, told, strict=True) if not one[1].memory.fits), None)
    lines += [_lacking(*lost, _least(arch, settings, lost[0], known))] if lost else []
    lines.append("")
    if explain:
        lines += [*_sums(works, told), ""]
    typer.echo("\n".join([*lines, *_sure(arch, settings, works, told, device)]))


def _batches(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[1-9][0-9]{0,6}", part) for part in parts):
        allowed = "whole numbers from 1 to 9999999, with commas between, e.g. 1,16,64"
        raise ValueError(f"--batch: given {text!r}; allowed: {allowed}")
    return [int(part) for part in parts]


def _settings(
    gpus: int | None, tp: int | None, pp: int, ep: bool, format_: str, routing: str, graphs: str
):
    """EngineSettings of the options. ValueError naming the option that is wrong."""
    from moebook.models.formats import SERIES, settings_of
    from moebook.problems import choices
    from moebook.study.routing import checked, imposed
    from moebook.study.settings import EngineSettings

    if format_ not in SERIES:
        raise ValueError(f"--format: given {format_!r}; {choices(format_, SERIES)}")
    known = ("default", "compiled", "pieces", "light")
    if graphs not in known:
        raise ValueError(f"--graphs: given {graphs!r}; {choices(graphs, known)}")
    for name, value in (("--gpus", gpus), ("--tp", tp), ("--pp", pp)):
        if value is not None and value < 1:
            raise ValueError(f"{name}: given {value}; allowed: 1 or more")
    tensor = tp or max(1, (gpus or 1) // pp)
    if gpus is not None and tensor * pp != gpus:
        raise ValueError(f"--gpus: given {gpus}, but TP {tensor} x PP {pp} are {tensor * pp} cards")
    try:
        drawn = checked(routing)
    except ValueError as error:
        raise ValueError(f"--routing: given {routing!r}; {error}") from None
    return EngineSettings(
        **settings_of(format_),
        tensor_parallel=tensor,
        pipeline_parallel=pp,
        expert_parallel=ep,
        graphs=graphs,
        routing=imposed(drawn),
    )


def _row(arch, settings, work, p, device: str) -> dict:
    """One object of --json: units in the names; null where there is no such time."""
    row = {
        "model": arch.name,
        "device": device,
        "gpus": settings.num_devices,
        "batch": work.batch,
        "input_tokens": work.input_tokens,
        "output_tokens": work.output_tokens,
    }
    names = ("ttft_s", "tpot_s", "e2e_s", "throughput_tok_s", "output_throughput_tok_s")
    for name in names:
        found = getattr(p, name)
        row[name] = found and found.value
        for side in ("lo80", "hi80", "lo95", "hi95"):
            row[f"{name}_{side}"] = found and getattr(found, side)
    m = p.memory
    return row | {
        "memory_bytes_per_gpu": m.per_gpu_bytes,
        "kv_tokens": m.kv_tokens,
        "fits": m.fits,
        "weights_bytes": m.weights_bytes,
        "cache_bytes": m.cache_bytes,
        "reserve_bytes": m.reserve_bytes,
        "tensor_parallel": settings.tensor_parallel,
        "pipeline_parallel": settings.pipeline_parallel,
        "expert_parallel": settings.expert_parallel,
        "format": p.format,
        "bound_tpot_s": p.bound_tpot_s,
        "binds": p.binds,
        "terms_s": p.terms,
        "coverage": p.coverage,
        "times_as_wide": p.wider,
        "source": p.source,
        "notes": list(p.notes),
    }


def _table(arch, settings, works, told, device: str) -> list[str]:
    split = f"{settings.num_devices} x {device}"
    if settings.num_devices > 1:
        split += f" (TP {settings.tensor_parallel}, PP {settings.pipeline_parallel}"
        split += ", EP)" if settings.expert_parallel else ")"
    w = works[0]
    head = f"{arch.name} on {split}, {told[0].format}, {w.input_tokens} tokens in and "
    lines = [f"{head}{w.output_tokens} out: predicted", "", WIDTH.format(*HEAD)]
    for work, p in zip(works, told, strict=True):
        rate = p.output_throughput_tok_s
        row = (
            work.batch,
            _cell(p.ttft_s, 1),
            _cell(p.tpot_s, 1e3) if p.tpot_s else "-",
            f"{1e3 * p.bound_tpot_s:.2f}",
            f"{rate.value:,.0f} [{rate.lo95:,.0f}, {rate.hi95:,.0f}]",
            f"{p.throughput_tok_s.value:,.0f}",
            p.binds,
            "yes" if p.memory.fits else "NO",
        )
        lines.append(WIDTH.format(*row).rstrip())
    return lines + ["", _memory(works[-1], told[-1])]


def _cell(found, scale: float) -> str:
    value, low, high = (f"{scale * v:.3g}" for v in (found.value, found.lo95, found.hi95))
    return f"{value} [{low}, {high}]"


def _memory(work, p) -> str:
    m, each = p.memory, work.input_tokens + work.output_tokens
    held = f"{m.kv_tokens:,} tokens of cache ({m.kv_tokens // each:,} such sequences)"
    return (
        f"memory of a card: weights {m.weights_bytes / 1e9:.1f} GB, reserve "
        f"{m.reserve_bytes / 1e9:.1f} GB of {m.usable_bytes / 1e9:.1f} GB that the engine may use; "
        f"the rest holds {held if m.kv_tokens else 'nothing'}"
    )


def _lacking(work, p, least: int | None) -> str:
    enough = f"; with --tp {least} it does" if least else ""
    return f"batch {work.batch} does not fit: {p.memory.lacks}{enough}"


def _least(arch, settings, work, known) -> int | None:
    """The least tensor parallelism, among powers of two, with which a batch fits."""
    from moebook.predict.what_if import Unpredictable, predict

    for tp in TENSOR_RANKS:
        split = replace(settings, tensor_parallel=tp)
        try:
            if predict(arch, split, work, known.device_kind, known).memory.fits:
                return tp
        except Unpredictable:  # does not split so
            continue
    return None


def _sums(works, told) -> list[str]:
    """A decode step in the middle of the run, and one pass of the prefill, in ms, term by term."""
    lines = [f"{'ms of a decode step':<22}" + "".join(f"{w.batch:>10}" for w in works)]
    lines += _terms([p.terms for p in told])
    lines += ["", f"{'ms of a prefill pass':<22}" + "".join(f"{w.batch:>10}" for w in works)]
    return lines + _terms([p.prefill_terms for p in told])


def _terms(columns: list[dict]) -> list[str]:
    names = [name for name in columns[0] if name != "host"]
    lines = [
        f"  {TERMS.get(name, name):<20}" + "".join(f"{1e3 * c[name]:>10.3f}" for c in columns)
        for name in names
    ]
    sums = [sum(v for k, v in c.items() if k != "host") for c in columns]
    lines.append(f"  {'GPU, sum':<20}" + "".join(f"{1e3 * s:>10.3f}" for s in sums))
    return lines + [
        f"  {'host, beside it':<20}" + "".join(f"{1e3 * c['host']:>10.3f}" for c in columns)
    ]


def _sure(arch, settings, works, told, device: str) -> list[str]:
    """How sure: the score, coverage, what lies outside, and the nearest measured points."""
    from moebook.predict.case import Case
    from moebook.predict.points import nearest

    lines = [f"how sure: {told[0].source}"]
    lines.append("  of models that neither fit nor width had seen, 80 and 95 % intervals held")
    lines += _by_batch(works, [_covered(p.coverage) for p in told])
    lines += _by_batch(works, ["; ".join(p.notes) for p in told])
    lines.append("nearest measured points (distance in doublings):")
    middle = works[len(works) // 2]
    for near in nearest(Case(arch, settings, middle), device):
        lines.append(
            f"  {near.distance:>5.2f}  {near.model} ({near.shape}), {near.format}, batch "
            f"{near.batch}, {near.input_tokens} + {near.output_tokens}: TTFT {near.ttft_s:.3g} s, "
            f"TPOT {1e3 * near.tpot_s:.3g} ms (point {near.point_id})"
        )
    return lines


def _covered(coverage: dict) -> str:
    """`TTFT 82 and 96 %, TPOT not tested`."""
    told = []
    for metric, shares in coverage.items():
        tested = None not in shares.values()
        held = " and ".join(f"{100 * share:.0f}" for share in shares.values()) if tested else ""
        told.append(f"{metric.upper()} {held} %" if tested else f"{metric.upper()} not tested")
    return ", ".join(told)


def _by_batch(works, told: list[str]) -> list[str]:
    """Each text once, after the batches it is of; nothing for an empty one."""
    batches: dict[str, list[str]] = {}
    for work, text in zip(works, told, strict=True):
        batches.setdefault(text, []).append(str(work.batch))
    return [f"  batch {', '.join(of)}: {text}" for text, of in batches.items() if text]


@app.command()
def calibrate(
    outputs: Annotated[Path, typer.Option(help="outputs folder with measured results")] = Path(
        "outputs"
    ),
    to: Annotated[Path, typer.Option(help="folder to write into")] = Path("calibrations"),
) -> None:
    """Fit the performance model to measured results; `moebook predict --calibration` reads it."""
    from moebook.results.calibrating import calibrate as made

    for file, found in made(outputs, to):
        score = found.scores["left out"].get("all")
        typer.echo(f"{file}: {found.inputs['points']} points of {found.device_kind}")
        if score:
            median, most = score["tpot_median_pct"], score["tpot_p90_pct"]
            told = f"TPOT off by {median:.1f} % in the median, {most:.0f} % at the 90th percentile"
            typer.echo(f"  models left out of the fit: {told}")
