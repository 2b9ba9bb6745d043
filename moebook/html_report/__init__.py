"""A profile's results as one HTML file to hand on: nothing in it is loaded from elsewhere.

    build("h200")     -> the page: verdicts, every section's figures with commentary and data

Pure functions of stored results; `moebook report` writes the file. Figures are SVG, drawn for
light paper; where the reader's system asks for dark, their brightness is turned over and their hues
stay."""

import re
from base64 import b64encode
from functools import cache
from html import escape
from operator import itemgetter
from pathlib import Path

import pandas as pd

from moebook.plot import figure_files
from moebook.plot.figure import SectionFigure
from moebook.results import cards, page
from moebook.results.commentary import NOT_PLANNED
from moebook.results.loading import NoResults
from moebook.results.schema import KIND_MEANINGS
from moebook.sections import profile as whole_profile
from moebook.workbook import Run

STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
ABOUT = (
    "What MoE-Inference-Bench claims of the inference of Mixture-of-Experts models, measured again "
    "with vLLM: a verdict on each claim, then each section's figures with the rows behind them."
)
CARDS = (
    "Each line opens to a section's cards, each card to its cells, checks and rule. On other "
    "conditions: devices, lengths or models are not the source's."
)
LACKING = "Not in this report, as the profile has no results of:"
KINDS = f"Kinds of number: {', '.join(f'{word} ({of})' for word, of in KIND_MEANINGS.items())}."
FACTS = ("device", "engine_version", "driver", "method")


def build(profile: str, output_root: str | None = None) -> str:
    """The page of a profile. ValueError where it is unknown or has no results."""
    verdicts, _ = whole_profile.all_verdicts(profile, output_root)
    parts, without, why = [], [], ""
    for run in whole_profile.runs(profile, output_root):
        try:
            run.read()
        except NoResults as error:
            without.append(_title(run))
            why = error
            continue
        run.verdicts = [one for one in verdicts if one.notebook == run.section.stem]
        parts.append((run, _title(run)))
    if not parts:
        raise ValueError(f"nothing to report of profile {profile!r}; {why}")
    verdicts = [one for run, _ in parts for one in run.verdicts]
    links = "".join(
        f'<li><a href="#{run.section.stem}">{escape(title)}</a> {_finding(run)}</li>'
        for run, title in parts
    )
    lacking = "".join(f"<li>{escape(title)}</li>" for title in without)
    body = [
        f"<h1>moebook, profile {escape(profile)}</h1>",
        f"<p>{escape(ABOUT)}</p><h2>What was found</h2><ul>{links}</ul>",
        f"<p>{LACKING}</p><ul>{lacking}</ul>" * bool(lacking),
        "<h2>The source's claims</h2>",
        f"<p>{cards.counted(verdicts)}. {escape(CARDS)}</p>",
        cards.by_section(verdicts).html,
        *(f'<h2 id="{r.section.stem}">{escape(title)}</h2>{_section(r)}' for r, title in parts),
        f"<h2>Kinds of number</h2><p>{escape(KINDS)}</p>",
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>moebook, {escape(profile)}</title><style>{STYLE}</style></head>"
    )
    return f"{head}<body><main>{''.join(body)}</main></body></html>\n"


@cache
def _cells(notebook: Path) -> list[str]:
    import nbformat

    return [cell.source for cell in nbformat.read(notebook, as_version=4).cells]


def _title(run: Run) -> str:
    """The notebook's own first heading."""
    return _cells(run.section.notebook)[0].splitlines()[0].lstrip("# ")


def _finding(run: Run) -> str:
    """The section's answer, in its first sentence."""
    told, _ = page.said(run.section.commentary.headline(run.table))
    return page.inline(" ".join(told[:1]).removeprefix("**Finding.** "))


def _section(run: Run) -> str:
    """The box, every figure with its commentary in the notebook's order, and what it was measured
    on. Figures that the plan leaves out are named in a line."""
    found = list(run.section.figures.values())
    told = [f"figures.{one.__name__}" for one in found]
    called = re.findall(r"figures\.\w+", "\n".join(_cells(run.section.notebook)))
    places = [called.index(name) if name in called else len(called) for name in told]
    ordered = [one for _, one in sorted(zip(places, found, strict=True), key=itemgetter(0))]
    left = [one for one in ordered if _said(run, one).startswith(NOT_PLANNED)]
    figures = "".join(_figure(run, one) for one in ordered if one not in left)
    names = ", ".join(f"<code>{one.name}</code>" for one in left)
    figures += f"<p>Figures that are not part of this plan: {names}.</p>" * bool(left)
    return run.box().html + figures + _conditions(run)


def _said(run: Run, figure: SectionFigure) -> str:
    say = getattr(run.section.commentary, figure.__name__, None)
    return say(run.table) if say else ""


def _figure(run: Run, figure: SectionFigure) -> str:
    """The drawing, its caption with the devices, its data, and what it says; or why it is not
    drawn."""
    text = _said(run, figure)
    said = page.bullets(text)
    try:
        fig, rows = figure(run.table)
    except ValueError as error:
        title = f"{figure.title} ({figure.name}): not drawn"
        return page.fold(title, f"<p>{page.inline(f'{error}. {text}')}</p>")
    files = figure_files.made(fig, rows, figure.name, ("svg",), "page")
    caption = page.inline(" ".join((figure.__doc__ or "").split("\n\n")[0].split()))
    devices = rows["device"] if "device" in rows else run.results.table["device"]
    caption += f" {escape(', '.join(devices.dropna().unique()))}."
    name = f"{run.section.stem}-{figure.name}.csv"
    data = b64encode(files[f"{figure.name}.csv"]).decode()
    link = f'<a download="{name}" href="data:text/csv;base64,{data}">CSV</a>'
    drawn = _inline(files[f"{figure.name}.svg"])
    return (
        f'<figure id="{run.section.stem}-{figure.name}"><div>{drawn}</div>'
        f"<figcaption>{caption} {link}</figcaption>{said}</figure>"
    )


def _inline(svg: bytes) -> str:
    """An SVG file as an element of a page: without its header and metadata."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)


def _conditions(run: Run) -> str:
    """Devices, engine versions and methods of the section's rows, and its parameters, folded."""
    table = run.results.summary
    known = [column for column in FACTS if column in table]
    counts = table[known].fillna("–").value_counts().rename("points").reset_index()
    given = [
        {"parameter": key, "value": str(value)} for key, value in run.params.model_dump().items()
    ]
    body = page.table(counts) + page.table(pd.DataFrame(given))
    return page.fold("Conditions and parameters", body)
