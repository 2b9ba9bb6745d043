"""What a notebook's cells call: a `Run` has its parameters, plan, results and what was drawn.

    run = section.open(globals())     # parameters resolved, folded with where each came from
    run.measure()                     # resumes; without the profile's device it only reads
    run.page()                        # the finding, numbers, verdicts; plan and table folded
    run.show_plan()                   # the plan's first points
    run.show()                        # where the results are from, and the table
    run.table                         # the same in pandas, a row per point
    figures.over_batch(run)           # a picture; commentary.over_batch(run): what it says
    run.fold(figures.over_length)     # both, folded under the answer
    run.judge()                       # a card per claim of the source
    run.explore()                     # widgets, in a live kernel
    run.save()                        # figures in four formats, table, provenance, DONE.json

Only `measure` and `save` write."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from inspect import signature

import pandas as pd
from IPython.display import display

from moebook import devices, paths
from moebook.explore import widgets
from moebook.explore.views import Source
from moebook.measure import run as measuring
from moebook.measure.executors import cards_for
from moebook.measure.files import Unwritable
from moebook.measure.progress import Progress
from moebook.measure.store import Store
from moebook.problems import Refused
from moebook.results import cards, loading, report, saving, verdicts
from moebook.results import page as pages
from moebook.results.commentary import NOT_PLANNED
from moebook.results.findings import Verdict
from moebook.results.loading import Results
from moebook.study.params import NotebookParams, from_notebook
from moebook.study.plan import Plan


def open_run(section, names: dict) -> "Run":
    """The run of a notebook, from the names of its parameters cell; ParameterError with all that is
    wrong. Each value is shown, folded, with where it came from."""
    params = from_notebook(section.params, names, "this notebook", is_headless())
    if params.profile not in paths.profiles(section.stem):
        file = f"params/{params.profile}/{section.stem}.yaml"
        print(f"There is no {file}: what is not given is of the profile named below.")
    display(report.parameters_table(params))
    return Run(section, params)


def is_headless() -> bool:
    """True under papermill, nbconvert and `moebook run`: nobody can move a slider
    (`widgets.is_live` says how it is known)."""
    return not widgets.is_live()


class Run:
    """section: moebook.section.Section. drawn: name of a figure -> its files, name -> bytes."""

    def __init__(self, section, params: NotebookParams):
        self.section, self.params = section, params
        self.drawn: dict[str, dict[str, bytes]] = {}
        self._results: Results | None = None

    @cached_property
    def plan(self) -> Plan:
        return self.section.plan(self.params)

    @property
    def results(self) -> Results:
        """Tables with their origin. RuntimeError before `measure` or `read`."""
        if self._results is None:
            raise RuntimeError(
                "no results are loaded yet: call run.measure() (or run.read()) first"
            )
        return self._results

    @property
    def table(self) -> pd.DataFrame:
        """A row per point, with medians, ranges and all that is computed of them: what figures,
        commentary and the explorer take. Columns: docs/data_dictionary.md."""
        return self.results.shown

    @property
    def repeats(self) -> pd.DataFrame:
        """A row per repeat of a point."""
        return self.results.table

    def show_plan(self, limit: int = 12):
        """The plan's totals, printed, and its first rows, those that will not run and one of each
        kind first."""
        frame, line = report.plan_frame(self.plan)
        print(line)
        return report.plan_table(frame, limit)

    def present(self) -> str:
        """`34 to measure` on the plan's device, or where the results are that would be shown."""
        plan, root = self.plan, self.params.output_root
        if not plan.points:
            return "nothing to measure"
        device = devices.detect(plan.device)
        if device is None:
            return f"this machine is no {plan.device}: nothing can be measured here"
        try:
            cards_for(plan.measured, device)
        except Refused as error:
            return f"nothing can be measured here: {error}"
        left, folder = measuring.pending(plan, root), Store(root, plan).folder
        return (
            f"{len(plan.measured) - len(left)} points present, {len(left)} to measure, in "
            f"{paths.shown(folder)}"
        )

    def measure(self, worker: measuring.WorkerHandle | None = None) -> None:
        """Measure what is missing, on the profile's device, then load the whole table; elsewhere
        load the reference results. A dry run measures and reads nothing."""
        if self.params.dry_run or not self.params.measures:
            self.read()
            return
        try:
            Store(self.params.output_root, self.plan).withdraw()
        except Unwritable as error:
            print(f"An earlier completion record stands: {error}")
        if devices.detect(self.plan.device) is None:
            print(
                f"Nothing is measured: profile {self.plan.profile!r} is for device "
                f"{self.plan.device!r}, this machine has {devices.here()}."
            )
        else:
            measuring.measure(
                self.plan,
                self.params.output_root,
                worker=worker,
                limit_s=60 * self.params.point_limit_minutes,
                progress=Progress(live=not is_headless()),
            )
        self.read()

    def read(self) -> Results:
        """Load results without measuring: one's own, else the reference's. NoResults where there
        are neither."""
        enrich = self.section.enrich
        said = "nothing is measured here"
        if self.params.dry_run:
            said = "dry run: the plan stands above, nothing was measured or read"
        if self.params.dry_run or not self.params.measures:
            self._results = loading.unmeasured(self.params, self.plan, said, enrich)
        else:
            self._results = loading.load(self.params, self.plan, enrich)
        return self._results

    def show(self, limit: int = 24):
        """Where the results come from, how many there are, and the table, failures first."""
        res = self.results
        counts = ", ".join(f"{n} {s}" for s, n in res.counts().items())
        print(
            f"Results: {res.origin}. Points: {counts}.\nRead from {paths.shown(res.source_folder)}."
        )
        return report.results_table(res.summary, limit, source=res.footer)

    def draw(self, figure: Callable, width: str = "page"):
        """One of the section's figures as a picture; `save` writes it in four formats. Where the
        results hold no row for it, the reason as text; where the plan leaves it out, nothing: the
        commentary says so."""
        from IPython.display import Image, Markdown

        try:
            return Image(self._picture(figure, width))
        except ValueError as error:
            if self._told(figure).startswith(NOT_PLANNED):
                return None
            return Markdown(f"*Not drawn: {error}*")

    def _picture(self, figure: Callable, width: str = "page") -> bytes:
        """A figure as PNG, kept for `save`; ValueError where its rows are missing."""
        from moebook.plot import figure_files

        with self.figure(figure, width) as (fig, rows):
            named = figure_files.named(figure.name, width)
            self.drawn[named] = figure_files.made(fig, rows, named, width=width)
            return figure_files.render(fig, dpi=figure_files.SCREEN_DPI)

    def fold(self, *parts: Callable) -> pages.Html:
        """Figures with what is said of them, and commentaries, each folded under a line that has
        its answer: for what a reader may skip. What the plan leaves out is named in a last line."""
        told = {part: self._told(part) for part in parts}
        left = [part for part in parts if told[part].startswith(NOT_PLANNED)]
        folded = [
            self._folded(part, told[part])
            for part in parts
            if part not in left and (told[part] or hasattr(part, "title"))
        ]
        last = "Not in this plan: " + ", ".join(p.__name__.replace("_", " ") for p in left) + "."
        if left:
            folded.append(pages.Html(f'<div style="margin:4px 0">{last}</div>', last))
        return pages.Html("".join(f.html for f in folded), "\n".join(f.text for f in folded))

    def _told(self, part: Callable) -> str:
        """What the commentary of this name says of the table; some ask for parameters by name."""
        say = getattr(self.section.commentary, part.__name__, None)
        if say is None:
            return ""
        asked = list(signature(say).parameters)[1:]
        return say(self.table, *(getattr(self.params, name) for name in asked))

    def _folded(self, part: Callable, text: str) -> pages.Html:
        told, rest = pages.said(text)
        body = "".join(f"<p>{pages.inline(one)}</p>" for one in told[1:]) + rest
        title = " ".join(told[:1])
        if hasattr(part, "title"):
            title = f"**{part.title}.** {title}"
            try:
                body = pages.picture(self._picture(part), part.name) + body
            except ValueError as error:
                title += f" Not drawn: {error}."
        return pages.Html(pages.fold(title, body, "none"), text or title)

    @contextmanager
    def figure(self, figure: Callable, width: str = "page") -> Iterator[tuple]:
        """(Figure, rows) of one of the section's figures; ValueError where its rows are missing."""
        import matplotlib.pyplot as plt

        from moebook.plot import layout, length_axis

        fig, rows = figure(self.table, width=width)
        said = (self.results.footer_of(rows), length_axis.conditions(fig, rows))
        layout.footer(fig, "; ".join(filter(None, said)))
        try:
            yield fig, rows
        finally:
            plt.close(fig)

    def say(self, commentary: Callable[..., str]) -> pages.Html:
        """A commentary on the table: at most three bullets, the rest folded."""
        text = commentary(self.table)
        return pages.Html(pages.bullets(text), text)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """On the source's claims of this section."""
        return verdicts.evaluate(self.results.summary, self.section.claims)

    def box(self) -> pages.Html:
        """The finding, four numbers, a chip per claim, and what it was measured on."""
        res, told = self.results, self.section.commentary
        finding = told.headline(self.table)
        numbers = told.numbers(self.table) if hasattr(told, "numbers") else ()
        counts = ", ".join(f"{n} {status}" for status, n in res.counts().items())
        below = f"{res.origin}." + f" Points: {counts}." * bool(counts)
        chips = [pages.chip(v.verdict, v.id) for v in self.verdicts]
        text = pages.box_text(finding, numbers, below)
        return pages.Html(pages.box(finding, numbers, chips, below), text)

    def page(self) -> pages.Html:
        """The top of the page: the box; the plan and the whole table folded."""
        res, top = self.results, self.box()
        frame, line = report.plan_frame(self.plan)
        rows = report.results_table(res.summary, max(len(res.summary), 1), res.footer)
        folds = pages.fold(f"Plan: {line}", report.plan_table(frame, max(len(frame), 1)).html)
        folds += pages.fold(f"All results: {len(res.summary)} rows", rows.html)
        return pages.Html(top.html + folds, top.text)

    def judge(self) -> pages.Html:
        """The source's claims of this section, a card each."""
        return cards.html_cards(self.verdicts)

    def explore(self, view: str | None = None, **choice):
        """Widgets over the table in a live kernel; headless one printed sentence and, of a view
        that is asked for, its picture. choice: fields of explore/views.py's Choice."""
        wish = choice if view is None else {"view": view, **choice}
        return widgets.explorer(Source.of(self), self.section.views, wish)

    def save(self) -> str:
        """Write what was made: figures, of one's own results the table, provenance, and the
        completion record. The record, not the kernel's word, says that a run is whole. Where the
        folder cannot be written, this is said and nothing is lost but the files."""
        return saving.save(self)
