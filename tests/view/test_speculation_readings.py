"""Prose of section 4: its numbers are the planted ones, and where something was not measured it
says so."""

import inspect
import random
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moebook.predict.work import expected_tokens
from moebook.sections.speculative_decoding import commentary as r
from moebook.sections.speculative_decoding.plan import PLAIN

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
import speculation_tables as t  # noqa: E402

READINGS = [
    f
    for n, f in vars(r).items()
    if inspect.isfunction(f) and f.__module__ == r.__name__ and not n.startswith(("_", "numbers"))
]
MEASURED = (
    "throughput",
    "ttft",
    "tpot",
    "e2e",
    "tokens_per_step",
    "accepted_pos",
    "acceptance_rate",
    "experts_per_step",
    "step_tokens",
    "output_digests",
)


def unmeasured(table: pd.DataFrame, gone: np.ndarray) -> pd.DataFrame:
    gone = gone & (table["status"] == "ok").to_numpy()
    lost = {c: table[c].mask(gone) for c in table if c.startswith(MEASURED)}
    return table.assign(
        **lost,
        status=table["status"].mask(gone, "not_run"),
        reason=table["reason"].mask(gone, "not measured yet"),
    )


def with_speed(table: pd.DataFrame, speed) -> pd.DataFrame:
    return table.assign(throughput_tok_s=[speed(row) for row in table.itertuples()])


@cache
def parts(kind: str) -> list[pd.DataFrame]:
    """The table of a kind with parts of it unmeasured."""
    table, found = {"gpu": t.gpu, "cpu": t.cpu}[kind](), []
    for seed in range(10):
        rng = random.Random(seed)
        share = rng.random()
        found.append(unmeasured(table, np.array([rng.random() < share for _ in range(len(table))])))
    return found


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
@pytest.mark.parametrize("reading", READINGS, ids=lambda f: f.__name__)
def test_a_part_of_a_table_is_read_without_holes(reading, kind):
    for table in parts(kind):
        before = table.copy()
        text = reading(table)
        pd.testing.assert_frame_equal(table, before)
        assert not re.search(r"\bnan\b|NaT|None|<NA>", text), text
        assert not re.search(r"^\W*\.|: ?\.|: ?;|; ?\.|\(\)", text), text


@pytest.mark.parametrize("reading", READINGS, ids=lambda f: f.__name__)
def test_nothing_measured_is_said(reading):
    table = t.gpu()
    text = reading(unmeasured(table, np.ones(len(table), bool)))
    assert re.search(r"[Nn]othing was|not measured", text), text


def test_the_finding_has_gains_place_and_acceptance():
    gain = {"Qwen3-0.6B": 30, "Qwen3-1.7B": 50, "Qwen3-4B": -5, "Qwen3-8B": -20}
    table = with_speed(t.cost(), lambda row: 100 + gain.get(row.draft, 0))
    text = r.headline(table)
    assert text.startswith(
        "**Finding.** With 4 draft tokens and acceptance set to 0.7, draft Qwen3-1.7B changes "
        "throughput over plain decoding by +50 %, draft Qwen3-8B by -20 %. "
        "Of 4 drafts 2 are faster (batch 16, 512 tokens"
    )
    assert "the drafts' own acceptance (0.20 to 0.35)" in r.headline(t.cpu())
    lost = t.cost(gone=("Qwen3-8B",))
    assert r.headline(lost).endswith(" Not measured: draft Qwen3-8B.")
    assert "Not measured: draft Qwen3-8B: oom (synthetic: does not fit)." in r.speedup(lost)


def test_falls_with_length_stand_by_series():
    table = with_speed(
        t.cost(), lambda row: (100 if row.draft_tokens else 50) - 10 * (row.input_tokens == 2048)
    )
    text = r.over_length(table)
    assert "| no speculation | 128 | 2048 | -20 % |" in text
    assert "| draft Qwen3-0.6B | 128 | 2048 | -10 % |" in text
    assert "faster than no speculation at 16 of 16" in text


def test_the_best_number_of_draft_tokens():
    table = with_speed(
        t.cost({"Qwen3-0.6B": 0.1}),
        lambda row: {0: 100, 1: 110, 2: 130, 4: 120, 8: 70}[row.draft_tokens],
    )
    text = r.over_draft_tokens(table)
    assert "| draft Qwen3-0.6B | 2 | +30 % | 8 | -30 % |" in text
    assert "falls at 2 of 3 steps" in text


def test_gains_at_the_smallest_and_largest_batch():
    table = with_speed(t.cost(), lambda row: 100 + (40 - row.batch / 2) * (row.draft_tokens > 0))
    assert "| draft Qwen3-8B | +40 % at 1 | +8 % at 64 |" in r.over_batch(table)


