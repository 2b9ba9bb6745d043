"""What engine starts say: values over records, intervals, blocks; and that the shipped deviations
are those of the shipped points."""

import runpy

import numpy as np
import pandas as pd
import pytest
import yaml

from moebook.results import starts
from moebook.results.intervals import Change, Values, estimate, log_ratio
from moebook.results.table import summarize

SD = np.log1p(starts.between()["device, 16 and more"]["e2e_s"]["sd_pct"] / 100)
DF = starts.between()["device, 16 and more"]["e2e_s"]["df"]


def point(key: str, *records: tuple[str, list[float]], batch=16, **more) -> list[dict]:
    """A row per repeat. records: (host, E2E of its repeats)."""
    shape = {"key": key, "batch": batch, "graphs": "light", "device_kind": "h200", **more}
    return [
        {**shape, "record": n, "host": host, "repeat": i, "e2e_s": e2e_s}
        for n, (host, repeats) in enumerate(records, 1)
        for i, e2e_s in enumerate(repeats)
    ]


def summary(*points: list[dict]) -> pd.DataFrame:
    return summarize(pd.DataFrame([row for rows in points for row in rows]))


def test_a_start_is_the_median_of_its_repeats_and_a_point_the_mean_of_its_starts():
    row = summary(point("a", ("x", [1.0, 1.1, 1.2]), ("y", [1.3, 1.3, 9.0]))).iloc[0]
    assert row["e2e_s"] == pytest.approx(np.sqrt(1.1 * 1.3))
    assert (row["n_records"], row["n_hosts"], row["n_repeats"]) == (2, 2, 6)
    assert row["spread_pct"] == pytest.approx(100 * 0.2 / 1.1)  # within the first start


@pytest.mark.parametrize("n", [1, 2])
def test_few_starts_take_the_deviation_of_their_class(n):
    row = summary(point("a", *[("x", [1.0, 1.0, 1.0])] * n)).iloc[0]
    half = starts.quantile(DF) * SD / np.sqrt(n)
    assert row["e2e_s_hi"] == pytest.approx(np.exp(half))
    assert row["e2e_s_lo"] == pytest.approx(np.exp(-half))


def test_three_starts_have_their_own_deviation():
    values = [1.0, 1.02, 1.05]
    row = summary(point("a", *[(h, [v] * 3) for h, v in zip("xyz", values, strict=True)])).iloc[0]
    half = 4.302653 * np.std(np.log(values), ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom
    assert row["e2e_s_hi"] / row["e2e_s"] == pytest.approx(np.exp(half), rel=1e-5)


def test_repeats_that_scatter_more_than_starts_widen_the_interval():
    calm, wild = (
        summary(point("a", ("x", repeats))).iloc[0]
        for repeats in ([1.0, 1.001, 1.002], [0.8, 1.0, 1.2])
    )
    assert wild["e2e_s_hi"] - wild["e2e_s_lo"] > 10 * (calm["e2e_s_hi"] - calm["e2e_s_lo"])


def test_what_is_not_timed_keeps_the_range_of_its_repeats():
    rows = [{**row, "perplexity": 5.0 + row["repeat"]} for row in point("a", ("x", [1, 1, 1]))]
    found = summary(rows).iloc[0]
    ends = [found[f"perplexity{end}"] for end in ("_lo", "", "_hi")]
    assert ends == [5.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"batch": 16}, "device, 16 and more"),
        ({"batch": 1}, "device, below 16"),
        ({"batch": 64, "graphs": "eager"}, "host, 16 and more"),
        ({"batch": 64, "draft": "Qwen3-0.6B"}, "host, 16 and more"),
        ({"batch": 64, "graphs": "pieces"}, "device, 16 and more"),
        ({"batch": 1, "graphs": "pieces"}, "host, below 16"),
        ({"batch": 64, "device_kind": "cpu"}, "host, 16 and more"),
    ],
)
def test_who_paces_makes_the_class(given, wanted):
    rows = pd.DataFrame([{"graphs": "light", "draft": None, "device_kind": "h200", **given}])
    assert starts.class_of(rows).tolist() == [wanted]


def test_blocks_take_off_what_a_host_adds_to_both():
    """A host that is 10 % slower for both tells nothing of their ratio."""
    hosts = [("x", 1.0), ("y", 1.1), ("z", 0.95)]
    a = point("a", *[(h, [2.0 * f] * 3) for h, f in hosts])
    b = point("b", *[(h, [1.0 * f * e] * 3) for (h, f), e in zip(hosts, (1, 1.01, 1), strict=True)])
    values = Values.of(summary(a, b), "e2e_s")
    found = estimate(values, np.array([[0, 1]]), log_ratio)
    logs = np.log([2.0, 2.0 / 1.01, 2.0])
    assert found.value[0] == pytest.approx(logs.mean())
    assert found.se[0] == pytest.approx(logs.std(ddof=1) / np.sqrt(3)) and found.df[0] == 2
    alone = Values.of(summary(a, point("b", ("w", [1.0] * 3))), "e2e_s")
    assert estimate(alone, np.array([[0, 1]]), log_ratio).se[0] > 3 * found.se[0]


def test_two_starts_of_one_host_are_two_blocks():
    row = summary(point("a", ("x", [1.0]), ("x", [1.1]), ("y", [1.2])))
    (blocks,) = starts.blocks_of(row, "e2e_s").to_dict("records")
    assert blocks == pytest.approx({"x#1": 1.0, "x#2": 1.1, "y#1": 1.2})


def test_a_host_left_out_leaves_the_records_of_others():
    rows = summary(point("a", ("x", [1.0] * 3), ("y", [1.2] * 3)), point("b", ("x", [1.0] * 3)))
    found = Values.of(rows, "e2e_s", Change(host="x"))
    assert found.value == pytest.approx([1.2, 1.0])
    assert found.se[0] == pytest.approx(SD)
    assert Values.of(rows, "e2e_s", Change(deviation=2)).se[1] == pytest.approx(2 * SD)


def test_an_error_is_carried_through_any_statistic():
    rows = summary(*[point(k, ("x", [v] * 3)) for k, v in (("a", 1.0), ("b", 2.0), ("c", 4.0))])
    values = Values.of(rows, "e2e_s")
    found = estimate(values, np.array([[0, 1, 2]]), lambda v: np.log(v).mean(axis=-1))
    assert found.value[0] == pytest.approx(np.log(2)) and found.df[0] == pytest.approx(DF)
    assert found.se[0] == pytest.approx(SD / np.sqrt(3))


def test_shipped_deviations_are_those_of_the_shipped_points():
    made = runpy.run_path("benchmarks/between_starts.py")

    shipped = yaml.safe_load(made["FILE"].read_text())
    assert shipped["classes"] == made["pooled"](made["again"]())
