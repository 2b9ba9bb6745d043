"""Commands that run something: plan, measure, run, study."""

import json
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from moebook import paths, sections
from moebook.cli.common import (
    AllowFailed,
    AsJson,
    Notebook,
    OutputRoot,
    ParamsFile,
    Profile,
    check_minutes,
    file_of,
    in_profile,
    listed,
    opened,
    whole,
)
from moebook.measure.records import STATUSES
from moebook.measure.store import Store

app = typer.Typer()


@app.command()
def plan(
    file: ParamsFile,
    notebook: Notebook = "",
    output_root: OutputRoot = None,
    as_json: AsJson = False,
) -> None:
    """Points, memory, estimated minutes, and what will not fit and why. Starts nothing."""
    from moebook import devices, workbook
    from moebook.study import estimates

    run = workbook.Run(*opened(file, output_root, notebook))
    if as_json:
        frame = estimates.to_frame(run.plan, devices.published_here(run.plan.device))
        typer.echo(frame.to_json(orient="records", indent=1))
        return
    from moebook.results.report import plan_frame, plan_lines

    frame, line = plan_frame(run.plan)
    typer.echo(line)
    typer.echo("\n".join(plan_lines(frame)))
    typer.echo(run.present())


@app.command()
def measure(
    file: ParamsFile,
    notebook: Notebook = "",
    output_root: OutputRoot = None,
    sweep: Annotated[
        str,
        typer.Option(help="only these sweeps, in this order: grid,batch_topk; a+b share engines"),
    ] = "",
    retry: Annotated[str, typer.Option(help="statuses to measure again: oom,failed,timeout")] = "",
    stop_after_minutes: Annotated[
        float | None,
        typer.Option(callback=check_minutes, help="begin no further point after this long"),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="local: a worker here; ray: the nodes of a Ray cluster")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="of the Ray cluster; by default the one this machine is in")
    ] = None,
    shard: Annotated[
        str, typer.Option(help="only this part, for one job of an array: 3/8 is the third of eight")
    ] = "",
    records: Annotated[
        int,
        typer.Option(
            min=1, max=100, help="engine starts to measure each point in; further ones go on"
        ),
    ] = 1,
    allow_failed: AllowFailed = False,
) -> None:
    """Measure every point of a parameter file that has no result yet; notebooks then only draw."""
    from moebook.measure import executors, run
    from moebook.study.estimates import Shard

    section, params = opened(file, output_root, notebook)
    plan = section.plan(params)
    retried = listed("--retry", retry, STATUSES)
    listed("--sweep", sweep, plan.sweeps, sweep.replace("+", ",").split(","))
    parts = [plan.only(names.split("+")) for names in sweep.split(",")] if sweep else [plan]
    part = Shard.parse(shard) if shard else None
    named = f"worker.{part.name}.log" if part else "worker.log"
    log = Store(params.output_root, plan).folder / named
    started, counts, left = time.monotonic(), Counter(), Counter()
    with executors.choose(executor, address, log) as chosen:
        source = chosen.source(plan.device)  # later a node may be lost, which never answers
        own_parts = list(part.of(parts) if part else parts)
        for own, record in product(own_parts, range(1, records + 1)):
            rest = None
            if stop_after_minutes is not None:
                rest = 60 * stop_after_minutes - (time.monotonic() - started)
            counts += run.measure(
                own,
                params.output_root,
                limit_s=60 * params.point_limit_minutes,
                stop_after_s=rest,
                retry=retried,
                executor=chosen,
                shard=part,
                whole=plan,
                record=record,
            )
        for own in own_parts:
            left += Counter(run.unfinished(own, params.output_root, source))
    typer.echo(json.dumps(counts))
    if left:
        told = ", ".join(f"{n} {status}" for status, n in left.items())
        again = ",".join(status for status in left if status != "not_run")
        remedy = f"; measure them again with --retry {again}" if again else ""
        typer.echo(f"of this plan are without a number: {told}{remedy}")
    raise typer.Exit(1 if left and not allow_failed else 0)


@app.command(name="run")
def run_notebook(
    section: Annotated[
        str, typer.Argument(help="a notebook (02, 02_quantization) or a parameter file")
    ],
    profile: Annotated[
        str | None, typer.Option(help="of a notebook: folder of params/ to use; by default cpu")
    ] = None,
    notebook: Notebook = "",
    output_root: OutputRoot = None,
    limit_minutes: Annotated[
        float, typer.Option(callback=check_minutes, help="end the notebook after this long")
    ] = 120.0,
    allow_failed: AllowFailed = False,
) -> None:
    """Execute one notebook headlessly, with a profile's parameters or those of a file."""
    from moebook.execute import execute

    if section.endswith((".yaml", ".yml")):
        if profile is not None:
            raise ValueError(f"--profile: given {profile!r}; the file {section} names its own")
        file = Path(paths.given(section))
        found = sections.of_file(file, notebook)
    else:
        found = sections.find(section)
        profile = "cpu" if profile is None else profile
        in_profile(profile, found.stem)
        file = file_of(profile, found.stem)
    outcome = execute(
        found, file, limit_minutes, output_root=whole(output_root), allow_failed=allow_failed
    )
    typer.echo(outcome.line())
    raise typer.Exit(0 if outcome.whole else 1)


@app.command()
def study(
    profile: Profile = "cpu", output_root: OutputRoot = None, allow_failed: AllowFailed = False
) -> None:
    """Measure the plans of all of a profile's notebooks in one worker, execute the notebooks, print
    a table."""
    from moebook.execute import run_study

    work = [(s, file_of(profile, s.stem)) for s in in_profile(profile)]
    outcomes = run_study(work, output_root=whole(output_root), allow_failed=allow_failed)
    raise typer.Exit(0 if all(o.whole for o in outcomes) else 1)
