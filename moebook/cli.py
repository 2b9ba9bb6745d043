"""The `moebook` command. Every command exits 0 only when what it was asked for is whole."""

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from moebook import params as parameters
from moebook import sections
from moebook.store import Store

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Inference performance of Mixture-of-Experts models: plan, measure, draw, judge.")

ParamsFile = Annotated[Path, typer.Argument(help="a parameter file, e.g. params/cpu/01_hyperparameter_scaling.yaml")]
Profile = Annotated[str, typer.Option(help="folder of params/ to use, e.g. cpu, h100, h200, 2xh200")]
OutputRoot = Annotated[str | None, typer.Option(help="outputs folder, in place of the parameter file's")]


def _load(path: Path, output_root: str | None = None):
    section = sections.find(str(path))
    params = parameters.load(section.params, path)
    return section, params.model_copy(update={"output_root": output_root}) if output_root else params


def _file(profile: str, stem: str) -> Path:
    return Path("params") / profile / f"{stem}.yaml"


def _in_profile(profile: str) -> list[str]:
    stems = [s for s in sections.STEMS if _file(profile, s).exists()]
    if not stems:
        have = sorted(p.name for p in Path("params").glob("*") if p.is_dir())
        raise ValueError(f"no parameter files in params/{profile}; profiles here: {', '.join(have) or 'none'} "
                         f"(run from the repository's root)")
    return stems


