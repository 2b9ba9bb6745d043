"""A widget to explore a results table, in a live kernel only.

Live means that somebody can move a slider. The kernel knows: every front end (JupyterLab, Notebook, VS Code, a
console) allows the cell to ask for input, and every runner (papermill, `moebook run`, nbconvert --execute, nbclient)
forbids it, as there is nobody to answer. That flag travels with each execute request, so it stays right where an
executed notebook is opened later, or papermill is started from a notebook's own cell. MOEBOOK_HEADLESS=1 forces
headless.
"""

import os

import pandas as pd

from moebook.view.panels import Spec, lines
from moebook.view.style import SCREEN_DPI, render
from moebook.view.tables import AXES, METRICS, values_of

SWEEP_SPECS = {
    "grid": {"panel": "num_experts", "line": "top_k", "x": "expert_ffn_dim"},
    "batch_topk": {"panel": "model", "line": "top_k", "x": "batch"},
    "batch_length": {"panel": "model", "line": "input_tokens", "x": "batch"},
    "quant_batch": {"panel": "model", "line": "series", "x": "batch"},
    "quant_length": {"panel": "model", "line": "series", "x": "input_tokens"},
    "formats": {"panel": "model", "line": "series", "x": "batch"},
    "pruning": {"panel": "model", "line": "series", "x": "top_k"},
    "layer": {"panel": "model", "line": "series", "x": "batch"},
    "layer_quantized": {"panel": "model", "line": "series", "x": "batch"},
    "ladder_batch": {"panel": "model", "line": "series", "x": "batch"},
    "ladder_length": {"panel": "model", "line": "series", "x": "input_tokens"},
}
ALL = "all"


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


def explore(summary: pd.DataFrame, sweep: str, *, metric: str = "throughput_tok_s", x: str | None = None,
            line: str | None = None, panel: str | None = None, where: dict | None = None, log_x: bool = True,
            log_y: bool | None = None, width: str = "page"):
    """What the widget draws: (Figure, rows) of one sweep with free axes; `where` keeps rows with column = value.

    ValueError where two of panel, line and x are the same column, or several rows share one place.
    """
    chosen = {**SWEEP_SPECS.get(sweep, SWEEP_SPECS["grid"]),
              **{k: v for k, v in {"panel": panel, "line": line, "x": x}.items() if v is not None}}
    if len(set(chosen.values())) < 3:
        raise ValueError(f"panels, lines and x axis need three different columns; given "
                         f"{', '.join(f'{k} = {v}' for k, v in chosen.items())}")
    rows = summary
    for column, value in (where or {}).items():
        rows = rows[rows[column] == value]
    return lines(rows, Spec("explorer", sweep, **chosen, metric=metric, log_x=log_x, log_y=log_y), width=width)


def choices(summary: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """(sweeps, metrics, shape columns) that the table can show."""
    names = {s for joined in summary["sweeps"].dropna() for s in joined.split(",")}
    sweeps = [*(s for s in SWEEP_SPECS if s in names), *sorted(names - set(SWEEP_SPECS) - {"support"})]
    metrics = [m for m in METRICS if m in summary and summary[m].notna().any()]
    return sweeps, metrics, [c for c in AXES if c in summary and summary[c].notna().any()]


def explorer(summary: pd.DataFrame, *, live: bool | None = None):
    """Dropdowns over `summary` with the figure below them; None, and one printed sentence, in a headless run."""
    if not (is_live() if live is None else live):
        print("The explorer is for a live kernel: open this notebook in JupyterLab and run this cell to use it.")
        return None
    import ipywidgets as w
    from IPython.display import Image, display

    sweeps, metrics, columns = choices(summary)
    pick = {
        "sweep": w.Dropdown(options=sweeps, description="sweep"),
        "metric": w.Dropdown(options=[(METRICS[m], m) for m in metrics], description="metric"),
        **{role: w.Dropdown(options=columns, description=name)
           for role, name in (("x", "x axis"), ("line", "line"), ("panel", "panels"))},
        "only": w.Dropdown(options=[(ALL, None)], description="only"),
        "log_x": w.Checkbox(value=True, description="log x", indent=False),
        "log_y": w.Checkbox(value=False, description="log y", indent=False),
    }
    out = w.Output()
    quiet = [False]

    def draw(_change: object = None) -> None:
        if quiet[0]:
            return
        given = {name: pick[name].value for name in ("metric", "x", "line", "panel", "log_x", "log_y")}
        where = dict([pick["only"].value]) if pick["only"].value else None
        out.clear_output(wait=True)
        with out:
            try:
                fig, _ = explore(summary, pick["sweep"].value, where=where, **given)
            except ValueError as error:
                print(error)
            else:
                display(Image(render(fig, dpi=SCREEN_DPI)))

    def reset(_change: object = None) -> None:
        quiet[0] = True
        spec = SWEEP_SPECS.get(pick["sweep"].value, SWEEP_SPECS["grid"])
        for role in ("x", "line", "panel"):
            pick[role].value = spec[role]
        pick["only"].options = [(ALL, None), *only_options(summary, pick["sweep"].value, columns)]
        pick["log_y"].value = pick["sweep"].value != "grid"
        quiet[0] = False
        draw()

    pick["sweep"].observe(reset, "value")
    for name, widget in pick.items():
        if name != "sweep":
            widget.observe(draw, "value")
    reset()
    return w.VBox([w.HBox([pick[n] for n in ("sweep", "metric", "only")]),
                   w.HBox([pick[n] for n in ("x", "line", "panel", "log_x", "log_y")]), out])


def only_options(summary: pd.DataFrame, sweep: str, columns: list[str]) -> list[tuple[str, tuple]]:
    """(text, (column, value)) of every value of every column that varies in a sweep."""
    rows = summary[[sweep in str(names).split(",") for names in summary["sweeps"]]]
    return [(f"{column} = {value}", (column, value)) for column in columns if rows[column].nunique() > 1
            for value in values_of(rows, column)]
