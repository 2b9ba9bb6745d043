"""Section 10's sliders, in a live kernel: configurations A and B, their picture, and the view as
code, CSV or PDF."""

import contextlib
import html
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from moebook.explore.widgets import HEADLESS, is_live
from moebook.models import catalog
from moebook.models.edit import edit
from moebook.models.formats import SERIES
from moebook.plot import figure_files
from moebook.predict import shipped
from moebook.results import page
from moebook.sections.what_if import commentary, enrich, figures
from moebook.sections.what_if.setup import GRAPHS, SIZES, Setup

POWERS = tuple(2**n for n in range(18))
SLIDERS = {  # field -> (label, steps); the value at hand is one of them, and a model's own size
    "expert_ffn_dim": ("FFN width", tuple(range(256, 16385, 256))),
    "num_experts": ("experts", (4, 8, 16, 32, 60, 64, 128, 256, 512)),
    "top_k": ("top-k", (1, 2, 4, 6, 8, 10, 16, 32)),
    "num_layers": ("layers", tuple(range(4, 129, 4))),
    "batch": ("batch", POWERS[:10]),
    "input_tokens": ("tokens in", POWERS[4:]),
    "output_tokens": ("tokens out", POWERS[4:14]),
}
CHOICES = {
    "number_format": ("format", tuple(SERIES)),
    "card": ("card", tuple(shipped.names())),
    "tensor_parallel": ("cards (TP)", (1, 2, 4, 8)),
    "pipeline_parallel": ("stages (PP)", (1, 2, 4, 8)),
    "expert_parallel": ("expert parallel", ()),
    "graphs": ("graphs", GRAPHS),
    "routing": ("routing", ("uniform", "same", "model", "zipf:0.5", "zipf:1", "zipf:2")),
}
GRID = {"grid_template_columns": "105px 172px 172px", "grid_gap": "0 4px", "margin": "0 12px 0 0"}


def sliders(run, *, live: bool | None = None):
    """The widgets of a notebook's run; headless None, and one printed sentence."""
    if not (is_live() if live is None else live):
        print(HEADLESS)
        return None
    return WhatIf(run.params.setups, run.results.folder / "figures").box


