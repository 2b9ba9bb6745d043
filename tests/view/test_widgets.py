import subprocess
import sys

import nbformat
import pandas as pd
import papermill
import pytest
import shipped
import view_tables as t
from jupyter_client.manager import start_new_kernel

from moebook import sections, workbook
from moebook.explore import widgets
from moebook.explore.views import View

SUMMARY = pd.concat([t.grid(), t.batches()], ignore_index=True)
GRID = ("expert_ffn_dim", "top_k", "num_experts")
VIEWS = (View("grid", "grid", *GRID), View("batches", "batch_topk", "batch", "top_k", "model"))
ASK = (
    "import sys; from moebook.explore.widgets import is_live, explorer; "
    "print(is_live(), explorer(None, ()) if not is_live() else '', 'ipywidgets' in sys.modules)"
)


def test_outside_a_kernel_nothing_is_live_and_ipywidgets_stays_out():
    code = (
        "import sys; from moebook.explore import widgets as w; "
        "print(w.is_live(), w.explorer(None, ()), 'ipywidgets' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and lines[0].count(".") == 1 and lines[1] == "False None False"


def test_papermill_is_headless_even_with_a_front_ends_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "started-from-a-notebook.ipynb")
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ASK)]), tmp_path / "n.ipynb"
    )
    done = papermill.execute_notebook(
        str(tmp_path / "n.ipynb"),
        str(tmp_path / "o.ipynb"),
        kernel_name="python3",
        progress_bar=False,
    )
    assert done.cells[0].outputs[0].text.splitlines()[-1] == "False None False"


def test_a_front_end_that_can_answer_is_live(monkeypatch):
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        said = [_say(client, ASK, allow_stdin=True), _say(client, ASK, allow_stdin=False)]
        said.append(
            _say(
                client, f"import os; os.environ['MOEBOOK_HEADLESS'] = '1'; {ASK}", allow_stdin=True
            )
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert [s.split()[0] for s in said] == ["True", "The", "The"]


def _say(client, code: str, allow_stdin: bool) -> str:
    texts = []
    client.execute_interactive(
        code,
        allow_stdin=allow_stdin,
        timeout=60,
        stdin_hook=lambda _: None,
        output_hook=lambda m: texts.append(m["content"].get("text", "")),
    )
    return "".join(texts)


def explorer(summary: pd.DataFrame = SUMMARY, views: tuple = VIEWS):
    box = widgets.explorer(summary, views, live=True)
    dropdowns, roles, picture, notes = box.children
    names = ("view", "metric", "only"), ("x", "line", "panel", "log_x", "log_y")
    pick = dict(zip((*names[0], *names[1]), (*dropdowns.children, *roles.children), strict=True))
    return pick, lambda: bytes(picture.value), notes


def roles(pick: dict) -> list[str]:
    return [pick[role].value for role in ("x", "line", "panel")]


def test_it_opens_on_the_first_view_and_each_change_is_another_picture():
    pick, picture, notes = explorer()
    assert pick["view"].label == "grid" and roles(pick) == list(GRID)
    seen = [picture()]
    changes = {
        "metric": "e2e_s",
        "log_y": not pick["log_y"].value,
        "only": ("num_experts", 8),
        "line": "num_experts",
        "panel": "",
        "log_x": False,
        "view": pick["view"].options[1][1],
    }
    for name, value in changes.items():
        pick[name].value = value
        assert picture().startswith(b"\x89PNG") and picture() not in seen, name
        seen.append(picture())
    assert roles(pick) == ["batch", "top_k", "model"] and pick["only"].label == "all"
    assert pick["metric"].value == "throughput_tok_s" and not notes.value


def test_an_axis_that_is_taken_swaps_in_the_dropdowns():
    pick, *_ = explorer()
    pick["x"].value = "top_k"
    assert roles(pick) == ["top_k", "expert_ffn_dim", "num_experts"]


def test_what_is_left_out_is_said_beneath_and_nothing_is_an_error():
    pick, picture, notes = explorer(views=(*VIEWS, View("a <b>", "quality", "series")))
    assert "View “a &lt;b&gt;” is not offered: no row has a number." in notes.value
    pick["panel"].value = ""
    assert pick["panel"].label == "–"
    assert "lines are told apart by experts per layer, too" in notes.value
    assert "10 of 16 lines shown" in notes.value
    assert picture().startswith(b"\x89PNG")


def test_the_log_box_shows_what_the_axis_is():
    pick, *_ = explorer()
    assert pick["log_x"].value and not pick["log_y"].value
    pick["log_y"].value = True
    assert pick["log_y"].value
    pick["view"].value = pick["view"].options[1][1]
    assert pick["log_y"].value, "values that span decades"


def test_a_table_without_numbers_is_told_in_a_sentence(capsys):
    assert widgets.explorer(SUMMARY.assign(status="not_run"), VIEWS, live=True) is None
    assert capsys.readouterr().out == "There is nothing to explore yet: no row has a number.\n"


def test_the_notebooks_call_takes_the_table_of_the_figures(monkeypatch):
    run = workbook.Run(sections.find("09"), None)
    run._results = shipped.results("h200", "09_model_comparison")
    given = []
    monkeypatch.setattr(widgets, "explorer", lambda *args: given.append(args))
    run.explore()
    assert given[0][0] is run.table and [v.name for v in given[0][1]][0] == "language models"


@pytest.mark.parametrize(
    ("profile", "stem"), [("cpu", "00_overview"), ("h200", "04_speculative_decoding")]
)
def test_a_notebooks_explorer_opens_on_a_picture_and_changes(profile, stem):
    pick, picture, _ = explorer(shipped.results(profile, stem).shown, sections.find(stem).views)
    before = picture()
    pick["metric"].value = pick["metric"].options[-1][1]
    after = picture()
    assert before.startswith(b"\x89PNG") and after.startswith(b"\x89PNG") and after != before
