"""The explorer at a notebook's end, in a live kernel: dropdowns, the picture, what a click tells,
and ways to take a view along."""

import html
import os
from collections.abc import Callable
from dataclasses import fields, replace

import pandas as pd

from moebook.explore import arranged, hover
from moebook.explore import views as choosing
from moebook.explore.chart import LAYERS, chart
from moebook.explore.views import ROLES, Choice, Source, View, with_rows
from moebook.plot import figure_files
from moebook.plot.figure import METRICS
from moebook.problems import Told

NAMES = {"x": "x axis", "line": "lines", "panel": "panels", "over": "ratio to"}
ALL, NONE, VALUES = ("all", ""), ("–", ""), ("– (values)", "")  # "" stands for None
RATIO = "_ratio"  # to a baseline: the end of a metric's name in rows that are shown or saved
HEADLESS = "The explorer is for a live kernel: open this notebook in JupyterLab or VS Code and run "
HEADLESS += "this cell to use it."
EXPORTS = ("pdf", "svg", "csv")
WIDE = {"layout": {"width": "232px"}, "style": {"description_width": "56px"}}  # four in a row


def explorer(
    source: Source,
    views: tuple[View, ...],
    wish: dict | None = None,
    *,
    live: bool | None = None,
):
    """Widgets over the section's views. wish: `view`, `profiles` and fields of Choice to open with,
    as the line of code beneath the picture gives them. Headless one printed sentence and, of a
    wish, its picture; ValueError where the wish names no view, profile, field or column."""
    asked, wish = bool(wish), dict(wish or {})
    profiles = tuple(wish.pop("profiles", (source.profile,)))
    found, missing = with_rows(source.rows(profiles), views)
    if not found:
        print("There is nothing to explore yet: no row has a number.")
        return None
    view = _view_of(found, wish.pop("view", None))
    choice = _wished(found[view], view, wish)
    if not (is_live() if live is None else live):
        print(HEADLESS)
        if not asked:
            return None
        from IPython.display import Image

        fig = arranged.picture(found[view], choice)[0]
        return Image(figure_files.render(fig, dpi=figure_files.SCREEN_DPI))
    remarks = [f"View “{name}” is not offered: {reason}." for name, reason in missing.items()]
    return Explorer(source, views, profiles, view, choice, remarks).box


def _view_of(found: dict[View, pd.DataFrame], name: str | None) -> View:
    names = {view.name: view for view in found}
    if name is not None and name not in names:
        raise ValueError(f"no view {name!r} has rows; those that have: {', '.join(names)}")
    return names[name] if name else next(iter(found))


def _wished(rows: pd.DataFrame, view: View, wish: dict) -> Choice:
    """A view's first choice with what is wished; what cannot be drawn is settled."""
    known = [field.name for field in fields(Choice)]
    if unknown := sorted(set(wish) - set(known)):
        raise ValueError(
            f"explore() takes no {', '.join(unknown)}; it takes view, profiles, {known}"
        )
    return choosing.settled(rows, view, replace(choosing.first(rows, view), **wish))


