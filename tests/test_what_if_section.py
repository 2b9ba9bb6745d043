"""Section 10: two configurations predicted side by side, as parameters, table, pictures, words and
sliders."""

import json
import os
import random
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from moebook import sections
from moebook.execute import execute
from moebook.predict import shipped
from moebook.predict.what_if import predict
from moebook.problems import ParameterError
from moebook.sections.what_if import commentary, enrich, figures, widgets
from moebook.sections.what_if.chart import chart
from moebook.sections.what_if.setup import Setup
from moebook.study.params import build

SECTION = sections.find("10_what_if")
A, B = Setup(), Setup(number_format="fp8")
PICKS = int(os.environ.get("MOEBOOK_TEST_PICKS", 40))  # `make campaign`: 200
TABLE = enrich.table_of((A, B))


def refused(**given) -> str:
    with pytest.raises(ParameterError) as error:
        build(SECTION.params, given, "here.yaml")
    return str(error.value)


def test_b_is_a_but_for_what_is_named():
    params = build(
        SECTION.params, {"batch": 8, "other": ["batch: 32", "routing: zipf:1"]}, "here.yaml"
    )
    a, b = params.setups
    assert (a, b) == (Setup(batch=8), Setup(batch=32, routing="zipf:1"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"other": ["batches: 3"]}, "batches: given 3; unknown parameter; allowed: model, "),
        ({"other": ["batch: many"]}, "batch: given 'many'; input should be a valid integer"),
        ({"other": ["card: h300"]}, "card: given 'h300'; input should be 'h100'"),
        ({"other": ["fp8"]}, "'fp8' is no `name: value`, such as `number_format: fp8`"),
        ({"number_format": "fp9"}, "number_format: given 'fp9'; input should be 'bf16', "),
        ({"model": "Mixtral-9x"}, "model: given 'Mixtral-9x'; "),
        ({"top_k": 9}, "model: given 'Mixtral-8x7B-v0.1'; "),
        ({"tensor_parallel": 3, "other": []}, "model: given 'Mixtral-8x7B-v0.1'; "),
        ({"input_tokens": 10**6}, "positions"),
    ],
)
def test_what_cannot_be_predicted_is_told_with_what_is_allowed(given, words):
    assert words in refused(**given)


def test_the_table_holds_the_librarys_predictions_and_their_ratio():
    case = A.case()
    told = predict(case.arch, case.settings, case.workload, "h200")
    rows = enrich.chosen(TABLE)
    assert rows.loc["A", "tpot_s"] == told.tpot_s.value
    assert rows.loc["A", "throughput_tok_s_hi95"] == told.throughput_tok_s.hi95
    gpu = sum(v for k, v in told.terms.items() if k != "host")
    assert rows.loc["A", list(figures.terms(rows))].sum() == pytest.approx(gpu)
    b = rows.loc["B"]
    ratio = b["throughput_tok_s"] / rows.loc["A", "throughput_tok_s"]
    assert b["over_a_lo95"] < b["over_a"] < b["over_a_hi95"]
    assert b["over_a"] == pytest.approx(ratio) and pd.isna(rows.loc["A", "over_a"])


def test_measured_points_nearby_stand_beside_with_their_record():
    points = TABLE[TABLE["got"] == "measured"]
    assert set(points["setup"]) == {"A", "B"} and points["point_id"].notna().all()
    assert points["what"].str.contains("Mixtral-8x7B-v0.1").all()
    own = points["setup"].map({"A": ", 16-bit, ", "B": ", FP8 per tensor, "})
    assert all(word in what for word, what in zip(own, points["what"], strict=True))
    line = TABLE[(TABLE["got"] == "predicted") & (TABLE["setup"] == "A")].set_index("batch")
    for row in points[(points["setup"] == "A") & (points["batch"] > 1)].itertuples():
        assert row.tpot_s == pytest.approx(line.loc[row.batch, "tpot_s"], rel=0.3)


@pytest.mark.parametrize("name", ["curves", "step_parts", "memory"])
def test_figures_have_rows_and_words_for_both(name):
    fig, rows = getattr(figures, name)(TABLE)
    assert set(rows["setup"]) == {"A", "B"} and fig.axes
    said = getattr(commentary, name)(TABLE)
    assert said.startswith("- **A**: ") and "\n- **B**: " in said


def test_words_say_the_tables_numbers():
    row = enrich.chosen(TABLE).loc["B"]
    assert f"B has {row['over_a']:.2f} times [" in commentary.headline(TABLE)
    rate, step = commentary.numbers(TABLE)[2:]
    assert rate.value == f"{row['throughput_tok_s'] / 1e3:.3g}k"
    assert step.value == f"{1e3 * row['tpot_s']:.3g}"
    assert f"{int(row['kv_tokens']):,} tokens of cache" in commentary.memory(TABLE)
    tight = enrich.table_of((A, A.changed({"card": "h100"})))
    assert "- **B**: **does not fit**" in commentary.memory(tight)


def test_one_token_out_has_no_time_per_output_token():
    one = enrich.table_of((Setup(output_tokens=1), B))
    assert len(commentary.numbers(one)) == 3
    assert chart(one)["data"] and figures.curves(one)[0].axes