class WhatIf:
    """Controls of A and B, and what they show. A configuration of which nothing can be said leaves
    the last picture and says why."""

    def __init__(self, setups: tuple[Setup, Setup], out: Path):
        import ipywidgets as w

        from moebook.explore.chart_widget import Chart
        from moebook.sections.what_if.chart import chart

        self.setups, self.out, self.draw, self.quiet = list(setups), out, chart, False
        self.pick = [self._controls(w, i) for i in range(2)]
        self.said, self.sure, self.code, self.saved = (w.HTML() for _ in range(4))
        self.chart = Chart({"data": [], "layout": {}})
        self.buttons = [w.Button(description=f"save {name}") for name in ("PDF", "CSV")]
        for name, button in zip(("pdf", "csv"), self.buttons, strict=True):
            button.layout.width = "100px"
            button.on_click(self._exporter(name))
        grids = [self._grid(w, labels) for labels in ({"model": ("model",)} | CHOICES, SLIDERS)]
        controls = w.HBox(grids, layout={"flex_flow": "row wrap"})
        saving = w.HBox([*self.buttons, self.saved])
        self.box = w.VBox([controls, self.said, self.chart, self.sure, saving, self.code])
        for setup in setups:
            prepare(setup.model)
        self._show()

    def _grid(self, w, labels: dict):
        """Names, and the controls of A and B beside each other."""
        cells = [w.HTML(), *(w.HTML(f"<b>{name}</b>") for name in enrich.NAMES)]
        for name, (label, *_) in labels.items():
            cells += [w.HTML(label), *(own[name] for own in self.pick)]
        return w.GridBox(cells, layout=GRID)

    def _controls(self, w, i: int) -> dict:
        setup, look = self.setups[i], {"layout": {"width": "168px"}}
        models = _with(catalog.names(), setup.model)
        own = {"model": w.Dropdown(options=models, value=setup.model, **look)}
        for name in SLIDERS:
            steps, value = _steps(setup, name)
            own[name] = w.SelectionSlider(options=steps, value=value, **look)
        for name, (_, options) in CHOICES.items():
            value = getattr(setup, name)
            if isinstance(value, bool):
                own[name] = w.Checkbox(value, indent=False, **look)
            else:
                own[name] = w.Dropdown(options=_with(options, value), value=value, **look)
        for name, widget in own.items():
            widget.observe(self._on(i, name), "value")
        return own

    def _on(self, i: int, name: str) -> Callable[[dict], None]:
        def changed(change: dict) -> None:
            if self.quiet:
                return
            changes, is_model = {name: change["new"]}, name == "model"
            if is_model:  # with its own sizes
                changes |= dict.fromkeys(SIZES)
            elif name in SIZES and change["new"] == _own(self.setups[i], name):
                changes[name] = None
            self.setups[i] = self.setups[i].changed(changes)
            if is_model:
                self._settle(i)
            self._show()

        return changed

    def _settle(self, i: int) -> None:
        """Sliders of sizes at another model's own."""
        prepare(self.setups[i].model)
        self.quiet = True
        for name in SIZES:
            widget = self.pick[i][name]
            widget.options, widget.value = _steps(self.setups[i], name)
        self.quiet = False

    def _show(self) -> None:
        self.said.value = "<i>…</i>"  # until the answer: a model's first resize takes seconds
        try:
            self.table = enrich.table_of(tuple(self.setups))
        except ValueError as error:
            self.said.value = f"<i>No prediction: {html.escape(str(error))}</i>"
            return
        self.chart.figure = self.draw(self.table)
        self.said.value = page.inline(commentary.headline(self.table))
        told = (f(self.table).splitlines() for f in (commentary.memory, commentary.curves))
        self.sure.value = "<br>".join(
            page.inline(line.removeprefix("- ")) for lines in told for line in lines
        )
        self.code.value = f"<pre>{html.escape(code(*self.setups))}</pre>"

    def _exporter(self, name: str) -> Callable:
        def export(_button) -> None:
            written = []
            for one in (figures.curves, figures.step_parts, figures.memory):
                fig, rows = one(self.table)
                formats = () if name == "csv" else (name,)
                written += figure_files.save(fig, rows, self.out, f"moved_{one.name}", formats)
            files = (str(path) for path in written if path.suffix == f".{name}")
            self.saved.value = f"written: <code>{html.escape(', '.join(files))}</code>"

        return export


def prepare(model: str) -> Thread | None:
    """Resize once, beside, a model that no formula covers: the first time imports transformers for
    seconds, which the first move of a slider would wait for."""
    arch = catalog.load(model)
    if arch.counts is None or arch.num_layers < 2:
        return None

    def resize() -> None:
        with contextlib.suppress(ValueError):  # is said where the reader asks for it
            edit(arch, num_layers=arch.num_layers - 1)

    thread = Thread(target=resize, daemon=True)
    thread.start()
    return thread


def code(a: Setup, b: Setup) -> str:
    """Python that gives the table of A and B anywhere where moebook is installed."""
    return (
        "from moebook.sections.what_if.setup import Setup\n"
        "from moebook.sections.what_if.enrich import table_of\n"
        f"a = {a.code()}\nb = {b.code()}\ntable_of((a, b))"
    )


def _with(options, value) -> tuple:
    return tuple(dict.fromkeys((*options, value)))


def _own(setup: Setup, name: str) -> int:
    """A size of the unedited model."""
    return getattr(catalog.load(setup.model), name)


def _steps(setup: Setup, name: str) -> tuple[list[int], int]:
    """Steps of a slider, the model's own size and the chosen one among them; and the chosen one."""
    own = [_own(setup, name)] if name in SIZES else []
    chosen = getattr(setup, name) or own[0]
    return sorted({*SLIDERS[name][1], *own, chosen}), chosen