class Explorer:
    """The widgets and their state. A change becomes a choice that can be drawn, which they show."""

    def __init__(
        self,
        source: Source,
        views: tuple[View, ...],
        profiles: tuple[str, ...],
        view: View,
        choice: Choice,
        remarks: list[str],
    ):
        import ipywidgets as w

        from moebook.explore.chart_widget import Chart

        self.source, self.views, self.profiles = source, views, profiles
        self.view, self.choice, self.remarks = view, choice, remarks
        self.found = with_rows(source.rows(profiles), views)[0]
        self.clicked, self.quiet = [], True
        dropdown = lambda text: w.Dropdown(description=text, **WIDE)  # noqa: E731
        self.pick = {name: dropdown(name) for name in ("view", "metric", "only")}
        self.pick |= {name: dropdown(text) for name, text in NAMES.items()}
        for name in ("log_x", "log_y", *LAYERS):
            text = name.replace("_", " ")
            self.pick[name] = w.Checkbox(True, description=text, indent=False)
            self.pick[name].layout.width = "auto"
        names = (source.profile, *source.others)
        self.pick["profiles"] = w.SelectMultiple(
            options=names, value=profiles, description="profiles", rows=min(4, len(names)), **WIDE
        )
        self.pick["profiles"].layout.display = "" if len(names) > 1 else "none"
        does = {f"save {name.upper()}": self._exporter(name) for name in EXPORTS}
        does["show rows"] = self._show_rows
        self.buttons = [w.Button(description=text, layout={"width": "100px"}) for text in does]
        for button, act in zip(self.buttons, does.values(), strict=True):
            button.on_click(act)
        self.notes, self.code, self.told = w.HTML(), w.HTML(), w.HTML()
        self._arrange()
        self.chart = Chart(self._figure())
        self.chart.observe(self._on_click, "clicked")
        wrapped = w.Layout(flex_flow="row wrap")
        rows = [
            w.HBox([self.pick[n] for n in ("view", "metric", "only", "profiles")], layout=wrapped),
            w.HBox([self.pick[n] for n in NAMES], layout=wrapped),
            w.HBox([self.pick[n] for n in ("log_x", "log_y", *LAYERS)], layout=wrapped),
        ]
        under = w.HBox([*self.buttons, self.code], layout=wrapped)
        self.box = w.VBox([*rows, self.chart, self.notes, under, self.told])
        self._show()
        for name, widget in self.pick.items():
            widget.observe(self._on(name), "value")

    @property
    def rows(self) -> pd.DataFrame:
        return self.found[self.view]

    def _on(self, name: str) -> Callable[[dict], None]:
        def changed(change: dict) -> None:
            if self.quiet:
                return
            new = change["new"]
            if name == "profiles":
                self._take(new or (self.source.profile,))
            elif name not in LAYERS:
                self.choice = self._chosen(name, None if new == "" else new)
            self._arrange()
            self.chart.figure = self._figure()
            self._show()

        return changed

    def _take(self, profiles: tuple[str, ...]) -> None:
        """The rows of these profiles, and the choice on them; as it was where they have none."""
        try:
            found = with_rows(self.source.rows(profiles), self.views)[0]
        except Told as error:
            self.remarks.append(str(error))
            return
        if not found:
            return
        self.found, self.profiles = found, profiles
        self.view = self.view if self.view in found else next(iter(found))
        self.choice = choosing.settled(self.rows, self.view, self.choice)

    def _chosen(self, name: str, value: object) -> Choice:
        """The choice after one widget changed."""
        if name == "view":
            self.view = value
            return choosing.first(self.rows, value)
        moved = choosing.moved(self.choice, name, value) if name in ROLES else None
        wish = moved or replace(self.choice, **{name: value})
        return choosing.settled(self.rows, self.view, wish)

    def _arrange(self) -> None:
        self.drawn, self.spec, self.said = arranged.arranged(self.rows, self.choice)
        self.clicked, self.told.value = [], ""

    def _figure(self) -> dict:
        return chart(self.drawn, self.spec, tuple(n for n in LAYERS if self.pick[n].value))

    def _show(self) -> None:
        """Widgets at the choice."""
        self.quiet = True
        for name, options in self._options().items():
            if self.pick[name].options != tuple(options):
                self.pick[name].options = options
            value = self.view if name == "view" else getattr(self.choice, name)
            self.pick[name].value = "" if value is None else value
        self.pick["log_x"].value, self.pick["profiles"].value = self.choice.log_x, self.profiles
        self.pick["log_y"].value = self.chart.figure["layout"]["yaxis"].get("type") == "log"
        self.quiet = False
        self.notes.value = "<br>".join(html.escape(note) for note in (*self.said, *self.remarks))
        self.code.value = f"<code>{html.escape(self.line_of_code())}</code>"

    def _options(self) -> dict[str, list[tuple]]:
        """(text, value) of what each dropdown offers."""
        offered = choosing.offers(self.rows, self.view, self.choice)
        columns = [(choosing.words(c), c) for c in offered.columns or [self.choice.x]]
        only, over = ([(arranged.said(p), p) for p in of] for of in (offered.only, offered.over))
        return {
            "view": [(v.name, v) for v in self.found],
            "metric": [(METRICS[m], m) for m in offered.metrics],
            "only": [ALL, *only],
            "x": columns,
            "line": [NONE, *columns],
            "panel": [NONE, *columns],
            "over": [VALUES, *over],
        }

    def line_of_code(self) -> str:
        """The call that opens this view again."""
        first = choosing.first(self.rows, self.view)
        changed = [
            f"{field.name}={_plain(getattr(self.choice, field.name))!r}"
            for field in fields(Choice)
            if getattr(self.choice, field.name) != getattr(first, field.name)
        ]
        if self.profiles != (self.source.profile,):
            changed.append(f"profiles={self.profiles!r}")
        return f"run.explore({', '.join([repr(self.view.name), *changed])})"

    def _on_click(self, change: dict) -> None:
        row = change["new"][0]
        self.clicked = [*self.clicked[-1:], row]
        rows = self.drawn.loc[self.clicked]
        parts = []
        if len(rows) == 2:
            parts.append(f"<b>{html.escape(hover.difference(rows, self.spec.metric))}</b>")
        texts = hover.told(rows, self.spec)
        for letter, text, one in zip("AB", texts, hover.records(rows), strict=False):
            folder = self.source.folder_of(one["profile"])
            parts.append(f"<b>{letter}</b> {text}<br>{hover.details(one, folder)}")
        cells = "".join(f"<div style='flex:1;min-width:22em'>{part}</div>" for part in parts)
        self.told.value = f"<div style='display:flex;flex-wrap:wrap;gap:1em'>{cells}</div>"

    def _show_rows(self, _button) -> None:
        vary = [c for c in choosing.COLUMNS if c in self.rows and self.drawn[c].nunique() > 1]
        metric = self.spec.metric + RATIO * (self.spec.level_label is not None)
        self.told.value = hover.table(self._named(self.drawn), vary, metric)

    def _named(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Ratios under a name of their own, without limits, which are in the metric's unit."""
        if self.spec.level_label is None:
            return rows
        metric = self.spec.metric
        own = {f"{metric}{end}": f"{metric}{RATIO}{end}" for end in ("", "_lo", "_hi")}
        return rows.drop(columns=[c for c in rows if c.startswith("floor_")]).rename(columns=own)

    def _exporter(self, name: str) -> Callable:
        def export(_button) -> None:
            fig, rows = arranged.lines.lines(self.drawn, self.spec)
            stem = f"explorer_{self.view.name}_{self.choice.metric}"
            stem = "".join(c if c.isalnum() or c == "_" else "_" for c in stem)
            formats = () if name == "csv" else (name,)
            files = figure_files.save(fig, self._named(rows), self.source.out, stem, formats)
            wanted = next(file for file in files if file.suffix == f".{name}")
            self.told.value = f"written: <code>{html.escape(str(wanted))}</code>"

        return export


def _plain(value: object) -> object:
    """A picked value as code: numpy's numbers as Python's."""
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    return value.item() if hasattr(value, "item") else value


def is_live() -> bool:
    """Whether somebody can move a slider: true where a front end that can answer runs this cell.

    The kernel knows: every front end (JupyterLab, Notebook, VS Code, a console) allows the cell to
    ask for input, and every runner (papermill, `moebook run`, nbconvert --execute, nbclient)
    forbids it, as there is nobody to answer. That flag travels with each execute request, so it
    stays right where an executed notebook is opened later, or papermill is started from a
    notebook's own cell. MOEBOOK_HEADLESS=1 forces headless."""
    if os.environ.get("MOEBOOK_HEADLESS", "") not in ("", "0"):
        return False
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return False
    try:
        request = kernel.get_parent("shell")["content"]
    except (AttributeError, KeyError, TypeError):
        return bool(getattr(kernel, "_allow_stdin", False))
    return bool(request.get("allow_stdin", False))
