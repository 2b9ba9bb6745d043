import pandas as pd
import pytest
import view_tables as t

from moebook.results import cards, page, report
from moebook.results import findings as claims


def test_failures_come_first_and_what_is_left_out_is_said():
    frame, line = report.results_frame(t.grid(), limit=14)
    assert list(frame["status"]) == ["oom"] * 4 + ["ok"] * 10
    assert line == (
        "64 points: 52 ok, 12 oom. Shown: the first 14; 50 left out (8 of them without a number); "
        "results.parquet holds all."
    )
    assert frame.loc[0, "reason"] == "synthetic oom" and set(
        frame.loc[0, ["TTFT (ms)", "E2E (s)"]]
    ) == {"–"}
    assert "(9 of them without a number)" in report.results_frame(t.grid(), limit=10)[1]
    assert report.results_frame(t.tiny_grid())[1] == "12 points: 10 ok, 2 infeasible."
    with pytest.raises(ValueError, match="at least 1"):
        report.results_frame(t.grid(), limit=0)


def test_units_and_spread():
    one = t.grid().head(1)
    frame, _ = report.results_frame(one)
    tpot = 1e3 * one["tpot_s"].item()
    assert frame.loc[0, "TPOT (ms)"] == f"{tpot:.2f} ± {tpot * 0.015:.2f}"
    assert frame.loc[0, "throughput (tok/s)"].startswith(
        f"{one['throughput_tok_s'].item():,.0f} ± "
    )
    assert "reason" not in frame and frame.loc[0, "spread (%)"] == "3.0"
    bare, _ = report.results_frame(one.drop(columns="tpot_s_lo"))
    assert bare.loc[0, "TPOT (ms)"] == f"{tpot:.2f}"


def test_results_table_tints_rows_without_a_number():
    html = report.results_table(t.grid(), limit=13).html
    assert "51 left out" in html and html.count(page.TINT) == 4 and "synthetic oom" in html
    assert page.TINT not in report.results_table(t.grid().head(3)).html


def test_plan_lines_align_and_end_with_reasons():
    shape = {
        "model": "M",
        "number_format": "MXFP4",
        "sweeps": "grid",
        "num_layers": 4,
        "expert_ffn_dim": 128,
        "num_experts": 8,
        "top_k": 2,
        "batch": 1,
        "input_tokens": 64,
        "output_tokens": 64,
        "repeats_planned": 3,
        "weights_bytes": 2e9,
        "kv_bytes": 1e9,
        "activation_bytes": 5e8,
    }
    frame = pd.DataFrame(
        [
            {**shape, "method": "full", "status": "ready", "reason": None, "estimate_s": 12.34},
            {**shape, "method": "depth", "status": "ready", "reason": None, "estimate_s": None},
            {**shape, "method": "full", "status": "oom", "reason": "too big", "estimate_s": None},
        ]
    )
    head, first, second, last = report.plan_lines(frame)
    assert first.split() == [
        "M",
        "MXFP4",
        "full",
        "grid",
        "4",
        "128",
        "8",
        "2",
        "1",
        "64",
        "64",
        "3",
        "3.5",
        "12.3",
    ]
    assert second.endswith("derived") and last == "oom: M MXFP4 FFN 128 E 8 K 2 B 1 64+64: too big"
    assert head.index("GB") + 2 == first.index("3.5") + 3
    assert len(report.plan_lines(frame[frame["status"] == "oom"])) == 2


def test_verdict_lines_show_effects_and_reasons():
    verdicts = [
        claims.Verdict(
            "a",
            1,
            "01",
            "A holds.",
            "supported",
            -51.0,
            -53.0,
            -49.0,
            "%",
            8,
            {"change_pct": -50},
            "own",
            met=8,
            at="batch 1",
        ),
        claims.Verdict("b", 2, "02", "B holds.", "untested", reason="needs 4 GPUs"),
    ]
    assert cards.verdict_lines(verdicts) == [
        "Section 1",
        "  a: supported on other conditions: A holds.",
        "      measured -51 % [-53, -49]: 8 of 8 cells hold; the effect is that of batch 1",
        "Section 2",
        "  b: untested: B holds.",
        "      needs 4 GPUs",
        "2 claims: 1 supported, 1 untested",
    ]
    assert cards.verdict_lines([]) == ["0 claims: none"]
