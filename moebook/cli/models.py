"""Commands about models and this machine: models, prune, train, quality, doctor."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from moebook.cli.common import AsJson, check_percent, listed

app = typer.Typer()


@app.command()
def prune(
    source: Annotated[
        Path, typer.Argument(help="folder of a Hugging Face checkpoint (safetensors)")
    ],
    target: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    kind: Annotated[
        str, typer.Option(help="inter: whole experts; intra: the FFN dim of every expert")
    ] = "inter",
    ratio_pct: Annotated[
        float,
        typer.Option("--ratio", callback=check_percent, help="percent to prune: 25 is a quarter"),
    ] = 50.0,
    criterion: Annotated[
        str, typer.Option(help="random, norm, frequency, routed_activation")
    ] = "norm",
    text: Annotated[
        Path | None, typer.Option(help="calibration text of the last two criteria")
    ] = None,
    overwrite: bool = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Prune a checkpoint: a folder that vLLM and transformers load unchanged."""
    from moebook.models import pruning
    from moebook.models.pruning import calibration, checkpoint, saliency, selection
    from moebook.models.pruning import target as targets

    targets.check_target(source, target, overwrite)
    selection.check(str(source), kind, ratio_pct / 100)
    checkpoint.open_checkpoint(source)
    scores = None
    if criterion in saliency.CALIBRATED:
        if text is None or not text.is_file():
            raise ValueError(
                f"criterion {criterion!r} scores experts on text; given --text {text}: name a text "
                "file"
            )
        scores = calibration.collect_from_text(source, text)
    elif text is not None:
        raise ValueError(
            f"--text: given {str(text)!r}; criterion {criterion!r} reads no text: leave it out, or "
            f"give --criterion {' or '.join(saliency.CALIBRATED)}"
        )
    report = pruning.prune_checkpoint(
        source,
        target,
        kind=kind,
        ratio=ratio_pct / 100,
        criterion=criterion,
        scores=scores,
        seed=seed,
        overwrite=overwrite,
    )
    kept = (
        f"{report.experts_before} to {report.experts_after} experts a layer, FFN dim "
        f"{report.ffn_dim_before} to {report.ffn_dim_after}, {report.bytes_before / 1e9:.3g} to "
        f"{report.bytes_after / 1e9:.3g} GB"
    )
    line = f"{target}: {kept}; what was kept stands in {targets.REPORT}"
    typer.echo("\n".join([line, *report.notes]))


@app.command()
def train(
    family: Annotated[
        str, typer.Argument(help="tiny: the family of small models that moebook trains itself")
    ],
    preset: Annotated[
        str, typer.Option(help="cpu (minutes on two cores) or gpu (minutes on one H100)")
    ] = "cpu",
    members: Annotated[
        str, typer.Option(help="only these, e.g. aux-0.01,draft-small; all by default")
    ] = "",
    text: Annotated[
        list[Path] | None, typer.Option(help="UTF-8 text to train on, in place of Python's library")
    ] = None,
) -> None:
    """Train the small models of the tiny family that are not trained yet; vLLM and transformers
    load them unchanged."""
    from moebook import devices
    from moebook.models.tiny import family as tiny
    from moebook.models.tiny import own_text, recipes

    if family != "tiny":
        raise ValueError(f"{family!r} is no family that moebook trains; allowed: tiny")
    wanted = listed("--members", members, recipes.preset(preset).members)
    texts = tuple(map(str, text or ())) or own_text.files()
    folder = tiny.family_folder(preset, texts)
    from moebook.models.tiny.train_family import table, train_family

    say = partial(print, flush=True)
    records = train_family(preset, wanted, texts, say, devices.cores())
    typer.echo(table(records, folder))
    if text:
        typer.echo(f"to use them: export {own_text.VARIABLE}={os.pathsep.join(texts)}")


@app.command()
def quality(
    checkpoint: Annotated[Path, typer.Argument(help="folder of a Hugging Face checkpoint")],
    tasks: Annotated[str, typer.Option(help="lm-eval tasks; the study's by default")] = "",
    quantization: Annotated[str | None, typer.Option(help="engine quantization, e.g. fp8")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="examples a task")] = None,
) -> None:
    """Accuracy of a checkpoint on lm-eval tasks (needs the extra `quality`)."""
    from moebook.measure import lm_eval as scoring
    from moebook.models.formats import FORMATS, engine_arguments, needs_packed
    from moebook.problems import choices

    if needs_packed(quantization):
        raise ValueError(
            f"quantization {quantization!r} cannot be made of 16-bit weights as the engine loads: "
            "give a checkpoint packed in that format, and no --quantization"
        )
    if quantization not in FORMATS:
        allowed = choices(quantization, filter(None, FORMATS))
        raise ValueError(f"--quantization: given {quantization!r}; {allowed}")
    found = scoring.evaluate(
        checkpoint,
        tuple(tasks.split(",")) if tasks else scoring.TASKS,
        limit=limit,
        engine_arguments=engine_arguments(quantization),
    )
    typer.echo(json.dumps(found, indent=1))


