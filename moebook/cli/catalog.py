"""The command about models: what ships, and what one is."""

import json
from typing import Annotated

import typer

from moebook.cli.common import AsJson

app = typer.Typer()
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
    from moebook.models import catalog, fitting

    if name is None:
        every = [fitting.facts(catalog.load(each)) for each in catalog.names()]
        typer.echo(json.dumps(every, indent=1) if as_json else _list(every))
        return
    arch = catalog.load(name, trust_remote_code or None)
    known, rows = fitting.facts(arch), list(fitting.fits(arch))
    if as_json:
        typer.echo(json.dumps({**known, "fits": rows}, indent=1))
    else:
        typer.echo("\n".join([*_one(known), "", *_fits(rows, fitting.SEQUENCE)]))


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
    return "\n".join(row.rstrip() for row in rows)


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
        f"{m['active_parameters'] / 1e9:.3f} per token",
        f"  layers          {m['num_layers']} of width {m['hidden_size']}, {experts}",
        f"  attention       {', '.join(map(_attention, m['attention']))}",
        f"  number format   {m['number_format']}, weights {m['weight_bytes'] / 1e9:.1f} GB",
        f"  cache           {m['kv_bytes_per_token']:,} bytes per token and "
        f"{m['state_bytes_per_sequence']:,} per sequence, in bf16",
        f"  positions       {m['max_positions']:,}",
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
        f"  {'device':<14}{heads}",
    ]
    for kind in dict.fromkeys(row["device"] for row in rows):
        own = [row for row in rows if row["device"] == kind]
        lines.append(f"  {kind:<14}" + "".join(f"{_cell(row):>10}" for row in own))
    refused = {row["refused"]: row["tensor_parallel"] for row in rows if row["refused"]}
    return lines + [f"  TP {n} refused: {why}" for why, n in refused.items()]


def _cell(row: dict) -> str:
    return "refused" if row["refused"] else f"{row['sequences']:,}" if row["sequences"] else "-"