def test_the_browsers_picture_has_bands_limits_and_points_that_tell():
    found = chart(TABLE)
    json.dumps(found, allow_nan=False)
    names = {trace.get("name") for trace in found["data"]}
    assert {f"{s}, {w}" for s in "AB" for w in ("predicted with 95 % band", "measured nearby")} <= (
        names
    )
    assert sum(trace.get("fill") == "tonexty" for trace in found["data"]) == 4
    texts = [text for trace in found["data"] for text in trace.get("text", ()) if "record" in text]
    assert texts and all("measured" in text for text in texts)
    assert sum(trace["type"] == "bar" for trace in found["data"]) >= 8


def moved() -> widgets.WhatIf:
    return widgets.WhatIf((A, B), Path("unused"))


def test_each_control_changes_the_picture():
    one = moved()
    changes = {"expert_ffn_dim": 7168, "num_experts": 16, "top_k": 4, "num_layers": 16}
    changes |= {"batch": 64, "input_tokens": 512, "output_tokens": 256, "number_format": "fp8"}
    changes |= {"tensor_parallel": 2, "expert_parallel": True, "routing": "zipf:1", "card": "h100"}
    changes |= {"pipeline_parallel": 2, "graphs": "default", "model": "OLMoE-1B-7B-0125"}
    assert set(changes) == set(one.pick[0])
    seen = [one.chart.figure]
    for name, value in changes.items():
        one.pick[0][name].value = value
        assert one.chart.figure not in seen, name
        seen.append(one.chart.figure)
    own = {name: one.pick[0][name].value for name in ("expert_ffn_dim", "num_experts", "top_k")}
    assert own == {"expert_ffn_dim": 1024, "num_experts": 64, "top_k": 8}
    assert one.setups[0].num_experts is None, "another model comes with its own sizes"


def test_any_pick_is_a_picture_or_a_reason():
    """A pick that cannot be predicted is taken back, as a user would."""
    one, rng, pictures = moved(), random.Random(10), 0
    for _ in range(PICKS):
        widget = rng.choice(list(rng.choice(one.pick).values()))
        before, widget.value = widget.value, rng.choice(getattr(widget, "options", (True, False)))
        json.dumps(one.chart.figure, allow_nan=False)
        drawn = one.said.value.startswith("<b>Predicted: B has ")
        assert drawn or one.said.value.startswith("<i>No prediction: ")
        pictures += drawn
        if not drawn:
            widget.value = before
    assert pictures > PICKS / 3, "most of what can be picked can be predicted"


def test_what_nothing_can_be_said_of_leaves_the_picture_and_says_why():
    one = moved()
    before = one.chart.figure
    one.pick[1]["top_k"].value = 10
    assert one.chart.figure == before and "No prediction: " in one.said.value
    one.pick[1]["top_k"].value = 2
    assert one.chart.figure == before and one.said.value.startswith("<b>Predicted: B has ")
    assert one.setups[1] == B, "a model's own size is no edit"


def test_the_code_of_a_view_gives_its_table_where_it_is_pasted():
    names: dict = {}
    *lines, last = widgets.code(A, Setup(top_k=1, routing="same")).splitlines()
    exec("\n".join(lines), names)
    pasted = eval(last, names)
    pd.testing.assert_frame_equal(pasted, enrich.table_of((A, Setup(top_k=1, routing="same"))))


def test_views_are_saved_as_pdf_and_csv(tmp_path):
    one = widgets.WhatIf((A, B), tmp_path)
    for button, name, start in zip(one.buttons, ("pdf", "csv"), (b"%PDF", b"setup,"), strict=True):
        button.click()
        file = tmp_path / f"moved_curves.{name}"
        assert file.read_bytes().startswith(start) and str(file) in one.saved.value


def test_papermill_answers_with_figures_and_a_sentence_for_the_sliders(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"profile: mine\ndevice: cpu\noutput_root: {tmp_path}\nbatch: 4\n")
    outcome = execute(SECTION, file, limit_minutes=2)
    assert outcome.whole, outcome.detail
    assert {f.name for f in outcome.figures.glob("*.pdf")} == {
        "curves-page.pdf",
        "step_parts-page.pdf",
        "memory-page.pdf",
    }
    cells = nbformat.read(tmp_path / "mine/10_what_if/notebook.ipynb", 4).cells
    said = "".join(o.get("text", "") for c in cells for o in c.get("outputs", ()))
    assert "The explorer is for a live kernel" in said


@pytest.mark.parametrize("profile", sorted(p.parent.name for p in Path("params").glob("*/10_*")))
def test_shipped_parameters_predict_for_a_device_with_a_calibration(profile):
    params, plan = sections.parameters_of(SECTION, Path("params", profile, "10_what_if.yaml"))
    assert plan.points == () and {s.card for s in params.setups} <= set(shipped.names())


def test_a_model_that_no_formula_covers_is_resized_beside_before_a_slider_asks():
    assert widgets.prepare("Mixtral-8x7B-v0.1") is None
    thread = widgets.prepare("granite-3.1-3b-a800m-instruct")
    thread.join()
    assert Setup(model="granite-3.1-3b-a800m-instruct", num_layers=31).architecture.num_layers == 31
