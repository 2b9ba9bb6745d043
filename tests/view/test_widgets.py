import subprocess
import sys
from dataclasses import replace

import nbformat
import pandas as pd
import papermill
import pytest
import shipped
import view_tables as t
from jupyter_client.manager import start_new_kernel

from moebook import sections, workbook
from moebook.explore import hover, widgets
from moebook.explore import views as choosing
from moebook.explore.views import Source, View, with_rows
from moebook.explore.widgets import HEADLESS
from moebook.results import loading

SUMMARY = pd.concat([t.grid(), t.batches()], ignore_index=True)
GRID = ("expert_ffn_dim", "top_k", "num_experts")
VIEWS = (View("grid", "grid", *GRID), View("batches", "batch_topk", "batch", "top_k", "model"))
ASK = (
    "import sys; from moebook.explore.widgets import is_live; "
    "print(is_live(), 'ipywidgets' in sys.modules)"
)


def test_headless_it_says_one_sentence_and_of_a_view_asked_for_shows_its_picture():
    code = (
        "import sys; sys.path.insert(0, 'tests/view'); import view_tables as t; "
        "from moebook.explore import widgets as w; from moebook.explore.views import View; "
        "views, source = (View('grid', 'grid', 'top_k'),), w.Source('h200', t.grid()); "
        "print(w.explorer(source, views)); shown = w.explorer(source, views, {'view': 'grid'}); "
        "print(shown.format, 'ipywidgets' in sys.modules, 'anywidget' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=shipped.ROOT
    )
    assert done.stdout.splitlines() == [HEADLESS, "None", HEADLESS, "png False False"]


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
    assert done.cells[0].outputs[0].text.strip() == "False False"


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
    assert [s.split()[0] for s in said] == ["True", "False", "False"]


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


def explorer(
    summary: pd.DataFrame = SUMMARY,
    views: tuple = VIEWS,
    wish: dict | None = None,
    profiles: tuple[str, ...] = ("h200",),
    **more,
) -> widgets.Explorer:
    source = Source("h200", summary, **more)
    found, missing = with_rows(source.rows(profiles), views)
    view = next(iter(found))
    choice = replace(choosing.first(found[view], view), **(wish or {}))
    return widgets.Explorer(source, views, profiles, view, choice, list(missing))


def roles(one: widgets.Explorer) -> list[str]:
    return [one.pick[role].value for role in ("x", "line", "panel")]


def points(one: widgets.Explorer) -> int:
    return sum(len(trace.get("customdata", ())) for trace in one.chart.figure["data"])


def test_it_opens_on_the_first_view_and_each_change_is_another_picture():
    one = explorer()
    assert one.pick["view"].label == "grid" and roles(one) == list(GRID) and points(one) == 52
    seen = [one.chart.figure]
    changes = {
        "metric": "e2e_s",
        "log_y": not one.pick["log_y"].value,
        "only": ("num_experts", 8),
        "over": ("top_k", 1),
        "line": "num_experts",
        "panel": "",
        "log_x": False,
        "view": one.pick["view"].options[1][1],
    }
    for name, value in changes.items():
        one.pick[name].value = value
        assert points(one) and one.chart.figure not in seen, name
        seen.append(one.chart.figure)
    assert roles(one) == ["batch", "top_k", "model"] and one.pick["only"].label == "all"
    assert one.pick["metric"].value == "throughput_tok_s" and not one.notes.value


def test_an_axis_that_is_taken_swaps_in_the_dropdowns():
    one = explorer()
    one.pick["x"].value = "top_k"
    assert roles(one) == ["top_k", "expert_ffn_dim", "num_experts"]


def test_what_is_left_out_is_said_beneath_and_nothing_is_an_error():
    one = explorer(views=(*VIEWS, View("a <b>", "quality", "series")))
    assert "a &lt;b&gt;" in one.notes.value
    one.pick["panel"].value = ""
    assert one.pick["panel"].label == "–" and points(one)
    assert "lines are told apart by experts per layer, too" in one.notes.value
    assert "10 of 16 lines shown" in one.notes.value


def test_the_log_box_shows_what_the_axis_is():
    one = explorer()
    assert one.pick["log_x"].value and not one.pick["log_y"].value
    one.pick["log_y"].value = True
    assert one.pick["log_y"].value and one.chart.figure["layout"]["yaxis"]["type"] == "log"
    one.pick["view"].value = one.pick["view"].options[1][1]
    assert one.pick["log_y"].value, "values that span decades"


def test_several_profiles_stand_on_one_chart():
    asked = []

    def read() -> tuple[pd.DataFrame, None]:
        asked.append("h100")
        return SUMMARY.assign(throughput_tok_s=SUMMARY["throughput_tok_s"] / 2), None

    one = explorer(others={"h100": read})
    one.pick["only"].value = ("num_experts", 8)
    one.pick["profiles"].value = ("h200", "h100")
    one.pick["line"].value = "profile"
    names = {t["name"] for t in one.chart.figure["data"] if "name" in t}
    assert any("h100" in name for name in names) and any("h200" in name for name in names)
    one.pick["over"].value = ("profile", "h200")
    drawn = one.drawn.query("status == 'ok' and profile == 'h100'")
    assert len(drawn) and (drawn["throughput_tok_s"].round(9) == 0.5).all()
    assert asked == ["h100"], "a table is read once"
    wish = {"line": "profile", "only": ("num_experts", 8), "over": ("profile", "h200")}
    assert one.line_of_code().endswith("over=('profile', 'h200'), profiles=('h200', 'h100'))")
    both = explorer(wish=wish, profiles=("h200", "h100"), others={"h100": read})
    assert both.chart.figure == one.chart.figure


