"""A widget to explore a results table, in a live kernel only.

Live means that somebody can move a slider. The kernel knows: every front end (JupyterLab, Notebook,
VS Code, a console) allows the cell to ask for input, and every runner (papermill, `moebook run`,
nbconvert --execute, nbclient) forbids it, as there is nobody to answer. That flag travels with each
execute request, so it stays right where an executed notebook is opened later, or papermill is
started from a notebook's own cell. MOEBOOK_HEADLESS=1 forces headless."""

import html
import os
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from moebook.explore import choices
from moebook.explore.choices import ROLES, Choice
from moebook.explore.views import View, with_rows
from moebook.plot.rows import METRICS, reading
from moebook.plot.style import SCREEN_DPI, render

NAMES = {"x": "x axis", "line": "lines", "panel": "panels"}
ALL, NONE = ("all", ""), ("–", "")  # (text, value): a dropdown at None would show no text


def is_live() -> bool:
    """True where a front end that can answer runs this cell. Imports nothing heavy."""
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


def explorer(summary: pd.DataFrame, views: tuple[View, ...], *, live: bool | None = None):
    """Dropdowns over the section's views with the picture below them; None, and one printed
    sentence, in a headless run and where there is no number yet."""
    if not (is_live() if live is None else live):
        print(
            "The explorer is for a live kernel: open this notebook in JupyterLab and run this cell "
            "to use it."
        )
        return None
    found, missing = with_rows(summary, views)
    if not found:
        print("There is nothing to explore yet: no row has a number.")
        return None
    remarks = [f"View “{name}” is not offered: {reason}." for name, reason in missing.items()]
    return _Explorer(found, remarks).box


class _Explorer:
    """The widgets and their state. A change becomes a choice that can be drawn, which they show."""

    def __init__(self, found: dict[View, pd.DataFrame], remarks: list[str]):
        import ipywidgets as w

        self.found, self.remarks, self.quiet = found, remarks, False
        self.view = next(iter(found))
        self.choice = choices.first(self.rows, self.view)
        self.pick = {"view": w.Dropdown(options=[(v.name, v) for v in found], description="view")}
        for name, text in (("metric", "metric"), ("only", "only"), *NAMES.items()):
            self.pick[name] = w.Dropdown(description=text)
        for name, text in (("log_x", "log x"), ("log_y", "log y")):
            self.pick[name] = w.Checkbox(description=text, indent=False, layout={"width": "auto"})
        own_size = {"align_self": "flex-start", "max_width": "100%"}
        wrapped = w.Layout(flex_flow="row wrap")  # a narrow window would cut the last ones off
        self.picture, self.notes = w.Image(format="png", layout=own_size), w.HTML()
        rows = [
            w.HBox([self.pick[n] for n in ("view", "metric", "only")]),
            w.HBox([self.pick[n] for n in (*ROLES, "log_x", "log_y")], layout=wrapped),
        ]
        self.box = w.VBox([*rows, self.picture, self.notes])
        self._show()
        for name, widget in self.pick.items():
            widget.observe(self._on(name), "value")

    @property
    def rows(self) -> pd.DataFrame:
        return self.found[self.view]

    def _on(self, name: str) -> Callable[[dict], None]:
        def changed(change: dict) -> None:
            if not self.quiet:
                new = change["new"]
                self.choice = self._chosen(name, None if new == "" else new)
                self._show()

        return changed

    def _chosen(self, name: str, value: object) -> Choice:
        """The choice after one widget changed."""
        if name == "view":
            self.view = value
            return choices.first(self.rows, value)
        moved = choices.moved(self.choice, name, value) if name in ROLES else None
        wish = moved or replace(self.choice, **{name: value})
        return choices.settled(self.rows, self.view, wish)

    def _show(self) -> None:
        """Widgets at the choice, and its picture."""
        fig, _, notes = choices.picture(self.rows, self.choice)
        self.quiet = True
        for name, options in self._options().items():
            self.pick[name].options = options
            value = getattr(self.choice, name)
            self.pick[name].value = "" if value is None else value
        self.pick["log_x"].value = self.choice.log_x
        self.pick["log_y"].value = fig.axes[0].get_yscale() == "log"
        self.quiet = False
        self.picture.value = render(fig, dpi=SCREEN_DPI)
        self.notes.value = "<br>".join(html.escape(note) for note in (*notes, *self.remarks))

    def _options(self) -> dict[str, list[tuple]]:
        """(text, value) of what each dropdown offers."""
        offered = choices.offers(self.rows, self.view, self.choice.metric)
        columns = [(choices.words(c), c) for c in offered.columns or [self.choice.x]]
        only = [(_said(*pair), pair) for pair in offered.only]
        return {
            "metric": [(METRICS[m], m) for m in offered.metrics],
            "only": [ALL, *only],
            "x": columns,
            "line": [NONE, *columns],
            "panel": [NONE, *columns],
        }


def _said(column: str, value: object) -> str:
    return f"{choices.words(column)}: {reading(column, value)}"
