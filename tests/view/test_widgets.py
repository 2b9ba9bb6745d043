import subprocess
import sys

import nbformat
import pandas as pd
import papermill
import pytest
import view_tables as t
from jupyter_client.manager import start_new_kernel

from moebook.view import widgets

SUMMARY = pd.concat([t.grid(), t.batches()], ignore_index=True)
ASK = "import sys; from moebook.view.widgets import is_live, explorer; " \
      "print(is_live(), explorer(None) if not is_live() else '', 'ipywidgets' in sys.modules)"


def test_outside_a_kernel_nothing_is_live_and_ipywidgets_stays_out():
    code = "import sys; from moebook.view import widgets as w; print(w.is_live(), w.explorer(None), " \
           "'ipywidgets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and lines[0].count(".") == 1 and lines[1] == "False None False"


def test_papermill_is_headless_even_with_a_front_ends_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "started-from-a-notebook.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ASK)]), tmp_path / "n.ipynb")
    done = papermill.execute_notebook(str(tmp_path / "n.ipynb"), str(tmp_path / "o.ipynb"), kernel_name="python3",
                                      progress_bar=False)
    assert done.cells[0].outputs[0].text.splitlines()[-1] == "False None False"


def test_a_front_end_that_can_answer_is_live(monkeypatch):
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        said = [_say(client, ASK, allow_stdin=True), _say(client, ASK, allow_stdin=False)]
        said.append(_say(client, f"import os; os.environ['MOEBOOK_HEADLESS'] = '1'; {ASK}", allow_stdin=True))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert [s.split()[0] for s in said] == ["True", "The", "The"]


def _say(client, code: str, allow_stdin: bool) -> str:
    texts = []
    client.execute_interactive(code, allow_stdin=allow_stdin, timeout=60, stdin_hook=lambda _: None,
                               output_hook=lambda m: texts.append(m["content"].get("text", "")))
    return "".join(texts)


def test_explore_draws_a_sweep_with_free_axes():
    fig, rows = widgets.explore(SUMMARY, "grid", metric="e2e_s", x="top_k", line="expert_ffn_dim",
                                where={"num_experts": 8})
    assert len(fig.axes) == 1 and len(rows) == 16
    assert fig._supylabel.get_text() == "end-to-end latency (s)"
    with pytest.raises(ValueError, match="three different columns; given panel = num_experts, line = top_k, x = top_k"):
        widgets.explore(SUMMARY, "grid", x="top_k")
    with pytest.raises(ValueError, match="rows share one place .* give rows of one num_experts"):
        widgets.explore(SUMMARY, "grid", panel="model")


def test_choices_are_what_the_table_holds():
    sweeps, metrics, columns = widgets.choices(SUMMARY.assign(ttft_s=None))
    assert sweeps == ["grid", "batch_topk", "batch_length"]
    assert metrics == ["throughput_tok_s", "tpot_s", "e2e_s"] and "dtype" not in columns


def test_the_widget_redraws_and_shows_why_it_cannot(monkeypatch):
    import IPython.display

    drawn, shown = [], []
    real = widgets.explore
    monkeypatch.setattr(widgets, "explore", lambda *a, **k: drawn.append((a[1], k)) or real(*a, **k))
    monkeypatch.setattr(IPython.display, "display", lambda image: shown.append(image))
    box = widgets.explorer(SUMMARY, live=True)
    sweep, metric, only = box.children[0].children
    x, line, panel, _log_x, _log_y = box.children[1].children
    assert len(drawn) == len(shown) == 1 and drawn[0][0] == "grid" and shown[0].data.startswith(b"\x89PNG")
    metric.value = "ttft_s"
    assert drawn[-1][1]["metric"] == "ttft_s" and len(shown) == 2
    only.value = next(v for text, v in only.options if text == "num_experts = 8")
    assert drawn[-1][1]["where"] == {"num_experts": 8} and len(shown) == 3
    sweep.value = "batch_topk"
    assert (x.value, line.value, panel.value, only.value) == ("batch", "top_k", "model", None)
    assert len(drawn) == 4 and len(shown) == 4
    line.value = "batch"
    assert len(drawn) == 5 and len(shown) == 4