def test_tokens_per_step_of_trained_drafts():
    text = r.acceptance(t.trained())
    rates = {name: max(0.05, 0.3 + d) for name, d in t.TEXTS.items()}
    mean = np.mean([expected_tokens(a, 4) for a in rates.values()])
    worst, best = (expected_tokens(rates[name], 4) for name in ("numbers", "code"))
    assert (
        f"| n-gram | {mean:.2f} | {np.mean(list(rates.values())):.2f} | {worst:.2f} on numbers | "
        f"{best:.2f} on code |"
    ) in text
    assert "with 4 draft tokens at temperature 0, " in text and " at temperature 1." in text


def test_positions_are_conditional():
    table = t.trained(k=2, texts={"prose": 0}, temperatures=(0.0,), rates={"n-gram": 0.5})
    table.loc[table["series"] == "n-gram", ["accepted_pos1", "accepted_pos2"]] = 0.6, 0.15
    assert "| n-gram | 0.60 | 0.25 (position 2) |" in r.by_position(table)


def test_costs_break_even_and_who_wins_at_what_was_reached():
    table = t.gpu()
    ratio = t.step_ratio(t.DRAFTS["Qwen3-0.6B"], 4, 16)
    text = r.speedup(table)
    assert f"| draft Qwen3-0.6B | {ratio:.2f} | 0." in text
    assert "| draft tiny-draft-medium | 0.57 | draft Qwen3-0.6B, draft Qwen3-1.7B |" in text
    assert "| n-gram | 0.27 | no draft |" in text
    dear = r.speedup(t.cost({"a": 9.0}))
    assert "draft a never pays: a step yields 5 tokens at most" in dear and "| – |" in dear
    assert "trained drafts reached" not in dear


def test_checks_count_sequences_and_give_the_error():
    table = pd.concat([t.cost(), t.trained(differ=1)], ignore_index=True)
    table.loc[table["sweeps"] == "spec_check", "tpot_s"] *= 1.25
    text = r.check(table)
    assert "| n-gram | 63 of 72 |" in text and "near-tie" in text and "(-20.0 %)" in text
    same = r.check(t.cpu())
    assert "36 of 36" in same and "near-tie" not in same
    assert "No run at a second acceptance was measured" in same


def test_runs_under_their_bound_are_counted():
    table = t.gpu()
    assert "bound" not in r.check(table)
    text = r.check(
        table.assign(floor_tpot_s=table["tpot_s"] * np.where(table["draft_tokens"] == 8, 1.2, 0.8))
    )
    assert "4 of 77 runs with a draft are faster than their physical limit" in text


def test_experts_against_formula_and_plain():
    text = r.experts_hit(t.trained())
    assert "| no speculation | 8 | 10.0 of 16 | 0.95 | 1.00 |" in text
    assert "| n-gram | 40 | 14.3 of 16 | 0.90 | 1.44 |" in text


def test_what_the_sources_winner_implies():
    text = r.best_draft(t.cost())
    more = re.search(r"1.7B \| (0\.\d+) \| \+(0\.\d+) \|", text)
    assert "here draft Qwen3-0.6B" in text
    assert float(more[1]) == pytest.approx(0.7 + float(more[2]), abs=0.011)
    assert f"1.7B, implies an acceptance at least {more[2]} over that of 0.6B (at 0.7)." in text
    never = r.best_draft(t.cost({"Qwen3-0.6B": 0.1, "Qwen3-1.7B": 9.0}))
    assert "cannot be as fast even if every token is accepted" in never
    assert "cannot be explained by acceptance" in never
    assert "implies" not in r.best_draft(t.cpu())
    assert r.best_draft(t.trained()) == "Not part of this plan: sweep `spec_tokens`."
    one = t.cost({"Qwen3-0.6B": 0.1})
    assert "fewer than two drafts have a cost" in r.best_draft(one) and PLAIN in set(one["series"])


def test_other_graphs_are_compared_at_equal_places():
    table = t.gpu().assign(graphs="pieces")
    same = table[(table["status"] == "ok") & table["sweeps"].str.contains("spec_batch")]
    other = same.assign(sweeps="spec_graphs", graphs="compiled", tpot_s=same["tpot_s"] / 1.05)
    text = r.graphs(pd.concat([table, other], ignore_index=True))
    assert text.startswith("Graphs `pieces` against `compiled`")
    assert "| draft Qwen3-8B | +5.0 % | +5.0 % | 4 |" in text