@app.command()
def doctor() -> None:
    """Whether this machine can measure, and what is missing."""
    from moebook.doctor import checks

    found = checks()
    for check in found:
        typer.echo(f"{'ok  ' if check.ok else 'MISS'} {check.name}: {check.detail}")
    raise typer.Exit(0 if all(c.ok for c in found) else 1)


COLUMNS = "{:<34} {:>9} {:>9}  {:<26} {:>9} {:>9} {:>9}"


@app.command()
def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="a catalog name, checkpoint folder, config.json or Hugging Face id; without it, "
            "all that ship are listed"
        ),
    ] = None,
    as_json: AsJson = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="run Python code that lies beside a config to read it"
        ),
    ] = False,
) -> None:
    """List the models that ship, or show one: parameters by role, number format, cache, and what it
    fits on."""
    from moebook.models import catalog, engine_rules, fitting

    if name is None:
        every = [fitting.facts(catalog.load(each)) for each in catalog.names()]
        typer.echo(json.dumps(every, indent=1) if as_json else _list(every))
        return
    arch = catalog.load(name, trust_remote_code or None)
    known = {**fitting.facts(arch), "unread": engine_rules.unread(arch, trained=False)}
    rows = list(fitting.fits(arch))
    if as_json:
        typer.echo(json.dumps({**known, "fits": rows}, indent=1))
    else:
        lines = [*_one(known), "", *_fits(rows, fitting.SEQUENCE), "", *_next(name)]
        typer.echo("\n".join(lines))


def _list(every: list[dict]) -> str:
    head = ("model", "total", "active", "number format", "weights", "KV/token", "state")
    units = ("", "1e9", "1e9", "", "GB", "bytes", "MB")
    rows = [COLUMNS.format(*head), COLUMNS.format(*units)]
    for m in every:
        rows.append(
            COLUMNS.format(
                m["name"],
                f"{m['total_parameters'] / 1e9:.2f}",
                f"{m['active_parameters'] / 1e9:.2f}",
                m["number_format"],
                f"{m['weight_bytes'] / 1e9:.1f}",
                m["kv_bytes_per_token"],
                f"{m['state_bytes_per_sequence'] / 1e6:.1f}",
            )
        )
    rows += ["", "moebook models NAME shows one; any other: by its folder, config.json or Hub id"]
    return "\n".join(row.rstrip() for row in rows)


def _next(name: str) -> list[str]:
    """What to do with a model, by the name that was given."""
    return [
        f"  in a plan       models: [{name}], or any parameter that takes a model",
        f"  how fast        moebook predict {name} --device h200",
    ]


def _one(m: dict) -> list[str]:
    experts = (
        f"{m['num_moe_layers']} of them with {m['num_experts']} experts, {m['top_k']} per token, "
        f"FFN {m['expert_ffn_dim']}"
        if m["num_experts"]
        else "dense"
    )
    lines = [
        f"{m['name']} ({m['family']})",
        f"  source          {m['source']}",
        f"  parameters      {m['total_parameters'] / 1e9:.3f} billion, "
        f"{m['active_parameters'] / 1e9:.3f} per token, with embedding and head",
        f"  layers          {m['num_layers']} of width {m['hidden_size']}, {experts}",
        f"  attention       {', '.join(map(_attention, m['attention']))}",
        f"  number format   {m['number_format']}, weights {m['weight_bytes'] / 1e9:.1f} GB",
        f"  cache           {m['kv_bytes_per_token']:,} bytes per token and "
        f"{m['state_bytes_per_sequence']:,} per sequence, in bf16",
        f"  positions       {m['max_positions']:,}",
        *([f"  engine          {m['unread']}"] if m["unread"] else []),
        "",
        f"  {'role':<18} {'parameters':>18} {'per token':>18}",
    ]
    for part, count in m["by_role"].items():
        lines.append(f"  {part:<18} {count:>18,} {m['active_by_role'].get(part, 0):>18,}")
    return lines


def _attention(group: dict) -> str:
    window = f" of {group['window']}" if group["window"] else ""
    heads = f" ({group['kv_heads']} KV heads)" if group["kind"] not in ("mla", "linear") else ""
    return f"{group['layers']} {group['kind']}{window}{heads if group['kv_heads'] else ''}"


def _fits(rows: list[dict], tokens: int) -> list[str]:
    """A line for each kind of device: by ranks, the sequences that fit beside the weights."""
    ranks = list(dict.fromkeys(row["tensor_parallel"] for row in rows))
    heads = "".join(f"{f'TP {n}':>10}" for n in ranks)
    lines = [
        f"  sequences of {tokens:,} tokens that a device holds beside its share of the weights",
        "  (TP: tensor parallel over so many devices; -: too little memory)",
        f"  {'device':<14}{heads}",
    ]
    for kind in dict.fromkeys(row["device"] for row in rows):
        own = [row for row in rows if row["device"] == kind]
        lines.append(f"  {kind:<14}" + "".join(f"{_cell(row):>10}" for row in own))
    refused = {row["refused"]: row["tensor_parallel"] for row in rows if row["refused"]}
    return lines + [f"  TP {n} refused: {why}" for why, n in refused.items()]


def _cell(row: dict) -> str:
    return "refused" if row["refused"] else f"{row['sequences']:,}" if row["sequences"] else "-"