def test_a_profile_that_cannot_be_read_says_why_and_leaves_the_picture():
    def read():
        raise loading.NoResults("nothing was measured there")

    one = explorer(others={"h100": read})
    before = one.chart.figure
    one.pick["profiles"].value = ("h200", "h100")
    assert one.chart.figure == before and "nothing was measured there" in one.notes.value
    assert one.pick["profiles"].value == ("h200",)


def test_a_click_tells_the_point_and_a_second_the_difference():
    one = explorer()
    ok = one.drawn.index[one.drawn["status"] == "ok"]
    one.chart.clicked = [int(ok[0]), 1]
    assert "<b>A</b>" in one.told.value and "B over A" not in one.told.value
    one.chart.clicked = [int(ok[1]), 2]
    assert "<b>B</b>" in one.told.value and "B over A: " in one.told.value


def test_exports_are_written_where_results_lie_and_said(tmp_path):
    one = explorer(out=tmp_path)
    for name, start in (("pdf", b"%PDF"), ("svg", b"<?xml"), ("csv", b"model,")):
        next(b for b in one.buttons if b.description == f"save {name.upper()}").click()
        file = tmp_path / f"explorer_grid_throughput_tok_s.{name}"
        assert file.read_bytes().startswith(start) and file.name in one.told.value


def test_rows_of_ratios_do_not_bear_the_metrics_unit(tmp_path):
    one = explorer(out=tmp_path, wish={"over": ("top_k", 1)})
    for name in ("save CSV", "show rows"):
        next(b for b in one.buttons if b.description == name).click()
    (file,) = tmp_path.glob("*.csv")
    head = file.read_text().splitlines()[0].split(",")
    assert "throughput_tok_s_ratio" in head and "throughput_tok_s" not in head
    assert not any(name.startswith("floor_") for name in head)
    assert ">throughput_tok_s_ratio</th>" in one.told.value


def test_the_rows_of_the_picture_are_a_table():
    one = explorer()
    next(b for b in one.buttons if b.description == "show rows").click()
    html = one.told.value
    assert html.count("<tr") == 1 + len(one.drawn)
    assert all(f">{name}</th>" in html for name in (*GRID, "throughput_tok_s", "got"))
    assert ">model</th>" not in html, "all are of one model"


def test_the_line_of_code_opens_the_same_view():
    one = explorer()
    one.pick["metric"].value, one.pick["only"].value = "e2e_s", ("num_experts", 8)
    line = one.line_of_code()
    assert line == "run.explore('grid', metric='e2e_s', only=('num_experts', 8))"
    wish = {"metric": "e2e_s", "only": ("num_experts", 8)}
    assert explorer(wish=wish).chart.figure == one.chart.figure


def test_a_wish_without_such_a_view_or_field_is_told_with_those_there_are():
    source = Source("h200", SUMMARY)
    with pytest.raises(ValueError, match="no view 'gird' has rows; those that have: grid, batches"):
        widgets.explorer(source, VIEWS, {"view": "gird"})
    with pytest.raises(ValueError, match="no results of 'h300' to explore; allowed: h200"):
        widgets.explorer(source, VIEWS, {"profiles": ["h300"]})
    with pytest.raises(ValueError, match="explore\\(\\) takes no y; it takes view, "):
        widgets.explorer(source, VIEWS, {"y": "ttft_s"})


def test_a_table_without_numbers_is_told_in_a_sentence(capsys):
    source = Source("h200", SUMMARY.assign(status="not_run"))
    assert widgets.explorer(source, VIEWS, live=True) is None
    assert capsys.readouterr().out == "There is nothing to explore yet: no row has a number.\n"


def run_of(res, outputs) -> workbook.Run:
    """A run beside no results of one's own."""
    given = res.params.model_copy(update={"output_root": str(outputs)})
    run = workbook.Run(sections.find("09"), given)
    run._results = res
    return run


def test_the_notebooks_call_takes_the_table_of_the_figures_and_other_profiles(
    monkeypatch, tmp_path
):
    run = run_of(shipped.results("h200", "09_model_comparison"), tmp_path)
    given = []
    monkeypatch.setattr(widgets, "explorer", lambda *args: given.append(args))
    run.explore("models", metric="total_parameters")
    source, views, wish = given[0]
    assert source.table is run.table and views[0].name == "Fig 3: language models"
    assert list(source.others) == ["2xh200", "h100"]
    assert len(source.rows(("h200", "h100"))) > len(run.table)
    assert source.folder_of("h100") == shipped.REFERENCE / "h100" / "09_model_comparison"
    assert wish == {"view": "models", "metric": "total_parameters"}


def test_ones_own_results_stand_beside_the_references(tmp_path):
    res = replace(shipped.results("h200", "09_model_comparison"), is_reference=False)
    others = choosing.others_of(run_of(res, tmp_path))
    assert list(others) == ["2xh200", "h100", "h200 (reference)"]
    table, folder = others["h200 (reference)"]()
    assert folder == shipped.REFERENCE / "h200/09_model_comparison"
    assert len(table) == len(res.shown)
    row = {"profile": "h200 (reference)", "notebook": res.plan.notebook, "sweeps": "llms"}
    assert "moebook measure params/h200/09" in hover.details(row, folder)
