"""Section 1 in words: its numbers are those of the table."""

import pandas as pd
import pytest
import view_tables as t

from moebook.sections.hyperparameter_scaling import commentary

NAMES = (
    "headline",
    "ffn_scaling",
    "expert_scaling",
    "active_scaling",
    "grid_heatmap",
    "over_floor",
    "batch_topk",
    "batch_length",
    "method_validation",
)


def planted(**powers: float) -> pd.DataFrame:
    """The small grid without its infeasible cells; throughput follows powers of its columns."""
    table = t.tiny_grid().query("status == 'ok'")
    values = pd.Series(1000.0, table.index)
    for column, power in powers.items():
        values = values * table[column].astype(float) ** power
    return table.assign(throughput_tok_s=values)


def test_ffn_changes_are_a_mean_a_range_and_a_row_per_active_experts():
    text = commentary.ffn_scaling(planted(expert_ffn_dim=-0.5))
    assert "From FFN 128 to 512 throughput changes by **-50 %** on average over 5 pairs" in text
    assert "range from -50 % to -50 %" in text
    assert [line for line in text.splitlines() if line.startswith("| ")][2:] == [
        "| 1 | -50 % |",
        "| 2 | -50 % |",
        "| 8 | -50 % |",
    ]


def test_the_gap_of_active_experts_is_by_number_of_experts():
    text = commentary.active_scaling(planted(top_k=-1.0))
    assert (
        text.startswith("1 active expert is **+700 %** faster than 8") and "| 8 | +700 % |" in text
    )
    headline = commentary.headline(planted(top_k=-1.0, expert_ffn_dim=-1.0))
    assert "from 128 to 512 changes throughput by -75 %" in headline and "+700 %" in headline


def test_a_part_of_the_grid_is_told_as_a_part():
    table = planted(top_k=-1.0)
    none = commentary.headline(table.assign(status="not_run"))
    assert "not measured" in none and "**Finding.**" not in none
    narrow = table[table["expert_ffn_dim"] == table["expert_ffn_dim"].min()]
    text = commentary.headline(narrow)
    told = commentary.numbers(narrow)
    assert f"Of the grid {len(narrow)} cells are measured" in text and told
    assert all(f"{one.label} {one.value}" in text for one in told)


def test_growth_with_batch_and_what_lines_cost_are_a_row_per_model():
    table = t.batches()
    table = table.assign(throughput_tok_s=table["batch"] * table["top_k"] ** -0.5)
    text = commentary.batch_topk(table)
    each = (
        "throughput grows 128.0 to 128.0 times from batch 1 to 128; from 1 to 32 active experts it "
        "changes by -82 % at batch 1, -82 % at batch 128"
    )
    assert f"**synthetic-A**: {each}" in text and f"**synthetic-B**: {each}" in text


def test_times_are_in_multiples_of_their_bound():
    text = commentary.over_floor(t.tiny_grid())
    assert text.count("1.67 (1.67 to 1.67)") == 2


def test_a_method_is_compared_with_the_best_one_and_misses_are_counted():
    rows = pd.concat([t.tiny_grid().head(1).assign(sweeps="validation")] * 3, ignore_index=True)
    rows = rows.assign(method=["depth", "full", "sampled"], e2e_s=[1.2, 1.0, 0.99])
    text = commentary.method_validation(rows)
    assert "1 of 2 miss the E2E of the better one by over 3 %" in text
    assert "the largest +20.0 % (" in text and "depth against full)" in text
    assert "median error is 10.5 %" in text


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_was_measured_the_words_say_so(name):
    table = pd.concat([t.grid(), t.batches()], ignore_index=True)
    gone = table.assign(status="not_run", throughput_tok_s=None)
    text = getattr(commentary, name)(gone)
    assert text and "nan" not in text
    assert any(word in text for word in ("ot measured", "othing", "none measured", "Not part"))