@app.command()
def plan(file: ParamsFile, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Points, memory, estimated minutes, and what will not fit and why. Starts nothing."""
    from moebook import devices, estimates, workbook

    section, params = _load(file)
    if as_json:
        frame = estimates.to_frame(section.plan(params), devices.published(params.device))
        typer.echo(frame.to_json(orient="records", indent=1))
        return
    from moebook.view.report import plan_lines

    frame = workbook.plan_table(section.plan(params))
    typer.echo("\n".join(plan_lines(frame)))


@app.command()
def measure(
    file: ParamsFile,
    output_root: OutputRoot = None,
    sweep: Annotated[str, typer.Option(help="only these sweeps, in this order: grid,batch_topk; a+b share engines")] = "",
    retry: Annotated[str, typer.Option(help="statuses to measure again: oom,failed,timeout")] = "",
    stop_after_minutes: Annotated[float | None, typer.Option(help="begin no further point after this long")] = None,
    executor: Annotated[str, typer.Option(help="local: a worker here; ray: the nodes of a Ray cluster")] = "local",
    address: Annotated[str | None, typer.Option(help="of the Ray cluster; by default the one this machine is in")] = None,
    shard: Annotated[str, typer.Option(help="only this part, for one job of an array: 3/8 is the third of eight")] = "",
) -> None:
    """Measure every point of a parameter file that has no result yet; notebooks then only draw."""
    from moebook import executors, run
    from moebook.shard import Shard

    section, params = _load(file, output_root)
    plan = section.plan(params)
    parts = [plan.only(names.split("+")) for names in sweep.split(",")] if sweep else [plan]
    part = Shard.parse(shard) if shard else None
    log = Store(params.output_root, plan).folder / (f"worker.{part.name}.log" if part else "worker.log")
    started, counts = time.monotonic(), Counter()
    with executors.choose(executor, address, log) as chosen:
        for own in part.of(parts) if part else parts:
            left = None if stop_after_minutes is None else 60 * stop_after_minutes - (time.monotonic() - started)
            counts += run.measure(own, params.output_root, limit_s=60 * params.point_limit_minutes, stop_after_s=left,
                                  retry=[s for s in retry.split(",") if s], executor=chosen, shard=part,
                                  whole=plan)
    typer.echo(json.dumps(counts))
    raise typer.Exit(1 if set(counts) & {"failed", "timeout", "not_run"} else 0)


@app.command(name="run")
def run_notebook(section: str, profile: Profile = "cpu",
                 limit_minutes: Annotated[float, typer.Option(help="end the notebook after this long")] = 120.0) -> None:
    """Execute one notebook headlessly (01, or 01_hyperparameter_scaling) with a profile's parameters."""
    from moebook.execute import execute

    outcome = execute(sections.find(section), _file(profile, sections.find(section).stem), limit_minutes)
    typer.echo(outcome.line())
    raise typer.Exit(0 if outcome.whole else 1)


@app.command()
def study(profile: Profile = "cpu") -> None:
    """Measure the plans of all of a profile's notebooks in one worker, execute the notebooks, print a table."""
    from moebook.execute import run_study

    outcomes = run_study([(sections.find(s), _file(profile, s)) for s in _in_profile(profile)])
    raise typer.Exit(0 if all(o.whole for o in outcomes) else 1)


@app.command()
def figures(profile: Profile = "cpu", section: Annotated[str | None, typer.Option(help="only this notebook")] = None,
            formats: str = "pdf,svg,png", width: str = "page") -> None:
    """Draw all figures of a profile again from its results, and say where they are."""
    from moebook import workbook

    wanted = formats.split(",")
    if unknown := set(wanted) - {"pdf", "svg", "png"}:
        raise ValueError(f"unknown formats {sorted(unknown)}; allowed: pdf, svg, png")
    if width not in ("column", "page"):
        raise ValueError(f"unknown width {width!r}; allowed: column, page")
    stems, drawn, without = [sections.find(section).stem] if section else _in_profile(profile), 0, ""
    for stem in stems:
        found, params = _load(_file(profile, stem))
        try:
            res = workbook.load(params, found.plan(params))
        except workbook.NoResults as error:
            without = f"{stem}: {error}"
            typer.echo(without)
            continue
        drawn += 1
        typer.echo(f"{stem}: {res.origin}")
        for name in found.figures:
            try:
                files = workbook.save_figure(res, name, width=width, formats=wanted)
            except ValueError as error:
                typer.echo(f"  {name}: not drawn: {error}")
                continue
            typer.echo(f"  {name}: " + " ".join(str(f) for f in files))
    if not drawn:
        raise ValueError(f"nothing to draw in profile {profile!r}; {without}")


@app.command()
def claims(profile: Profile = "cpu", as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """A verdict on each of the paper's claims, from a profile's results."""
    from moebook.overview import all_verdicts
    from moebook.view.report import verdict_lines

    verdicts, origins = all_verdicts(profile)
    if as_json:
        from moebook.analysis import claims as judge

        typer.echo(judge.to_json(verdicts))
        return
    typer.echo("\n".join([*origins, *verdict_lines(verdicts)]))


@app.command()
def prune(
    source: Annotated[Path, typer.Argument(help="folder of a Hugging Face checkpoint (safetensors)")],
    target: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    kind: Annotated[str, typer.Option(help="inter: whole experts; intra: the FFN dim of every expert")] = "inter",
    ratio_pct: Annotated[float, typer.Option("--ratio", help="percent to prune")] = 50.0,
    criterion: Annotated[str, typer.Option(help="random, norm, frequency, routed_activation")] = "norm",
    text: Annotated[Path | None, typer.Option(help="calibration text of the last two criteria")] = None,
    overwrite: bool = False,
    seed: int = 0,
) -> None:
    """Prune a checkpoint: a folder that vLLM and transformers load unchanged."""
    from moebook.models import checkpoint, saliency
    from moebook.models import prune as pruning

    pruning.check_target(source, target, overwrite)
    checkpoint.open_checkpoint(source)
    scores = None
    if criterion in saliency.CALIBRATED:
        if text is None or not text.is_file():
            raise ValueError(f"criterion {criterion!r} scores experts on text; given --text {text}: name a text file")
        scores = saliency.collect_from_text(source, text)
    report = pruning.prune_checkpoint(source, target, kind=kind, ratio=ratio_pct / 100, criterion=criterion, scores=scores,
                                      seed=seed, overwrite=overwrite)
    typer.echo("\n".join([f"{target}: {report.experts_before} to {report.experts_after} experts a layer, FFN dim "
                          f"{report.ffn_dim_before} to {report.ffn_dim_after}, {report.bytes_before / 1e9:.3g} to "
                          f"{report.bytes_after / 1e9:.3g} GB; what was kept stands in {pruning.REPORT}", *report.notes]))


@app.command()
def train(
    family: Annotated[str, typer.Argument(help="tiny: the family of small models that moebook trains itself")],
    preset: Annotated[str, typer.Option(help="cpu (minutes on two cores) or gpu (minutes on one H100)")] = "cpu",
    members: Annotated[str, typer.Option(help="only these, e.g. aux-0.01,draft-small; all by default")] = "",
    text: Annotated[list[Path] | None, typer.Option(help="UTF-8 text to train on, in place of Python's library")] = None,
) -> None:
    """Train the small models of the tiny family that are not trained yet; vLLM and transformers load them unchanged."""
    from moebook.models import references, tiny

    if family != "tiny":
        raise ValueError(f"{family!r} is no family that moebook trains; allowed: tiny")
    wanted, texts = [m for m in members.split(",") if m], tuple(map(str, text or ())) or tiny.texts()
    for member in wanted or tiny.preset(preset).members:
        references.check_member(preset, member)
    folder = tiny.family_folder(preset, texts)
    from moebook.models import training

    records = training.train_family(preset, wanted, texts, lambda line: print(line, flush=True))
    typer.echo(tiny.table(records, folder))
    if text:
        typer.echo(f"to use them: export {tiny.TEXT_VARIABLE}={os.pathsep.join(texts)}")


@app.command()
def quality(
    checkpoint: Annotated[Path, typer.Argument(help="folder of a Hugging Face checkpoint")],
    tasks: Annotated[str, typer.Option(help="lm-eval tasks; the study's by default")] = "",
    quantization: Annotated[str | None, typer.Option(help="engine quantization, e.g. fp8")] = None,
    limit: Annotated[int | None, typer.Option(help="examples a task")] = None,
) -> None:
    """Accuracy of a checkpoint on lm-eval tasks (needs the extra `quality`)."""
    from moebook import quality as scoring
    from moebook.models.formats import engine_arguments, needs_packed

    if needs_packed(quantization):
        raise ValueError(f"quantization {quantization!r} cannot be made of 16-bit weights as the engine loads: give a "
                         "checkpoint packed in that format, and no --quantization")
    found = scoring.evaluate(checkpoint, tuple(filter(None, tasks.split(","))) or scoring.TASKS, limit=limit,
                             engine_arguments=engine_arguments(quantization))
    typer.echo(json.dumps(found, indent=1))


@app.command()
def doctor() -> None:
    """Whether this machine can measure, and what is missing."""
    from moebook.doctor import checks

    found = checks()
    for check in found:
        typer.echo(f"{'ok  ' if check.ok else 'MISS'} {check.name}: {check.detail}")
    raise typer.Exit(0 if all(c.ok for c in found) else 1)


def main() -> None:
    """Entry point: errors a user can mend are one message on standard error, without a traceback."""
    from moebook.store import FolderInUse, Unwritable

    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, FolderInUse, Unwritable) as error:
        sys.exit(f"moebook: {error}")
    except RuntimeError as error:
        if type(error).__name__ not in ("NoResults", "NoWorker", "TrainingFailed"):
            raise
        sys.exit(f"moebook: {error}")


if __name__ == "__main__":
    main()
